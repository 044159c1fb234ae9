"""DECIDE, for one Service: its share of this node. Pure: objects, the node's view and the configuration in; values out.

A unit is one virtual server and everything that hangs on it: the entries in our sets, the VIP's address and route.
Rules S1.*, S2.*, S3.*, S5.*, S8.04, S11.* (semantics of a Service proxy); what the sets mean stands in chains.py.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from kuberouter_py.config import Config
from kuberouter_py.controllers.admission import Admission, inside
from kuberouter_py.controllers.claims import Item, Share, Unit
from kuberouter_py.controllers.endpoints import Candidates, Chosen, candidates, choose
from kuberouter_py.controllers.services.healthchecks import has_health_check, health_check_units
from kuberouter_py.controllers.services.marks import MarkOf
from kuberouter_py.controllers.services.outside import (
    ADDRESS_REFUSED,
    external_addresses,
    service_note,
    without_cluster_ip,
)
from kuberouter_py.controllers.services.policies import ShortCircuit, silence
from kuberouter_py.controllers.services.scheduling import Scheduling, scheduling, without_affinity
from kuberouter_py.controllers.services.sources import SourceRanges, allowed, source_ranges
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model.cluster import EndpointSlice, Service, ServicePort
from kuberouter_py.model.kernel import (
    Address,
    Destination,
    DestinationKey,
    MarkServerKey,
    Protocol,
    Route,
    ServerKey,
    SetEntry,
    SetMember,
    VirtualServer,
    VirtualServerKey,
    address_text,
    family_of,
)
from kuberouter_py.model.names import services_set
from kuberouter_py.model.report import Note
from kuberouter_py.model.values import cidr_text

SERVERS, MEMBERS, ADDRESSES, ROUTES = "virtual servers", "set members", "addresses", "routes"
EVERY_DESTINATION = Destination()
CLUSTER_IP_HELD = "ClusterIPHeld"  # why one is not served on this node, as the reason of a note


class Decision(NamedTuple):
    share: Share
    notes: tuple[Note, ...]


class Frontend(NamedTuple):
    """One address that a Service port answers on. vip: bound by us; external: policy of outside traffic applies."""

    address: bytes
    port: int
    vip: bool
    external: bool


def decide(
    service: Service,
    slices: Sequence[EndpointSlice],
    view: NodeView,
    config: Config,
    cluster_ip: Callable[[bytes], bool],
    mark_of: MarkOf,
) -> Decision:
    """What this node should hold for the Service. cluster_ip: see Admission; mark_of: see Marks."""
    how = scheduling(service, view.missing_schedulers)
    ranges = source_ranges(service)
    notes = [service_note(service, "UnusablePart", text, event=True) for text in service.unusable]
    notes += [
        service_note(service, "UnusablePart", f"EndpointSlice {part.key.name}: {text}")
        for part in slices
        for text in part.unusable
    ]
    notes += [service_note(service, "SchedulerRefused", text, event=True) for text in how.reasons]
    notes += [service_note(service, "SourceRangeRefused", text, event=True) for text in ranges.reasons]
    admission = Admission(config, view.service_cidrs, cluster_ip)
    units: dict[Hashable, Unit] = {
        key: (*_health_checks(service, view.nodeport_addresses, view), *unit)
        for key, unit in health_check_units(service, slices, view, config)
    }
    for cluster_address in service.cluster_ips:
        family = family_of(cluster_address)
        if family not in view.families:
            continue
        external = external_addresses(service, family, view, admission, notes)
        if link := view.holder(cluster_address):
            message = f"ClusterIP {address_text(cluster_address)} is not served on this node: its link {link} has it"
            notes.append(service_note(service, CLUSTER_IP_HELD, message))
        for port in service.ports:
            frontends = _allowed(service, _frontends(service, port, cluster_address, external, view), config, notes)
            units.update(_port_units(service, port, slices, [*frontends], how, view, config, mark_of))
    notes += without_cluster_ip(service, view, admission)
    if ranges.by_family:
        _restrict(units, service, ranges, view)
    return Decision(Share((service.created, *service.key), units), tuple(notes))


def _frontends(
    service: Service, port: ServicePort, cluster_address: bytes, external: Mapping[bytes, bool], view: NodeView
) -> Iterable[Frontend]:
    if not view.holder(cluster_address):
        yield Frontend(cluster_address, port.port, vip=cluster_address not in view.local, external=False)
    for address, vip in external.items():
        yield Frontend(address, port.port, vip, external=True)
    if port.node_port:
        for address in view.nodeport_addresses:
            if len(address) == len(cluster_address):
                yield Frontend(address, port.node_port, vip=False, external=True)


def _allowed(service: Service, frontends: Iterable[Frontend], config: Config, notes: list[Note]) -> Iterator[Frontend]:
    """Without those that --excluded-cidrs gives to somebody else, whatever is wanted."""
    for frontend in frontends:
        held = inside(frontend.address, config.excluded_cidrs)
        if held is None:
            yield frontend
            continue
        message = f"{address_text(frontend.address)} is not served: inside --excluded-cidrs ({cidr_text(held)})"
        if (note := service_note(service, ADDRESS_REFUSED, message, event=True)) not in notes:
            notes.append(note)


def _port_units(
    service: Service,
    port: ServicePort,
    slices: Sequence[EndpointSlice],
    frontends: Sequence[Frontend],
    how: Scheduling,
    view: NodeView,
    config: Config,
    mark_of: MarkOf,
) -> Iterable[tuple[ServerKey, Unit]]:
    if not frontends:
        return
    family = family_of(frontends[0].address)
    chosen = choose(candidates(slices, port, family, view.name), view.name, view.zone)
    local_outside = [_key(port, one) for one in frontends if one.external] if service.external_local else []
    short_circuit = ShortCircuit(service, port, local_outside, mark_of)
    serve = _serving(chosen, how, port, view)
    for frontend in frontends:
        local = service.external_local if frontend.external else service.internal_local  # S4.01
        key = _key(port, frontend)
        server, hairpins = serve(local)
        yield (
            key,
            (
                *_frontend_items(key, frontend, local, view, config),
                *(Item(MEMBERS, one, None) for one in silence(key, chosen, external=frontend.external) if local),
                *(Item(MEMBERS, one, mark) for one, mark in short_circuit.members(key)),
                *(_health_checks(service, [frontend.address], view) if frontend.external else ()),
                Item(SERVERS, key, server),
                *hairpins,
            ),
        )
    if short_circuit.mark is not None:
        marked = MarkServerKey(short_circuit.mark, family)
        server, hairpins = serve(False)
        scheduler, flags, timeout, _ = without_affinity(how, view.missing_schedulers)
        everywhere = VirtualServer(scheduler, flags, timeout, server.destinations)
        yield marked, (Item(SERVERS, marked, everywhere), *hairpins)


def _serving(
    chosen: Chosen, how: Scheduling, port: ServicePort, view: NodeView
) -> Callable[[bool], tuple[VirtualServer, Unit]]:
    """What a frontend leads to, to endpoints of this node alone or to all: one value for all frontends of a port."""
    served: dict[bool, tuple[VirtualServer, Unit]] = {}

    def serve(local: bool) -> tuple[VirtualServer, Unit]:
        if local not in served:
            backends = chosen.local if local else chosen.cluster
            served[local] = (
                VirtualServer(how.scheduler, how.flags, how.timeout, _destinations(backends)),
                _hairpins((one for one in chosen.local if one in backends), port, view),
            )
        return served[local]

    return serve


def _key(port: ServicePort, frontend: Frontend) -> VirtualServerKey:
    return VirtualServerKey(port.protocol, frontend.address, frontend.port)


def _restrict(units: dict[Hashable, Unit], service: Service, ranges: SourceRanges, view: NodeView) -> None:
    """Load-balancer addresses answer only to the ranges; NodePorts and externalIPs are not concerned (S7.01)."""
    ports = {(port.protocol, port.port) for port in service.ports}
    for key, unit in units.items():
        if not isinstance(key, VirtualServerKey) or (key.protocol, key.port) not in ports:
            continue
        if key.address not in service.ingress_ips:
            continue
        family = family_of(key.address)
        if family in ranges.by_family:
            frontend = SetEntry(key.address, key.protocol, key.port)
            sources = allowed(ranges.by_family[family], key.address, view)
            entries = [frontend._replace(address2=cidr.network, prefix=cidr.prefix) for cidr in sources]
            # Who may come is known before anybody is kept out: items are written in this order.
            items = [Item(MEMBERS, SetMember(services_set("sources", family), entry), None) for entry in entries]
            items.append(Item(MEMBERS, SetMember(services_set("ranged", family), frontend), None))
            units[key] = (*items, *unit)


def _destinations(backends: Candidates) -> dict[DestinationKey, Destination]:
    return dict.fromkeys(backends, EVERY_DESTINATION)


def _hairpins(local: Iterable[DestinationKey], port: ServicePort, view: NodeView) -> Unit:
    """A pod that is sent to itself must be masqueraded, or its answer never passes IPVS again (S8.04)."""
    items = []
    for address, number in local:
        if address not in view.local:
            entry = SetEntry(address, port.protocol, number, address)
            items.append(Item(MEMBERS, SetMember(services_set("hairpin", family_of(address)), entry), None))
    return tuple(items)


def _health_checks(service: Service, addresses: Iterable[bytes], view: NodeView) -> Iterator[Item]:
    """Where this Service's health check port may be asked, also behind a firewall of the host: on every address that
    NodePorts and outside traffic come to (S12.07).
    """
    for address in addresses if has_health_check(service) else ():
        if (family := family_of(address)) in view.families:
            entry = SetEntry(address, Protocol.TCP, service.health_check_node_port)
            yield Item(MEMBERS, SetMember(services_set("healthchecks", family), entry), None)


def _frontend_items(key: VirtualServerKey, frontend: Frontend, local: bool, view: NodeView, config: Config) -> Unit:
    family = family_of(key.address)
    entry = SetEntry(key.address, key.protocol, key.port)
    roles = ["owned", "frontends"]
    if not frontend.external:
        roles.append("clusterips")
    elif not local:
        roles.append("external")
    items = [Item(MEMBERS, SetMember(services_set(role, family), entry), None) for role in roles]
    if frontend.vip:
        items.append(Item(MEMBERS, SetMember(services_set("vips", family), SetEntry(key.address)), None))
        if config.vip_binding != "route":
            items.append(Item(ADDRESSES, Address(config.vip_link, key.address), None))
        items.append(Item(ROUTES, key.address, _route(config.vip_link, route_source(view, family))))
    return tuple(items)


@lru_cache(maxsize=16)
def _route(link: str, source: bytes) -> Route:
    """One object for all VIPs."""
    return Route(link, source)


def route_source(view: NodeView, family: int) -> bytes:
    """The node's own address, where a link of the node has it (a route's src must be local: the kernel says EINVAL)."""
    primary = view.primary.get(family, b"")
    return primary if primary in view.local else b""
