"""The routing controller: other nodes' pods reachable from this node, and what this node announces by BGP.

rung.py        the keys that it is rung with
view.py        what this node is, as far as routing depends on it
subnets.py     which link leads to an address
nodes.py       another Node's share: routes to its pods, tunnels
own.py         this node's share: sysctls, sets, chains.py's rules, the pods' bridge, the CNI file (cni.py)
announcing.py  a Service's share: which of its addresses are announced
annotations.py what Nodes' annotations say of BGP
speaker.py     this node as a BGP speaker, with its peers
decisions.py   all shares, claimed at the reconciler; notes.py: what is not as asked
controller.py  from rung keys to a written difference; status.py: what it says of itself
"""
