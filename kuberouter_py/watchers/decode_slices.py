"""EndpointSlice: from the API's JSON to what a Service proxy needs of it. As decode_services.py.

Owns the rules S1.09 and M4.05-M4.16 as far as they are about one object. Pure.
"""

from __future__ import annotations

from sys import intern

import msgspec

from kuberouter_py.model.cluster import (
    READY,
    SERVING,
    TERMINATING,
    Endpoint,
    EndpointSlice,
    ObjectKey,
    SlicePort,
)
from kuberouter_py.watchers.decode_fields import (
    FAMILIES,
    DecodeError,
    address,
    port_number,
    protocol_number,
    shared,
    timestamp,
)

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
TRIGGER_TIME_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"


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
