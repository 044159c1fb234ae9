"""What is told of a connection: reason by reason, and where the kernel is not as decided."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from kuberouter_py.config import Config
from kuberouter_py.controllers.firewall.explain.document import path_document
from kuberouter_py.controllers.firewall.explain.explanation import (
    FORWARD,
    INPUT,
    OUTPUT,
    Connection,
    Frontend,
    actual_state,
    compared,
    explain,
    moment,
)
from kuberouter_py.controllers.firewall.guards import Guard
from kuberouter_py.controllers.firewall.judge import Attempt
from kuberouter_py.controllers.firewall.standing import CHAINS, SYSCTLS
from kuberouter_py.controllers.firewall.view import BRIDGE_NF
from kuberouter_py.model.kernel import Chain, Protocol, Rules, SetEntry, SetMember, family_of
from kuberouter_py.model.names import firewall_set
from kuberouter_py.observe.policy_explanation import policies_lines
from kuberouter_py.ports import Busy, Refused, Unavailable
from tests.fakes.firewall import FakeFirewall
from tests.fakes.lookups import FakeFirewallLookups
from tests.fakes.objects import node, packed
from tests.fakes.packets import Packet, passes
from tests.fakes.policies import namespace, pod, policy
from tests.fakes.rules import understands
from tests.fakes.worlds import CLUSTERS, OUTSIDE

TCP, UDP, SCTP = Protocol.TCP, Protocol.UDP, Protocol.SCTP
N1 = node("192.168.0.1", "fd00::1")
A = pod("x/a", "10.244.1.2", ports=[("web", TCP, 8080)])
B = pod("x/b", "10.244.1.3")
C = pod("y/c", "10.244.2.4", "fd00:10:244:2::4", node="n2")
HOST = pod("y/host", "192.168.0.1", host_network=True)
DENY = policy("x/deny", "{podSelector: {}, policyTypes: [Ingress]}")
RULES = policy(
    "x/rules",
    """
    podSelector: {matchLabels: {pod: a}}
    policyTypes: [Ingress, Egress]
    ingress:
    - {from: [{podSelector: {matchLabels: {pod: b}}}], ports: [{port: 443}, {port: web}, {port: 9000, endPort: 9010}]}
    - {from: [{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchExpressions: [
        {key: tier, operator: In, values: [one, two]}, {key: old, operator: DoesNotExist}]}}]}
    - {from: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.9/32]}}], ports: [{protocol: UDP}]}
    egress:
    - {to: [{namespaceSelector: {}}], ports: [{port: 53, protocol: UDP}]}
    """,
)
ALLOW = policy("x/allow", "{podSelector: {matchLabels: {pod: a}}, ingress: [{}]}")
BOTH = Guard("ingress", (DENY, RULES))
EVERYTHING = (A, B, C, HOST, DENY, RULES)


def started(*objects: object, config: Config | None = None) -> FakeFirewall:
    agent = FakeFirewall(N1, namespace("x"), namespace("y", team="blue"), *objects, config=config)  # type: ignore[arg-type]
    agent.start()
    return agent


def connection(
    source: str, destination: str, port: int = 80, protocol: int = TCP, hook: str = FORWARD, own: bool = False
) -> Connection:
    return Connection(Attempt(packed(source), packed(destination), protocol, port, from_node=own), hook, own)


def told(agent: FakeFirewall, asked: Connection, *, actual: bool = False) -> dict[str, Any]:
    at = agent.controller.inquire(moment)
    path = explain(asked, at)
    if actual:
        path = compared(path, actual_state(FakeFirewallLookups(agent.kernel), at), at.decided.chains)
    return path_document(path, {each.key: each for each in at.policies})


def text(document: dict[str, Any]) -> list[str]:
    return list(policies_lines({"enforced": True, "connections": [document]}, alone=True, rules=True))


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [
        (connection("10.244.1.2", "10.244.2.4", 53, UDP), "allowed: egress of x/a: x/rules egress rule 1 allows it"),
        (
            connection("10.244.1.2", "10.244.2.4"),
            "denied: egress of x/a: isolated by x/rules, which does not allow it",
        ),
        (
            connection("10.244.1.2", "10.244.1.3"),
            (
                "denied: egress of x/a: isolated by x/rules, which does not allow it; "
                "ingress of x/b: isolated by x/deny, which does not allow it"
            ),
        ),
        (
            connection("10.244.2.4", "10.244.1.2"),
            "denied: ingress of x/a: isolated by x/deny and x/rules, none allows it",
        ),
        (connection("10.244.1.3", "10.244.1.2", 443), "allowed: ingress of x/a: x/rules ingress rule 1 allows it"),
        (connection("10.244.1.3", "10.244.1.2", 8080), "allowed: ingress of x/a: x/rules ingress rule 1 allows it"),
        (
            connection("203.0.113.8", "10.244.1.2", 7, UDP),
            "allowed: ingress of x/a: x/rules ingress rule 3 allows it",
        ),
        (
            connection("203.0.113.9", "10.244.1.2", 7, UDP),
            "denied: ingress of x/a: isolated by x/deny and x/rules, none allows it",
        ),
        (connection("10.244.1.2", "10.244.1.2", hook=OUTPUT), "allowed: x/a always reaches itself"),
        (
            connection("192.168.0.1", "10.244.1.2", hook=OUTPUT, own=True),
            "allowed: ingress of x/a: its own node always reaches it",
        ),
        (
            connection("10.244.1.2", "192.168.0.1", hook=INPUT),
            "denied: egress of x/a: isolated by x/rules, which does not allow it",
        ),
        (connection("10.244.1.3", "10.244.2.4"), "allowed: no policy isolates either end"),
        (connection("203.0.113.8", "10.244.2.4"), "allowed: no policy isolates either end"),
    ],
)
def test_verdicts(asked: Connection, verdict: str) -> None:
    agent = started(*EVERYTHING)
    document = told(agent, asked, actual=True)
    assert document["verdict"] == verdict
    assert document["differences"] == []
    assert document["allowed"] == document["allowedByPolicies"] == verdict.startswith("allowed")
    if document["actual"]:
        assert document["actual"]["notUnderstood"] == []


def test_every_rule_says_what_keeps_the_sender_out() -> None:
    assert text(told(started(*EVERYTHING), connection("10.244.2.4", "10.244.1.2", 9011))) == [
        "denied: ingress of x/a: isolated by x/deny and x/rules, none allows it",
        "  from y/c 10.244.2.4 on n2",
        "  to x/a 10.244.1.2:9011/tcp on n1",
        "  egress of y/c, judged on n2: no policy isolates it",
        "  ingress of x/a, judged here: isolated by x/deny and x/rules, none allows it",
        "    x/deny: nothing is allowed",
        (
            "    x/rules rule 1: y/c is not among its peers (pods pod=b of x); 9011/tcp is not among its ports "
            "(443/tcp, web/tcp = 8080 at x/a, 9000-9010/tcp)"
        ),
        "    x/rules rule 2: y/c is not among its peers (pods !old,tier in (one,two) of namespaces team=blue)",
        (
            "    x/rules rule 3: y/c is not among its peers (203.0.113.0/24 except 203.0.113.9/32); 9011/tcp is not "
            "among its ports (every udp port)"
        ),
        "  rules that it meets at FORWARD, as decided:",
        "    FORWARD: -j KRPY-FW-FORWARD",
        "    KRPY-FW-FORWARD 2: -j KRPY-FW-PODS",
        "    KRPY-FW-PODS 3: -j KRPY-FW-FROM",
        f"    KRPY-FW-FROM 1: -m set ! --match-set {firewall_set('egress', 4)} src ! --update-counters -j RETURN",
        "    KRPY-FW-PODS 4: -j KRPY-FW-TO",
        f"    KRPY-FW-TO 3: -m set --match-set {BOTH.pods_set(4)} dst -j {BOTH.chain}",
        f'    {BOTH.chain} 5: -m comment --comment "x/deny, x/rules" -g KRPY-FW-REFUSE-TO',
        f"    KRPY-FW-REFUSE-TO 1: -m set --match-set {firewall_set('ingress', 4)} dst",
        "    KRPY-FW-REFUSE-TO 2: -g KRPY-FW-REFUSE",
        "    KRPY-FW-REFUSE 1: -m limit --limit 10/minute --limit-burst 10 -j NFLOG --nflog-group 100",
        "    KRPY-FW-REFUSE 3: -j REJECT --reject-with icmp-port-unreachable",
        "  members of sets that it meets:",
        f"    {firewall_set('ingress', 4)} 10.244.1.2",
        f"    {BOTH.pods_set(4)} 10.244.1.2",
    ]


def test_the_rule_that_allows_comes_first() -> None:
    lines = text(told(started(*EVERYTHING), connection("10.244.1.3", "10.244.1.2", 8080), actual=True))
    assert lines[:7] == [
        "allowed: ingress of x/a: x/rules ingress rule 1 allows it",
        "  from x/b 10.244.1.3 on n1",
        "  to x/a 10.244.1.2:8080/tcp on n1",
        "  egress of x/b, judged here: no policy isolates it",
        "  ingress of x/a, judged here: x/rules ingress rule 1 allows it",
        "    x/rules rule 1 allows: from pods pod=b of x, 443/tcp, web/tcp = 8080 at x/a, 9000-9010/tcp",
        "    x/deny: nothing is allowed",
    ]
    assert "  rules that it meets at FORWARD, in the kernel:" in lines


def test_a_side_that_another_node_judges() -> None:
    isolated = policy("y/deny", "{podSelector: {}, policyTypes: [Ingress]}")
    document = told(started(*EVERYTHING, isolated), connection("10.244.1.3", "10.244.2.4"), actual=True)
    assert document["verdict"].startswith("denied: ingress of y/c")
    assert document["actual"]["allowed"], "this node lets it go"
    assert (document["egress"]["here"], document["ingress"]["here"]) == (True, False)
    assert document["differences"] == []


def test_before_ip_vs_nobody_is_judged() -> None:
    agent = started(*EVERYTHING)
    attempt = Attempt(packed("10.244.1.2"), packed("10.244.2.4"), UDP, 53)
    through = Connection(attempt, OUTPUT, frontend=Frontend(packed("10.96.0.10"), 53))
    document = told(agent, through, actual=True)
    assert (document["allowed"], document["hooks"], document["differences"]) == (True, ["INPUT", "OUTPUT"], [])
    rules = document["actual"]["rules"]
    assert rules[:2] == ["INPUT: -j KRPY-FW-INPUT", f"KRPY-FW-INPUT 2: {rules[1].partition(': ')[2]}"]
    assert rules[1].endswith("-j RETURN")
    assert rules[2] == "OUTPUT: -j KRPY-FW-OUTPUT"
    agent.kernel.chains[Chain(4, "filter", "KRPY-FW-INPUT")] = Rules(("-j KRPY-FW-FROM",))
    document = told(agent, through, actual=True)
    assert document["verdict"].startswith("denied by this node's rules, and should be allowed")
    assert document["actual"]["rules"][-1].startswith("KRPY-FW-REFUSE 3: -j REJECT")


def test_what_does_not_concern_this_node_meets_none_of_its_rules() -> None:
    document = told(started(*EVERYTHING), connection("203.0.113.8", "10.244.2.4"), actual=True)
    assert (document["decided"], document["actual"]) == (None, None)


# -- what is not as it should be -------------------------------------------------------------------------------------


def test_a_pod_that_is_closed() -> None:
    agent = started(A, B)
    guard = Guard("ingress", (ALLOW,))
    agent.kernel.refuse[CHAINS, Chain(4, "filter", guard.chain)] = Refused("iptables-restore: exit status 4")
    agent.tell(ALLOW)
    document = told(agent, connection("10.244.1.3", "10.244.1.2"), actual=True)
    assert document["verdict"] == (
        "denied: x/a: ingress of 10.244.1.2: closed, its rules cannot be written (its policies would allow it)"
    )
    assert (document["allowed"], document["allowedByPolicies"]) == (False, True)
    assert document["notes"] == ["x/a: ingress of 10.244.1.2: closed, its rules cannot be written"]


def test_a_pod_under_earlier_rules() -> None:
    agent = started(A, B, DENY)
    guard = Guard("ingress", (ALLOW, DENY))
    agent.kernel.refuse[CHAINS, Chain(4, "filter", guard.chain)] = Refused("iptables-restore: exit status 4")
    agent.tell(ALLOW)
    document = told(agent, connection("10.244.1.3", "10.244.1.2"))
    assert "  pods not under the rules that they should be under:" in text(document)
    assert document["verdict"].endswith("as before, its new rules cannot be written (its policies would allow it)")


def test_a_rule_that_was_refused() -> None:
    agent = started(A, B, RULES)
    chain = Chain(4, "filter", Guard("ingress", (RULES,)).chain)
    agent.kernel.refuse[CHAINS, chain] = Refused("iptables-restore: exit status 4")
    agent.tell(policy("x/rules", "{podSelector: {matchLabels: {pod: a}}, ingress: [{}]}"))
    document = told(agent, connection("10.244.1.3", "10.244.1.2"), actual=True)
    assert document["refused"] == [f"iptables -t filter {chain.chain}: iptables-restore: exit status 4"]
    assert document["verdict"] == (
        "denied: x/a: ingress of 10.244.1.2: as before, its new rules cannot be written (its policies would allow it)"
    )
    assert document["differences"][0].endswith(f"{chain.chain} is not as written")
    assert document["differences"][-1] == "so packets find it denied, decided is allowed"


def test_a_bridge_that_leads_past_the_rules() -> None:
    agent = FakeFirewall(N1, namespace("x"), A, B, DENY)
    agent.kernel.refuse[SYSCTLS, BRIDGE_NF[4]] = Refused("Permission denied")
    agent.start()
    document = told(agent, connection("10.244.1.3", "10.244.1.2"))
    assert document["refused"] == ["net/bridge/bridge-nf-call-iptables: Permission denied"]
    assert told(agent, connection("10.244.1.3", "10.244.1.2", hook=OUTPUT))["refused"] == []


def test_a_member_that_somebody_took() -> None:
    agent = started(*EVERYTHING)
    member = SetMember(firewall_set("ingress", 4), SetEntry(packed("10.244.1.2")))
    del agent.kernel.members[member]
    document = told(agent, connection("203.0.113.9", "10.244.1.2"), actual=True)
    assert document["differences"] == [
        f"ipset {member.set} lacks 10.244.1.2", "so packets find it allowed, decided is denied",
    ]  # fmt: skip
    assert document["verdict"].startswith("allowed by this node's rules, and should be denied: ingress of x/a")


def test_rules_that_somebody_took() -> None:
    agent = started(*EVERYTHING)
    agent.kernel.chains[Chain(4, "filter", "KRPY-FW-TO")] = Rules(("-j RETURN",))
    assert "iptables -t filter KRPY-FW-TO is not as written" in told(
        agent, connection("203.0.113.9", "10.244.1.2"), actual=True
    )["differences"][0]  # fmt: skip


def test_a_policy_that_has_not_been_synced_yet() -> None:
    agent = started(A, B)
    agent.put(DENY)
    document = told(agent, connection("10.244.1.3", "10.244.1.2"))
    assert document["differences"] == [
        "the policies deny it, and the rules as decided do not: the next sync should bring them"
    ]


def test_a_family_that_is_off() -> None:
    agent = started(pod("x/a", "fd00::2"), pod("x/b", "fd00::3"), DENY, config=Config(enable_ipv6=False))
    (difference,) = told(agent, connection("fd00::3", "fd00::2"))["differences"]
    assert difference == "this node has no rules for IPv6: its policies are not enforced there"


def test_an_address_that_nobody_is_known_to_have_is_closed_by_default_deny() -> None:
    agent = started(A, config=Config(netpol_default_deny=True))
    document = told(agent, connection("10.244.1.2", "10.244.1.77"))
    assert document["verdict"] == ("denied by this node's rules, and should be allowed: no policy isolates either end")


def test_when_it_cannot_be_asked() -> None:
    with pytest.raises(Busy, match="first sync"):
        FakeFirewall(N1, A).controller.inquire(moment)
    with pytest.raises(Unavailable, match="--run-firewall=false"):
        started(A, config=Config(run_firewall=False)).controller.inquire(moment)


# -- laws ------------------------------------------------------------------------------------------------------------


@given(CLUSTERS)
@settings(derandomize=True, max_examples=60, deadline=None)
def test_the_rules_are_read_as_packets_meet_them_and_agree_with_the_policies(cluster: list[Any]) -> None:
    agent = FakeFirewall(N1, *cluster)
    agent.start()
    assert [rule for rules in agent.kernel.chains.values() for rule in rules.rules if not understands(rule)] == []
    addresses = [*{address for each in agent.cache.pods_in_full() for address in each.ips}, *map(packed, OUTSIDE)]
    at = agent.controller.inquire(moment)
    actual = actual_state(FakeFirewallLookups(agent.kernel), at)
    for source in addresses:
        for destination in addresses:
            if family_of(source) != family_of(destination):
                continue
            asked = Connection(Attempt(source, destination, TCP, 80))
            path = compared(explain(asked, at), actual, at.decided.chains)
            assert path.differences == ()
            assert (path.actual is None or path.actual.allowed) == passes(agent.kernel, Packet(source, destination))
            assert path.allowed == path.verdict.allowed
