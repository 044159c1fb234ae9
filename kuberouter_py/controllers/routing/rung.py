"""The keys that routing is rung with: Nodes and Services may have equal names."""

from __future__ import annotations

from typing import NamedTuple

from kuberouter_py.model.cluster import ObjectKey

SERVICE, NODE, HERE = "Service", "Node", "here"


class Rung(NamedTuple):
    """kind: one of the above. NODE: the object, also this node's own. HERE: whatever the key, this node's links and
    files are looked at again.
    """

    kind: str
    key: ObjectKey


THIS_NODE = Rung(HERE, ObjectKey("", ""))
