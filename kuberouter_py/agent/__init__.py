"""The wiring: builds the real parts, starts them, stops them; nobody else does.

edges.py   the kernel tables of a controller, in the order in which they grow
source.py  where the cluster is read from: an API server or a folder of manifests
running.py the running agent: threads, signals, what it tells of itself
once.py    what runs once and ends: cleanup, plan
takeover.py  moving this node over from another Service proxy, once; beside.py the same for the running agent;
           others.py what both look at; carrying.py what of its configuration goes on
"""

from kuberouter_py.agent.once import Planned, cleanup, plan
from kuberouter_py.agent.running import run_agent
from kuberouter_py.agent.takeover import take_over

__all__ = ["Planned", "cleanup", "plan", "run_agent", "take_over"]
