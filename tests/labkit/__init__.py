"""The lab: boots a kernel that has ip_vs, builds worlds of nodes and pods from namespaces, and lets packets judge.

On the host, started by __main__.py:
  scenario.py      a file's text -> Scenario (model.py), or errors that name file, line and key; scenario_steps.py and
                   fields.py read its parts, yaml12.py the text
  boot.py          which kernel (native.py, UML, qemu.py), and how a command comes to run in it
  controlplane.py  etcd, kube-apiserver, kube-controller-manager, and the door.py between them and the agents

Inside the lab kernel, started by runner.py, which plays one scenario after the other:
  ports.py         what the parts promise each other: World and Cluster
  world.py         nodes, fabric, pods and outside hosts as namespaces (machine.py, fabric.py, pods.py), their agents
                   (agents.py); traffic/ their servers and probes
  cluster.py       a world's objects: in a real API server (api_cluster.py) or a folder (manifest_cluster.py);
                   kubelet.py makes Pods of them
  steps.py         one function for each kind of step, steps_traffic.py those that packets decide; report.py prints
"""
