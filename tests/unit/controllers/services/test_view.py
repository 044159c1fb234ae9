"""What the node is, from its Node object, its links and the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from kuberouter_py.config import Config
from kuberouter_py.controllers.services.view import NodeView, node_view
from kuberouter_py.model.cluster import Node
from kuberouter_py.model.kernel import LinkState, address_text
from tests.fakes.objects import BRIDGE, ETH0, LOOPBACK, NODE_NAME, VETH, cidr, link, node, packed

LINKS = [LOOPBACK, ETH0, BRIDGE, VETH]
DUAL = link("eth0", "192.168.0.1/24", "2001:db8::1/64", "fe80::1/64")
VIPS = link("kube-dummy-if", "10.96.0.10/32", kind="dummy")


def view(
    known: Node | None, links: Sequence[LinkState] = LINKS, config: Config | None = None, service_cidrs: str = ""
) -> NodeView:
    return node_view(config or Config(), NODE_NAME, known, links, tuple(map(cidr, service_cidrs.split())))


def primary(seen: NodeView) -> list[str]:
    return [address_text(address) for address in seen.primary.values()]


def nodeports(seen: NodeView) -> list[str]:
    return [address_text(address) for address in seen.nodeport_addresses]


# -- addresses and families ------------------------------------------------------------------------------------------


def test_the_first_internal_address_of_each_family_is_primary() -> None:
    seen = view(node("192.168.0.1", "192.168.0.2", "2001:db8::1"), [DUAL])
    assert primary(seen) == ["192.168.0.1", "2001:db8::1"]
    assert seen.families == (4, 6)
    assert seen.uplinks == ("eth0",)


def test_an_external_address_stands_in_for_a_missing_internal_one() -> None:
    assert primary(view(node("192.168.0.1", external=["203.0.113.1", "2001:db8::1"]))) == ["192.168.0.1", "2001:db8::1"]


def test_an_address_on_a_link_of_ours_is_not_the_nodes_whatever_the_flag_said() -> None:
    alias = "kuberouter-py: addresses of Services"
    links = [
        ETH0,
        link("svc0", "10.96.0.1/32", kind="dummy"),
        VIPS,
        link("svc1", "10.96.0.2/32", kind="dummy")._replace(alias=alias),
        link("svc2", "10.96.0.3/32", kind="bridge")._replace(alias=alias),
        link("kube-ipvs0", "10.96.0.4/32", kind="dummy"),
    ]
    node4, proxys = packed("192.168.0.1"), packed("10.96.0.4")
    local = view(node("192.168.0.1"), links, Config(vip_link="svc0")).local
    assert {node4: "eth0", packed("10.96.0.3"): "svc2", proxys: "kube-ipvs0"}.items() <= local.items()
    assert not {packed("10.96.0.1"), packed("10.96.0.2"), packed("10.96.0.10")} & local.keys()
    assert proxys not in view(node("192.168.0.1"), links, Config(vip_link="kube-ipvs0")).local


def test_without_a_node_object_the_links_say_who_we_are() -> None:
    links = [
        LOOPBACK,
        link("docker0", "172.17.0.1/16", kind="bridge"),
        BRIDGE,
        VIPS,
        link("eth9", "198.51.100.9/24", up=False),
        link("eth0", "169.254.7.7/16", "192.168.0.1/24"),
    ]
    seen = view(None, links)
    assert primary(seen) == ["192.168.0.1"]
    assert (seen.detector, seen.pod_cidrs) == ("none", ())


def test_a_node_without_addresses_has_no_primary_yet() -> None:
    seen = view(node())
    assert (primary(seen), nodeports(seen), seen.uplinks) == ([], [], ())
    assert seen.families == (4,)


def test_what_was_only_guessed_is_not_kept_when_the_node_says_otherwise() -> None:
    guessed = view(None, [LOOPBACK, DUAL])
    assert guessed.families == (4, 6)
    told = node_view(Config(), NODE_NAME, node("192.168.0.1"), [LOOPBACK, DUAL], (), before=guessed)
    assert (primary(told), told.families) == (["192.168.0.1"], (4,))


def test_a_node_without_addresses_on_a_host_with_ipv6_serves_both_families_already() -> None:
    assert view(node(), [LOOPBACK, DUAL]).families == (4, 6)


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "addresses", "families"),
    [
        (True, None, ["192.168.0.1"], (4,)),
        (True, None, ["192.168.0.1", "2001:db8::1"], (4, 6)),
        (True, None, ["2001:db8::1"], (4, 6)),
        (False, None, ["2001:db8::1"], (6,)),
        (True, False, ["192.168.0.1", "2001:db8::1"], (4,)),
        (True, True, ["192.168.0.1"], (4, 6)),
    ],
)
def test_families(ipv4: bool, ipv6: bool | None, addresses: list[str], families: tuple[int, ...]) -> None:
    assert view(node(*addresses), [DUAL], Config(enable_ipv4=ipv4, enable_ipv6=ipv6)).families == families


def test_addresses_of_the_node_are_those_of_every_link_but_ours() -> None:
    seen = view(node("192.168.0.1"), [*LINKS, VIPS])
    assert packed("10.96.0.10") not in seen.local
    assert seen.local[packed("192.168.0.1")] == "eth0"
    assert seen.local[packed("10.244.1.1")] == "kube-bridge"


def test_a_heartbeat_changes_nothing() -> None:
    assert view(node("192.168.0.1")) == view(replace_taints(node("192.168.0.1")))


def replace_taints(one: Node) -> Node:
    return Node(one.key, one.uid, one.internal_ips, one.external_ips, one.pod_cidrs, taints=("node.kubernetes.io/x",))


# -- NodePorts -------------------------------------------------------------------------------------------------------


def test_nodeports_answer_on_the_primary_addresses() -> None:
    assert nodeports(view(node("192.168.0.1", "192.168.0.2", "2001:db8::1"), [DUAL])) == ["192.168.0.1", "2001:db8::1"]


def test_nodeports_on_all_addresses_leave_out_internal_links() -> None:
    links = [
        LOOPBACK,
        link("eth0", "192.168.0.1/24", "192.168.0.2/24", "fe80::1/64"),
        link("wg0", "10.9.0.1/24"),
        link("docker0", "172.17.0.1/16"),
        link("dummy0", "10.8.0.1/24"),
        BRIDGE,
        VIPS,
    ]
    seen = view(node("192.168.0.2"), links, Config(nodeport_bindon_all_ip=True))
    assert nodeports(seen) == ["192.168.0.2", "192.168.0.1", "10.9.0.1"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("primary", ["192.168.0.2", "2001:db8::2"]),
        ("all", ["192.168.0.2", "192.168.0.1", "10.9.0.1", "2001:db8::2", "2001:db8::1"]),
        # A family without a range matches all (S6.02); whoever names an internal address means it.
        ("10.0.0.0/8", ["10.9.0.1", "10.8.0.1", "2001:db8::2", "2001:db8::1"]),
        ("2001:db8::1/128", ["192.168.0.2", "192.168.0.1", "10.9.0.1", "2001:db8::1"]),
        ("primary,10.9.0.0/16", ["192.168.0.2", "10.9.0.1", "2001:db8::2"]),
        ("198.51.100.0/24,2001:db8:7::/64", []),
        # A zero range overrides the others of its family.
        ("10.9.0.0/16,0.0.0.0/0,2001:db8::1/128", ["192.168.0.2", "192.168.0.1", "10.9.0.1", "2001:db8::1"]),
        # Loopback is never served (S6.03), nor is what is bound by us (S2.11).
        ("127.0.0.0/8,::1/128", []),
        ("10.96.0.0/16,2001:db8::1/128", ["2001:db8::1"]),
    ],
)
def test_nodeport_addresses_as_asked(asked: str, expected: list[str]) -> None:
    links = [
        LOOPBACK,
        link("eth0", "192.168.0.1/24", "192.168.0.2/24", "2001:db8::1/64", "2001:db8::2/64", "fe80::1/64"),
        link("wg0", "10.9.0.1/24"),
        link("dummy0", "10.8.0.1/24"),
        VIPS,
    ]
    config = Config.from_texts({"nodeport-addresses": [asked]})
    assert nodeports(view(node("192.168.0.2", "2001:db8::2"), links, config)) == expected


# -- bridges and the detector ----------------------------------------------------------------------------------------


def test_pod_bridges_are_kube_bridge_and_those_with_an_address_of_the_pod_cidrs() -> None:
    links = [
        ETH0,
        BRIDGE,
        link("cni0", "10.244.1.9/24", kind="bridge"),
        link("docker0", "172.17.0.1/16", kind="bridge"),
    ]
    assert view(node("192.168.0.1"), links).bridges == ("cni0", "kube-bridge")
    assert view(node("192.168.0.1"), [ETH0, link("cni0", "10.244.1.9/24")]).bridges == ()  # not a bridge
    assert view(node("192.168.0.1"), [ETH0, link("kube-bridge", kind="bridge")]).bridges == ("kube-bridge",)


def test_the_bridge_named_by_a_flag_is_the_only_one() -> None:
    config = Config(pod_bridge_interface="br-pods")
    seen = view(node("192.168.0.1"), LINKS, config)
    assert seen.bridges == ("br-pods",)
    assert (seen.detector, seen.detector_interface) == ("BridgeInterface", "br-pods")


@pytest.mark.parametrize(
    ("config", "pods", "detector", "cidrs", "interface"),
    [
        (Config(), "10.244.1.0/24 fd00:244:1::/64", "NodeCIDR", "10.244.1.0/24 fd00:244:1::/64", ""),
        (Config(), "", "none", "", ""),
        (Config(cluster_cidr=(cidr("10.244.0.0/16"),)), "10.244.1.0/24", "ClusterCIDR", "10.244.0.0/16", ""),
        (Config(pod_interface_name_prefix="veth"), "10.244.1.0/24", "InterfaceNamePrefix", "", "veth+"),
        (
            Config(detect_local_mode="NodeCIDR", cluster_cidr=(cidr("10.244.0.0/16"),)),
            "10.244.1.0/24",
            "NodeCIDR",
            "10.244.1.0/24",
            "",
        ),
    ],
)
def test_how_local_traffic_is_told(config: Config, pods: str, detector: str, cidrs: str, interface: str) -> None:
    seen = view(node("192.168.0.1", pod_cidrs=pods.split()), LINKS, config)
    assert (seen.detector, seen.detector_cidrs, seen.detector_interface) == (
        detector,
        tuple(map(cidr, cidrs.split())),
        interface,
    )


def test_service_cidrs_of_the_flag_come_before_those_of_the_cluster() -> None:
    assert view(node(), service_cidrs="10.96.0.0/12").service_cidrs == (cidr("10.96.0.0/12"),)
    config = Config(service_cluster_ip_range=(cidr("10.43.0.0/16"),))
    assert view(node(), config=config, service_cidrs="10.96.0.0/12").service_cidrs == (cidr("10.43.0.0/16"),)


def test_views_compare_by_value() -> None:
    assert view(node("192.168.0.1")) == view(node("192.168.0.1"))
    assert view(node("192.168.0.1")) != replace(view(node("192.168.0.1")), missing_schedulers=frozenset({"mh"}))
