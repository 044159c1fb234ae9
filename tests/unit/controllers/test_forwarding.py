"""Sysctls of a node that forwards."""

from __future__ import annotations

from kuberouter_py.controllers.forwarding import forwarding

BEFORE_US = {
    "net/ipv6/conf/eth0/accept_ra": "1",
    "net/ipv6/conf/eth1/accept_ra": "0",
    "net/ipv6/conf/eth2/accept_ra": "2",
}.get
LINKS = ("eth0", "eth1", "eth2", "gone")


def test_only_the_families_of_the_node() -> None:
    assert list(forwarding((), LINKS, BEFORE_US)) == []
    assert list(forwarding((4,), LINKS, BEFORE_US)) == [("net/ipv4/ip_forward", "1")]


def test_a_link_that_heeds_router_advertisements_still_does_and_does_so_first() -> None:
    assert list(forwarding((6,), LINKS, BEFORE_US)) == [
        ("net/ipv6/conf/eth0/accept_ra", "2"),
        ("net/ipv6/conf/all/forwarding", "1"),
    ]
    assert dict(forwarding((4, 6), (), BEFORE_US)) == {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
