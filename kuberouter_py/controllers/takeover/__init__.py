"""Moving a node over from kube-proxy or kube-router: what is decided, all of it pure.

alive.py        is one of them alive, and how do we know?
served.py       which frontends do their rules, tables and virtual servers serve?
differences.py  which of them would we not serve, why, and which flag changes that?
carried.py      what of kube-proxy's configuration is ours from now on?

What stands in the kernel is read and removed by kernel/others*.py; agent/takeover.py brings it all together.
"""
