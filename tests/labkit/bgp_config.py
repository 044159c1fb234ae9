"""A BGP peer of the lab as values, and the configuration that each engine reads.

A peer does what a data centre's router does: both families on every session, everything imported, everything that it
knows exported, every next hop of the same length used. Sessions come up within seconds, for a scenario waits for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, ip_interface, ip_network
from typing import Final, NamedTuple

from tests.labkit.model import BgpSpec, Scenario
from tests.labkit.ports import LabError

BFD_MILLISECONDS: Final = 300  # between two of its packets, FRR's default; three lost in a row are an end
_FAMILIES: Final = (4, 6)


class Session(NamedTuple):
    neighbor: str
    address: str
    asn: int


class Speaker(NamedTuple):
    """One outside host as its engine has to know it."""

    spec: BgpSpec
    router_id: str
    local: str  # its own end of every session
    addresses: Mapping[int, str]  # its first of each family
    gateways: Mapping[int, str]  # to what is on no link of it
    sessions: tuple[Session, ...]

    def announced(self, family: int) -> list[str]:
        return [prefix for prefix in self.spec.announce if ip_network(prefix).version == family]


def speaker(scenario: Scenario, name: str, gateways: Mapping[int, str]) -> Speaker:
    """LabError where a neighbour has no address that the session could lead to."""
    host = scenario.outside[name]
    spec = host.bgp
    if spec is None:
        raise LabError(f"outside/{name} is no BGP peer")
    own = _first(host.addresses)
    addresses = {name: host.addresses for name, host in scenario.outside.items()}
    addresses |= {name: node.addresses for name, node in scenario.nodes.items()}
    sessions = []
    for neighbor, asn in spec.neighbors.items():
        its = _first(addresses[neighbor])
        wanted = [_family(spec.address)] if spec.address else [family for family in _FAMILIES if family in own]
        family = next((family for family in wanted if family in its), None)
        if family is None:
            raise LabError(f"{neighbor} has no address of a family that {name} could reach it by")
        sessions.append(Session(neighbor, its[family], asn))
    families = {_family(session.address) for session in sessions}
    if len(families) > 1:
        raise LabError(f"{name} reaches some neighbours over IPv4 only and some over IPv6 only")
    local = spec.address or own[families.pop() if families else min(own)]
    return Speaker(spec, own.get(4) or str(IPv4Address(spec.asn)), local, own, gateways, tuple(sessions))


def _first(addresses: Iterable[str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for text in addresses:
        address = ip_interface(text).ip
        found.setdefault(address.version, str(address))
    return found


def _family(address: str) -> int:
    return 6 if ":" in address else 4


def bird(peer: Speaker) -> str:
    return "\n".join(_bird(peer)) + "\n"


def _bird(peer: Speaker) -> Iterator[str]:
    """What it announces stays out of its kernel: packets to it go on by the other routes."""
    spec = peer.spec
    yield from ("log stderr all;", "debug protocols { states };", f"router id {peer.router_id};", "protocol device { }")
    for family in _FAMILIES:
        # Next hops are looked up among the links and the way to the fabric, never among what was learned.
        yield f"ipv{family} table hops{family};"
        yield f"protocol direct {{ ipv{family} {{ table hops{family}; }}; }}"
        if family in peer.gateways:
            route = f"route {'0.0.0.0/0' if family == 4 else '::/0'} via {peer.gateways[family]};"
            yield f"protocol static {{ ipv{family} {{ table hops{family}; }}; {route} }}"
        routes = " ".join(f"route {prefix} blackhole;" for prefix in peer.announced(family))
        yield f"protocol static announced{family} {{ ipv{family}; {routes} }}"
        channel = f"ipv{family} {{ import none; export where source = RTS_BGP; }}"
        yield f"protocol kernel kernel{family} {{ merge paths on limit 64; {channel}; }}"
    if spec.bfd:
        times = f"{{ interval {BFD_MILLISECONDS} ms; multiplier 3; }}"
        yield f'protocol bfd {{ interface "*" {times}; multihop {times}; }}'
    for session in peer.sessions:
        yield f"protocol bgp 'peer_{session.neighbor}' {{"  # a name alone could be a word of its language
        yield f"  local {peer.local} port {spec.port} as {spec.asn};"
        yield f"  neighbor {session.address} as {session.asn};"
        yield f"  {'direct' if spec.multihop is None else f'multihop {spec.multihop}'};"
        yield f"  graceful restart {'on' if spec.graceful_restart else 'off'};"
        yield "  connect delay time 1; connect retry time 2; error wait time 1, 4;"
        if spec.bfd:
            yield "  bfd on;"
        if spec.password is not None:
            yield f'  password "{spec.password}";'
        for family in _FAMILIES:
            yield (f"  ipv{family} {{ import all; export where source = RTS_STATIC || source = RTS_BGP;"
                   f" igp table hops{family}; }};")  # fmt: skip
        yield "}"


def frr(peer: Speaker) -> str:
    """bgpd's; zebra and bfdd need none."""
    return "\n".join(_frr(peer)) + "\n"


