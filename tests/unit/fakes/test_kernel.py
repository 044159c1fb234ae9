"""The kernel in memory sits the exam of the real tables, and refuses what the real one refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from kuberouter_py.model.kernel import (
    Address,
    Chain,
    Destination,
    DestinationKey,
    IpSet,
    Link,
    Protocol,
    Route,
    Rules,
    SetEntry,
    SetMember,
    VirtualServer,
    VirtualServerKey,
)
from kuberouter_py.model.names import VIP_LINK, services_set
from kuberouter_py.ports import Plan
from tests.fakes.kernel import FakeKernel
from tests.fakes.laws import holds_what_it_was_given
from tests.fakes.objects import ETH0, VETH, packed

WEB, WEB6 = packed("10.96.0.10"), packed("fd00:96::10")
OWNED = services_set("owned", 4)
SERVER = VirtualServerKey(Protocol.TCP, WEB, 80)
NAT = Chain(4, "nat", "KRPY-SVC-NAT")


def kernel() -> FakeKernel:
    """With what the samples lean on already there."""
    made = FakeKernel([ETH0, VETH], {"net/ipv4/ip_forward": "0"})
    made.sets[OWNED] = IpSet("hash:ip,port", 4)
    made.members[SetMember(OWNED, SetEntry(WEB, Protocol.TCP, 80))] = None
    made.links[VIP_LINK] = Link("dummy")
    return made


def server(*weights: int) -> VirtualServer:
    return VirtualServer("rr", 0, 0, {DestinationKey(packed("10.244.1.2"), n): Destination(n) for n in weights})


@pytest.mark.parametrize(
    ("table", "first", "second"),
    [
        ("sysctls", {"net/ipv4/ip_forward": "1"}, {"net/ipv4/ip_forward": "2"}),
        ("ipsets", {"krpy-svc-x-4": IpSet("hash:ip", 4)}, {"krpy-svc-x-4": IpSet("hash:ip", 4, maxelem=9)}),
        (
            "set members",
            {SetMember(OWNED, SetEntry(WEB, Protocol.UDP, 53)): None},
            {SetMember(OWNED, SetEntry(WEB, Protocol.UDP, 53)): None},
        ),
        ("iptables", {NAT: Rules(("-j ACCEPT",))}, {NAT: Rules(("-j RETURN",))}),
        ("virtual servers", {SERVER: server(1)}, {SERVER: server(2, 3)}),
        ("links", {"kube-other": Link("dummy")}, {"kube-other": Link("dummy", up=False)}),
        ("bridge ports", {"veth1": True}, {"veth1": True}),
        ("routes", {WEB: Route(VIP_LINK, b"")}, {WEB: Route(VIP_LINK, packed("192.168.0.1"))}),
    ],
)
def test_laws_of_a_table(table: str, first: Mapping[Any, Any], second: Mapping[Any, Any]) -> None:
    holds_what_it_was_given(kernel().table(table), first, second)


@pytest.mark.parametrize("address", [WEB, WEB6])
def test_laws_of_addresses(address: bytes) -> None:
    made = kernel()
    content: dict[Address, None] = {Address(VIP_LINK, address): None}
    holds_what_it_was_given(made.table("addresses"), content, content)
    assert made.routes == {}


def test_a_route_the_kernel_made_is_foreign_until_replaced() -> None:
    made = kernel()
    made.table("addresses").apply(Plan(add={Address(VIP_LINK, WEB): None}))
    assert made.table("routes").read().foreign == {WEB: Route(VIP_LINK, WEB)}
    made.table("routes").apply(Plan(add={WEB: Route(VIP_LINK, b"")}))
    assert made.table("routes").read().ours == {WEB: Route(VIP_LINK, b"")}


@pytest.mark.parametrize(("address", "left"), [(WEB, False), (WEB6, True)])
def test_deleting_an_ipv4_address_takes_our_route_along(address: bytes, left: bool) -> None:
    made = kernel()
    made.table("addresses").apply(Plan(add={Address(VIP_LINK, address): None}))
    made.table("routes").apply(Plan(add={address: Route(VIP_LINK, b"")}))
    made.table("addresses").apply(Plan(remove={Address(VIP_LINK, address): None}))
    assert (address in made.routes) is left


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("set members", SetMember("krpy-svc-none-4", SetEntry(WEB)), None),
        ("iptables", NAT, Rules(("-m set --match-set krpy-svc-none-4 dst -j ACCEPT",))),
        ("addresses", Address("nowhere", WEB), None),
        ("routes", WEB, Route("nowhere", b"")),
        ("routes", WEB, Route(VIP_LINK, packed("203.0.113.9"))),
        ("bridge ports", "veth9", True),
    ],
)
def test_what_has_nothing_to_stand_on_is_refused(table: str, key: Any, value: Any) -> None:
    made = kernel().table(table)
    assert made.apply(Plan(add={key: value})).keys() == {key}
    assert key not in made.read().ours


def test_a_set_in_use_is_not_destroyed() -> None:
    made = kernel()
    made.table("iptables").apply(Plan(add={NAT: Rules((f"-m set --match-set {OWNED} dst,dst -j ACCEPT",))}))
    assert made.table("ipsets").apply(Plan(remove={OWNED: made.sets[OWNED]})).keys() == {OWNED}
    made.table("iptables").apply(Plan(remove={NAT: made.chains[NAT]}))
    assert made.table("ipsets").apply(Plan(remove={OWNED: made.sets[OWNED]})) == {}
    assert made.members == {}


def test_a_virtual_server_is_ours_by_the_set_or_by_our_link() -> None:
    made = kernel()
    other = VirtualServerKey(Protocol.TCP, packed("203.0.113.1"), 80)
    made.servers |= {SERVER: server(1), other: server(1)}
    read = made.table("virtual servers").read()
    assert (set(read.ours), set(read.foreign)) == ({SERVER}, {other})
    made.addresses[Address(VIP_LINK, other.address)] = None
    assert made.table("virtual servers").read().foreign == {}


def test_a_link_takes_addresses_and_routes_along() -> None:
    made = kernel()
    made.table("addresses").apply(Plan(add={Address(VIP_LINK, WEB): None}))
    made.table("links").apply(Plan(remove={VIP_LINK: Link("dummy")}))
    assert (made.addresses, made.routes) == ({}, {})
