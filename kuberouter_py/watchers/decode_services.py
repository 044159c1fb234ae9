"""Service, EndpointSlice and ServiceCIDR: from the API's JSON to what a Service proxy needs of it.

Owns the rules S1.03, S1.05, S1.09, S2.04 and M4.05-M4.16 as far as they are about one object. Pure.
"""

from __future__ import annotations

from sys import intern

import msgspec

from kuberouter_py.model.cluster import (
    READY,
    SERVING,
    TERMINATING,
    Cidr,
    Endpoint,
    EndpointSlice,
    ObjectKey,
    Service,
    ServiceCidr,
    ServicePort,
    SlicePort,
)
from kuberouter_py.model.kernel import family_of
from kuberouter_py.watchers.decode_fields import (
    DecodeError,
    Metadata,
    address,
    addresses,
    cidrs,
    created,
    our_annotations,
    port_number,
    protocol_number,
    shared,
    timestamp,
)

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
TRIGGER_TIME_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"
AFFINITY_TIMEOUT = 10800  # seconds; the API server's own default (core/v1 DefaultClientIPServiceAffinitySeconds)
AFFINITY_TIMEOUT_MAX = 86400  # core/v1 MaxClientIPServiceAffinitySeconds
FAMILIES = {"IPv4": 4, "IPv6": 6}


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
        health_check_node_port=spec.healthCheckNodePort or 0,
        source_ranges=tuple(text or "" for text in spec.loadBalancerSourceRanges or ()),
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


def _local(field: str, policy: str | None) -> bool:
    if policy not in (None, "", "Cluster", "Local"):
        raise DecodeError(f"spec.{field} {policy!r:.40} is not known")
    return policy == "Local"


class SliceLabelsJson(msgspec.Struct, gc=False):
    service: str | None = msgspec.field(default=None, name=SERVICE_NAME_LABEL)


class SliceAnnotationsJson(msgspec.Struct, gc=False):
    trigger_time: str | None = msgspec.field(default=None, name=TRIGGER_TIME_ANNOTATION)


class SliceMetadataJson(msgspec.Struct, gc=False):
    name: str | None = None
    namespace: str | None = None
    resourceVersion: str | None = None
    labels: SliceLabelsJson | None = None
    annotations: SliceAnnotationsJson | None = None


class ConditionsJson(msgspec.Struct, gc=False):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class HintJson(msgspec.Struct, gc=False):
    name: str | None = None


class HintsJson(msgspec.Struct, gc=False):
    forZones: list[HintJson | None] | None = None
    forNodes: list[HintJson | None] | None = None


class TargetJson(msgspec.Struct, gc=False):
    kind: str | None = None
    uid: str | None = None


class EndpointJson(msgspec.Struct, gc=False):
    addresses: list[str | None] | None = None
    conditions: ConditionsJson | None = None
    nodeName: str | None = None
    zone: str | None = None
    hints: HintsJson | None = None
    targetRef: TargetJson | None = None


class SlicePortJson(msgspec.Struct, gc=False):
    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class SliceJson(msgspec.Struct, gc=False):
    metadata: SliceMetadataJson
    addressType: str | None = None
    endpoints: list[EndpointJson | None] | None = None
    ports: list[SlicePortJson | None] | None = None


SLICE_PARTS = ("endpoints", "ports")


def endpoint_slice(key: ObjectKey, json: SliceJson, unusable: list[str]) -> EndpointSlice:
    """A slice without a Service keeps only its key (S1.09, M4.01), one of type FQDN (M4.09) that and a reason.

    Raises DecodeError where addressType is missing or unknown.
    """
    labels = json.metadata.labels
    owner = ObjectKey(key.namespace, labels.service if labels and labels.service else "")
    family = FAMILIES.get(json.addressType or "", 0)
    if not family and json.addressType != "FQDN":
        raise DecodeError(f"addressType {json.addressType!r:.40} is not known")
    if not owner.name or not family:
        reasons = () if family else ("addressType FQDN is not served",)
        return EndpointSlice(key=key, service=owner, family=family or 4, ports=(), endpoints=(), unusable=reasons)
    ports = _slice_ports(json.ports, unusable)
    return EndpointSlice(
        key=key,
        service=owner,
        family=family,
        ports=ports,
        endpoints=_endpoints(json.endpoints, family, unusable),
        trigger_time=_trigger_time(json.metadata.annotations),
        unusable=tuple(unusable),
    )


def _slice_ports(ports: list[SlicePortJson | None] | None, unusable: list[str]) -> tuple[SlicePort, ...]:
    """A nil name is "", which the API server's own defaulting makes of it, so that M4.08 never meets one from there."""
    found: list[SlicePort] = []
    for position, port in enumerate(ports or ()):
        if port is None:
            continue
        try:
            found.append(SlicePort(intern(port.name or ""), protocol_number(port.protocol), port_number(port.port)))
        except ValueError as error:
            unusable.append(f"ports[{position}] {error}")
    return shared(tuple(found))


def _endpoints(endpoints: list[EndpointJson | None] | None, family: int, unusable: list[str]) -> tuple[Endpoint, ...]:
    """addresses[0] of each (M4.05, S11.02)."""
    found: list[Endpoint] = []
    width = 4 if family == 4 else 16
    for position, endpoint in enumerate(endpoints or ()):
        if endpoint is None:
            continue
        if not endpoint.addresses:
            unusable.append(f"endpoints[{position}] has no address")
            continue
        try:
            packed = address(endpoint.addresses[0] or "")
        except ValueError as error:
            unusable.append(f"endpoints[{position}]: {error}")
            continue
        if len(packed) != width:
            unusable.append(f"endpoints[{position}]: {endpoint.addresses[0]} is not an IPv{family} address")
            continue
        said = endpoint.conditions
        conditions = _CONDITIONS[said.ready, said.serving, said.terminating] if said else READY | SERVING
        node, zone = intern(endpoint.nodeName or ""), intern(endpoint.zone or "")
        zones, nodes = _hints(endpoint.hints) if endpoint.hints else ((), ())
        target = endpoint.targetRef
        pod = (target.uid or "") if target and target.kind == "Pod" else ""  # not interned: hardly one comes twice
        found.append(Endpoint(packed, conditions, node, zone, zones, nodes, pod))
    return tuple(found)


# nil: ready and serving yes, terminating no (S3.01, M4.06).
_CONDITIONS = {
    (ready, serving, terminating): (
        (0 if ready is False else READY) | (0 if serving is False else SERVING) | (TERMINATING if terminating else 0)
    )
    for ready in (None, False, True)
    for serving in (None, False, True)
    for terminating in (None, False, True)
}


def _hints(hints: HintsJson) -> tuple[tuple[str, ...], tuple[str, ...]]:
    zones = tuple(intern(hint.name) for hint in hints.forZones or () if hint and hint.name)
    nodes = tuple(intern(hint.name) for hint in hints.forNodes or () if hint and hint.name)
    return zones, nodes


def _trigger_time(annotations: SliceAnnotationsJson | None) -> float:
    """Feeds a metric only (M4.16): one that does not parse is as good as none."""
    try:
        return timestamp(annotations.trigger_time) if annotations else 0.0
    except ValueError:
        return 0.0


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
