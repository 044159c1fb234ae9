"""One frontend and one sender, with everything that is known and decided about them. Pure.

Made at one moment between two syncs; what is told of it afterwards needs nothing that changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kuberouter_py.config import Config
from kuberouter_py.controllers.endpoints import candidates, left_out
from kuberouter_py.controllers.matches import Packet
from kuberouter_py.controllers.services.desired import ADDRESSES, CLUSTER_IP_HELD, MEMBERS, ROUTES, SERVERS
from kuberouter_py.controllers.services.explain.known import Known
from kuberouter_py.controllers.services.explain.question import NODE, Frontend, Origin
from kuberouter_py.controllers.services.healthchecks import HEALTH_CHECKS
from kuberouter_py.controllers.services.outside import ADDRESS_REFUSED
from kuberouter_py.controllers.services.refusals import refusal_text
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model.cluster import Endpoint, EndpointSlice, Service, ServicePort
from kuberouter_py.model.healthcheck import HealthCheck, HealthCheckPort
from kuberouter_py.model.kernel import DestinationKey, Protocol, VirtualServerKey, address_text, family_of
from kuberouter_py.model.notation_servers import protocol_text
from kuberouter_py.model.report import Note
from kuberouter_py.ports import Lookups

_UNSERVED = (ADDRESS_REFUSED, CLUSTER_IP_HELD)
CLUSTER_IP, EXTERNAL_IP, LOAD_BALANCER, NODE_PORT = "ClusterIP", "externalIP", "load-balancer address", "NodePort"


class LeftOut(NamedTuple):
    """An endpoint of the Service that is not among the destinations. number 0: its slice has no such port."""

    address: bytes
    number: int
    node: str
    reason: str


@dataclass(frozen=True)
class Case:
    """packet: the first one of the connection. local: a Local policy is in force for this frontend.

    nodes: of each candidate. weights: as the Pods of candidates ask for them. left_out: with the reason, by set: of the
    Local policy or of the whole cluster. notes: what is not as the Service's owner asked; unserved: of it, why this
    address is not served. taken: the Service that has the address instead. gone: the Service that had it, and is there
    no more. foreign: a virtual server of somebody else has it. refused: what of this frontend the kernel does not take.
    health_check: of which Service it is the health check port.
    """

    frontend: Frontend
    packet: Packet
    from_node: bool
    view: NodeView
    config: Config
    role: str
    local: bool
    nodes: Mapping[DestinationKey, str]
    weights: Mapping[DestinationKey, str]
    left_out: Mapping[bool, tuple[LeftOut, ...]]
    notes: tuple[str, ...]
    unserved: str
    taken: str
    gone: str
    foreign: bool
    refused: tuple[str, ...]
    health_check: HealthCheck | None

    @property
    def policy(self) -> str:
        """ "externalTrafficPolicy", of which `local` says whether it is Local."""
        return "internalTrafficPolicy" if self.role == CLUSTER_IP else "externalTrafficPolicy"


def case_of(frontend: Frontend, origin: Origin, known: Known, lookups: Lookups) -> Case:
    key, service, port = frontend
    source = _source(origin, key.address, known, lookups)
    from_node = origin.kind == NODE or source in known.view.local
    hop = None if from_node else lookups.toward(source)
    role = _role(key, service)
    local = _is_local(role, service)
    slices = known.cluster.slices_of(service.key) if service else ()
    notes = list(_notes(key, service, known))
    found = _found(slices, port, key, known)
    pods = known.cluster.pods()
    return Case(
        frontend=frontend,
        packet=Packet(source, key.address, key.protocol, key.port, incoming=hop.link if hop else ""),
        from_node=from_node,
        view=known.view,
        config=known.config,
        role=role,
        local=local,
        nodes={where: one.node for where, one in found.items()},
        weights={where: pods[one.pod].weight for where, one in found.items() if one.pod in pods},
        left_out={each: tuple(_left_out(slices, port, key, known, local=each)) for each in {local, False}},
        notes=tuple(f"{note.owner}: {note.message}" for note in notes),
        unserved=next((note.message for note in notes if note.reason in _UNSERVED and _names(note, key.address)), ""),
        taken=_taken(key, service, known),
        gone=_gone(key, known),
        foreign=key in known.foreign(SERVERS) and key not in known.wanted(SERVERS),
        refused=tuple(_refused(key, known)),
        health_check=_health_check(key, known),
    )


def _source(origin: Origin, destination: bytes, known: Known, lookups: Lookups) -> bytes:
    """The address that the packet has when it is sent."""
    if origin.kind != NODE:
        return next(each for each in origin.addresses if len(each) == len(destination))
    route = known.wanted(ROUTES).get(destination)
    if route is not None and route.source:
        return bytes(route.source)
    hop = None if destination in known.view.local else lookups.toward(destination)
    return hop.source if hop else destination


def _is_local(role: str, service: Service | None) -> bool:
    if service is None:
        return False
    return service.internal_local if role == CLUSTER_IP else service.external_local


def _role(key: VirtualServerKey, service: Service | None) -> str:
    if service is None:
        return ""
    if key.address in service.cluster_ips:
        return CLUSTER_IP
    ports = {port.port for port in service.ports if port.protocol == key.protocol}
    if key.port in ports and key.address in service.ingress_ips:
        return LOAD_BALANCER
    return EXTERNAL_IP if key.port in ports and key.address in service.external_ips else NODE_PORT


def _found(
    slices: Sequence[EndpointSlice], port: ServicePort | None, key: VirtualServerKey, known: Known
) -> Mapping[DestinationKey, Endpoint]:
    return candidates(slices, port, family_of(key.address), known.view.name) if port else {}


def _left_out(
    slices: Sequence[EndpointSlice], port: ServicePort | None, key: VirtualServerKey, known: Known, *, local: bool
) -> Iterator[LeftOut]:
    if port is None:
        return
    found = _found(slices, port, key, known)
    for where, reason in left_out(found, known.view.name, known.view.zone, local=local).items():
        yield LeftOut(where.address, where.port, found[where].node, reason)
    family = family_of(key.address)
    wanted = f"{port.name or 'unnamed'} {protocol_text(port.protocol)}"
    for part in slices:
        if part.family != family:
            reason = f"of IPv{part.family}"
        elif any((each.name, each.protocol) == (port.name, port.protocol) for each in part.ports):
            continue
        else:
            has = ", ".join(f"{each.name or 'unnamed'} {protocol_text(each.protocol)}" for each in part.ports) or "none"
            reason = f"its EndpointSlice {part.key.name} has no port {wanted} (but {has})"
        for one in part.endpoints:
            yield LeftOut(one.address, 0, one.node, reason)


def _notes(key: VirtualServerKey, service: Service | None, known: Known) -> Iterator[Note]:
    """The Service's own, and of others those about this address."""
    for owner in dict.fromkeys([*([service.key] if service else ()), *sorted(known.holders(key.address))]):
        for note in known.notes(owner):
            if (service and owner == service.key) or _names(note, key.address):
                yield note


