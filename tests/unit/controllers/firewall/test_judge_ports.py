"""The judge against tables made by hand: ports, their names and ranges (P2), and blocks of addresses (P3)."""

from __future__ import annotations

import pytest

from kuberouter_py.model.cluster import ContainerPort
from tests.fakes.judging import (
    ALL,
    ESP,
    ICMP,
    ICMPV6,
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
from tests.fakes.policies import pod, policy


def open_ports(spec: str, destination: str = "y/a", source: str = "x/a") -> str:
    """Which of these may be used under the policy, in the order tcp, udp, sctp."""
    found = policy("y/p", spec)
    names = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}
    return " ".join(
        f"{names[protocol]}/{port}"
        for protocol in (TCP, UDP, SCTP)
        for port in (79, 80, 81, 82)
        if judged(source, destination, found, port=port, protocol=protocol).allowed
    )


ALL_TCP, ALL_UDP = "tcp/79 tcp/80 tcp/81 tcp/82", "udp/79 udp/80 udp/81 udp/82"
ALL_SCTP = "sctp/79 sctp/80 sctp/81 sctp/82"
ALL_PORTS = f"{ALL_TCP} {ALL_UDP} {ALL_SCTP}"
PORT_LISTS = [
    ("[]", ALL_PORTS),
    ("[{port: 80}]", "tcp/80"),
    ("[{}]", ALL_TCP),  # P2.01
    ("[{protocol: UDP}]", ALL_UDP),
    ("[{protocol: SCTP}]", ALL_SCTP),  # P2.03
    ("[{protocol: UDP, port: 80}, {protocol: SCTP, port: 82}]", "udp/80 sctp/82"),
    ("[{port: 80, endPort: 81}]", "tcp/80 tcp/81"),  # P2.08
    ("[{port: 80, endPort: 80}]", "tcp/80"),
    ("[{protocol: UDP, port: 1, endPort: 65535}]", ALL_UDP),
    ("[{protocol: SCTP, port: 81, endPort: 90}]", "sctp/81 sctp/82"),
    ("[{port: 80}, {port: 80}, {port: 79, endPort: 81}]", "tcp/79 tcp/80 tcp/81"),  # P2.09
    ("[{port: 80}, {protocol: UDP, port: 81}]", "tcp/80 udp/81"),
]


@pytest.mark.parametrize(("ports", "expected"), PORT_LISTS)
def test_ports(ports: str, expected: str) -> None:
    assert open_ports(f"{{podSelector: {{}}, ingress: [{{ports: {ports}}}]}}") == expected
    egress = f"{{podSelector: {{}}, policyTypes: [Egress], egress: [{{ports: {ports}}}]}}"
    assert open_ports(egress, "x/a", "y/a") == expected
    assert open_ports(egress, "outside", "y/a") == expected
    block = "[{ipBlock: {cidr: 10.0.1.0/24}}]"
    to_x = f"{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: {block}, ports: {ports}}}]}}"
    assert open_ports(to_x, "x/a", "y/a") == expected
    assert open_ports(to_x, "z/a", "y/a") == ""


@pytest.mark.parametrize("protocol", [ICMP, ICMPV6, ESP])
def test_a_list_of_ports_never_matches_a_protocol_without(protocol: int) -> None:
    """P2.02."""
    found = policy("y/p", "{podSelector: {}, ingress: [{ports: [{}, {protocol: UDP}, {protocol: SCTP}]}]}")
    assert not judged("x/a", "y/a", found, protocol=protocol, port=0).allowed
    assert judged("x/a", "y/a", found, protocol=TCP, port=1).allowed


def test_peers_and_ports_of_one_rule_and_of_two() -> None:
    """P1.05, P1.06."""
    one = "{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}]}"
    two = "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}, {ports: [{port: 80}]}]}"
    assert (open_ports(one, source="y/b"), open_ports(one, source="x/a")) == ("tcp/80", "")
    assert (open_ports(two, source="y/b"), open_ports(two, source="x/a")) == (ALL_PORTS, "tcp/80")


# "web" is tcp/80 in every a, tcp/81 in every b, and nothing in c; "dns" is udp/80 in a and tcp/80 in b.
NAMED = [
    ("{port: web}", {"a": "tcp/80", "b": "tcp/81", "c": ""}),
    ("{port: dns}", {"a": "", "b": "tcp/80", "c": ""}),  # P2.05: the protocol must be the same
    ("{protocol: UDP, port: dns}", {"a": "udp/80", "b": "", "c": ""}),
    ("{protocol: SCTP, port: web}", {"a": "", "b": "", "c": ""}),
    ("{port: none}", {"a": "", "b": "", "c": ""}),  # P2.06
]


