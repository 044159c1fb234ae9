"""The lab: boots a kernel that has ip_vs, builds worlds of nodes and pods from namespaces, and lets packets judge.

scenario.py  a file's text -> Scenario (model.py), or an error naming file, line and key
boot.py      which kernel, and how a command comes to run in it            (host side)
controlplane.py  etcd, kube-apiserver, kube-controller-manager             (host side)
guest.py     what runs inside the lab kernel: one scenario after the other
world.py     nodes, fabric, pods and outside hosts as namespaces; traffic/ their servers and probes
cluster.py   the objects of a world: a real API server's, or a folder of manifests; kubelet.py plays the kubelet
steps.py     one function per step of a scenario; report.py what is printed
"""