def _frr(peer: Speaker) -> Iterator[str]:
    spec = peer.spec
    yield from (
        f"router bgp {spec.asn}", f" bgp router-id {peer.router_id}", " no bgp ebgp-requires-policy",
        " no bgp default ipv4-unicast", " no bgp network import-check", " bgp bestpath as-path multipath-relax",
        " bgp graceful-restart" if spec.graceful_restart else " bgp graceful-restart-disable",
    )  # fmt: skip
    for session in peer.sessions:
        each = f" neighbor {session.address}"
        yield f"{each} remote-as {session.asn}"
        yield f"{each} description {session.neighbor}"
        yield f"{each} update-source {peer.local}"
        yield f"{each} timers connect 1"
        yield f"{each} advertisement-interval 0"
        if spec.multihop is not None and session.asn != spec.asn:  # inside an AS there is no limit
            yield f"{each} ebgp-multihop {spec.multihop}"
        if spec.bfd:
            yield f"{each} bfd 3 {BFD_MILLISECONDS} {BFD_MILLISECONDS}"
        if spec.password is not None:
            yield f"{each} password {spec.password}"
    for family in _FAMILIES:
        yield f" address-family ipv{family} unicast"
        yield from (f"  network {prefix}" for prefix in peer.announced(family))
        yield from (f"  neighbor {session.address} activate" for session in peer.sessions)
        yield from ("  maximum-paths 64", "  maximum-paths ibgp 64", " exit-address-family")


def gobgp(peer: Speaker) -> str:
    return "\n".join(_gobgp(peer)) + "\n"


def _gobgp(peer: Speaker) -> Iterator[str]:
    spec = peer.spec
    yield "[global.config]"
    yield f'as = {spec.asn}\nrouter-id = "{peer.router_id}"\nport = {spec.port}\nlocal-address-list = ["{peer.local}"]'
    for session in peer.sessions:
        yield "[[neighbors]]"
        yield f'[neighbors.config]\nneighbor-address = "{session.address}"\npeer-as = {session.asn}'
        if spec.password is not None:
            yield f'auth-password = "{spec.password}"'
        yield f'[neighbors.transport.config]\nlocal-address = "{peer.local}"'
        yield "[neighbors.timers.config]\nconnect-retry = 5\nidle-hold-time-after-reset = 1"
        if spec.multihop is not None:
            yield f"[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = {spec.multihop}"
        if spec.graceful_restart:
            yield "[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 60"
        for family in _FAMILIES:
            yield f'[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = "ipv{family}-unicast"'
            if spec.graceful_restart:
                yield "[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true"


def gobgp_orders(peer: Speaker) -> list[str]:
    """What a running gobgpd is told by its own tool: the prefixes that it announces."""
    return [
        f"gobgp global rib add {prefix} nexthop {peer.addresses[family]} -a ipv{family}"
        for family in _FAMILIES
        if family in peer.addresses
        for prefix in peer.announced(family)
    ]
