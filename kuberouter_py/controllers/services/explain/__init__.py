"""`explain`: what becomes of a connection on this node, and why. Pure; docs/decisions/011-explain.md says why it is so.

question.py     who asks about what: words to values, and to the frontends that are meant
known.py        what the controller knows and has decided, as of one moment
case.py         one frontend and one sender, with all that is known of them
states.py       what rules ask for: as decided, and as the kernel has it
way.py          the way of a connection's first packet through the hooks, over either state
source.py       the address that a destination sees
verdict.py      the way in words
explanation.py  the answer: decided, actual, and where they differ
document.py     the same as plain values
"""
