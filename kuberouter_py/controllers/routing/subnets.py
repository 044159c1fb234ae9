"""Which of the node's links leads to an address without a router between. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.kernel import LinkState


def link_toward(links: Sequence[LinkState], address: bytes) -> tuple[str, bytes] | None:
    """The link that is up and has the longest prefix around the address, and our own address there; None: no such."""
    best: tuple[int, str, bytes] | None = None
    for link in links:
        if not link.up:
            continue
        for own, prefix in link.addresses:
            if address in Cidr(own, prefix) and (best is None or prefix > best[0]):
                best = prefix, link.name, own
    return best[1:] if best else None
