"""NetworkPolicy: what this node should hold for its pods. Everything but controller.py decides, and nothing else.

controller.py     called by runner.py: syncs in safe stages, comparisons, questions; the lock
decisions.py      what the stages claim; intake.py what they have to decide anew
  world.py          which pods, namespaces and policies there are, and who has an address
  guards.py         one chain for every set of policies that select a local pod; membership.py which pod is in which
  standing.py       which chains stand, and what they speak of
  rules.py          what a guard's policies allow, as iptables has it
  sets.py           the sets that rules speak of; peers.py which pods are in them; population.py what comes and goes
  chains.py         the fixed chains that lead a packet to the guards of its pods; view.py what of the node they need
explain/          what becomes of a connection, and why; its own map stands there
judge.py          whether an attempt is allowed, by the rules of NetworkPolicy; compiled from nothing, to compare with
cutting.py        flows that were allowed once and are not any more; judge.py says which
flows.py          looks at the flows after a change (whose: concerned.py), cuts them, lets go of what is over
notes.py          what is not as its owner asked; status.py what there is to report
rung.py           the keys
"""
