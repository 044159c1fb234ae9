"""The node's own share: sysctls, the VIP link, hairpin mode of pods' ports, and the fixed rules and sets by family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from kuberouter_py.config import Config
from kuberouter_py.controllers.services.nodestate import Kernel, node_share
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model.kernel import Link, LinkState
from tests.fakes.objects import BRIDGE, ETH0, VETH, link

STRICT = {
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/kube-dummy-if/rp_filter": "1",
    "net/ipv4/conf/kube-bridge/rp_filter": "1",
    "net/ipv4/conf/eth0/rp_filter": "2",
}


def share(
    view: NodeView,
    links: Sequence[LinkState] = (),
    config: Config | None = None,
    *,
    version: tuple[int, int] = (6, 1),
    sysctls: Mapping[str, str] | None = None,
    processors: int = 4,
) -> dict[str, dict[Any, Any]]:
    made = node_share(config or Config(), view, links, Kernel(version, processors, (sysctls or {}).get))
    (unit,) = made.units.values()
    tables: dict[str, dict[Any, Any]] = {}
    for item in unit:
        assert item.key not in tables.setdefault(item.table, {})
        tables[item.table][item.key] = item.value
    return tables


def test_sysctls_of_a_plain_ipv4_node() -> None:
    assert share(NodeView("n1"))["sysctls"] == {
        "net/ipv4/vs/conntrack": "1",
        "net/ipv4/vs/expire_nodest_conn": "1",
        "net/ipv4/vs/expire_quiescent_template": "1",
        "net/ipv4/ip_forward": "1",
        "net/ipv4/conf/all/arp_ignore": "1",
        "net/ipv4/conf/all/arp_announce": "2",
        "net/netfilter/nf_conntrack_max": "131072",
        "net/netfilter/nf_conntrack_tcp_timeout_established": "86400",
        "net/netfilter/nf_conntrack_tcp_timeout_close_wait": "3600",
    }


@pytest.mark.parametrize(
    ("version", "value"), [((4, 0), None), ((4, 1), "0"), ((5, 8), "0"), ((5, 9), None), ((6, 1), None)]
)
def test_connection_reuse_only_where_the_old_kernels_need_it(version: tuple[int, int], value: str | None) -> None:
    """S10.01"""
    assert share(NodeView("n1"), version=version)["sysctls"].get("net/ipv4/vs/conn_reuse_mode") == value


@pytest.mark.parametrize(("before", "value"), [("0", "1"), ("1", None), ("2", None), (None, None)])
def test_newer_kernels_get_their_default_back_from_another_proxy(before: str | None, value: str | None) -> None:
    key = "net/ipv4/vs/conn_reuse_mode"
    found = share(NodeView("n1"), sysctls={key: before} if before else {})["sysctls"]
    assert found.get(key) == value


def test_arp_is_left_alone_when_asked() -> None:
    assert not [key for key in share(NodeView("n1"), config=Config(strict_arp=False))["sysctls"] if "arp" in key]


def test_forwarding_by_family() -> None:
    six = share(NodeView("n1", families=(6,)))["sysctls"]
    assert "net/ipv4/ip_forward" not in six
    assert six["net/ipv6/conf/all/forwarding"] == "1"


def test_reverse_path_filtering_is_loosened_where_strict_and_never_switched_off() -> None:
    view = NodeView("n1", bridges=("kube-bridge",), uplinks=("eth0",))
    found = {key: value for key, value in share(view, sysctls=STRICT)["sysctls"].items() if "rp_filter" in key}
    assert found == {"net/ipv4/conf/kube-dummy-if/rp_filter": "2", "net/ipv4/conf/kube-bridge/rp_filter": "2"}


@pytest.mark.parametrize(
    ("families", "keys"),
    [
        ((4,), {"net/bridge/bridge-nf-call-iptables"}),
        ((4, 6), {"net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"}),
        ((6,), {"net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"}),
    ],
)
def test_bridged_pods_pass_iptables(families: tuple[int, ...], keys: set[str]) -> None:
    found = share(NodeView("n1", families=families, bridges=("kube-bridge",)))["sysctls"]
    assert {key: value for key, value in found.items() if key.startswith("net/bridge/")} == dict.fromkeys(keys, "1")
    assert not [key for key in share(NodeView("n1", families=families))["sysctls"] if "bridge" in key]


@pytest.mark.parametrize(
    ("config", "processors", "limit"),
    [
        (Config(), 2, "131072"),
        (Config(), 16, "524288"),
        (Config(conntrack_min=200000), 2, "200000"),
        (Config(conntrack_max_per_core=0), 16, None),
    ],
)
def test_conntrack_limit(config: Config, processors: int, limit: str | None) -> None:
    """S9.07"""
    found = share(NodeView("n1"), config=config, processors=processors)["sysctls"]
    assert found.get("net/netfilter/nf_conntrack_max") == limit


def test_conntrack_timeouts_of_zero_are_left_alone() -> None:
    config = Config(conntrack_tcp_timeout_established=0.0, conntrack_tcp_timeout_close_wait=0.0)
    assert not [key for key in share(NodeView("n1"), config=config)["sysctls"] if "timeout" in key]


def test_ports_of_pod_bridges_reflect_unless_the_bridge_does() -> None:
    links = [ETH0, BRIDGE, VETH, link("veth9", master="docker0")]
    view = NodeView("n1", bridges=("kube-bridge",))
    assert share(view, links)["bridge ports"] == {"veth1": True}
    reflecting = link("kube-bridge", kind="bridge", promiscuous=True)
    assert "bridge ports" not in share(view, [ETH0, reflecting, VETH])


def test_the_vip_link_and_everything_else_by_family() -> None:
    one = share(NodeView("n1", families=(4,)))
    both = share(NodeView("n1", families=(4, 6)))
    assert one["links"] == both["links"] == {"kube-dummy-if": Link("dummy", up=True)}
    assert len(both["ipsets"]) == 2 * len(one["ipsets"])
    assert {key.family for key in both["iptables"]} == {4, 6}
