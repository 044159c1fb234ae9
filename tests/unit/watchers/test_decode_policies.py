"""NetworkPolicy as decoded, and what becomes of the parts that are not understood: they never allow more."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.policies import (
    EVERYTHING,
    IpBlock,
    NetworkPolicy,
    Operator,
    PodPeer,
    PolicyPort,
    PolicyRule,
    Requirement,
    Selector,
)
from kuberouter_py.watchers.decode import DecodeError, decode
from kuberouter_py.watchers.decode_fields import cidr

TCP, UDP, SCTP = 6, 17, 132
NOTHING = PolicyRule(peers=(), ports=())


def policy(**spec: Any) -> NetworkPolicy:
    raw = {"metadata": {"name": "p", "namespace": "y", "uid": "u"}, "spec": spec}
    decoded = decode("NetworkPolicy", json.dumps(raw).encode())
    assert isinstance(decoded, NetworkPolicy)
    return decoded


def refused(**spec: Any) -> str:
    with pytest.raises(DecodeError) as caught:
        policy(**spec)
    return caught.value.reason


def label(key: str, *values: str) -> Requirement:
    return Requirement(key, Operator.IN, values)


def test_the_example_of_the_documentation() -> None:
    got = policy(
        podSelector={"matchLabels": {"role": "db"}},
        policyTypes=["Ingress", "Egress"],
        ingress=[
            {
                "from": [
                    {"ipBlock": {"cidr": "172.17.0.0/16", "except": ["172.17.1.0/24"]}},
                    {"namespaceSelector": {"matchLabels": {"project": "myproject"}}},
                    {"podSelector": {"matchLabels": {"role": "frontend"}}},
                ],
                "ports": [{"protocol": "TCP", "port": 6379}],
            }
        ],
        egress=[{"to": [{"ipBlock": {"cidr": "10.0.0.0/24"}}], "ports": [{"protocol": "TCP", "port": 5978}]}],
    )
    assert got == NetworkPolicy(
        key=ObjectKey("y", "p"),
        uid="u",
        pods=Selector((label("role", "db"),)),
        ingress=(
            PolicyRule(
                (
                    IpBlock(cidr("172.17.0.0/16"), (cidr("172.17.1.0/24"),)),
                    PodPeer(EVERYTHING, Selector((label("project", "myproject"),))),
                    PodPeer(Selector((label("role", "frontend"),))),
                ),
                (PolicyPort(TCP, 6379, 6379),),
            ),
        ),
        egress=(PolicyRule((IpBlock(cidr("10.0.0.0/24")),), (PolicyPort(TCP, 5978, 5978),)),),
    )
    assert isinstance(hash(got.ingress), int)


@pytest.mark.parametrize(
    ("spec", "ingress", "egress"),
    [
        ({}, True, False),
        ({"policyTypes": []}, True, False),
        ({"egress": []}, True, False),
        ({"egress": [{}]}, True, True),
        ({"policyTypes": ["Ingress"]}, True, False),
        ({"policyTypes": ["Egress"]}, False, True),
        ({"policyTypes": ["Egress", "Ingress", "Egress"]}, True, True),
        ({"policyTypes": ["Egress"], "ingress": [{}]}, False, True),
        ({"policyTypes": ["Ingress"], "egress": [{}]}, True, False),
    ],
)
def test_policy_types(spec: dict[str, Any], ingress: bool, egress: bool) -> None:
    """P1.04."""
    got = policy(**spec)
    assert (got.ingress is not None, got.egress is not None, got.unusable) == (ingress, egress, ())


def test_a_spec_that_is_missing_is_one_with_every_default() -> None:
    got = decode("NetworkPolicy", b'{"metadata":{"name":"p"}}')
    assert got == NetworkPolicy(ObjectKey("default", "p"), "", EVERYTHING, ingress=())


@pytest.mark.parametrize("selector", [None, {}, {"matchLabels": None}, {"matchLabels": {}, "matchExpressions": []}])
def test_an_empty_selector_selects_everything(selector: Any) -> None:
    assert policy(podSelector=selector).pods == EVERYTHING
    assert policy().pods == EVERYTHING


def test_rules_without_a_limit() -> None:
    """P1.05: absent, null and empty lists are all no limit."""
    anything = PolicyRule()
    assert policy(ingress=[{}, {"from": [], "ports": None}, {"from": None, "ports": []}]).ingress == (anything,) * 3
    assert policy(egress=[{}, {"to": []}]).egress == (anything,) * 2
    assert policy(policyTypes=["Ingress", "Egress"], ingress=[]).ingress == ()
    assert policy(policyTypes=["Ingress", "Egress"], ingress=[]).egress == ()


def test_peers() -> None:
    """P1.07."""
    red = {"matchLabels": {"c": "red"}}
    only_red = Selector((label("c", "red"),))
    got = policy(
        ingress=[
            {
                "from": [
                    {"podSelector": red, "namespaceSelector": {}},
                    {"podSelector": red, "namespaceSelector": None},
                    {"podSelector": {}},
                    {"namespaceSelector": {}},
                    {"podSelector": red},
                ]
            }
        ]
    )
    assert got.ingress is not None
    assert got.ingress[0].peers == (
        PodPeer(only_red, EVERYTHING),
        PodPeer(only_red),
        PodPeer(EVERYTHING),
        PodPeer(EVERYTHING, EVERYTHING),
    )


def ports(*written: Any) -> tuple[tuple[PolicyPort, ...] | None, tuple[str, ...]]:
    got = policy(ingress=[{"ports": [*written]}])
    assert got.ingress is not None
    return got.ingress[0].ports, got.unusable


def test_ports() -> None:
    """P2.01, P2.05, P2.08, P2.09."""
    assert ports(
        {}, {"port": 80}, {"protocol": "UDP", "port": "dns"}, {"protocol": "SCTP", "port": 1, "endPort": 9}
    ) == (
        (PolicyPort(TCP), PolicyPort(TCP, 80, 80), PolicyPort(UDP, "dns"), PolicyPort(SCTP, 1, 9)),
        (),
    )
    assert ports({"port": 80}, {"port": 80, "endPort": 80}, {"port": 79, "endPort": 81, "protocol": None}) == (
        (PolicyPort(TCP, 80, 80), PolicyPort(TCP, 79, 81)),
        (),
    )


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ({"protocol": "ICMP"}, ".protocol: protocol 'ICMP' is not known"),
        ({"protocol": "tcp", "port": 1}, ".protocol: protocol 'tcp' is not known"),
        ({"port": 0}, ".port: has no port"),
        ({"port": 65536}, ".port: 65536 is not a port"),
        ({"port": -1}, ".port: -1 is not a port"),
        ({"port": "80"}, ".port: '80' is not the name of a port"),
        ({"port": ""}, ".port: '' is not the name of a port"),
        ({"port": "a" * 16}, f".port: '{'a' * 16}' is not the name of a port"),
        ({"port": "http\n"}, ".port: 'http\\n' is not the name of a port"),
        ({"port": 80.5}, ".port: Expected `int | str | null`, got `float`"),
        ({"port": 80, "endPort": 79}, ".endPort: 79 is below port 80"),
        ({"port": 80, "endPort": 65536}, ".endPort: 65536 is not a port"),
        ({"port": "http", "endPort": 80}, ".endPort: stands without a port number"),
        ({"endPort": 80}, ".endPort: stands without a port number"),
        ({"port": 80, "endPort": "90"}, ".endPort: Expected `int | null`, got `str`"),
        ({"ports": 80}, ": Object contains unknown field `ports`"),
        (None, ": Expected `object`, got `null`"),
    ],
)
def test_a_port_that_is_not_understood_matches_nothing(written: Any, why: str) -> None:
    assert ports(written) == ((), (f"spec.ingress[0].ports[0]{why}",))
    assert ports({"port": 1}, written) == ((PolicyPort(TCP, 1, 1),), (f"spec.ingress[0].ports[1]{why}",))


RED = {"podSelector": {"matchLabels": {"c": "red"}}}


def expression(**fields: Any) -> dict[str, Any]:
    return {"podSelector": {"matchExpressions": [{"key": "k", "operator": "Exists"}, fields]}}


AT = ".podSelector.matchExpressions[1]"


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ({}, ": names no peer"),
        ({"podSelector": None}, ": names no peer"),
        (None, ": Expected `object`, got `null`"),
        ("all", ": Expected `object`, got `str`"),
        ({"nodeSelector": {}, **RED}, ": Object contains unknown field `nodeSelector`"),
        ({"ipBlock": {"cidr": "10.0.0.0/8"}, **RED}, ": ipBlock stands together with a selector"),
        (
            {"ipBlock": {"cidr": "10.0.0.0/8"}, "namespaceSelector": {}},
            ": ipBlock stands together with a selector",
        ),
        ({"ipBlock": {}}, ".ipBlock.cidr: '' is not a CIDR"),
        ({"ipBlock": {"cidr": "10.0.0.0"}}, ".ipBlock.cidr: '10.0.0.0' is not a CIDR"),
        ({"ipBlock": {"cidr": "10.0.0.0/33"}}, ".ipBlock.cidr: '10.0.0.0/33' is not a CIDR"),
        ({"ipBlock": {"cidr": 10}}, ".ipBlock.cidr: Expected `str | null`, got `int`"),
        ({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["x"]}}, ".ipBlock.except[0]: 'x' is not a CIDR"),
        (
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "11.0.0.0/16"]}},
            ".ipBlock.except[1]: 11.0.0.0/16 is not inside 10.0.0.0/8",
        ),
        (
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/7"]}},
            ".ipBlock.except[0]: 10.0.0.0/7 is not inside 10.0.0.0/8",
        ),
        (
            {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["::/64"]}},
            ".ipBlock.except[0]: ::/64 is not inside 0.0.0.0/0",
        ),
        ({"ipBlock": {"cidr": "10.0.0.0/8", "except": [None]}}, ".ipBlock.except[0]: Expected `str`, got `null`"),
        (
            {"podSelector": {"matchLabels": {"a": 1}}},
            ".podSelector.matchLabels[...]: Expected `str | null`, got `int`",
        ),
        ({"podSelector": {"matchFields": []}}, ".podSelector: Object contains unknown field `matchFields`"),
        (expression(key="k", operator="Gt", values=["1"]), f"{AT}.operator: 'Gt' is not known"),
        (expression(key="k", values=["1"]), f"{AT}.operator: None is not known"),
        (expression(operator="Exists"), f"{AT}.key: is missing"),
        (expression(key="k", operator="In"), f"{AT}.values: In goes with values"),
        (expression(key="k", operator="NotIn", values=[]), f"{AT}.values: NotIn goes with values"),
        (expression(key="k", operator="Exists", values=["1"]), f"{AT}.values: Exists goes without values"),
        (expression(key="k", operator="In", values=["1", None]), f"{AT}.values[1]: Expected `str`, got `null`"),
    ],
)
def test_a_peer_that_is_not_understood_matches_nothing(written: Any, why: str) -> None:
    alone = policy(ingress=[{"from": [written]}])
    assert alone.ingress == (PolicyRule(peers=()),)
    assert alone.unusable == (f"spec.ingress[0].from[0]{why}",)
    among = policy(policyTypes=["Egress"], egress=[{}, {"to": [RED, written], "ports": [{"port": 80}]}])
    assert among.egress is not None
    assert among.egress[1] == PolicyRule((PodPeer(Selector((label("c", "red"),))),), (PolicyPort(TCP, 80, 80),))
    assert among.unusable == (f"spec.egress[1].to[1]{why}",)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (None, ": Expected `object`, got `null`"),
        ([], ": Expected `object`, got `array`"),
        ({"form": [{"podSelector": {}}]}, ": Object contains unknown field `form`"),
        ({"to": []}, ": Object contains unknown field `to`"),
        ({"from": {"podSelector": {}}}, ".from: Expected `array | null`, got `object`"),
        ({"ports": 80}, ".ports: Expected `array | null`, got `int`"),
    ],
)
def test_a_rule_that_is_not_understood_keeps_its_place(rule: Any, why: str) -> None:
    got = policy(ingress=[rule, {}])
    assert got.ingress == (NOTHING, PolicyRule())
    assert got.unusable == (f"spec.ingress[0]{why}",)


def test_a_policy_type_that_is_not_known_is_named() -> None:
    got = policy(policyTypes=["Forward", None, "Egress"], ingress=[{}])
    assert (got.ingress, got.egress) == (None, ())
    assert got.unusable == ("spec.policyTypes[0]: 'Forward' is not known", "spec.policyTypes[1]: None is not known")


def test_rules_of_a_direction_that_is_not_isolated_are_not_looked_at() -> None:
    """P1.04."""
    assert policy(policyTypes=["Ingress"], egress=[{"to": [{}]}]).unusable == ()


def test_a_pod_selector_that_is_not_understood_is_an_error() -> None:
    exists = {"key": "k", "operator": "exists"}
    assert refused(podSelector={"matchExpressions": [exists]}) == (
        "spec.podSelector.matchExpressions[0].operator: 'exists' is not known"
    )
    assert refused(podSelector={"matchLabel": {}}) == "Object contains unknown field `matchLabel` at `spec.podSelector`"
    assert "spec.podSelector" in refused(podSelector=[])
    assert "spec.ingress" in refused(ingress={})
    with pytest.raises(DecodeError) as caught:
        policy(podSelector={"matchExpressions": [exists]})
    assert caught.value.key == ObjectKey("y", "p")


def test_selectors_that_say_the_same_are_equal() -> None:
    expected = Selector((label("a", "1"), label("b", "1", "2"), Requirement("c", Operator.EXISTS)))
    one = {
        "matchLabels": {"a": "1"},
        "matchExpressions": [
            {"key": "c", "operator": "Exists", "values": []},
            {"key": "b", "operator": "In", "values": ["2", "1", "2"]},
        ],
    }
    other = {
        "matchExpressions": [
            {"key": "b", "operator": "In", "values": ["1", "2"]},
            {"key": "a", "operator": "In", "values": ["1"]},
            {"key": "c", "operator": "Exists"},
            {"key": "a", "operator": "In", "values": ["1", "1"]},
        ]
    }
    assert policy(podSelector=one).pods == policy(podSelector=other).pods == expected
    assert policy(podSelector=one).pods is policy(podSelector=other).pods


def test_blocks_are_masked_and_their_excepts_sorted() -> None:
    """P3.02."""
    block = {"cidr": "10.1.2.3/8", "except": ["10.2.0.1/16", "10.1.0.0/16", "10.2.0.0/16"]}
    got = policy(ingress=[{"from": [{"ipBlock": block}, {"ipBlock": {"cidr": "fd00::1/64", "except": []}}]}])
    assert got.ingress is not None
    assert got.ingress[0].peers == (
        IpBlock(cidr("10.0.0.0/8"), (cidr("10.1.0.0/16"), cidr("10.2.0.0/16"))),
        IpBlock(cidr("fd00::/64")),
    )


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 70_000),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.sampled_from(["Ingress", "Egress", "TCP", "SCTP", "In", "NotIn", "Exists", "10.0.0.1/8", "10.1.0.0/16", "::/0"]),
)
NAMES = (
    "key operator values matchLabels matchExpressions cidr except podSelector namespaceSelector ipBlock from to ports"
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*NAMES.split(), "port", "endPort", "protocol", "ingress", "x"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


def or_anything(expected: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 7).flatmap(lambda chance: ANYTHING if chance == 0 else expected)


def fields(**expected: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of these fields, each now and then with anything in it."""
    return or_anything(
        st.fixed_dictionaries({}, optional={name.rstrip("_"): or_anything(value) for name, value in expected.items()})
    )


