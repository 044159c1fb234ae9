"""DECIDE, what this node is as a BGP speaker: its AS, its router ID, its peers and why somebody is none. Pure.

Who peers with whom among Nodes comes out the same on both: the rules are symmetric, and of two Nodes the one with the
lower address waits for the other. What is announced is decided elsewhere; what peers may give is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import NamedTuple

from kuberouter_py.config import Config
from kuberouter_py.controllers.routing.annotations import ASN, CLIENT, LISTEN, SERVER
from kuberouter_py.controllers.routing.notes import ANNOTATION_REFUSED
from kuberouter_py.controllers.routing.roster import Member, Roster
from kuberouter_py.controllers.routing.subnets import link_toward
from kuberouter_py.model.bgp import WITHHELD, Bfd, BgpPeer, GracefulRestart, Password, Speaker
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.kernel import LinkState, address_text, family_of
from kuberouter_py.model.report import Note
from kuberouter_py.model.values import cidr_text
from kuberouter_py.model.values_bgp import DEFAULT_CLUSTER_ASN, GENERATED_ROUTER_ID, parse_passwords

NO_BGP = "NoBgp"
NOT_PEERED = "NotPeered"
RANGE_NOT_REFUSED = "RangeNotRefused"


class Around(NamedTuple):
    """What a speaker depends on beside configuration and Nodes.

    families: those that this node has. primary: its own address by family. local: every address of it, on whatever
    link. links: all of them; (): not known. service_cidrs: as the ServiceCIDR objects say. passwords: of
    --peer-router-ips, one for each or none at all; no_passwords: why there are none although there should be
    ("/etc/passwords: no such file"); then held counts: the passwords of sessions that stand.
    """

    families: tuple[int, ...]
    primary: Mapping[int, bytes]
    local: frozenset[bytes] = frozenset()
    links: tuple[LinkState, ...] = ()
    pod_cidrs: tuple[Cidr, ...] = ()
    service_cidrs: tuple[Cidr, ...] = ()
    passwords: tuple[Password | None, ...] = ()
    no_passwords: str = ""
    held: Mapping[bytes, Password | None] = MappingProxyType({})


class Decided(NamedTuple):
    """speaker: None where there is nobody to speak to, or nothing to say who we are."""

    speaker: Speaker | None
    notes: tuple[Note, ...] = ()


def speaker(config: Config, roster: Roster, around: Around) -> Decided:
    if roster.own is None:
        return Decided(None)
    # An address that the Node object lacks for a moment is still this node's.
    own = roster.own._replace(addresses=tuple(dict.fromkeys((*roster.own.addresses, *around.primary.values()))))
    notes = [Note("Node", own.key, ANNOTATION_REFUSED, reason, event=True) for reason in own.reasons]
    families = tuple(family for family in around.families if family in around.primary)
    asn = own.said.asn if not config.nodes_full_mesh else config.cluster_asn or DEFAULT_CLUSTER_ASN
    if hindrance := _hindrance(own, families, asn):
        return Decided(None, (*notes, Note("Node", own.key, NO_BGP, hindrance, event=True)))
    us = _Us(config, own, asn, around, notes.append)
    peers = {peer.address: peer for peer in _of_nodes(us, roster)}
    for peer in _external(us):
        if peer.address in peers:
            us.no_peer(f"Node {peers[peer.address].node} as one", f"{address_text(peer.address)} is an external peer's")
        peers[peer.address] = peer
    refused = _refused(us)
    if not peers:
        return Decided(None, tuple(notes))
    listen = tuple(sorted(address for address in own.said.listen if family_of(address) in families))
    times = int(config.bgp_graceful_restart_time), int(config.bgp_graceful_restart_deferral_time)
    made = Speaker(
        asn=asn,
        router_id=_router_id(config, own),
        families=families,
        next_hops={family: around.primary[family] for family in families},
        pod_cidrs=around.pod_cidrs,
        pods_to_external=config.advertise_pod_cidr,
        own_next_hop=config.override_nexthop,
        refused=refused,
        reflects=own.said.server,
        communities=own.said.communities,
        prepend=own.said.prepend,
        hold_time=int(config.bgp_holdtime),
        port=config.bgp_port,
        listen=listen,
        graceful_restart=GracefulRestart(*times) if config.bgp_graceful_restart else None,
        peers=tuple(sorted(peers.values(), key=lambda peer: (len(peer.address), peer.address))),
    )
    return Decided(made, tuple(notes))


def _hindrance(own: Member, families: tuple[int, ...], asn: int) -> str:
    if not families:
        return "no BGP: the Node has no address yet"
    if not asn:
        return f"no BGP: --nodes-full-mesh=false, and the Node has no AS number (annotation {ASN})"
    return ""


class _Us(NamedTuple):
    """What all questions about peers have in common."""

    config: Config
    own: Member
    asn: int
    around: Around
    note: Callable[[Note], None]

    def no_peer(self, who: str, why: str) -> None:
        """Of an external peer, which this Node alone knows of."""
        self.note(Note("Node", self.own.key, NOT_PEERED, f"no session with {who}: {why}", event=True))


# -- who we are ------------------------------------------------------------------------------------------------------


def _router_id(config: Config, own: Member) -> bytes:
    if config.router_id not in ("", GENERATED_ROUTER_ID):
        return IPv4Address(config.router_id).packed
    if not config.router_id:
        first = next((address for address in own.addresses if family_of(address) == 4), None)
        if first is not None:
            return first
    return generated_router_id(own.addresses[0])


def generated_router_id(address: bytes) -> bytes:
    """As kube-router makes it, so that a Node that moves over keeps it: FNV-1a of the address' 16 bytes."""
    digest = 0x811C9DC5
    for byte in address if len(address) == 16 else b"\0" * 10 + b"\xff\xff" + address:
        digest = (digest ^ byte) * 0x01000193 & 0xFFFFFFFF
    return (digest or 1).to_bytes(4, "big")  # 0.0.0.0 is no router ID


