"""The nouns of BGP: what this node is as a speaker, its peers, and what is announced. BIRD is not known here.

Addresses are packed bytes. A password shows in no repr.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from kuberouter_py.model.cluster import Cidr


@dataclass(frozen=True)
class Password:
    """A TCP MD5 key (RFC 2385). Only the engine takes the text."""

    text: str = field(repr=False)


# There is a password that is not told here: what a configuration read from its texts knows of it.
WITHHELD: Final = Password("")


class Bfd(NamedTuple):
    """RFC 5880. Intervals in milliseconds."""

    min_tx: int = 1000
    min_rx: int = 1000
    multiplier: int = 3


class BgpPeer(NamedTuple):
    """One session. Its key among the peers is its address: there is one session to an address.

    node: the Node that it is; "" for an external peer (of flags or annotations), whatever its AS. local: the address of
    ours that the session uses; b"": the engine's choice. multihop: TTL of a peer that is not on a link of ours; 0: it
    is (or it is a Node). passive: the other side connects. client: this node reflects routes to it (RFC 4456).
    """

    address: bytes
    asn: int
    node: str = ""
    port: int = 179
    local: bytes = b""
    password: Password | None = None
    multihop: int = 0
    bfd: Bfd | None = None
    passive: bool = False
    client: bool = False


class GracefulRestart(NamedTuple):
    """RFC 4724. Seconds: what peers wait for us; how long we wait for theirs after a restart before we announce."""

    time: int = 90
    deferral: int = 360


class Speaker(NamedTuple):
    """All that a BGP engine has to know. Announced prefixes are not part of it (Announced).

    families: those that the node has. next_hops: by family: what other routers shall send to (the node's own address);
    own_next_hop: the session's own address instead (--override-nexthop). pod_cidrs: this node's own.
    pods_to_external: whether external peers get them. refused: prefixes that no peer may give us, with all that lies in
    them (Service ranges, the node's own pod CIDRs, custom rejects); default routes are refused always. reflects: this
    node is a route reflector with that cluster ID. communities: text as BIRD and RFC 1997/8092 know it, "65000:5" or
    "65000:1:2". prepend: AS number and how often. peers: see BgpPeer.
    """

    asn: int
    router_id: bytes  # 4 bytes
    families: tuple[int, ...]
    next_hops: Mapping[int, bytes]
    pod_cidrs: tuple[Cidr, ...] = ()
    pods_to_external: bool = True
    own_next_hop: bool = False
    refused: tuple[Cidr, ...] = ()
    reflects: bytes = b""  # 4 bytes, or none
    communities: tuple[str, ...] = ()
    prepend: tuple[int, int] | None = None
    hold_time: int = 90
    port: int = 179
    listen: tuple[bytes, ...] = ()  # annotation bgp-local-addresses; empty: all
    graceful_restart: GracefulRestart | None = None
    peers: tuple[BgpPeer, ...] = ()


class Announced(Enum):
    """Value of the announced prefixes' table (keys are Cidr): who gets them. Its value is the metric of the route in
    the hand-over table, by which BIRD's filters know it.
    """

    PODS = 1  # to Nodes, and to external peers with --advertise-pod-cidr
    SERVICE = 2  # to external peers
    HELD = 3  # to nobody; it only says that the prefix is ours, so that no peer's route to it is taken


ESTABLISHED = "Established"


class PeerState(NamedTuple):
    """What the engine says of one session now. since: seconds since 1970. state: RFC 4271's ("Established", "Active",
    "Idle" …). reason: of the last failure, "" where there was none. received, accepted, announced: routes by family.
    """

    address: bytes
    asn: int
    node: str
    state: str
    since: float
    reason: str
    capabilities: tuple[str, ...]
    received: Mapping[int, int]
    accepted: Mapping[int, int]
    announced: Mapping[int, int]
    bfd: str = ""  # "Up", "Down", "Init"; "" without BFD
    hold_time: int = 0  # negotiated


class Digests(NamedTuple):
    """TCP segments that this node refused for their MD5 digest. wrong: another password made it; missing: there was
    none, and there is a password here; unexpected: there was one, and there is no password here.
    """

    wrong: int = 0
    missing: int = 0
    unexpected: int = 0


class PeerRoute(NamedTuple):
    """One route that a peer gave us, or got from us. accepted: it is the one that is used (in), or was sent (out)."""

    network: Cidr
    next_hop: bytes
    as_path: tuple[int, ...]
    communities: tuple[str, ...]
    accepted: bool


class SessionNews(NamedTuple):
    """A session came up or went down. why: it went down, as far as the engine says; "" where it says nothing."""

    address: bytes
    up: bool
    why: str = ""
