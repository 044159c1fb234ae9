"""Sysctls of a node that forwards, which Services and the pod network ask for alike. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator


def forwarding(
    families: Collection[int], links: Iterable[str], before_us: Callable[[str], str | None]
) -> Iterator[tuple[str, str]]:
    """Pairs of key and value, in the order in which they are written.

    links: those that lead out of the node. before_us: a sysctl's value before we first wrote it, None where there is
    none.
    """
    if 4 in families:
        yield "net/ipv4/ip_forward", "1"
    if 6 in families:
        # A link that forwards no longer heeds router advertisements unless accept_ra is 2: a node that has its address
        # or default route from them would lose both (Documentation/networking/ip-sysctl).
        for link in links:
            if before_us(f"net/ipv6/conf/{link}/accept_ra") == "1":
                yield f"net/ipv6/conf/{link}/accept_ra", "2"
        yield "net/ipv6/conf/all/forwarding", "1"
