"""Node, Pod and Namespace: from the API's JSON to the few fields that we use. Pure."""

from __future__ import annotations

from sys import intern
from typing import NamedTuple

import msgspec

from kuberouter_py.model.cluster import Cidr, ContainerPort, Namespace, Node, ObjectKey, Pod, PodMetadata
from kuberouter_py.watchers.decode_fields import (
    Metadata,
    Named,
    address,
    addresses,
    cidrs,
    our_annotations,
    our_labels,
    port_number,
    protocol_number,
    timestamp,
)

# Annotations that come before spec.podCIDRs, in the order in which the other routing agent reads them on its own node.
POD_CIDRS_ANNOTATION = "kube-router.io/pod-cidrs"
POD_CIDR_ANNOTATION = "kube-router.io/pod-cidr"
ENDPOINT_WEIGHT = "kube-router.io/endpoint.weight"


class TaintJson(msgspec.Struct, gc=False):
    key: str | None = None


class NodeSpecJson(msgspec.Struct, gc=False):
    podCIDR: str | None = None
    podCIDRs: list[str | None] | None = None
    taints: list[TaintJson | None] | None = None


class NodeAddressJson(msgspec.Struct, gc=False):
    type: str | None = None
    address: str | None = None


class NodeInfoJson(msgspec.Struct, gc=False):
    kubeletVersion: str | None = None


class NodeStatusJson(msgspec.Struct, gc=False):
    addresses: list[NodeAddressJson | None] | None = None
    nodeInfo: NodeInfoJson | None = None


class NodeJson(msgspec.Struct, gc=False):
    metadata: Metadata
    spec: NodeSpecJson | None = None
    status: NodeStatusJson | None = None


NODE_PARTS = ("spec.podCIDRs", "spec.taints", "status.addresses", "status.nodeInfo")


def node(key: ObjectKey, json: NodeJson, unusable: list[str]) -> Node:
    """Addresses of type Hostname and DNS names are none of ours."""
    spec = json.spec or NodeSpecJson()
    status = json.status or NodeStatusJson()
    listed = status.addresses or ()
    internal, external = (
        addresses([entry.address for entry in listed if entry and entry.type == kind], "status.addresses", unusable)
        for kind in ("InternalIP", "ExternalIP")
    )
    pods = _pod_cidrs(json.metadata, spec, unusable)
    return Node(
        key=key,
        uid=json.metadata.uid or "",
        internal_ips=internal,
        external_ips=external,
        pod_cidrs=pods.cidrs,
        labels=our_labels(json.metadata.labels),
        annotations=our_annotations(json.metadata.annotations),
        taints=tuple(intern(taint.key) for taint in spec.taints or () if taint and taint.key),
        deleting=json.metadata.deletionTimestamp is not None,
        kubelet_version=(status.nodeInfo and status.nodeInfo.kubeletVersion) or "",
        unusable=tuple(unusable),
        annotated=pods.annotated,
        refused=pods.refused,
    )


class _PodCidrs(NamedTuple):
    cidrs: tuple[Cidr, ...]
    annotated: bool
    refused: tuple[str, ...]


def _pod_cidrs(metadata: Metadata, spec: NodeSpecJson, unusable: list[str]) -> _PodCidrs:
    """The annotation, where one is set, replaces spec.podCIDRs; one without any usable network does not."""
    annotations = metadata.annotations or {}
    refused: list[str] = []
    for name in (POD_CIDRS_ANNOTATION, POD_CIDR_ANNOTATION):
        texts = [part for part in (annotations.get(name) or "").split(",") if part.strip()]
        if texts and (found := cidrs(texts, name, refused)):
            return _PodCidrs(found, True, tuple(refused))
    found = cidrs(spec.podCIDRs or ([spec.podCIDR] if spec.podCIDR else []), "spec.podCIDRs", unusable)
    return _PodCidrs(found, False, tuple(refused))


def as_said_before(new: Node, before: Node | None) -> Node:
    """An annotation for pod CIDRs that makes no sense leaves in force what the Node's annotation said before; where it
    has said nothing yet, what decode made of it. before: the same Node until now, as this has returned it.
    """
    if not new.refused or before is None or before.uid != new.uid or not before.annotated:
        return new
    ending = "; what it said before stays in force" if before.pod_cidrs != new.pod_cidrs else ""
    reasons = tuple(f"{reason}{ending}" for reason in new.refused)
    return msgspec.structs.replace(new, pod_cidrs=before.pod_cidrs, annotated=True, refused=reasons)


