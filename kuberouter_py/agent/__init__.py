"""The wiring: builds the real parts, starts them, stops them; nobody else does.

edges.py   the kernel tables of the Service proxy, in the order in which they grow; firewall_edges.py the firewall's,
           routing_edges.py the router's; controllers.py each controller over its edges
source.py  where the cluster is read from: an API server or a folder of manifests
running.py the running agent: threads, signals, which controllers; each of them is a part: what is alike in part.py, the
           rest in services_part.py, firewall_part.py and routing_part.py
telling.py what it tells of itself; counting.py what IPVS counted, bgp_sessions.py the sessions; explaining.py,
           explaining_policies.py, explaining_matrix.py the answers of `explain`
once.py    what runs once and ends: cleanup, plan
takeover.py  moving this node over from another Service proxy, once; beside.py the same for the running agent;
           others.py what both look at; carrying.py what of its configuration goes on
"""

from kuberouter_py.agent.once import Planned, cleanup, plan
from kuberouter_py.agent.running import run_agent
from kuberouter_py.agent.takeover import take_over

__all__ = ["Planned", "cleanup", "plan", "run_agent", "take_over"]
