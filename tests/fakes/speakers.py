"""Speakers for the tests of BGP: a plain one, and one with everything that can be said of one."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from kuberouter_py.model.bgp import Bfd, BgpPeer, GracefulRestart, Password, Speaker
from kuberouter_py.model.cluster import Cidr


def packed(text: str) -> bytes:
    return ip_address(text).packed


def cidr(text: str) -> Cidr:
    found = ip_network(text)
    return Cidr(found.network_address.packed, found.prefixlen)


NODE, NODE6, ROUTER = packed("192.0.2.1"), packed("fd00:9::1"), packed("192.0.2.254")

PLAIN = Speaker(
    asn=64512,
    router_id=NODE,
    families=(4,),
    next_hops={4: NODE},
    refused=(cidr("10.96.0.0/12"),),
    peers=(BgpPeer(packed("192.0.2.2"), 64512, node="worker-2"), BgpPeer(ROUTER, 65001)),
)

FULL = Speaker(
    asn=64512,
    router_id=NODE,
    families=(4, 6),
    next_hops={4: NODE, 6: NODE6},
    pod_cidrs=(cidr("10.244.1.0/24"), cidr("fd00:244:1::/64")),
    own_next_hop=True,
    refused=(cidr("10.96.0.0/12"), cidr("fd00:96::/108"), cidr("10.244.1.0/24"), cidr("fd00:244:1::/64")),
    reflects=packed("192.0.2.9"),
    communities=("65000:5", "65000:1:2", "65535:65281"),
    prepend=(64512, 3),
    hold_time=30,
    port=1790,
    listen=(NODE, NODE6),
    graceful_restart=GracefulRestart(120, 240),
    peers=(
        BgpPeer(packed("192.0.2.2"), 64512, node="worker-2", client=True, port=1790),
        BgpPeer(packed("192.0.2.3"), 64512, node="worker-3"),
        BgpPeer(ROUTER, 65001, password=Password("a#'é\\;"), bfd=Bfd(300, 400, 5)),
        BgpPeer(packed("fd00:8::fe"), 65002, multihop=3, passive=True, local=NODE6),
    ),
)
