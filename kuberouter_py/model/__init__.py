"""The nouns everybody speaks, spelled as Kubernetes and the kernel spell them. Values only: imports nothing of ours."""
