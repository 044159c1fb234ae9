"""What the cluster says, as far as we use it: Service, EndpointSlice, Node, Pod, Namespace, ServiceCIDR (NetworkPolicy
is in policies.py).

Made by `watchers/decode.py` and never changed. Addresses are packed bytes (model/kernel.py); strings that repeat
(node names, zones, namespaces, port names) are interned, so that a hundred thousand endpoints share them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec


class ObjectKey(NamedTuple):
    """namespace is "" for cluster-wide kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Cidr(NamedTuple):
    network: bytes
    prefix: int

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, bytes) or len(address) != len(self.network):
            return False
        shift = 8 * len(address) - self.prefix
        return int.from_bytes(address, "big") >> shift == int.from_bytes(self.network, "big") >> shift


def networks_of(address: bytes) -> Iterator[Cidr]:
    """Every network that the address is in, the smallest first: from itself alone to everything."""
    bits = 8 * len(address)
    number = int.from_bytes(address, "big")
    for prefix in range(bits, -1, -1):
        shift = bits - prefix
        yield Cidr((number >> shift << shift).to_bytes(len(address), "big"), prefix)


class ServicePort(msgspec.Struct, frozen=True, gc=False):
    name: str  # "" for a single unnamed port
    protocol: int
    port: int
    node_port: int = 0  # 0: none


class Service(msgspec.Struct, frozen=True, gc=False):
    key: ObjectKey
    uid: str
    created: float  # creationTimestamp, seconds since 1970; claims are settled by it
    type: str  # ClusterIP NodePort LoadBalancer ExternalName
    cluster_ips: tuple[bytes, ...]  # at most one of each family; empty for headless and ExternalName (S1.03, S1.05)
    ports: tuple[ServicePort, ...]
    external_ips: tuple[bytes, ...] = ()
    ingress_ips: tuple[bytes, ...] = ()  # status.loadBalancer.ingress[].ip with ipMode VIP or unset (S2.04)
    affinity_timeout: int = 0  # seconds; 0: sessionAffinity None
    internal_local: bool = False  # internalTrafficPolicy: Local
    external_local: bool = False  # externalTrafficPolicy: Local
    health_check_node_port: int = 0
    source_ranges: tuple[str, ...] = ()
    annotations: Mapping[str, str] = {}  # only kube-router.io/*
    unusable: tuple[str, ...] = ()  # parts left out while decoding, each with its reason


READY, SERVING, TERMINATING = 1, 2, 4


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """A hundred thousand of these live at once: as named tuples the collector would walk them all, again and again."""

    address: bytes
    conditions: int  # READY | SERVING | TERMINATING, nil defaults applied (S3.01)
    node: str = ""  # "" : unknown, so not local (M4.13)
    zone: str = ""
    hint_zones: tuple[str, ...] = ()
    hint_nodes: tuple[str, ...] = ()
    pod: str = ""  # its UID; "": no pod


class SlicePort(NamedTuple):
    name: str
    protocol: int
    port: int


class EndpointSlice(msgspec.Struct, frozen=True, gc=False):
    key: ObjectKey
    service: ObjectKey  # label kubernetes.io/service-name in the slice's namespace (M4.01)
    family: int  # 4 or 6 (M4.09)
    ports: tuple[SlicePort, ...]
    endpoints: tuple[Endpoint, ...]
    trigger_time: float = 0.0  # endpoints.kubernetes.io/last-change-trigger-time (M4.16); 0: none
    unusable: tuple[str, ...] = ()


class Node(msgspec.Struct, frozen=True, gc=False):
    key: ObjectKey
    uid: str
    internal_ips: tuple[bytes, ...] = ()
    external_ips: tuple[bytes, ...] = ()
    pod_cidrs: tuple[Cidr, ...] = ()  # annotation kube-router.io/pod-cidrs, else spec.podCIDRs
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}  # only kube-router.io/*
    taints: tuple[str, ...] = ()  # keys
    deleting: bool = False
    kubelet_version: str = ""  # "v1.27.3"
    unusable: tuple[str, ...] = ()
    annotated: bool = False  # whether pod_cidrs are the annotation's
    refused: tuple[str, ...] = ()  # what of that annotation makes no sense, each with its reason


class ServiceCidr(msgspec.Struct, frozen=True, gc=False):
    key: ObjectKey
    cidrs: tuple[Cidr, ...]


class ContainerPort(NamedTuple):
    name: str
    protocol: int
    port: int


class Pod(msgspec.Struct, frozen=True, gc=False):
    key: ObjectKey
    uid: str
    ips: tuple[bytes, ...] = ()
    node: str = ""
    host_network: bool = False
    phase: str = ""
    deleting: bool = False
    labels: Mapping[str, str] = {}
    ports: tuple[ContainerPort, ...] = ()
    created: float = 0.0  # creationTimestamp, seconds since 1970; of two with one address the younger one has it


class PodMetadata(msgspec.Struct, frozen=True, gc=False):
    """Of a Pod that has something to say to a Service proxy; all others are not kept."""

    key: ObjectKey
    uid: str
    weight: str = ""  # annotation kube-router.io/endpoint.weight, as written
    grace: int | None = None  # deletionGracePeriodSeconds, once it is being deleted


class Namespace(msgspec.Struct, frozen=True, gc=False):
    key: ObjectKey
    labels: Mapping[str, str] = {}