class ContainerPortJson(msgspec.Struct, gc=False):
    name: str | None = None
    protocol: str | None = None
    containerPort: int | None = None


class ContainerJson(msgspec.Struct, gc=False):
    ports: list[ContainerPortJson | None] | None = None
    restartPolicy: str | None = None


class PodSpecJson(msgspec.Struct, gc=False):
    nodeName: str | None = None
    hostNetwork: bool | None = None
    containers: list[ContainerJson | None] | None = None
    initContainers: list[ContainerJson | None] | None = None


class PodIpJson(msgspec.Struct, gc=False):
    ip: str | None = None


class PodStatusJson(msgspec.Struct, gc=False):
    phase: str | None = None
    podIP: str | None = None
    podIPs: list[PodIpJson | None] | None = None


class PodJson(msgspec.Struct, gc=False):
    metadata: Metadata
    spec: PodSpecJson | None = None
    status: PodStatusJson | None = None


POD_PARTS = ("spec.containers", "spec.initContainers", "status.podIPs")


def pod(key: ObjectKey, json: PodJson, unusable: list[str]) -> Pod:
    """Ports of sidecars (init containers that keep running) count as a container's own."""
    spec, status = json.spec or PodSpecJson(), json.status or PodStatusJson()
    texts = [entry.ip for entry in status.podIPs or () if entry and entry.ip]
    sidecars = [entry for entry in spec.initContainers or () if entry and entry.restartPolicy == "Always"]
    ports: dict[ContainerPort, None] = {}
    for container in [*(spec.containers or ()), *sidecars]:
        for port in (container.ports if container else None) or ():
            if port and (found := _container_port(port)):
                ports[found] = None
    return Pod(
        key=key,
        uid=json.metadata.uid or "",
        ips=_pod_ips(texts or [status.podIP or ""]),
        node=intern(spec.nodeName or ""),
        host_network=bool(spec.hostNetwork),
        phase=intern(status.phase or ""),
        deleting=json.metadata.deletionTimestamp is not None,
        labels=our_labels(json.metadata.labels),
        ports=tuple(ports),
        created=_created(json.metadata),
    )


def _created(metadata: Metadata) -> float:
    """Settles only who has an address that two claim: a pod is not lost for it."""
    try:
        return timestamp(metadata.creationTimestamp)
    except ValueError:
        return 0.0


def _pod_ips(texts: list[str]) -> tuple[bytes, ...]:
    found: dict[bytes, None] = {}
    for text in texts:
        try:
            found[address(text)] = None
        except ValueError:  # written by kubelet only; a pod without addresses is what it looks like before it has any
            continue
    return tuple(found)


def _container_port(port: ContainerPortJson) -> ContainerPort | None:
    try:
        number, protocol = port_number(port.containerPort), protocol_number(port.protocol)
    except ValueError:
        return None
    return ContainerPort(intern(port.name or ""), protocol, number)


class PodAnnotationsJson(msgspec.Struct, gc=False):
    weight: str | None = msgspec.field(default=None, name=ENDPOINT_WEIGHT)


class PodMetadataInJson(Named, gc=False):
    uid: str | None = None
    deletionTimestamp: str | None = None
    deletionGracePeriodSeconds: int | None = None
    annotations: PodAnnotationsJson | None = None


class PodMetadataJson(msgspec.Struct, gc=False):
    metadata: PodMetadataInJson


def pod_metadata(key: ObjectKey, json: PodMetadataJson, unusable: list[str]) -> PodMetadata | None:
    """None: nothing in it is for us, as with nearly every Pod at nearly every time."""
    about = json.metadata
    weight = (about.annotations.weight if about.annotations else None) or ""
    grace = about.deletionGracePeriodSeconds if about.deletionTimestamp else None
    if not weight and grace is None:
        return None
    return PodMetadata(key=key, uid=intern(about.uid or ""), weight=weight, grace=grace)


class NamespaceJson(msgspec.Struct, gc=False):
    metadata: Metadata


def namespace(key: ObjectKey, json: NamespaceJson, unusable: list[str]) -> Namespace:
    return Namespace(key=key, labels=our_labels(json.metadata.labels))
