"""Small random clusters for laws about policies: namespaces, pods with addresses of both families, policies, changes.

Few labels, ports and addresses, so that selectors hit and rules overlap; and most of what is drawn selects somebody.
Everything is a hypothesis strategy: a failure is shrunk to the smallest world that shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st
from msgspec.structs import replace

from kuberouter_py.model.cluster import Namespace, ObjectKey, Pod
from kuberouter_py.model.kernel import Protocol
from kuberouter_py.model.policies import NetworkPolicy
from tests.fakes.policies import namespace, pod, policy

OBJECT = Namespace | Pod | NetworkPolicy

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


def likely(of: Mapping[str, tuple[str, ...]]) -> st.SearchStrategy[dict[str, Any]]:
    """Everybody, who has one label, who has it not, or whatever a selector may say."""
    pairs = st.sampled_from([(key, value) for key, values in of.items() for value in values])
    return st.one_of(
        st.just({}),
        pairs.map(lambda pair: {"matchLabels": dict([pair])}),
        pairs.map(lambda pair: {"matchExpressions": [{"key": pair[0], "operator": "NotIn", "values": [pair[1]]}]}),
        selector(of),
    )


_PODS_OF, _NAMESPACES_OF = likely(_LABELS), likely(_TEAMS)
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
        {"cidr": "10.244.0.0/16", "except": ["10.244.1.4/32", "10.244.2.0/31"]},
        {"cidr": "2001:db8::/32", "except": ["2001:db8:e::/47"]},
        {"cidr": "fd00:10:244::/47", "except": ["fd00:10:244:1::2/127", "fd00:10:244:1::4/128"]},
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
    st.builds(lambda protocol, port: {"protocol": protocol, "port": port}, _PROTOCOL, st.sampled_from(PORTS)),
    st.builds(
        lambda protocol, ends: {"protocol": protocol, "port": ends[0], "endPort": ends[1]},
        _PROTOCOL,
        st.sampled_from([(80, 81), (81, 100), (1, 80), (81, 8080), (81, 81)]),
    ),
    st.just({"port": 81}),
    st.builds(
        lambda name, protocol: {"protocol": protocol, "port": name}, st.sampled_from(["web", "web", "gone"]), _PROTOCOL
    ),
)


def _rules(side: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    peers, ports = st.lists(_PEERS, max_size=3), st.lists(_POLICY_PORTS, max_size=3)
    with_peers = st.fixed_dictionaries({side: peers}, optional={"ports": ports})
    with_ports = st.fixed_dictionaries({"ports": ports}, optional={side: peers})
    return st.lists(with_peers | with_ports, max_size=3)


_SPECS = st.one_of(
    st.fixed_dictionaries({"podSelector": _PODS_OF, "ingress": _rules("from")}),
    st.fixed_dictionaries({"podSelector": _PODS_OF, "ingress": _rules("from"), "egress": _rules("to")}),
    st.fixed_dictionaries(
        {"podSelector": _PODS_OF, "policyTypes": st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]])},
        optional={"ingress": _rules("from"), "egress": _rules("to")},
    ),
)
POLICY_NAMES = tuple(f"{where}/p{number}" for where in NAMESPACES for number in (1, 2, 3))
POLICIES = st.builds(policy, st.sampled_from(POLICY_NAMES), _SPECS)

_CONTAINER_PORTS = st.sampled_from(
    [
        (),
        (("web", Protocol.TCP, 80),),
        (("web", Protocol.TCP, 8080), ("web", Protocol.UDP, 81)),
        (("web", Protocol.SCTP, 80), ("web", Protocol.TCP, 81)),
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
    st.lists(ANY_POD, min_size=4, max_size=len(PODS), unique_by=lambda pod: pod.key),
    st.lists(POLICIES, min_size=1, max_size=7, unique_by=lambda policy: policy.key),
)


class Change(NamedTuple):
    """put: it is so now; else it is gone."""

    put: OBJECT | None
    gone: tuple[type, ObjectKey] | None = None


_ANY_CHANGE = st.one_of(
    POLICIES.map(Change),
    ANY_POD.map(Change),
    ANY_NAMESPACE.map(Change),
    st.builds(lambda name: Change(None, (NetworkPolicy, ObjectKey(*name.split("/")))), st.sampled_from(POLICY_NAMES)),
    st.builds(lambda name: Change(None, (Pod, ObjectKey(*name.split("/")))), st.sampled_from(sorted(PODS))),
)


def changes(objects: Sequence[OBJECT]) -> st.SearchStrategy[Change]:
    """Mostly of what there is: what a policy allows and whom it selects, a pod's labels, something gone."""
    policies = st.sampled_from([each for each in objects if isinstance(each, NetworkPolicy)])
    pods = st.sampled_from([each for each in objects if isinstance(each, Pod)])
    allows = st.builds(lambda old, new: replace(new, key=old.key, uid=old.uid, pods=old.pods), policies, POLICIES)
    selects = st.builds(lambda old, new: replace(new, key=old.key, uid=old.uid), policies, POLICIES)
    labelled = st.builds(lambda old, of: replace(old, labels=of), pods, labels(_LABELS))
    gone = st.one_of(policies, pods).map(lambda old: Change(None, (type(old), old.key)))
    return st.one_of(allows.map(Change), selects.map(Change), labelled.map(Change), gone, _ANY_CHANGE)


Scene = tuple[list[OBJECT], list[Change]]  # a cluster, and what changes in it


def scenes(fewest: int, most: int) -> st.SearchStrategy[Scene]:
    """With so many changes."""
    return CLUSTERS.flatmap(
        lambda objects: st.tuples(st.just(objects), st.lists(changes(objects), min_size=fewest, max_size=most))
    )
