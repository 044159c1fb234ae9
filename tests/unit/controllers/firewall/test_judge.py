"""The judge against tables made by hand: who may reach whom under which policies (P1.01-P1.10, P4.01-P4.08). Ports and
blocks are in test_judge_ports.py.
"""

from __future__ import annotations

from itertools import permutations

import pytest

from kuberouter_py.controllers.firewall.judge import Side
from kuberouter_py.model.cluster import ContainerPort
from kuberouter_py.model.policies import EVERYTHING, NetworkPolicy, PolicyRule
from tests.fakes.judging import (
    ALL,
    ESP,
    ICMP,
    ICMPV6,
    NAMESPACES,
    PODS,
    PODS_ONLY,
    SCTP,
    TCP,
    UDP,
    but,
    judged,
    who_reaches,
    whom_reaches,
)
from tests.fakes.objects import key_of
from tests.fakes.policies import namespace, pod, policy

DENY_INGRESS = policy("y/deny-ingress", "{podSelector: {}, policyTypes: [Ingress]}")
DENY_EGRESS = policy("y/deny-egress", "{podSelector: {}, policyTypes: [Egress]}")
ALLOW_INGRESS = policy("y/allow-ingress", "{podSelector: {}, ingress: [{}]}")
ALLOW_EGRESS = policy("y/allow-egress", "{podSelector: {}, policyTypes: [Egress], egress: [{}]}")


def test_without_policies_everybody_reaches_everybody() -> None:
    assert who_reaches("y/a") == but("y/a", ALL)
    assert whom_reaches("y/a") == but("y/a", ALL)


def test_default_deny() -> None:
    assert who_reaches("y/a", DENY_INGRESS) == ""
    assert whom_reaches("y/a", DENY_INGRESS) == "outside x/a x/b x/c z/a z/b z/c"  # the rest of y is closed for it too
    assert whom_reaches("y/a", DENY_EGRESS) == ""
    assert who_reaches("y/a", DENY_EGRESS) == "outside x/a x/b x/c z/a z/b z/c"
    assert who_reaches("x/a", DENY_INGRESS) == but("x/a", ALL)  # P1.03: not beyond its namespace


@pytest.mark.parametrize("protocol", [TCP, UDP, SCTP, ICMP, ICMPV6, ESP, 0])
def test_default_deny_and_allow_all_are_for_every_protocol(protocol: int) -> None:
    """P2.02."""
    port = 80 if protocol in (TCP, UDP, SCTP) else 0
    assert who_reaches("y/a", DENY_INGRESS, protocol=protocol, port=port) == ""
    assert whom_reaches("y/a", DENY_EGRESS, protocol=protocol, port=port) == ""
    assert who_reaches("y/a", DENY_INGRESS, ALLOW_INGRESS, protocol=protocol, port=port) == but("y/a", ALL)
    assert whom_reaches("y/a", DENY_EGRESS, ALLOW_EGRESS, protocol=protocol, port=port) == but("y/a", ALL)


def test_a_policy_takes_nothing_from_another_and_order_does_not_matter() -> None:
    """P1.02."""
    from_x = policy("y/x", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}}]}]}")
    from_a = policy("y/a", "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {pod: a}}}]}]}")
    for several in permutations((DENY_INGRESS, from_x, from_a)):
        assert who_reaches("y/b", *several) == "x/a x/b x/c y/a"


def test_only_the_selected_pods_are_isolated() -> None:
    only_a = policy("y/p", "{podSelector: {matchLabels: {pod: a}}, ingress: []}")
    assert who_reaches("y/a", only_a) == ""
    assert who_reaches("y/b", only_a) == but("y/b", ALL)


