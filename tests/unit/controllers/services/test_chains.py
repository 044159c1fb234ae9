"""The text of the fixed rules, by detector. Whether the kernel takes them: tests/kernel; packets: the lab."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kuberouter_py.config import Config
from kuberouter_py.controllers.services.chains import SET_TYPES, chains, sets
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model.kernel import Chain, IpSet, Rules
from tests.fakes.objects import cidr, packed

SERVICE = "0x2000000/0x2000000"
MASQUERADE = "-j CONNMARK --set-xmark 0x1000000/0x1000000"
HEAD = (
    "-m set ! --match-set krpy-svc-frontends-4 dst,dst -j RETURN",
    f"-j CONNMARK --set-xmark {SERVICE}",
    f"-m set --match-set krpy-svc-external-4 dst,dst {MASQUERADE}",
)
CLUSTER_IP = "-m set --match-set krpy-svc-clusterips-4 dst,dst"
NODE_CIDRS = (cidr("10.244.1.0/24"), cidr("fd00:244:1::/64"))


def rules(chain: str, view: NodeView | None = None, config: Config | None = None, family: int = 4) -> tuple[str, ...]:
    found = {key.chain: content for key, content in chains(config or Config(), view or NodeView("n1"), family)}
    return found[chain].rules


@pytest.mark.parametrize(
    ("view", "config", "middle"),
    [
        (NodeView("n1"), Config(), ()),
        (
            NodeView("n1", detector="NodeCIDR", detector_cidrs=NODE_CIDRS),
            Config(),
            ("-s 10.244.1.0/24 -j ACCEPT", f"{CLUSTER_IP} {MASQUERADE}"),
        ),
        (
            NodeView("n1", detector="ClusterCIDR", detector_cidrs=(cidr("10.0.0.0/9"), cidr("10.128.0.0/9"))),
            Config(),
            ("-s 10.0.0.0/9 -j ACCEPT", "-s 10.128.0.0/9 -j ACCEPT", f"{CLUSTER_IP} {MASQUERADE}"),
        ),
        # No range of this family: nobody could be told apart, so nobody is masqueraded.
        (NodeView("n1", detector="NodeCIDR", detector_cidrs=(cidr("fd00:244:1::/64"),)), Config(), ()),
        (
            NodeView("n1", detector="BridgeInterface", detector_interface="cni0"),
            Config(),
            (f"! -i cni0 {CLUSTER_IP} {MASQUERADE}",),
        ),
        (
            NodeView("n1", detector="InterfaceNamePrefix", detector_interface="veth+"),
            Config(),
            (f"! -i veth+ {CLUSTER_IP} {MASQUERADE}",),
        ),
        (
            NodeView("n1", detector="NodeCIDR", detector_cidrs=NODE_CIDRS),
            Config(masquerade_all=True),
            (f"{CLUSTER_IP} {MASQUERADE}",),
        ),
    ],
)
def test_what_is_marked_by_detector(view: NodeView, config: Config, middle: tuple[str, ...]) -> None:
    assert rules("KRPY-SVC-NAT", view, config) == (*HEAD, *middle, "-j ACCEPT")


def test_what_is_masqueraded() -> None:
    assert rules("KRPY-SVC-MASQ") == (
        "-m set --match-set krpy-svc-hairpin-4 dst,dst,src -j MASQUERADE --random-fully",
        "-m connmark --mark 0x1000000/0x1000000 -j MASQUERADE --random-fully",
        f"-m connmark --mark {SERVICE} -m addrtype --src-type LOCAL ! --dst-type LOCAL -j MASQUERADE --random-fully",
        "-m set --match-set krpy-svc-vips-4 src -m addrtype ! --dst-type LOCAL -j MASQUERADE --random-fully",
    )


def test_in_ipv6_a_link_with_the_nodes_address_has_others_that_must_not_be_the_source() -> None:
    primary = packed("2001:db8::1")
    seen = NodeView("n1", primary={6: primary}, local={primary: "eth0"})
    head = "-m connmark --mark 0x1000000/0x1000000 -j"
    assert rules("KRPY-SVC-MASQ", seen, family=6)[1:4] == (
        f"-o eth0 {head} SNAT --to-source 2001:db8::1 --random-fully",
        f"-o krt6-+ {head} SNAT --to-source 2001:db8::1 --random-fully",
        f"{head} MASQUERADE --random-fully",
    )
    for without in (Config(run_router=False), Config(enable_overlay=False)):
        assert not any("krt6" in rule for rule in rules("KRPY-SVC-MASQ", seen, without, family=6))
    assert not any("SNAT" in rule for rule in rules("KRPY-SVC-MASQ", replace(seen, local={}), family=6))


def test_the_port_filter() -> None:
    """S10.08: known pairs pass, then what keeps a network working; then NEW is refused, live connections are not."""
    found = rules("KRPY-SVC-INPUT")
    assert found[0] == "-m set --match-set krpy-svc-frontends-4 dst,dst -j ACCEPT"
    assert found[1] == "-m set --match-set krpy-svc-healthchecks-4 dst,dst -j ACCEPT"
    assert found[2] == "-m set ! --match-set krpy-svc-vips-4 dst -j RETURN"
    assert found[-1] == "-m conntrack --ctstate NEW,UNTRACKED -j REJECT --reject-with icmp-port-unreachable"
    assert [rule.split()[5] for rule in found[3:-1]] == [
        "destination-unreachable",
        "time-exceeded",
        "parameter-problem",
        "echo-request",
        "echo-reply",
    ]


def test_the_port_filter_of_ipv6_lets_neighbour_discovery_through() -> None:
    found = rules("KRPY-SVC-INPUT", family=6)
    passed = {rule.split()[5] for rule in found[3:-1]}
    assert passed >= {"packet-too-big", "neighbour-solicitation", "neighbour-advertisement", "echo-request"}
    assert found[-1].endswith("--reject-with icmp6-port-unreachable")
    assert all(rule.startswith("-p ipv6-icmp -m icmp6 --icmpv6-type ") for rule in found[3:-1])


def test_without_the_port_filter_known_pairs_still_pass_a_host_firewall() -> None:
    assert rules("KRPY-SVC-INPUT", config=Config(ipvs_permit_all=False)) == (
        "-m set --match-set krpy-svc-frontends-4 dst,dst -j ACCEPT",
        "-m set --match-set krpy-svc-healthchecks-4 dst,dst -j ACCEPT",
    )


def test_answers_pass_forward_only_for_our_connections() -> None:
    answers = f"-m connmark --mark {SERVICE} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    assert rules("KRPY-SVC-FORWARD") == rules("KRPY-SVC-FORWARD", family=6) == (answers,)


def test_pods_of_one_bridge_find_each_other_in_ipv6_whatever_the_policy_of_forward() -> None:
    """bridge-nf-call-ip6tables brings neighbour discovery there; ARP never goes through iptables."""
    view = NodeView("n1", bridges=("kube-bridge",))
    assert len(rules("KRPY-SVC-FORWARD", view)) == 1
    assert rules("KRPY-SVC-FORWARD", view, family=6)[1:] == (
        "-p ipv6-icmp -m icmp6 --icmpv6-type neighbour-solicitation -j ACCEPT",
        "-p ipv6-icmp -m icmp6 --icmpv6-type neighbour-advertisement -j ACCEPT",
    )


def test_what_no_service_has_of_the_service_cidrs_is_not_routed_on() -> None:
    """As nftables mode does, and only where the cluster itself says what is allocated."""
    ranges = (cidr("10.96.0.0/16"), cidr("fd00:96::/112"))
    view = NodeView("n1", allocated_cidrs=ranges)
    drops = ("-d 10.96.0.0/16 -m conntrack --ctstate NEW,UNTRACKED -j DROP",)
    assert rules("KRPY-SVC-FORWARD", view)[1:] == drops
    assert rules("KRPY-SVC-OUTPUT", view) == ("-m addrtype --dst-type LOCAL -j RETURN", *drops)
    assert rules("KRPY-SVC-OUTPUT", view, family=6)[-1].startswith("-d fd00:96::/112 ")
    theirs = Config(excluded_cidrs=(cidr("10.96.9.0/24"),))
    assert rules("KRPY-SVC-FORWARD", view, theirs)[1:] == ("-d 10.96.9.0/24 -j RETURN", *drops)
    assert rules("KRPY-SVC-OUTPUT", NodeView("n1", service_cidrs=ranges)) == ()


def test_who_hears_nothing_is_told_before_ip_vs_for_the_wire_and_for_the_node() -> None:
    """S7.03, S3.09, S4.04: NEW only, in mangle: filter OUTPUT comes after ip_vs."""
    view = NodeView("n1", detector="NodeCIDR", detector_cidrs=NODE_CIDRS, pod_cidrs=NODE_CIDRS)
    assert rules("KRPY-SVC-SILENT", view) == (
        "-m conntrack ! --ctstate NEW,UNTRACKED -j RETURN",
        "-m set --match-set krpy-svc-ranged-4 dst,dst -m set ! --match-set krpy-svc-sources-4 dst,dst,src -j DROP",
        "-m set --match-set krpy-svc-silent-4 dst,dst -j DROP",
        "-m set ! --match-set krpy-svc-silentoutside-4 dst,dst -j RETURN",
        "-m addrtype --src-type LOCAL -j RETURN",
        "-s 10.244.1.0/24 -j RETURN",
        "-j DROP",
    )


@pytest.mark.parametrize(
    ("view", "sources"),
    [
        (NodeView("n1"), []),
        (NodeView("n1", detector="NodeCIDR", detector_cidrs=NODE_CIDRS, pod_cidrs=NODE_CIDRS), ["-s 10.244.1.0/24"]),
        # A pod of another node would not be answered through here: the Node's own ranges count, where it has some.
        (
            NodeView("n1", detector="ClusterCIDR", detector_cidrs=(cidr("10.244.0.0/16"),), pod_cidrs=NODE_CIDRS),
            ["-s 10.244.1.0/24"],
        ),
        (NodeView("n1", detector="ClusterCIDR", detector_cidrs=(cidr("10.244.0.0/16"),)), ["-s 10.244.0.0/16"]),
        (NodeView("n1", detector="BridgeInterface", detector_interface="cni0", pod_cidrs=NODE_CIDRS), ["-i cni0"]),
        (NodeView("n1", detector="InterfaceNamePrefix", detector_interface="veth+"), ["-i veth+"]),
    ],
)
def test_who_takes_the_short_circuit(view: NodeView, sources: list[str]) -> None:
    """S4.03 and after: processes of this node always, its pods as far as they can be told."""
    target = "-j SET --map-set krpy-svc-shortcircuit-4 dst,dst --map-mark"
    assert rules("KRPY-SVC-MARK", view) == (
        "-m set ! --match-set krpy-svc-shortcircuit-4 dst,dst -j RETURN",
        *(f"{source} {target}" for source in ["-m addrtype --src-type LOCAL", *sources]),
    )
    assert rules("KRPY-SVC-UNMARK") == ("-m mark --mark 0x40000000/0xc00fff00 -j MARK --set-xmark 0x0/0xffffffff",)


@pytest.mark.parametrize("family", [4, 6])
def test_every_chain_is_jumped_to_first_and_where_marks_are_set_last(family: int) -> None:
    found = dict(chains(Config(), NodeView("n1"), family))
    jumps = {(key.table, key.chain): content for key, content in found.items() if not key.chain.startswith("KRPY-")}
    assert jumps == {
        ("mangle", "PREROUTING"): Rules(("-j KRPY-SVC-SILENT",)),
        ("mangle", "INPUT"): Rules(("-j KRPY-SVC-MARK",), first=False),
        ("mangle", "OUTPUT"): Rules(("-j KRPY-SVC-SILENT", "-j KRPY-SVC-MARK"), first=False),
        ("mangle", "POSTROUTING"): Rules(("-j KRPY-SVC-UNMARK",)),
        ("nat", "PREROUTING"): Rules(("-j KRPY-SVC-NAT",)),
        ("nat", "OUTPUT"): Rules(("-j KRPY-SVC-NAT",)),
        ("nat", "POSTROUTING"): Rules(("-j KRPY-SVC-MASQ",)),
        ("filter", "INPUT"): Rules(("-j KRPY-SVC-INPUT",)),
        ("filter", "FORWARD"): Rules(("-j KRPY-SVC-FORWARD",)),
        ("filter", "OUTPUT"): Rules(("-j KRPY-SVC-OUTPUT",)),
    }
    ours = {key for key in found if key.chain.startswith("KRPY-")}
    assert {f"-j {key.chain}" for key in ours} == {rule for content in jumps.values() for rule in content.rules}
    assert Chain(family, "nat", "KRPY-SVC-NAT") in ours
    assert all(len(key.chain) <= 28 for key in ours)


@pytest.mark.parametrize("family", [4, 6])
def test_rules_name_only_sets_that_are_made_and_mark_packets_nowhere_but_late(family: int) -> None:
    made = dict(sets(NodeView("n1"), family))
    assert made.keys() == {f"krpy-svc-{role}-{family}" for role in SET_TYPES}
    assert all(isinstance(header, IpSet) and header.family == family for header in made.values())
    assert all(header.maxelem >= 1_048_576 for header in made.values())
    view = NodeView("n1", detector="NodeCIDR", detector_cidrs=NODE_CIDRS)
    for key, content in chains(Config(), view, family):
        for rule in content.rules:
            words = rule.split()
            assert all(words[at + 1] in made for at, word in enumerate(words) if word in ("--match-set", "--map-set"))
            marks = "MARK" in words or "--map-mark" in words  # ip_vs compares the whole packet mark
            assert not marks or key.chain in ("KRPY-SVC-MARK", "KRPY-SVC-UNMARK")
