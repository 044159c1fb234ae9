"""The nouns everybody speaks, spelled as Kubernetes and the kernel spell them. Values only: imports nothing of ours.

cluster.py, policies.py   what the cluster says; values.py, values_bgp.py how its texts are read
kernel.py, podnet.py      what a kernel holds, for Services and policies, and for the pod network; bytecode.py
bgp.py, healthcheck.py    what this node is to BGP, and to load balancers that ask
names.py                  what we call our own things in the kernel; others.py what other proxies call theirs
notation.py               all of these as commands of the tools: notation_servers.py, notation_sets.py,
                          notation_links.py, notation_routing.py, notation_bgp.py, each as notation_told.py says
report.py                 what controllers report of themselves
"""
