"""BGP with something of everything: a speaker, sessions, routes, and their documents."""

from __future__ import annotations

from ipaddress import ip_address

from kuberouter_py.model.bgp import BgpPeer, GracefulRestart, Password, PeerRoute, PeerState, Speaker
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.report import Note
from kuberouter_py.model.values import parse_cidr
from kuberouter_py.observe.bgp import bgp_document

NOW = 1_800_000_000.0


def packed(text: str) -> bytes:
    return ip_address(text).packed


ROUTER = PeerState(
    address=packed("10.0.0.254"),
    asn=64999,
    node="",
    state="Established",
    since=NOW - 3725,
    reason="",
    capabilities=("Route refresh", "4-octet AS numbers"),
    received={4: 3, 6: 1},
    accepted={4: 2, 6: 0},
    announced={4: 12, 6: 5},
    bfd="Up",
    hold_time=90,
)
DEAD = PeerState(packed("fd00::fe"), 65000, "", "Active", NOW - 61, "Received: Peer de-configured", (), {}, {}, {})
NODE = PeerState(packed("10.0.0.2"), 64512, "n2", "Established", NOW - 5, "", (), {4: 1}, {4: 1}, {4: 1})
STATES = (DEAD, NODE, ROUTER)
SPEAKER = Speaker(
    asn=64512,
    router_id=packed("10.0.0.1"),
    families=(4, 6),
    next_hops={4: packed("10.0.0.1"), 6: packed("fd00::1")},
    refused=(parse_cidr("10.96.0.0/12"),),
    communities=("65000:1",),
    prepend=(64900, 2),
    graceful_restart=GracefulRestart(90, 360),
    peers=(
        BgpPeer(ROUTER.address, 64999, password=Password("secret")),
        BgpPeer(DEAD.address, 65000),
        BgpPeer(NODE.address, 64512, "n2"),
    ),
)
IN = (
    PeerRoute(parse_cidr("192.0.2.0/24"), packed("10.0.0.254"), (64999, 65001), ("65000:7",), True),
    PeerRoute(parse_cidr("0.0.0.0/0"), packed("10.0.0.254"), (64999,), (), False),
)
OUT = (PeerRoute(parse_cidr("10.96.0.10/32"), packed("10.0.0.1"), (64512,), (), True),)
NOTE = Note("Node", ObjectKey("", "n3"), "NotPeered", "no BGP session with it: it has no address yet")
DOCUMENT = bgp_document(node="n1", now=NOW, speaker=SPEAKER, states=STATES, notes=[NOTE], problem="")
