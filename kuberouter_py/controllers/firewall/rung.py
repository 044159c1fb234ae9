"""The keys that the firewall is rung with: Pods, Namespaces and policies may have equal names."""

from __future__ import annotations

from typing import NamedTuple

from kuberouter_py.model.cluster import ObjectKey

POD, NAMESPACE, POLICY, NODE = "Pod", "Namespace", "NetworkPolicy", "Node"


class Rung(NamedTuple):
    """kind: one of the above. NODE: whatever the key, this node is looked at again."""

    kind: str
    key: ObjectKey


THIS_NODE = Rung(NODE, ObjectKey("", ""))