def _refused(us: _Us) -> tuple[Cidr, ...]:
    """Ranges of Services, this node's pods, what its annotation rejects. A range of external addresses that this node
    itself is in is more than Services': to refuse all of it would be to refuse routes to nodes and pods.
    """
    config, around = us.config, us.around
    refused = {*(config.service_cluster_ip_range or around.service_cidrs), *around.pod_cidrs, *us.own.said.rejects}
    ours = [*around.primary.values(), *(cidr.network for cidr in around.pod_cidrs)]
    for name in ("service_external_ip_range", "loadbalancer_ip_range"):
        for cidr in getattr(config, name):
            inside = next((address for address in ours if address in cidr), None)
            if inside is None:
                refused.add(cidr)
                continue
            told = f"--{name.replace('_', '-')}: {cidr_text(cidr)} holds {address_text(inside)} of this node"
            us.note(Note("Node", us.own.key, RANGE_NOT_REFUSED, f"{told}: peers may announce what lies in it"))
    return tuple(sorted(refused, key=lambda cidr: (len(cidr.network), cidr)))


# -- sessions with Nodes ---------------------------------------------------------------------------------------------


def _of_nodes(us: _Us, roster: Roster) -> Iterator[BgpPeer]:
    if not us.config.enable_ibgp:
        return
    said = us.own.said
    if said.client and not said.server and not any(other.said.server for other in roster.others):
        us.no_peer("Nodes", f"this one is a client ({CLIENT}), and no other is a reflector ({SERVER})")
    taken = dict.fromkeys(us.own.addresses, us.own.key.name)
    for other in sorted(roster.others, key=lambda member: member.key):
        if not _meant(us, other):
            continue
        local, address = _ends(us, other)
        if not address:
            _no_node(us, other, "it has no address yet" if not other.addresses else "the two have no address family")
        elif address in taken:
            _no_node(us, other, f"its address {address_text(address)} is that of {taken[address]}, too")
        elif said.listen and local not in said.listen:
            _no_node(us, other, f"{address_text(local)} is not in this Node's {LISTEN}")
        else:
            taken[address] = other.key.name
            yield BgpPeer(
                address=address,
                asn=us.asn,
                node=other.key.name,
                port=us.config.bgp_port,
                local=local,
                passive=local < address,
                client=bool(said.server and other.said.client and not other.said.server),
            )


def _meant(us: _Us, other: Member) -> bool:
    """Whether there shall be a session. Clients of reflectors have them with reflectors alone."""
    if not us.config.nodes_full_mesh and other.said.asn != us.asn:
        if not other.said.asn:
            bad = next((f" ({reason})" for reason in other.reasons if reason.startswith(ASN)), "")
            _no_node(us, other, f"it has no AS number (annotation {ASN}){bad}")
        return False
    mine, theirs = us.own.said, other.said
    either_client = (mine.client and not mine.server) or (theirs.client and not theirs.server)
    return bool(mine.server or theirs.server) if either_client else True


