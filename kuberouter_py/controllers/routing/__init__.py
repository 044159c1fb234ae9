"""The routing controller: other nodes' pods reachable from this node, and what this node announces by BGP.

rung.py        the keys that it is rung with
view.py        what this node is, as far as routing depends on it
subnets.py     which link leads to an address
nodes.py       another Node's share: routes to its pods, tunnels
own.py         this node's share: sysctls, sets, chains.py's rules, the pods' bridge, the CNI file (cni.py)
announcements.py Services' shares: which addresses are announced, and which Services a change concerns
  announcing.py  one Service: which of its addresses, and why not the others
  wishes.py      what flags and annotations want announced; announcer.py: this node, as far as it depends on it
annotations.py what Nodes' annotations say of BGP; peer_annotations.py: of external peers; roster.py: all Nodes so
speaker.py     this node as a BGP speaker, with its peers
sessions.py    sessions that have come and gone, for who is told; unanswered.py: why one is not up
decisions.py   all shares, claimed at the reconciler; notes.py: what is not as asked
controller.py  from rung keys to a written difference; status.py: what it says of itself
"""