PEERS = [
    ("{}", ALL),
    ("{from: []}", ALL),
    ("{from: [{namespaceSelector: {}}]}", PODS_ONLY),  # P1.10
    ("{from: [{podSelector: {}}]}", "y/a y/b y/c"),
    ("{from: [{podSelector: {}, namespaceSelector: {}}]}", PODS_ONLY),
    ("{from: [{podSelector: {matchLabels: {pod: b}}}]}", "y/b"),
    ("{from: [{namespaceSelector: {matchLabels: {ns: x}}}]}", "x/a x/b x/c"),
    ("{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: z}}}]}", "z/a z/b z/c"),  # P1.09
    ("{from: [{podSelector: {matchLabels: {pod: b}}, namespaceSelector: {matchLabels: {ns: x}}}]}", "x/b"),
    (
        "{from: [{podSelector: {matchLabels: {pod: b}}}, {namespaceSelector: {matchLabels: {ns: x}}}]}",
        "x/a x/b x/c y/b",
    ),
    ("{from: [{podSelector: {matchLabels: {pod: b}}, namespaceSelector: {}}]}", "x/b y/b z/b"),
    ("{from: [{podSelector: {}, namespaceSelector: {matchLabels: {tier: low, ns: y}}}]}", "y/a y/b y/c"),
    ("{from: [{podSelector: {}, namespaceSelector: {matchLabels: {tier: low, ns: z}}}]}", ""),
    ("{from: [{podSelector: {matchLabels: {nobody: here}}}]}", ""),
]


@pytest.mark.parametrize(("rule", "expected"), PEERS)
def test_peers(rule: str, expected: str) -> None:
    """P1.05, P1.07, both ways: who is allowed in, and who may be called."""
    ingress = policy("y/p", f"{{podSelector: {{}}, ingress: [{rule}]}}")
    egress = policy("y/p", f"{{podSelector: {{}}, policyTypes: [Egress], egress: [{rule.replace('from', 'to')}]}}")
    for family in (4, 6):
        assert who_reaches("y/c", ingress, family=family) == but("y/c", expected)
        assert whom_reaches("y/c", egress, family=family) == but("y/c", expected)


EXPRESSIONS = [
    ("{key: tier, operator: In, values: [low]}", "y"),
    ("{key: tier, operator: In, values: [low, high]}", "y z"),
    ("{key: tier, operator: NotIn, values: [low]}", "x z"),  # P1.08: x has no tier
    ("{key: tier, operator: Exists}", "y z"),
    ("{key: tier, operator: DoesNotExist}", "x"),
    ("{key: tier, operator: Exists}, {key: ns, operator: NotIn, values: [z]}", "y"),
    ("{key: tier, operator: Exists}, {key: tier, operator: DoesNotExist}", ""),
    ("{key: tier, operator: NotIn, values: [low, high]}", "x"),
]


@pytest.mark.parametrize(("expressions", "expected"), EXPRESSIONS)
def test_match_expressions(expressions: str, expected: str) -> None:
    selector = f"{{matchExpressions: [{expressions}]}}"
    found = policy("z/p", f"{{podSelector: {{}}, ingress: [{{from: [{{namespaceSelector: {selector}}}]}}]}}")
    reaching = who_reaches("z/a", found).split()
    assert " ".join(sorted({name[0] for name in reaching})) == expected


def test_match_expressions_of_the_policy_itself() -> None:
    spec = "{podSelector: {matchExpressions: [{key: pod, operator: NotIn, values: [a, b]}]}, policyTypes: [Ingress]}"
    assert [who_reaches(name, policy("y/p", spec)) == "" for name in ("y/a", "y/b", "y/c")] == [False, False, True]


def test_pods_of_a_namespace_that_is_not_known_are_in_no_selected_one() -> None:
    found = policy("y/p", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}")
    outcome = judged("x/a", "y/a", found, namespaces=[each for each in NAMESPACES if each.key.name != "x"])
    assert not outcome.allowed


def test_namespace_labels_are_those_of_now() -> None:
    """P5.03."""
    found = policy("y/p", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: new}}}]}]}")
    assert not judged("x/a", "y/a", found).allowed
    assert judged("x/a", "y/a", found, namespaces=[namespace("x", ns="new")]).allowed


TYPES = [
    ("{ingress: [{}], egress: [{}], policyTypes: [Ingress]}", True, False),
    ("{ingress: [{}], egress: [{}], policyTypes: [Egress]}", False, True),
    ("{ingress: [{}], egress: [{}]}", True, True),
    ("{ingress: [{}], egress: []}", True, False),
    ("{}", True, False),
    ("{policyTypes: [Ingress, Egress]}", True, True),
]


