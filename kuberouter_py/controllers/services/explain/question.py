"""What is asked: from whom, to what. From words to values, and to the frontends that are meant. Pure.

A question that cannot be answered says why, and what there is instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from kuberouter_py.controllers.services.explain.known import Known
from kuberouter_py.model.cluster import ObjectKey, Service, ServicePort
from kuberouter_py.model.kernel import Protocol, VirtualServerKey, family_of
from kuberouter_py.model.notation_servers import protocol_text

POD, NODE, ADDRESS = "pod", "node", "address"
_PROTOCOLS = {protocol.name.lower(): protocol for protocol in Protocol}
LISTED = 8  # of what there is instead


class Unanswerable(Exception):
    """The message says why, and what would be answered."""


class Origin(NamedTuple):
    """Who sends. kind: POD, NODE or ADDRESS. addresses: known ones, of a pod or as given. node: the pod's."""

    kind: str
    name: str
    addresses: tuple[bytes, ...] = ()
    node: str = ""


class Target(NamedTuple):
    """Either a Service and one of its ports ("" all of them), or an address and a port number, or a Pod and one of its
    ports by number or name.
    """

    protocol: int
    service: ObjectKey | None = None
    port: str = ""
    address: bytes = b""
    pod: ObjectKey | None = None


class Frontend(NamedTuple):
    """One address and port that is asked about. service, port: what it belongs to; None where nobody has it."""

    key: VirtualServerKey
    service: Service | None
    port: ServicePort | None


def origin_of(text: str) -> Origin:
    """ "pod/NAMESPACE/NAME", "node", or an address. A pod's addresses are not known yet."""
    kind, *names = text.split("/")
    if kind == POD and len(names) == 2 and all(names):
        return Origin(POD, "/".join(names))
    if text == NODE:
        return Origin(NODE, NODE)
    try:
        return Origin(ADDRESS, text, (ip_address(text).packed,))
    except ValueError:
        raise Unanswerable(f"--from {text}: neither pod/NAMESPACE/NAME nor node nor an address") from None


def target_of(text: str) -> Target:
    """ "10.96.0.10:80", "[fd00::10]:53/udp", "service/NAMESPACE/NAME:PORT", "pod/NAMESPACE/NAME:PORT" with a port's
    number or name.
    """
    rest, protocol = text, Protocol.TCP
    if (found := re.fullmatch(r"(.+)/(\w+)", text)) and found[2].lower() in _PROTOCOLS:
        rest, protocol = found[1], _PROTOCOLS[found[2].lower()]
    if rest.startswith("service/"):
        return Target(protocol, *_named(text, rest, "Service"))
    if rest.startswith("pod/"):
        key, port = _named(text, rest, "Pod")
        if not port:
            raise Unanswerable(f"--to {text}: which port? pod/NAMESPACE/NAME:PORT")
        return Target(protocol, pod=key, port=port)
    address, _, port = rest.rpartition(":")
    try:
        packed = ip_address(address.removeprefix("[").removesuffix("]")).packed
    except ValueError:
        packed = b""
    if (
        not packed
        or not port.isdecimal()
        or not 0 < int(port) < 65536
        or (len(packed) == 16) != address.startswith("[")
    ):
        raise Unanswerable(
            f"--to {text}: neither ADDRESS:PORT ([ADDRESS]:PORT in IPv6) nor service/NAMESPACE/NAME:PORT nor "
            "pod/NAMESPACE/NAME:PORT, "
            "either with /udp or /sctp behind it where it is not TCP"
        )
    return Target(protocol, port=port, address=packed)


def _named(text: str, rest: str, kind: str) -> tuple[ObjectKey, str]:
    """ "service/NAMESPACE/NAME:PORT": the object, and the port as written, "" where none is."""
    head, _, port = rest.partition(":")
    parts = head.split("/")[1:]
    if len(parts) != 2 or not all(parts):
        raise Unanswerable(f"--to {text}: a {kind} is named {kind.lower()}/NAMESPACE/NAME:PORT")
    return ObjectKey(*parts), port


def frontends(target: Target, families: Iterable[int], known: Known) -> list[Frontend]:
    """Everything that is asked about, ClusterIPs first. families: those in which the sender has an address."""
    if target.service is None:
        key = VirtualServerKey(target.protocol, target.address, int(target.port))
        return [Frontend(key, *holder(key, known))]
    service = known.cluster.service(target.service)
    if service is None:
        raise Unanswerable(_no_service(target.service, known))
    if not service.cluster_ips:
        raise Unanswerable(
            f"Service {service.key} has no ClusterIP ({service.type or 'headless'}): "
            "no node does anything for it, its clients ask DNS for the endpoints"
        )
    ports = _ports(service, target)
    found = [Frontend(key, service, port) for port in ports for key in _keys(service, port, known)]
    wanted = [each for each in found if family_of(each.key.address) in [*families]]
    if not wanted:
        raise Unanswerable(f"Service {service.key} has no address of the sender's family")
    return wanted


def holder(key: VirtualServerKey, known: Known) -> tuple[Service | None, ServicePort | None]:
    """Whose the address and port are: who has the virtual server, else who would like to."""
    owners = [*known.claimants(key), *sorted(known.holders(key.address))]
    if not owners and key.address in known.view.local:
        owners = [each for each in known.cluster.service_keys() if _has_node_port(known.cluster.service(each), key)]
    services = [service for owner in owners if (service := known.cluster.service(owner)) is not None]
    for service in services:
        for port in service.ports:
            if port.protocol == key.protocol and key in _keys(service, port, known):
                return service, port
    return (services[0], None) if services else (None, None)


def _has_node_port(service: Service | None, key: VirtualServerKey) -> bool:
    ports = service.ports if service else ()
    return any((port.protocol, port.node_port) == (key.protocol, key.port) for port in ports)


def _keys(service: Service, port: ServicePort, known: Known) -> Iterator[VirtualServerKey]:
    """Where a Service port may be asked: its own addresses, then NodePorts."""
    for address in dict.fromkeys((*service.cluster_ips, *service.external_ips, *service.ingress_ips)):
        yield VirtualServerKey(port.protocol, address, port.port)
    if port.node_port:
        for address in known.view.nodeport_addresses:
            yield VirtualServerKey(port.protocol, address, port.node_port)


def _ports(service: Service, target: Target) -> Sequence[ServicePort]:
    wanted = [
        port
        for port in service.ports
        if not target.port
        or (port.name == target.port and not target.port.isdecimal())
        or (str(port.port) == target.port and port.protocol == target.protocol)
    ]
    if not wanted:
        asked = target.port if not target.port.isdecimal() else f"{target.port}/{protocol_text(target.protocol)}"
        raise Unanswerable(f"Service {service.key} has no port {asked}; it has {ports_text(service)}")
    return wanted


def ports_text(service: Service) -> str:
    """ "http 80/tcp, dns 53/udp"."""
    return ", ".join(map(port_text, service.ports)) or "none"


def port_text(port: ServicePort) -> str:
    return f"{port.name} {port.port}/{protocol_text(port.protocol)}".lstrip()


def _no_service(key: ObjectKey, known: Known) -> str:
    keys = sorted(each for each in known.cluster.service_keys() if known.cluster.service(each))
    near = [each for each in keys if each.namespace == key.namespace] or keys
    more = f" and {len(near) - LISTED} more" if len(near) > LISTED else ""
    there = ", ".join(each.name if each.namespace == key.namespace else str(each) for each in near[:LISTED])
    where = f"in {key.namespace}" if near and near[0].namespace == key.namespace else "elsewhere"
    return f"there is no Service {key} here; {where} there are {there or 'none'}{more}"