@pytest.mark.parametrize(("port", "expected"), NAMED)
@pytest.mark.parametrize(
    "peers", ["[]", "[{namespaceSelector: {}}]", "[{ipBlock: {cidr: 0.0.0.0/0}}]"], ids=["any", "pods", "block"]
)
def test_named_ports_are_the_receivers_own(port: str, expected: dict[str, str], peers: str) -> None:
    ingress = f"{{podSelector: {{}}, ingress: [{{from: {peers}, ports: [{port}]}}]}}"
    egress = f"{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: {peers}, ports: [{port}]}}]}}"
    for name, open_there in expected.items():
        assert open_ports(ingress, f"y/{name}", "x/c") == open_there
        assert open_ports(egress, f"x/{name}", "y/c") == open_there
    assert open_ports(egress, "outside", "y/c") == ""  # P2.06: nothing outside has a name


def test_a_named_port_next_to_a_number() -> None:
    spec = "{podSelector: {}, ingress: [{ports: [{port: none}, {port: 82}]}]}"
    assert open_ports(spec, "y/c") == "tcp/82"


def test_two_ports_of_one_name() -> None:
    declared = [ContainerPort("web", TCP, 80), ContainerPort("web", TCP, 82)]
    pods = [*PODS, pod("y/d", "10.0.2.4", ports=declared)]
    found = policy("y/p", "{podSelector: {}, ingress: [{ports: [{port: web}]}]}")
    allowed = [judged("x/a", "10.0.2.4", found, port=port, pods=pods).allowed for port in (80, 81, 82)]
    assert allowed == [True, False, True]


BLOCKS = [
    ("{cidr: 10.0.0.0/16}", PODS_ONLY),  # P3.03
    ("{cidr: 10.0.1.0/24}", "x/a x/b x/c"),
    ("{cidr: 10.0.1.77/24}", "x/a x/b x/c"),  # P3.02
    ("{cidr: 10.0.1.1/32}", "x/a"),
    ("{cidr: 0.0.0.0/0}", ALL),
    ("{cidr: 192.0.2.0/24}", "outside"),
    ("{cidr: '::/0'}", ""),
    ("{cidr: 10.0.0.0/16, except: [10.0.1.0/24]}", "y/a y/b y/c z/a z/b z/c"),
    ("{cidr: 10.0.0.0/16, except: [10.0.1.0/24, 10.0.3.2/31]}", "y/a y/b y/c z/a"),
    ("{cidr: 10.0.1.0/24, except: [10.0.1.0/24]}", ""),
    ("{cidr: 0.0.0.0/0, except: [10.0.0.0/8]}", "outside"),
]


@pytest.mark.parametrize(("block", "expected"), BLOCKS)
def test_blocks(block: str, expected: str) -> None:
    ingress = policy("y/p", f"{{podSelector: {{}}, ingress: [{{from: [{{ipBlock: {block}}}]}}]}}")
    egress = policy("y/p", f"{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {block}}}]}}]}}")
    assert who_reaches("y/c", ingress) == but("y/c", expected)
    assert whom_reaches("y/c", egress) == but("y/c", expected)


def test_blocks_of_the_other_family() -> None:
    """P3.02."""
    found = policy(
        "y/p", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 'fd00:1::/32', except: ['fd00:1::2/128']}}]}]}"
    )
    assert who_reaches("y/a", found, family=6) == "x/a x/c"
    assert who_reaches("y/a", found, family=4) == ""
    everywhere = policy("y/p", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: '::/0'}}]}]}")
    assert who_reaches("y/a", everywhere, family=6) == but("y/a", ALL)


LEAKS = [
    "{from: [{ipBlock: BLOCK}, {podSelector: {matchLabels: {pod: b}}, namespaceSelector: {matchLabels: {ns: x}}}]}",
    "{from: [{ipBlock: BLOCK}, {ipBlock: {cidr: 10.0.1.2/32}}]}",
    "{from: [{ipBlock: BLOCK}]}, {from: [{ipBlock: {cidr: 10.0.1.2/31}}]}",
]


@pytest.mark.parametrize("rules", LEAKS)
def test_an_except_takes_from_its_own_element_only(rules: str) -> None:
    """P3.01: x/b is taken out of the block and let in by another element, rule or policy."""
    block = "{cidr: 10.0.0.0/16, except: [10.0.1.0/30]}"
    rest = "y/a y/b y/c z/a z/b z/c"
    found = policy("y/p", f"{{podSelector: {{}}, ingress: [{rules.replace('BLOCK', block)}]}}")
    reaching = who_reaches("y/a", found).split()
    assert "x/b" in reaching
    assert "x/a" not in reaching
    assert [name for name in reaching if name[0] != "x"] == but("y/a", rest).split()


def test_an_except_takes_nothing_from_another_policy() -> None:
    block = policy("y/p", "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/16, except: [10.0.1.0/24]}}]}]}")
    other = policy("y/q", "{ingress: [{from: [{ipBlock: {cidr: 10.0.1.1/32}}]}]}")
    assert who_reaches("y/a", block, other) == "x/a y/b y/c z/a z/b z/c"