@pytest.mark.parametrize(("spec", "ingress", "egress"), TYPES)
def test_policy_types(spec: str, ingress: bool, egress: bool) -> None:
    """P1.04."""
    found = policy("y/p", spec)
    assert judged("x/a", "y/a", found).ingress.isolated is ingress
    assert judged("y/a", "x/a", found).egress.isolated is egress


def test_the_rules_of_one_direction_say_nothing_about_the_other() -> None:
    both = policy(
        "y/p",
        """
        podSelector: {matchLabels: {pod: a}}
        policyTypes: [Ingress, Egress]
        ingress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}}], ports: [{port: 80}]}]
        egress: [{to: [{namespaceSelector: {matchLabels: {ns: z}}}], ports: [{port: 81}]}]
        """,
    )
    assert who_reaches("y/a", both, port=80) == "x/a x/b x/c"
    assert who_reaches("y/a", both, port=81) == ""
    assert whom_reaches("y/a", both, port=81) == "z/a z/b z/c"
    assert whom_reaches("y/a", both, port=80) == ""


def test_both_sides_must_allow() -> None:
    """P1.01."""
    open_in_y = policy("y/p", "{ingress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}}]}]}")
    closed_in_x = policy("x/p", "{policyTypes: [Egress], egress: [{ports: [{port: 80}]}]}")
    found = judged("x/a", "y/a", open_in_y, closed_in_x, port=81)
    assert (found.allowed, found.egress.allowed, found.ingress.allowed) == (False, False, True)
    assert judged("x/a", "y/a", open_in_y, closed_in_x, port=80).allowed
    found = judged("z/a", "y/a", open_in_y, closed_in_x, port=80)
    assert (found.allowed, found.egress.allowed, found.ingress.allowed) == (False, True, False)


def test_sides_say_which_policies_and_rules() -> None:
    first = policy("y/a-first", "{ingress: [{ports: [{port: 1}]}, {}, {ports: [{}]}]}")
    last = policy("y/z-last", "{ingress: [{from: [{podSelector: {}}]}]}")
    found = judged("x/a", "y/a", last, DENY_INGRESS, first)
    assert found.egress == Side(key_of("x/a"), isolated=False, allowed=True)
    assert found.ingress == Side(
        pod=key_of("y/a"),
        isolated=True,
        allowed=True,
        by=((key_of("y/a-first"), 1), (key_of("y/a-first"), 2)),
        policies=(key_of("y/a-first"), key_of("y/deny-ingress"), key_of("y/z-last")),
    )
    assert judged("outside", "y/a", last).egress == Side(None, isolated=False, allowed=True)


def test_a_pod_reaches_itself() -> None:
    """P4.08."""
    found = judged("y/a", "y/a", DENY_INGRESS, DENY_EGRESS)
    assert (found.allowed, found.to_itself, found.ingress.isolated, found.ingress.by) == (True, True, True, ())
    assert not judged("y/a", "y/b", DENY_INGRESS).to_itself
    assert not judged("outside", "outside").to_itself


def test_the_own_node_reaches_its_pods_and_no_pod_its_node() -> None:
    """P4.02."""
    assert not judged("192.0.2.1", "y/a", DENY_INGRESS).allowed
    assert judged("192.0.2.1", "y/a", DENY_INGRESS, from_node=True).allowed
    assert not judged("y/a", "192.0.2.1", DENY_EGRESS).allowed
    assert judged("y/b", "x/a", DENY_EGRESS, from_node=True).egress == Side(None, isolated=False, allowed=True)


HOSTED = pod("y/hosted", "192.0.2.1", labels={"pod": "a"}, ports=[ContainerPort("web", TCP, 80)], host_network=True)


