"""Service and ServiceCIDR: from the API's JSON to what a Service proxy needs of it.

Owns the rules S1.03, S1.05 and S2.04 as far as they are about one object. Pure.
"""

from __future__ import annotations

from sys import intern

import msgspec

from kuberouter_py.model.cluster import (
    Cidr,
    ObjectKey,
    Service,
    ServiceCidr,
    ServicePort,
)
from kuberouter_py.model.kernel import address_text, family_of
from kuberouter_py.model.values import cidr_text
from kuberouter_py.watchers.decode_fields import (
    FAMILIES,
    DecodeError,
    Metadata,
    address,
    addresses,
    cidr,
    cidrs,
    created,
    our_annotations,
    port_number,
    protocol_number,
    shared,
)

AFFINITY_TIMEOUT = 10800  # seconds; the API server's own default (core/v1 DefaultClientIPServiceAffinitySeconds)
AFFINITY_TIMEOUT_MAX = 86400  # core/v1 MaxClientIPServiceAffinitySeconds


class PortJson(msgspec.Struct, gc=False):
    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    nodePort: int | None = None


class ClientIpJson(msgspec.Struct, gc=False):
    timeoutSeconds: int | None = None


class AffinityJson(msgspec.Struct, gc=False):
    clientIP: ClientIpJson | None = None


class ServiceSpecJson(msgspec.Struct, gc=False):
    type: str | None = None
    clusterIP: str | None = None
    clusterIPs: list[str | None] | None = None
    ipFamilies: list[str | None] | None = None
    ports: list[PortJson | None] | None = None
    externalIPs: list[str | None] | None = None
    sessionAffinity: str | None = None
    sessionAffinityConfig: AffinityJson | None = None
    internalTrafficPolicy: str | None = None
    externalTrafficPolicy: str | None = None
    healthCheckNodePort: int | None = None
    loadBalancerSourceRanges: list[str | None] | None = None


class IngressJson(msgspec.Struct, gc=False):
    ip: str | None = None
    ipMode: str | None = None


class LoadBalancerJson(msgspec.Struct, gc=False):
    ingress: list[IngressJson | None] | None = None


class ServiceStatusJson(msgspec.Struct, gc=False):
    loadBalancer: LoadBalancerJson | None = None


class ServiceJson(msgspec.Struct, gc=False):
    metadata: Metadata
    spec: ServiceSpecJson | None = None
    status: ServiceStatusJson | None = None


# Lists whose elements may be broken one by one; a wrong type elsewhere (a policy, a source range) spoils the object,
# because leaving it out would open what its owner closed.
SERVICE_PARTS = ("spec.ports", "spec.externalIPs", "spec.clusterIPs", "status.loadBalancer.ingress")


def service(key: ObjectKey, json: ServiceJson, unusable: list[str]) -> Service:
    """Raises DecodeError where a value that decides about access or claims does not make sense."""
    spec = json.spec or ServiceSpecJson()
    kind = intern(spec.type or "ClusterIP")
    return Service(
        key=key,
        uid=json.metadata.uid or "",
        created=created(json.metadata),
        type=kind,
        cluster_ips=() if kind == "ExternalName" else _cluster_ips(spec, unusable),
        ports=_service_ports(spec.ports, unusable),
        external_ips=addresses(spec.externalIPs, "spec.externalIPs", unusable) if spec.externalIPs else (),
        ingress_ips=_ingress_ips(json.status, unusable),
        affinity_timeout=_affinity_timeout(spec, unusable),
        internal_local=_local("internalTrafficPolicy", spec.internalTrafficPolicy),
        external_local=_local("externalTrafficPolicy", spec.externalTrafficPolicy),
        health_check_node_port=_health_check_node_port(spec.healthCheckNodePort, unusable),
        source_ranges=tuple(_source_range(text or "") for text in spec.loadBalancerSourceRanges or ()),
        annotations=our_annotations(json.metadata.annotations),
        unusable=tuple(unusable),
    )