def _ends(us: _Us, other: Member) -> tuple[bytes, bytes]:
    """Our address and theirs: of the family that is the first of both Nodes, else of IPv4 before IPv6; b"": none."""
    families: list[int] = [family for family in (4, 6) if family in us.around.families]
    if other.addresses and family_of(other.addresses[0]) == family_of(us.own.addresses[0]):
        families.insert(0, family_of(other.addresses[0]))
    for family in families:
        local, address = _first(us.own, family), _first(other, family)
        if local and address:
            return local, address
    return b"", b""


def _first(member: Member, family: int) -> bytes:
    return next((address for address in member.addresses if family_of(address) == family), b"")


def _no_node(us: _Us, other: Member, why: str) -> None:
    us.note(Note("Node", other.key, NOT_PEERED, f"no BGP session with it: {why}"))


# -- sessions with routers outside the cluster -----------------------------------------------------------------------


def _external(us: _Us) -> Iterator[BgpPeer]:
    """Of flags, or else of annotations."""
    listed = _of_flags(us) if us.config.peer_router_ips else us.own.said.peers
    for peer in listed:
        who = address_text(peer.address)
        family = family_of(peer.address)
        local = peer.local or next((each for each in us.own.said.listen if family_of(each) == family), b"")
        if peer.address in us.around.local or peer.address in us.own.addresses:
            us.no_peer(who, "that is an address of this node")
        elif us.own.said.listen and local not in us.own.said.listen:
            told = f"{address_text(local)} is not in" if local else f"no IPv{family} address is in"
            us.no_peer(who, f"{told} {LISTEN}")
        else:
            if local and us.around.local and local not in us.around.local:
                us.no_peer(who, f"its local address {address_text(local)} is none of this node (yet)")
            hops = _hops(us, peer)
            if not hops and peer.asn != us.asn and us.around.links and not link_toward(us.around.links, peer.address):
                us.no_peer(who, "no link of this node leads there (yet), and --peer-router-multihop-ttl is 0")
            yield peer._replace(local=local, multihop=hops)


def _hops(us: _Us, peer: BgpPeer) -> int:
    """Sessions within one AS may lead anywhere. With BFD, whose packets of one hop have a port of their own, only where
    the flag says so.
    """
    flag = us.config.peer_router_multihop_ttl
    return flag if flag or peer.bfd or peer.asn != us.asn else 255


def _of_flags(us: _Us) -> Iterator[BgpPeer]:
    config, around = us.config, us.around
    listed = dict(zip(config.peer_router_ips, around.passwords or (None,) * len(config.peer_router_ips), strict=True))
    if around.no_passwords:
        listed = {address: around.held[address] for address in listed if address in around.held}
        told = "; sessions that stand keep theirs" if listed else ""
        us.no_peer("the peers of --peer-router-ips", f"their passwords are not known: {around.no_passwords}{told}")
    ports = config.peer_router_ports or (BgpPeer._field_defaults["port"],) * len(config.peer_router_ips)
    bfd = None
    if config.enable_bfd:
        bfd = Bfd(
            config.bfd_desired_min_tx_interval, config.bfd_required_min_rx_interval, config.bfd_detection_multiplier
        )
    for address, asn, port in zip(config.peer_router_ips, config.peer_router_asns, ports, strict=True):
        if address in listed:
            yield BgpPeer(address=address, asn=asn, port=port, password=listed[address], bfd=bfd)


def flag_passwords(config: Config, file_text: str, held: Speaker | None = None) -> tuple[Password | None, ...]:
    """Those of --peer-router-ips, of the flag or else of what the file holds. Raises ValueError, which quotes none.

    held: what BGP runs with now; a password that the running agent does not tell (WITHHELD) is taken from there.
    """
    if config.peer_router_passwords or not config.peer_router_passwords_file:
        known = {peer.address: peer.password for peer in held.peers} if held else {}
        pairs = zip(config.peer_router_ips, config.peer_router_passwords, strict=False)
        return tuple(known.get(address) or each if each is WITHHELD else each for address, each in pairs)
    found = parse_passwords(file_text)
    if len(found) != len(config.peer_router_ips):
        raise ValueError(f"{len(found)} passwords for {len(config.peer_router_ips)} of --peer-router-ips")
    return found
