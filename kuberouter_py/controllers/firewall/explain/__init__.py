"""`explain` of NetworkPolicy: what the policies say of a connection, what this node does with it. Pure.

known.py        what the controller knows and has decided, as of one moment
words.py        the judge's verdict, and the rules of policies, in sentences
states.py       what this node's rules ask for: as decided, and as the kernel has it
explanation.py  one connection: policies, decided, actual, and where they differ
document.py     the same as plain values
matrix.py       every pod of some namespaces to every other, as it is and as it would be under other policies
"""
