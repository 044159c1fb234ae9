"""kuberouter_py: one agent per Kubernetes node; Services through IPVS.

The path is HEAR -> KNOW -> DECIDE -> COMPARE -> WRITE, one direction:

watchers/     list and watch, decode, cache; rings "Service ns/name changed", never carries the content
controllers/  runner.py when to sync; services/desired.py what this node should look like (pure); reconcile.py the
difference kernel/       the only code that writes: IPVS, ipset, iptables, links, routes, sysctls model/        the
nouns all of them speak; ports.py every way out, as Protocols observe/      health, metrics, Events; agent.py wires it
all; cli/ the commands
"""

__version__ = "0.1.0"