def test_pods_on_the_hosts_network_are_no_parties() -> None:
    """P4.01: not isolated, no selector's peer, no names of ports; a block is about every address."""
    pods = [*PODS, HOSTED]
    assert judged("x/a", "192.0.2.1", DENY_INGRESS, pods=pods).allowed
    assert judged("192.0.2.1", "x/a", DENY_EGRESS, pods=pods).allowed
    everybody = policy("y/p", "{ingress: [{from: [{namespaceSelector: {}}, {podSelector: {matchLabels: {pod: a}}}]}]}")
    assert not judged("192.0.2.1", "y/b", everybody, pods=pods).allowed
    block = policy("y/p", "{ingress: [{from: [{ipBlock: {cidr: 192.0.2.1/32}}]}]}")
    assert judged("192.0.2.1", "y/b", block, pods=pods).allowed
    named = policy("y/p", "{policyTypes: [Egress], egress: [{ports: [{port: web}]}]}")
    assert not judged("y/b", "192.0.2.1", named, pods=pods).allowed


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_finished_pods_have_no_address(phase: str) -> None:
    """P4.04: neither isolated nor a peer; the address is the next one's."""
    finished = pod("y/done", "10.0.9.9", labels={"pod": "a"}, phase=phase, created=2000.0)
    assert judged("x/a", "10.0.9.9", DENY_INGRESS, pods=[*PODS, finished]).allowed
    from_a = policy("y/p", "{ingress: [{from: [{podSelector: {matchLabels: {pod: a}}}]}]}")
    assert not judged("10.0.9.9", "y/b", from_a, pods=[*PODS, finished]).allowed
    heir = pod("z/heir", "10.0.9.9", labels={"pod": "b"})
    for pods in ([finished, heir], [heir, finished]):
        assert judged("x/a", "10.0.9.9", DENY_INGRESS, pods=pods).ingress.pod == key_of("z/heir")


def test_of_two_pods_with_one_address_the_live_one_has_it() -> None:
    """P4.04, P4.05."""
    going = pod("y/going", "10.0.9.9", deleting=True, created=3000.0)
    old = pod("y/old", "10.0.9.9", created=1000.0)
    young = pod("y/young", "10.0.9.9", created=2000.0)
    twin = pod("y/twin", "10.0.9.9", created=2000.0)
    hosted = pod("y/hosted", "10.0.9.9", host_network=True, created=4000.0)
    ranking = [twin, young, old, going]
    for several in permutations([hosted, *ranking]):
        assert judged("x/a", "10.0.9.9", pods=several).ingress.pod == ranking[0].key
    for first in range(len(ranking)):
        assert judged("x/a", "10.0.9.9", pods=reversed(ranking[first:])).ingress.pod == ranking[first].key


def test_pods_that_are_being_deleted_are_parties() -> None:
    """P4.05."""
    pods = [*PODS, pod("y/going", "10.0.9.9", labels={"pod": "a"}, deleting=True)]
    assert not judged("x/a", "10.0.9.9", DENY_INGRESS, pods=pods).allowed
    from_a = policy("y/p", "{ingress: [{from: [{podSelector: {matchLabels: {pod: a}}}]}]}")
    assert judged("10.0.9.9", "y/b", from_a, pods=pods).allowed


def test_every_address_of_a_pod_counts() -> None:
    """P4.07."""
    pods = [*PODS, pod("y/many", "10.0.9.8", "10.0.9.9", "fd00:9::9")]
    for address in ("10.0.9.8", "10.0.9.9"):
        assert not judged("x/a", address, DENY_INGRESS, pods=pods).allowed
    assert not judged("x/a", "fd00:9::9", DENY_INGRESS, pods=pods, family=6).allowed


def test_pods_without_an_address_harm_nobody() -> None:
    """P4.06."""
    found = judged("x/a", "y/a", pods=[*PODS, pod("y/pending", phase="Pending", labels={"pod": "a"})])
    assert found.ingress.pod == key_of("y/a")


def test_what_was_not_understood_matches_nothing() -> None:
    nothing = [PolicyRule(peers=()), PolicyRule(ports=()), PolicyRule((), ())]
    found = NetworkPolicy(key_of("y/p"), "", EVERYTHING, ingress=tuple(nothing), egress=tuple(nothing))
    for protocol in (TCP, ICMP):
        assert who_reaches("y/a", found, protocol=protocol) == ""
        assert whom_reaches("y/a", found, protocol=protocol) == ""
