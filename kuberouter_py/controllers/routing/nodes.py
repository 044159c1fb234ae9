"""DECIDE, for one other Node: the routes to its pods, the tunnel to it, its members of the sets. Pure.

A Node on a subnet of ours is its pods' gateway. To others packets go inside a tunnel (--enable-overlay), or by whatever
routers know of the pods (without it): then no route of ours is in their way. With --overlay-type=full tunnels lead to
all. The Nodes' own addresses are reached without: only this node's pods, whose addresses the routers between know
nothing of, come to them by the tunnel (a routing table of its own, docs/kernel.md).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import NamedTuple

from kuberouter_py.controllers.addresses import addresses_of
from kuberouter_py.controllers.claims import Item, Share, Unit
from kuberouter_py.controllers.routing.notes import object_notes
from kuberouter_py.controllers.routing.rung import Rung
from kuberouter_py.controllers.routing.subnets import link_toward
from kuberouter_py.controllers.routing.view import View
from kuberouter_py.model.cluster import Cidr, Node, ObjectKey
from kuberouter_py.model.kernel import SetEntry, SetMember, address_text, family_of
from kuberouter_py.model.names import MAIN_TABLE, OVERLAY_TABLE, routing_set, tunnel_name
from kuberouter_py.model.podnet import PodRoute, RouteKey, Tunnel
from kuberouter_py.model.report import Note
from kuberouter_py.model.values import cidr_text

MEMBERS, TUNNELS, ROUTES = "set members", "tunnels", "pod routes"
PODS, NODES = "pods", "nodes"  # roles of the sets: pod CIDRs of all Nodes, addresses of all Nodes
NOT_ROUTED = "PodsNotRouted"


class Decided(NamedTuple):
    """tunnelled: families in which a tunnel leads to the Node."""

    share: Share
    notes: tuple[Note, ...] = ()
    tunnelled: frozenset[int] = frozenset()


class _Way(NamedTuple):
    """How packets go to one Node in one family. tunnel: its name, "" without."""

    route: PodRoute | None
    tunnel: str = ""


def decide_node(view: View, node: Node) -> Decided:
    """The share of another Node. Two that claim one pod CIDR: the one whose name comes first has it."""
    units: dict[object, Unit] = {}
    rest: list[Item] = [*members(view, node)]
    notes = [*object_notes(node, event=False)]
    tunnelled: set[int] = set()
    for family in view.families:
        cidrs = [cidr for cidr in node.pod_cidrs if family_of(cidr.network) == family]
        addresses = [each for each in addresses_of(node) if family_of(each) == family]
        if not cidrs and not addresses:
            continue
        if reason := _hindrance(view, family, addresses):
            notes += [_note(node.key, cidr, reason) for cidr in cidrs]
            continue
        way = _way(view, family, addresses[0])
        if way.tunnel:
            tunnelled.add(family)
            rest += _tunnel(view, family, addresses, way.tunnel)
        for cidr in cidrs:
            if own := next((one for one in view.pod_cidrs if _overlap(one, cidr)), None):
                notes.append(_note(node.key, cidr, f"it overlaps {cidr_text(own)} of this node"))
            elif way.route:
                key = RouteKey(MAIN_TABLE, cidr.network, cidr.prefix)
                units[key] = (Item(ROUTES, key, way.route),)
    units["node"] = tuple(rest)
    named = {(node.key if claim == "node" else claim): unit for claim, unit in units.items() if unit}
    return Decided(Share((node.key.name,), named), tuple(notes), frozenset(tunnelled))


def contested_notes(contested: Mapping[Hashable, tuple[Hashable, ...]]) -> tuple[Note, ...]:
    """Why Nodes have no route whose pod CIDR another Node has. contested: as Claims.contested() has it."""
    notes: list[Note] = []
    for claim, (winner, *losers) in contested.items():
        if isinstance(claim, RouteKey) and isinstance(winner, Rung):
            reason = f"it is that of Node {winner.key.name}, too, whose name comes first"
            cidr = Cidr(claim.network, claim.prefix)
            notes += [_note(loser.key, cidr, reason) for loser in losers if isinstance(loser, Rung)]
    return tuple(notes)


def members(view: View, node: Node) -> Iterator[Item]:
    """Of any Node, our own as well."""
    for cidr in node.pod_cidrs:
        if (family := family_of(cidr.network)) in view.families:
            yield Item(MEMBERS, SetMember(routing_set(PODS, family), SetEntry(cidr.network, prefix=cidr.prefix)), None)
    for address in dict.fromkeys(addresses_of(node)):
        if (family := family_of(address)) in view.families:
            yield Item(MEMBERS, SetMember(routing_set(NODES, family), SetEntry(address)), None)


def _hindrance(view: View, family: int, addresses: list[bytes]) -> str:
    """Why no packet can be sent to that Node in this family; "" where nothing is in the way."""
    if not addresses:
        return f"the Node has no IPv{family} address"
    if addresses[0] in view.local:
        return f"the Node's address {address_text(addresses[0])} is one of this node's"
    if family not in view.primary:
        return f"this node has no IPv{family} address"
    return ""


def _way(view: View, family: int, remote: bytes) -> _Way:
    near = link_toward(view.links, remote)
    if view.overlay == "full" or (view.overlay and near is None):
        name = tunnel_name(remote)
        return _Way(PodRoute(name, source=view.primary[family]), name)
    if near is None:
        return _Way(None)
    link, source = near
    return _Way(PodRoute(link, remote, source))


def _tunnel(view: View, family: int, addresses: list[bytes], name: str) -> Iterator[Item]:
    mtu = view.tunnel_mtu(family)
    yield Item(TUNNELS, name, Tunnel(family, view.primary[family], addresses[0], view.gue_port, mtu))
    for address in dict.fromkeys(addresses):
        yield Item(ROUTES, RouteKey(OVERLAY_TABLE, address, 8 * len(address)), PodRoute(name))


def _overlap(one: Cidr, other: Cidr) -> bool:
    return one.network in other or other.network in one


def _note(node: ObjectKey, cidr: Cidr, reason: str) -> Note:
    return Note("Node", node, NOT_ROUTED, f"no route to its pods in {cidr_text(cidr)}: {reason}")
