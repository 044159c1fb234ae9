"""Model objects in few words, with addresses as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_interface, ip_network

from kuberouter_py.model.cluster import (
    READY,
    SERVING,
    TERMINATING,
    Cidr,
    Endpoint,
    EndpointSlice,
    Node,
    ObjectKey,
    Service,
    ServicePort,
    SlicePort,
)
from kuberouter_py.model.kernel import LinkState, Protocol

NODE_NAME = "n1"
DRAINING = SERVING | TERMINATING


def packed(text: str) -> bytes:
    return ip_address(text).packed


def cidr(text: str) -> Cidr:
    network = ip_network(text)
    return Cidr(network.network_address.packed, network.prefixlen)


def key_of(name: str) -> ObjectKey:
    """ "web" is default/web, "kube-system/dns" is itself."""
    namespace, _, rest = name.rpartition("/")
    return ObjectKey(namespace or "default", rest)


def port(number: int = 80, node_port: int = 0, name: str = "", protocol: Protocol = Protocol.TCP) -> ServicePort:
    return ServicePort(name=name, protocol=protocol, port=number, node_port=node_port)


def service(
    name: str = "web",
    *cluster_ips: str,
    ports: Sequence[ServicePort] = (),
    created: float = 1000.0,
    kind: str = "ClusterIP",
    external: Sequence[str] = (),
    ingress: Sequence[str] = (),
    annotations: Mapping[str, str] | None = None,
    affinity: int = 0,
    internal_local: bool = False,
    external_local: bool = False,
    unusable: Sequence[str] = (),
) -> Service:
    """One TCP port 80 and ClusterIP 10.96.0.10 unless said otherwise."""
    return Service(
        key=key_of(name),
        uid=f"uid-{name}",
        created=created,
        type=kind,
        cluster_ips=tuple(map(packed, cluster_ips or ("10.96.0.10",))),
        ports=tuple(ports) or (port(),),
        external_ips=tuple(map(packed, external)),
        ingress_ips=tuple(map(packed, ingress)),
        affinity_timeout=affinity,
        internal_local=internal_local,
        external_local=external_local,
        annotations=dict(annotations or {}),
        unusable=tuple(unusable),
    )


def endpoint(address: str, node: str = "n2", conditions: int = READY | SERVING, pod: str = "") -> Endpoint:
    return Endpoint(packed(address), conditions, node, pod=pod)


def endpoint_slice(
    service_name: str,
    *endpoints: Endpoint,
    ports: Sequence[SlicePort] = (SlicePort("", Protocol.TCP, 8080),),
    suffix: str = "a",
    family: int = 4,
    unusable: Sequence[str] = (),
) -> EndpointSlice:
    owner = key_of(service_name)
    return EndpointSlice(
        key=ObjectKey(owner.namespace, f"{owner.name}-{suffix}"),
        service=owner,
        family=family,
        ports=tuple(ports),
        endpoints=endpoints,
        unusable=tuple(unusable),
    )


def node(*addresses: str, pod_cidrs: Sequence[str] = ("10.244.1.0/24",), external: Sequence[str] = ()) -> Node:
    return Node(
        key=ObjectKey("", NODE_NAME),
        uid="uid-n1",
        internal_ips=tuple(map(packed, addresses)),
        external_ips=tuple(map(packed, external)),
        pod_cidrs=tuple(map(cidr, pod_cidrs)),
    )


def link(
    name: str, *addresses: str, kind: str = "", master: str = "", up: bool = True, promiscuous: bool = False
) -> LinkState:
    """link("eth0", "192.168.0.1/24")"""
    held = tuple((ip_interface(text).ip.packed, ip_interface(text).network.prefixlen) for text in addresses)
    return LinkState(sum(name.encode()), name, kind, up, master, held, promiscuous)


LOOPBACK = link("lo", "127.0.0.1/8", "::1/128")
ETH0 = link("eth0", "192.168.0.1/24", "fe80::1/64")
BRIDGE = link("kube-bridge", "10.244.1.1/24", kind="bridge")
VETH = link("veth1", master="kube-bridge", kind="veth")
