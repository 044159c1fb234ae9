"""The fabric's plan: who shares a link, what the router holds, which routes everybody gets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.labkit.fabric import Fabric, hardware_address, interface, router_address, runs_router
from tests.labkit.model import AgentSpec, NodeSpec, OutsideSpec, Scenario
from tests.labkit.ports import LabError


def fabric(*nodes: NodeSpec, outside: Sequence[OutsideSpec] = (), router: bool = False) -> Fabric:
    spec = AgentSpec(flags=() if router else ("--run-router=false",))
    return Fabric(Scenario(Path("x"), {n.name: n for n in nodes}, (), {o.name: o for o in outside}, spec, ()))


def node(name: str, *addresses: str, cidrs: tuple[str, ...] = ()) -> NodeSpec:
    return NodeSpec(name, addresses, cidrs)


N1 = node("n1", "192.0.2.11", "2001:db8::11", cidrs=("10.244.1.0/24", "fd00:10:244:1::/64"))
N2 = node("n2", "192.0.2.12", "2001:db8::12", cidrs=("10.244.2.0/24", "fd00:10:244:2::/64"))
FAR = node("far", "198.51.100.7", "2001:db8:7::7", cidrs=("10.244.9.0/24",))
CLIENT = OutsideSpec("client", ("203.0.113.10",), routes={"192.0.2.100": "n1"})


@pytest.mark.parametrize(
    ("subnet", "address"),
    [
        ("192.0.2.0/24", "192.0.2.254"),
        ("192.0.2.0/25", "192.0.2.126"),
        ("192.0.2.0/30", "192.0.2.2"),
        ("192.0.2.0/31", "192.0.2.1"),
        ("192.0.2.1/32", None),
        ("2001:db8::/64", "2001:db8::ffff"),
        ("2001:db8::/120", "2001:db8::ff"),
    ],
)
def test_router_holds_the_last_usable_address(subnet: str, address: str | None) -> None:
    held = router_address(ip_network(subnet))
    assert (None if held is None else str(held)) == address


def test_an_address_is_24_or_64_unless_said() -> None:
    assert [str(interface(text)) for text in ("192.0.2.1", "192.0.2.1/25", "2001:db8::1")] == [
        "192.0.2.1/24", "192.0.2.1/25", "2001:db8::1/64",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "runs"),
    [
        ((), True),
        (("--run-router",), True),
        (("--run-router=false",), False),
        (("--run-router=false", "--run-router=true"), True),
        (("--run-firewall=false",), True),
    ],
)
def test_agents_run_the_router_unless_told_not_to(flags: tuple[str, ...], runs: bool) -> None:
    assert runs_router(flags) is runs


def test_hosts_of_one_subnet_share_a_link() -> None:
    plan = fabric(N1, FAR, N2, outside=(CLIENT,))
    assert [sorted(host.place for host in link.hosts) for link in plan.links] == [
        ["node/far"], ["node/n1", "node/n2"], ["outside/client"],
    ]  # fmt: skip


def test_one_shared_subnet_of_any_family_joins_links() -> None:
    """b shares IPv4 with a and IPv6 with c: all three are on one link."""
    plan = fabric(node("a", "192.0.2.1"), node("c", "2001:db8::3"), node("b", "192.0.2.2", "2001:db8::2"))
    assert [sorted(host.place for host in link.hosts) for link in plan.links] == [["node/a", "node/b", "node/c"]]


def test_a_host_cannot_have_the_routers_address() -> None:
    with pytest.raises(LabError, match=r"192\.0\.2\.254 is the address of the fabric's router"):
        fabric(node("n1", "192.0.2.254"))


def test_nodes_hold_routes_to_each_others_pods() -> None:
    lines = fabric(N1, N2, FAR).host("node/n1")
    assert "route add 10.244.2.0/24 via 192.0.2.12" in lines
    assert "route add fd00:10:244:2::/64 via 2001:db8::12" in lines
    assert "route add 10.244.9.0/24 via 192.0.2.254" in lines
    assert "route add default via 192.0.2.254 dev eth0" in lines
    assert "route add default via 2001:db8::ffff dev eth0" in lines


def test_a_node_that_routes_to_its_pods_has_no_bridge() -> None:
    bridged = NodeSpec("n1", ("192.0.2.11",), ("10.244.1.0/24",))
    for node_, bridges in ((bridged, True), (dataclasses.replace(bridged, pods="routed"), False)):
        lines = fabric(node_, node("n2", "192.0.2.12", cidrs=("10.244.2.0/24",))).host("node/n1")
        assert any("kube-bridge" in line for line in lines) == bridges
        assert "route add 10.244.2.0/24 via 192.0.2.12" in lines


def test_the_router_knows_pods_too() -> None:
    lines = fabric(N1, N2).router()
    assert "route add 10.244.1.0/24 via 192.0.2.11" in lines
    assert "route add fd00:10:244:2::/64 via 2001:db8::12" in lines


def test_nobody_knows_pods_when_agents_run_the_router() -> None:
    plan = fabric(N1, N2, router=True)
    assert not [line for line in [*plan.router(), *plan.host("node/n1")] if line.startswith("route add 10.244")]


def test_a_route_through_a_host_on_the_same_link_is_direct() -> None:
    tor = OutsideSpec("tor", ("192.0.2.1",), routes={"10.96.0.0/16": "n2"})
    plan = fabric(N1, N2, outside=(tor,))
    assert "route add 10.96.0.0/16 via 192.0.2.12" in plan.host("outside/tor")
    assert plan.rules(4) == []


def test_a_route_through_a_host_on_another_link_is_made_by_the_router_for_that_host_alone() -> None:
    plan = fabric(N1, N2, outside=(CLIENT,))
    assert "route add 192.0.2.100 via 203.0.113.254" in plan.host("outside/client")
    assert "route add 192.0.2.100/32 via 192.0.2.11 table 100" in plan.router()
    assert plan.rules(4) == ["rule add from 203.0.113.10 lookup 100"]
    assert plan.rules(6) == []


def test_a_route_through_a_host_on_the_same_link_in_another_subnet_goes_by_the_router() -> None:
    """tor's two addresses join the subnets to one link; client and n1 still have none in common."""
    tor = OutsideSpec("tor", ("203.0.113.1", "192.0.2.1"))
    plan = fabric(N1, N2, outside=(CLIENT, tor))
    assert len(plan.links) == 1
    assert "route add 192.0.2.100 via 203.0.113.254" in plan.host("outside/client")
    assert "route add 192.0.2.100/32 via 192.0.2.11 table 100" in plan.router()
    assert plan.rules(4) == ["rule add from 203.0.113.10 lookup 100"]


def test_a_route_through_nobody_is_an_error() -> None:
    plan = fabric(N1, outside=(OutsideSpec("client", ("203.0.113.10",), routes={"192.0.2.100": "n9"}),))
    with pytest.raises(LabError, match="no node or outside host n9"):
        plan.host("outside/client")


def test_a_hardware_address_is_made_of_the_address() -> None:
    assert hardware_address(interface("10.244.1.7").ip) == "0a:58:0a:f4:01:07"
