"""The Nodes as BGP speakers see them: what each has said that a speaker depends on, and whether something of it is new.

Five thousand Nodes are heard of every few seconds, and nearly always nothing here has changed. Bookkeeping, pure.
"""

from __future__ import annotations

from typing import NamedTuple

from kuberouter_py.controllers.addresses import addresses_of
from kuberouter_py.controllers.routing.annotations import NOTHING, OF_OTHERS, Said, hear, relevant
from kuberouter_py.model.cluster import Node, ObjectKey


class Member(NamedTuple):
    """addresses: internal ones first, as the Node object has them."""

    key: ObjectKey
    addresses: tuple[bytes, ...]
    said: Said = NOTHING
    reasons: tuple[str, ...] = ()


class Roster:
    """own: the name of this node."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._members: dict[str, Member] = {}
        self._heard: dict[str, object] = {}

    def hear(self, name: str, node: Node | None) -> bool:
        """Take in a Node as it is now, None: it is gone. Whether a speaker's decision depends on what has changed.

        A Node that is being deleted is one until it is gone: its pods still run. One that loses all its addresses keeps
        them: that is for a moment, while kubelet or the cloud provider is started anew.
        """
        if node is None:
            self._heard.pop(name, None)
            return self._members.pop(name, None) is not None
        own = name == self._own
        addresses = addresses_of(node)
        heard = addresses, relevant(node.annotations, own)
        if self._heard.get(name) == heard:
            return False
        self._heard[name] = heard
        before = self._members.get(name)
        said, reasons = hear(node.annotations, before.said if before else NOTHING, Said._fields if own else OF_OTHERS)
        kept = before.addresses if before else ()
        self._members[name] = Member(node.key, addresses or kept, said, reasons)
        return self._members[name] != before

    @property
    def own(self) -> Member | None:
        return self._members.get(self._own)

    @property
    def others(self) -> list[Member]:
        return [member for name, member in self._members.items() if name != self._own]
