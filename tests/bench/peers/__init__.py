"""This agent and its peers on the same work: the same objects from a real kube-apiserver, the same lab kernel, one
after the other in one run. `make bench-peers` runs it; nothing here asserts a time.

host side    __main__.py what is run, cluster.py the objects, conductor.py what is measured, document.py what is said
lab kernel   witness.py does what the conductor says: peers' processes, kernels.py what the kernel holds, traffic.py
both         programs.py how each peer is started, link.py their conversation
"""
