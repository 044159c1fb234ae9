"""kuberouter_py: one agent per Kubernetes node; Services, NetworkPolicy, the pod network.

The path is HEAR -> KNOW -> DECIDE -> COMPARE -> WRITE, one direction:

watchers/     list and watch, decode, cache; rings "Service ns/name changed", never carries the content
controllers/  runner.py when to sync; services/, firewall/ and routing/ what this node should look like (pure; each has
              its own map); reconcile.py the difference; takeover/ what another Service proxy left, and how ours differs
kernel/       writes: IPVS, ipset, iptables, links, tunnels, routes, sysctls, conntrack, pods' namespaces, CNI's file
bgp/          writes: BIRD's configuration, through its control socket; its process and what it says of sessions
model/        the nouns all of them speak; ports.py every way out, as Protocols; inotify.py the one way that two share
observe/      health, metrics, Events, status; agent/ wires it all; cli/ the commands

Numbers such as S4.01 or M1.05 in comments name rules of the project's reference: what Kubernetes asks of a Service
proxy (S), of who enforces NetworkPolicy (P), and of a client of its API (M).
"""

__version__ = "0.1.0"
