"""Small random clusters for laws about policies: namespaces, pods with addresses of both families, policies, changes.

Few labels, ports and addresses, so that selectors hit and rules overlap. Everything is a hypothesis strategy: a failure
is shrunk to the smallest world that shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hypothesis import strategies as st

from kuberouter_py.model.cluster import Namespace, ObjectKey, Pod
from kuberouter_py.model.kernel import Protocol
from kuberouter_py.model.policies import NetworkPolicy
from tests.fakes.policies import namespace, pod, policy

NAMESPACES = ("x", "y", "z")
# name, address of each family, node: two pods of the other node, one that may take over an address.
PODS = {
    "x/a": ("10.244.1.2", "fd00:10:244:1::2", "n1"),
    "x/b": ("10.244.1.3", "fd00:10:244:1::3", "n1"),
    "y/a": ("10.244.1.4", "fd00:10:244:1::4", "n1"),
    "y/b": ("10.244.2.2", "fd00:10:244:2::2", "n2"),
    "z/a": ("10.244.2.3", "fd00:10:244:2::3", "n2"),
    "z/b": ("10.244.1.4", "fd00:10:244:1::4", "n1"),
}
OUTSIDE = ("203.0.113.9", "2001:db8:f::9")
PORTS = (80, 81, 8080)
PROTOCOLS = ("TCP", "UDP", "SCTP")

_LABELS = {"app": ("web", "db"), "tier": ("one", "two")}
_TEAMS = {"team": ("blue", "red")}


def labels(of: Mapping[str, tuple[str, ...]]) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in of.items()})


def selector(of: Mapping[str, tuple[str, ...]]) -> st.SearchStrategy[dict[str, Any]]:
    keys = st.sampled_from([*of, "absent"])
    values = st.lists(
        st.sampled_from(sorted({each for group in of.values() for each in group})), min_size=1, max_size=2
    )
    with_values = st.fixed_dictionaries({"key": keys, "operator": st.sampled_from(["In", "NotIn"]), "values": values})
    without = st.fixed_dictionaries({"key": keys, "operator": st.sampled_from(["Exists", "DoesNotExist"])})
    return st.fixed_dictionaries(
        {}, optional={"matchLabels": labels(of), "matchExpressions": st.lists(with_values | without, max_size=2)}
    )


_PODS_OF, _NAMESPACES_OF = selector(_LABELS), selector(_TEAMS)
_BLOCKS = st.sampled_from(
    [
        {"cidr": "10.0.0.0/8", "except": ["10.244.1.0/24"]},
        {"cidr": "10.244.1.0/24", "except": ["10.244.1.2/31"]},
        {"cidr": "10.244.1.2/32"},
        {"cidr": "0.0.0.0/0", "except": ["10.244.0.0/16", "203.0.113.0/24"]},
        {"cidr": "0.0.0.0/0"},
        {"cidr": "::/0", "except": ["fd00:10:244:1::/64"]},
        {"cidr": "fd00:10:244:1::/64"},
        {"cidr": "203.0.113.9/24"},
    ]
)
_PEERS = st.one_of(
    st.builds(lambda pods: {"podSelector": pods}, _PODS_OF),
    st.builds(lambda namespaces: {"namespaceSelector": namespaces}, _NAMESPACES_OF),
    st.builds(lambda n, p: {"namespaceSelector": n, "podSelector": p}, _NAMESPACES_OF, _PODS_OF),
    st.builds(lambda block: {"ipBlock": block}, _BLOCKS),
)
_PROTOCOL = st.sampled_from(PROTOCOLS)
_POLICY_PORTS = st.one_of(
    st.builds(lambda protocol: {"protocol": protocol}, _PROTOCOL),
    st.builds(lambda protocol, port: {"protocol": protocol, "port": port}, _PROTOCOL, st.sampled_from(PORTS)),
    st.just({"port": 80, "endPort": 100}),
    st.builds(lambda name, protocol: {"protocol": protocol, "port": name}, st.sampled_from(["web", "gone"]), _PROTOCOL),
)


def _rules(side: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    one = st.fixed_dictionaries(
        {}, optional={side: st.lists(_PEERS, max_size=2), "ports": st.lists(_POLICY_PORTS, max_size=2)}
    )
    return st.lists(one, max_size=2)


_SPECS = st.fixed_dictionaries(
    {"podSelector": _PODS_OF},
    optional={
        "policyTypes": st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
        "ingress": _rules("from"),
        "egress": _rules("to"),
    },
)
POLICY_NAMES = tuple(f"{where}/p{number}" for where in NAMESPACES for number in (1, 2))
POLICIES = st.builds(policy, st.sampled_from(POLICY_NAMES), _SPECS)

_CONTAINER_PORTS = st.sampled_from(
    [
        (),
        (("web", Protocol.TCP, 80),),
        (("web", Protocol.TCP, 8080), ("web", Protocol.UDP, 81)),
        (("web", Protocol.SCTP, 80),),
    ]
)


def _pod(name: str, of: dict[str, str], ports: tuple[Any, ...], phase: str, ready: bool) -> Pod:
    v4, v6, node = PODS[name]
    return pod(name, *((v4, v6) if ready else ()), labels=of, node=node, ports=ports, phase=phase)


ANY_POD = st.builds(
    _pod,
    st.sampled_from(sorted(PODS)),
    labels(_LABELS),
    _CONTAINER_PORTS,
    st.sampled_from(["Running"] * 6 + ["Succeeded"]),
    st.sampled_from([True] * 6 + [False]),
)
ANY_NAMESPACE = st.builds(lambda name, of: namespace(name, **of), st.sampled_from(NAMESPACES), labels(_TEAMS))

CLUSTERS = st.builds(
    lambda namespaces, pods, policies: [*namespaces, *pods, *policies],
    st.tuples(*(st.builds(lambda of, name=name: namespace(name, **of), labels(_TEAMS)) for name in NAMESPACES)),
    st.lists(ANY_POD, min_size=3, max_size=6, unique_by=lambda pod: pod.key),
    st.lists(POLICIES, max_size=4, unique_by=lambda policy: policy.key),
)


class Change(NamedTuple):
    """put: it is so now; else it is gone."""

    put: Namespace | Pod | NetworkPolicy | None
    gone: tuple[type, ObjectKey] | None = None


CHANGES = st.one_of(
    st.builds(Change, POLICIES),
    st.builds(Change, ANY_POD),
    st.builds(Change, ANY_NAMESPACE),
    st.builds(lambda name: Change(None, (NetworkPolicy, ObjectKey(*name.split("/")))), st.sampled_from(POLICY_NAMES)),
    st.builds(lambda name: Change(None, (Pod, ObjectKey(*name.split("/")))), st.sampled_from(sorted(PODS))),
)