def several(expected: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(expected, max_size=3)


TEXTS = st.sampled_from(["a", "b", ""])
OPERATORS = st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt"])
CIDRS = st.sampled_from(["10.0.0.0/8", "10.1.2.3/16", "0.0.0.0/0", "::/0", "fd00::/8", "10.0.0.0"])
SELECTORS = fields(
    matchLabels=st.dictionaries(TEXTS, TEXTS, max_size=2),
    matchExpressions=several(fields(key=TEXTS, operator=OPERATORS, values=several(TEXTS))),
)
PEERS = fields(
    podSelector=SELECTORS, namespaceSelector=SELECTORS, ipBlock=fields(cidr=CIDRS, except_=several(or_anything(CIDRS)))
)
PORTS = fields(
    protocol=st.sampled_from(["TCP", "UDP", "SCTP", "ICMP"]),
    port=st.sampled_from([80, 0, "http", "80"]),
    endPort=st.sampled_from([79, 80, 90]),
)
SPECS = fields(
    podSelector=SELECTORS,
    policyTypes=several(st.sampled_from(["Ingress", "Egress", "Other"])),
    ingress=several(fields(from_=several(PEERS), ports=several(PORTS))),
    egress=several(fields(to=several(PEERS), ports=several(PORTS))),
)


@given(SPECS)
def test_any_policy_decodes_or_raises_our_error_and_none_widens(spec: Any) -> None:
    """A limit that was written is one that is kept: as it stands there, or as nothing."""
    try:
        got = decode("NetworkPolicy", json.dumps({"metadata": {"name": "p"}, "spec": spec}).encode())
    except DecodeError as error:
        assert error.reason
        return
    assert isinstance(got, NetworkPolicy)
    for rules, direction, peers in ((got.ingress, "ingress", "from"), (got.egress, "egress", "to")):
        if rules is None:
            continue
        for rule, written in zip(rules, (spec or {}).get(direction) or (), strict=True):
            if not isinstance(written, dict):
                assert rule == NOTHING
                continue
            assert (rule.peers is None) <= (not written.get(peers))
            assert (rule.ports is None) <= (not written.get("ports"))
    hash((got.pods, got.ingress, got.egress))
