"""What people read of a verdict."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from kuberouter_py.controllers.firewall.judge import Attempt, Cluster, verdict
from kuberouter_py.controllers.firewall.saying import asked_text, peer_text, port_text, reasons, selector_text, sentence
from kuberouter_py.model.cluster import Namespace, Pod
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
from tests.fakes.judging import ESP, ICMP, ICMPV6, NAMES, NAMESPACES, PODS, SCTP, TCP, UDP, address_of
from tests.fakes.objects import cidr, packed
from tests.fakes.policies import pod, policy

DENY = policy("y/deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}")


def said(
    source: str,
    destination: str,
    *policies: NetworkPolicy,
    port: int = 80,
    protocol: int = TCP,
    from_node: bool = False,
    pods: Iterable[Pod] = PODS,
    namespaces: Iterable[Namespace] = NAMESPACES,
) -> list[str]:
    """The sentence, then the reasons."""
    one, other = (packed(address_of(name) if name in NAMES else name) for name in (source, destination))
    attempt, cluster = Attempt(one, other, protocol, port, from_node), Cluster(policies, pods, namespaces)
    found = verdict(attempt, cluster)
    return [sentence(found, attempt, cluster), *reasons(found, attempt, cluster)]


def test_nothing_isolates() -> None:
    assert said("x/a", "y/b") == [
        "allowed: no policy isolates egress of x/a; no policy isolates ingress of y/b",
        "egress: x/a (pod=a) is not isolated",
        "ingress: y/b (pod=b) is not isolated",
    ]


def test_denied_by_one_side() -> None:
    api = policy(
        "y/api",
        """
        podSelector: {matchLabels: {pod: b}}
        ingress:
        - {ports: [{port: 80}], from: [{podSelector: {matchLabels: {pod: c}}}]}
        - {from: [{namespaceSelector: {matchLabels: {ns: x}}}], ports: [{port: 443}, {protocol: UDP, port: 53}]}
        """,
    )
    assert said("x/a", "y/b", DENY, api) == [
        "denied: ingress of y/b is isolated by y/api, y/deny and no rule of them allows tcp/80 from x/a (pod=a)",
        "egress: x/a (pod=a) is not isolated",
        "ingress: y/b (pod=b) is isolated by y/api, y/deny",
        "  y/api ingress[1]: peer yes: every pod of namespaces ns=x; port no: tcp/443, udp/53",
        "  y/deny: has no ingress rule, so it allows nothing",
    ]


def test_denied_by_both_sides() -> None:
    assert said("y/a", "y/b", DENY)[0] == (
        "denied: egress of y/a is isolated by y/deny and no rule of it allows tcp/80 to y/b (pod=b); "
        "ingress of y/b is isolated by y/deny and no rule of it allows tcp/80 from y/a (pod=a)"
    )


def test_allowed_by_rules() -> None:
    """The policy that does not allow it has no part in it (P1.02)."""
    web = policy(
        "y/web",
        """
        ingress:
        - {ports: [{port: 81}]}
        - {ports: [{port: 79, endPort: 80}]}
        - {from: [{ipBlock: {cidr: 10.0.0.0/8}}]}
        """,
    )
    assert said("x/a", "y/b", DENY, web) == [
        "allowed: no policy isolates egress of x/a; ingress of y/b is allowed by y/web ingress[1], y/web ingress[2]",
        "egress: x/a (pod=a) is not isolated",
        "ingress: y/b (pod=b) is isolated by y/deny, y/web",
        "  y/web ingress[1]: peer yes: any; port yes: tcp/79-80",
        "  y/web ingress[2]: peer yes: 10.0.0.0/8; port yes: any",
    ]


def test_of_rules_that_do_not_match_the_one_with_the_right_ports_is_nearer_than_none() -> None:
    web = policy(
        "y/web",
        """
        ingress:
        - {from: [{podSelector: {}}], ports: [{port: 81}]}
        - {from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.0.1.0/24]}}], ports: [{port: 80}]}
        """,
    )
    assert said("x/a", "y/b", web)[-1] == (
        "  y/web ingress[1]: peer no: every pod of namespace y, "
        "10.0.0.0/8 except 10.0.1.0/24 (10.0.1.1 is in 10.0.1.0/24); port yes: tcp/80"
    )


def test_names_of_ports() -> None:
    web = policy("y/web", "{ingress: [{ports: [{port: web}, {protocol: UDP, port: web}]}]}")
    assert said("x/a", "y/b", web)[-1] == (
        "  y/web ingress[0]: peer yes: any; port no: tcp/web (81 at y/b), udp/web (no port of y/b has that name)"
    )
    assert said("x/a", "y/b", web, port=81)[-1] == "  y/web ingress[0]: peer yes: any; port yes: tcp/web (81 at y/b)"
    out = policy("y/out", "{policyTypes: [Egress], egress: [{ports: [{port: web}]}]}")
    assert said("y/a", "192.0.2.7", out)[1:] == [
        "egress: y/a (pod=a) is isolated by y/out",
        "  y/out egress[0]: peer yes: any; port no: tcp/web (192.0.2.7 is no pod, and names no port)",
        "ingress: 192.0.2.7 is no pod that policies are about",
    ]


def test_peers_say_what_hinders_them() -> None:
    high = policy(
        "y/high",
        "{ingress: [{from: [{namespaceSelector: {matchLabels: {tier: high}}, podSelector: {matchLabels: {pod: a}}}]}]}",
    )
    text = "  y/high ingress[0]: peer no: pods pod=a of namespaces tier=high"
    assert said("x/a", "y/b", high)[-1] == f"{text} (namespace x has kubernetes.io/metadata.name=x,ns=x); port yes: any"
    assert said("z/b", "y/b", high)[-1] == f"{text}; port yes: any"
    assert said("192.0.2.7", "y/b", high)[-1] == f"{text} (192.0.2.7 is no pod); port yes: any"
    assert said("x/a", "y/b", high, namespaces=())[-1] == f"{text} (namespace x is not known); port yes: any"
    assert said("x/a", "y/b", high, namespaces=())[2] == (
        "ingress: y/b (pod=b) is isolated by y/high; namespace y is not known"
    )


def test_itself_and_the_own_node() -> None:
    assert said("y/a", "y/a", DENY) == [
        "allowed: y/a reaches itself whatever its policies say",
        "egress: y/a (pod=a) is isolated by y/deny",
        "ingress: y/a (pod=a) is isolated by y/deny",
    ]
    pods = [
        *PODS,
        pod("y/one", "192.0.2.1"),
        pod("y/two", "192.0.2.1"),
        pod("y/hosted", "192.0.2.1", host_network=True),
    ]
    assert said("192.0.2.1", "y/a", DENY, from_node=True, pods=pods) == [
        (
            "allowed: the node 192.0.2.1 is no pod that policies are about; "
            "ingress of y/a is isolated, but open to its own node"
        ),
        "egress: the node 192.0.2.1 is no pod that policies are about",
        "ingress: y/a (pod=a) is isolated by y/deny",
        "  y/deny: has no ingress rule, so it allows nothing",
    ]


def test_pods_that_only_show_the_address() -> None:
    pods = [
        pod("y/done", "10.0.9.9", phase="Succeeded", created=5.0),
        pod("y/hosted", "10.0.9.9", host_network=True, created=4.0),
        pod("y/young", "10.0.9.9", created=3.0),
        pod("y/zwilling", "10.0.9.9", created=3.0),
        pod("y/old", "10.0.9.9", created=2.0),
        pod("y/going", "10.0.9.9", deleting=True, created=9.0),
    ]
    assert said("x/a", "10.0.9.9", pods=pods)[2:] == [
        "ingress: y/young (pod=young) is not isolated",
        "  y/done had 10.0.9.9, and is finished",
        "  y/hosted is on the host's network: 10.0.9.9 is its node's",
        "  y/zwilling claims 10.0.9.9 as well: y/young comes first by its name",
        "  y/old claims 10.0.9.9 as well: y/young is younger",
        "  y/going claims 10.0.9.9 as well: it is being deleted, y/young stays",
    ]


def test_what_is_not_understood_is_told() -> None:
    text = "spec.ingress[0].from[1].ipBlock.cidr: 'x' is not a CIDR"
    other = "spec.egress[0].ports[0].protocol: protocol 'x' is not known"
    found = NetworkPolicy(
        DENY.key, "", EVERYTHING, ingress=(PolicyRule(peers=()),), egress=(PolicyRule(),), unusable=(text, other)
    )
    assert said("x/a", "y/b", found)[-2:] == [
        "  y/deny ingress[0]: peer no: nothing that is written there is understood; port yes: any",
        f"  y/deny: matches nothing at {text}",
    ]
    assert said("y/b", "x/a", found)[1:3] == [
        "egress: y/b (pod=b) is isolated by y/deny",
        "  y/deny egress[0]: peer yes: any; port yes: any",
    ]


def test_long_lists_are_cut() -> None:
    many = [policy(f"y/p{number}", "{policyTypes: [Ingress]}") for number in range(6)]
    assert said("x/a", "y/b", *many)[0] == (
        "denied: ingress of y/b is isolated by y/p0, y/p1, y/p2, y/p3, 2 more "
        "and no rule of them allows tcp/80 from x/a (pod=a)"
    )


@pytest.mark.parametrize(
    ("requirements", "text"),
    [
        ((), ""),
        ((Requirement("a", Operator.IN, ("1",)),), "a=1"),
        ((Requirement("a", Operator.IN, ("1", "2")), Requirement("b", Operator.EXISTS)), "a in (1,2),b"),
        ((Requirement("a", Operator.NOT_IN, ("1",)), Requirement("b", Operator.DOES_NOT_EXIST)), "a!=1,!b"),
        ((Requirement("a", Operator.NOT_IN, ("1", "2")),), "a notin (1,2)"),
    ],
)
def test_selectors(requirements: tuple[Requirement, ...], text: str) -> None:
    assert selector_text(Selector(requirements)) == text


def test_peers_and_ports() -> None:
    web = Selector((Requirement("app", Operator.IN, ("web",)),))
    assert peer_text(PodPeer(EVERYTHING), "y") == "every pod of namespace y"
    assert peer_text(PodPeer(web, EVERYTHING), "y") == "pods app=web of every namespace"
    assert peer_text(IpBlock(cidr("fd00::/8"), (cidr("fd00::/64"),)), "y") == "fd00::/8 except fd00::/64"
    assert [port_text(PolicyPort(TCP)), port_text(PolicyPort(UDP, "dns"))] == ["tcp", "udp/dns"]
    assert [port_text(PolicyPort(SCTP, 1, 1)), port_text(PolicyPort(SCTP, 1, 2))] == ["sctp/1", "sctp/1-2"]
    attempts = [asked_text(Attempt(b"", b"", *each)) for each in ((UDP, 53), (ICMP, 0), (ICMPV6, 0), (ESP, 0))]
    assert attempts == ["udp/53", "icmp", "icmpv6", "protocol 50"]