def _cluster_ips(spec: ServiceSpecJson, unusable: list[str]) -> tuple[bytes, ...]:
    """At most one of each family, the primary first (S1.03, S1.05); without ipFamilies the addresses tell."""
    texts = spec.clusterIPs or [spec.clusterIP]
    if "None" in (texts[0], spec.clusterIP):
        return ()
    found: dict[int, bytes] = {}
    for position, text in enumerate(texts):
        if not text:
            continue
        try:
            packed = address(text)
        except ValueError as error:
            unusable.append(f"spec.clusterIPs: {error}")
            continue
        families = spec.ipFamilies
        named = families[position] if families and position < len(families) else None
        if families and FAMILIES.get(named or "") != family_of(packed):
            unusable.append(f"spec.clusterIPs: {text} is not of the family that spec.ipFamilies names, {named}")
        elif family_of(packed) in found:
            unusable.append(f"spec.clusterIPs: {text} is a second address of its family")
        else:
            found[family_of(packed)] = packed
    return tuple(found.values())


def _service_ports(ports: list[PortJson | None] | None, unusable: list[str]) -> tuple[ServicePort, ...]:
    found: list[ServicePort] = []
    for position, port in enumerate(ports or ()):
        if port is None:
            continue
        try:
            node_port = port_number(port.nodePort) if port.nodePort else 0
            number = port_number(port.port)
            found.append(ServicePort(intern(port.name or ""), protocol_number(port.protocol), number, node_port))
        except ValueError as error:
            unusable.append(f"spec.ports[{position}] {error}")
    return shared(tuple(found))


def _ingress_ips(status: ServiceStatusJson | None, unusable: list[str]) -> tuple[bytes, ...]:
    """ipMode Proxy and entries with only a hostname are none of ours, and no fault either (S2.04)."""
    if not status or not status.loadBalancer or not status.loadBalancer.ingress:
        return ()
    entries = (entry for entry in status.loadBalancer.ingress if entry and entry.ipMode in (None, "", "VIP"))
    texts = [entry.ip for entry in entries if entry.ip]
    return addresses(texts, "status.loadBalancer.ingress", unusable)


def _affinity_timeout(spec: ServiceSpecJson, unusable: list[str]) -> int:
    if spec.sessionAffinity != "ClientIP":
        return 0
    client = spec.sessionAffinityConfig.clientIP if spec.sessionAffinityConfig else None
    seconds = client.timeoutSeconds if client else None
    if seconds is None:
        return AFFINITY_TIMEOUT
    if not 0 < seconds <= AFFINITY_TIMEOUT_MAX:
        unusable.append(f"spec.sessionAffinityConfig: {seconds} seconds is not within 1..{AFFINITY_TIMEOUT_MAX}")
        return AFFINITY_TIMEOUT
    return seconds


def _health_check_node_port(number: int | None, unusable: list[str]) -> int:
    """0 for none, and for one that does not exist."""
    try:
        return port_number(number) if number else 0
    except ValueError as error:
        unusable.append(f"spec.healthCheckNodePort: {error}")
        return 0


def _source_range(text: str) -> str:
    """As it is written without leading zeros and the like (S7.02, S11.06); what is none stays, for who decides."""
    base, slash, _ = text.strip().partition("/")
    try:
        return cidr_text(cidr(text)) if slash else address_text(address(base))
    except ValueError:
        return text


def _local(field: str, policy: str | None) -> bool:
    if policy not in (None, "", "Cluster", "Local"):
        raise DecodeError(f"spec.{field} {policy!r:.40} is not known")
    return policy == "Local"


class ServiceCidrSpecJson(msgspec.Struct, gc=False):
    cidrs: list[str | None] | None = None


class ServiceCidrJson(msgspec.Struct, gc=False):
    metadata: Metadata
    spec: ServiceCidrSpecJson | None = None


def service_cidr(key: ObjectKey, json: ServiceCidrJson, unusable: list[str]) -> ServiceCidr:
    """Raises DecodeError where a network does not parse: the others alone would answer "is this ours?" wrongly."""
    found: tuple[Cidr, ...] = cidrs((json.spec.cidrs if json.spec else None) or (), "spec.cidrs", unusable)
    if unusable:
        raise DecodeError("; ".join(unusable))
    return ServiceCidr(key=key, cidrs=found)
