"""A cluster under NetworkPolicies, as the API server would write it: namespaces with teams, dual-stack pods of a few
apps each, and the policies that people have.

Every namespace closes itself in both directions and lets DNS out; the rest go round its apps: one app hears another
(labels of the same namespace), hears another team's (namespace and pod labels, a named port), hears everybody who
monitors, goes out to networks with exceptions (a port and a range of ports), goes out to another app.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, NamedTuple

from tests.bench.objects import NODE, NODE_ADDRESS

NAMESPACES: Final = 200
PODS: Final = 10_000
BIG: Final = 500  # pods of the first namespace
APPS: Final = 10
TEAMS: Final = 20
_LOCAL_4, _LOCAL_6 = IPv4Address("10.244.0.10"), IPv6Address("fd00:10:244::10")
_REMOTE_4, _REMOTE_6 = IPv4Address("10.128.0.10"), IPv6Address("fd00:10:128::10")
_DNS_PORTS: Final = [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]


class Point(NamedTuple):
    """local: pods of this node."""

    local: int
    policies: int


class PodSpec(NamedTuple):
    """local: its place among this node's pods; None: it is another node's."""

    number: int
    namespace: int
    app: int
    local: int | None = None


def node() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "uid": "00000000-0000-4000-a000-000000000000"},
        "spec": {"podCIDRs": ["10.244.0.0/22", "fd00:10:244::/64"]},
        "status": {"addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}]},
    }


def namespace(number: int, **more: str) -> dict[str, Any]:
    labels = {
        "kubernetes.io/metadata.name": f"ns-{number}",
        "team": f"team-{number % TEAMS}",
        "stage": ("production", "staging", "test")[number % 3],
        **({"monitors": "yes"} if number == NAMESPACES - 1 else {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": f"ns-{number}", "uid": f"00000000-0000-4000-7000-{number:012}", "labels": labels | more},
    }


def pods(point: Point) -> Iterator[PodSpec]:
    """Which are this node's is by chance, always the same one."""
    local = {number: at for at, number in enumerate(random.Random(1).sample(range(PODS), point.local))}
    for number in range(PODS):
        where = 0 if number < BIG else 1 + number % (NAMESPACES - 1)
        yield PodSpec(number, where, number // NAMESPACES % APPS, local.get(number))


def pod(spec: PodSpec, **more: str) -> dict[str, Any]:
    """more: labels."""
    addresses = (_REMOTE_4 + spec.number, _REMOTE_6 + spec.number)
    if spec.local is not None:
        addresses = (_LOCAL_4 + spec.local, _LOCAL_6 + spec.local)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"app-{spec.app}-{spec.number:05}",
            "namespace": f"ns-{spec.namespace}",
            "uid": f"00000000-0000-4000-6000-{spec.number:012}",
            "labels": {
                "app": f"app-{spec.app}",
                "tier": ("front", "middle", "store")[spec.app % 3],
                "pod-template-hash": f"{spec.namespace:04}{spec.app:02}",
            }
            | more,
        },
        "spec": {
            "nodeName": NODE if spec.local is not None else f"node-{spec.number % 99}",
            "containers": [
                {
                    "name": "app",
                    "image": "app",
                    "ports": [
                        {"name": "http", "protocol": "TCP", "containerPort": 8080 + spec.app},
                        {"name": "metrics", "protocol": "TCP", "containerPort": 9090},
                    ],
                }
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": str(addresses[0]),
            "podIPs": [{"ip": str(address)} for address in addresses],
        },
    }


def policy(number: int, *, port: int = 8080) -> dict[str, Any]:
    """Policy `number` belongs to namespace `number % NAMESPACES`; port: which one its app is to be asked at."""
    where, turn = number % NAMESPACES, number // NAMESPACES
    if turn == 0:
        return named(number, {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    if turn == 1:
        dns = _selected(namespaces={"kubernetes.io/metadata.name": "ns-1"}, pods={"app": "app-0"})
        egress = [{"to": [dns], "ports": _DNS_PORTS}]
        return named(number, {"podSelector": {}, "policyTypes": ["Egress"], "egress": egress})
    app, kind = divmod(turn - 2 + 7 * where, 5)
    return named(
        number, {"podSelector": {"matchLabels": {"app": f"app-{app % APPS}"}}} | _rules(kind, app, where, port)
    )


def _rules(kind: int, app: int, where: int, port: int) -> dict[str, Any]:
    other = {"app": f"app-{(app + 1) % APPS}"}
    if kind == 0:
        return _ingress([_selected(pods=other)], [{"protocol": "TCP", "port": port}])
    if kind == 1:
        team = _selected(namespaces={"team": f"team-{(where + 1) % TEAMS}"}, pods=other)
        return _ingress([team], [{"protocol": "TCP", "port": "http"}])
    if kind == 2:
        return _ingress([_selected(namespaces={"monitors": "yes"})], [{"port": "metrics"}, {"port": port}])
    if kind == 3:
        blocks = [
            {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "169.254.169.254/32", f"198.51.{where}.0/24"]},
            {"cidr": "2000::/3", "except": ["2001:db8::/32"]},
            {"cidr": f"10.{where}.0.0/16"},
        ]
        ports = [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 30000 + port, "endPort": 39999}]
        return _egress([{"ipBlock": block} for block in blocks], ports)
    either = {"matchExpressions": [{"key": "app", "operator": "In", "values": [other["app"], f"app-{app % APPS}"]}]}
    return _egress([{"podSelector": either}], [{"protocol": "TCP", "port": port}, {"protocol": "TCP", "port": "http"}])


def _ingress(peers: list[Any], ports: list[Any]) -> dict[str, Any]:
    return {"policyTypes": ["Ingress"], "ingress": [{"from": peers, "ports": ports}]}


def _egress(peers: list[Any], ports: list[Any]) -> dict[str, Any]:
    return {"policyTypes": ["Egress"], "egress": [{"to": peers, "ports": ports}]}


def _selected(**labels: dict[str, str]) -> dict[str, Any]:
    """namespaces, pods: labels that they must have."""
    return {
        {"namespaces": "namespaceSelector", "pods": "podSelector"}[of]: {"matchLabels": each}
        for of, each in labels.items()
    }


def named(number: int, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": f"policy-{number // NAMESPACES:02}",
            "namespace": f"ns-{number % NAMESPACES}",
            "uid": f"00000000-0000-4000-5000-{number:012}",
        },
        "spec": spec,
    }


def objects(point: Point) -> Iterator[dict[str, Any]]:
    yield node()
    for number in range(NAMESPACES):
        yield namespace(number)
    for number in range(point.policies):
        yield policy(number)
    for spec in pods(point):
        yield pod(spec)