def _names(note: Note, address: bytes) -> bool:
    return address_text(address) in note.message.split()


def _health_check(key: VirtualServerKey, known: Known) -> HealthCheck | None:
    """Listeners are on one address, or on all of them."""
    listeners = known.wanted(HEALTH_CHECKS)
    ports = [HealthCheckPort(address, key.port) for address in (key.address, b"")]
    found: list[HealthCheck] = [listeners[port] for port in ports if port in listeners and key.protocol == Protocol.TCP]
    return found[0] if found else None


def _taken(key: VirtualServerKey, service: Service | None, known: Known) -> str:
    claimants = known.claimants(key)
    return str(claimants[0]) if service and claimants and claimants[0] != service.key else ""


def _gone(key: VirtualServerKey, known: Known) -> str:
    claimants = known.claimants(key)
    return str(claimants[0]) if claimants and known.cluster.service(claimants[0]) is None else ""


def _refused(key: VirtualServerKey, known: Known) -> Iterator[str]:
    for (table, what), refused in known.refused.items():
        if _concerns(key, table, what):
            yield refusal_text(table, what, refused)


def _concerns(key: VirtualServerKey, table: str, what: Any) -> bool:
    if what is None:
        return True
    if table == SERVERS:
        return bool(what == key)
    if table in (ROUTES, ADDRESSES):
        return bool((what if table == ROUTES else what.address) == key.address)
    return table == MEMBERS and (what.entry.address, what.entry.port or key.port) == (key.address, key.port)
