"""Which frontends somebody else's rules, sets and virtual servers serve."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kuberouter_py.controllers.takeover.served import (
    LOOPBACK,
    mark_servers,
    mode,
    node_addresses,
    owners,
    policy_chains,
    served,
    virtual_servers,
)
from kuberouter_py.model.kernel import MarkServerKey, VirtualServerKey
from kuberouter_py.model.others import PROXY, ROUTER_POLICIES, ROUTER_SERVICES, Frontends, MarkRule, Owner, Remains
from tests.fakes.objects import packed
from tests.unit.controllers.takeover.remains import IPVS_SERVED, LOCAL, TCP, iptables_mode, ipvs_mode, kube_router, tcp


def nftables_mode(*addresses: str) -> Remains:
    frontends = Frontends(
        frozenset({tcp("10.96.0.10", 80)}), frozenset({(TCP, 30080)}), frozenset(map(packed, addresses))
    )
    return Remains(nft={4: frontends}, local=LOCAL)


@pytest.mark.parametrize(
    ("remains", "who", "how"),
    [
        (Remains(), set(), ""),
        (ipvs_mode(), {PROXY}, "ipvs"),
        (iptables_mode(), {PROXY}, "iptables"),
        (nftables_mode("192.0.2.11"), {PROXY}, "nftables"),
        (kube_router(), {ROUTER_SERVICES, ROUTER_POLICIES}, ""),
        (Remains(rules={("nft", 4): "*nat\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n"}), set(), ""),
    ],
)
def test_whose_it_is(remains: Remains, who: set[Owner], how: str) -> None:
    assert owners(remains) == who
    assert mode(remains) == how


def test_ipvs_mode() -> None:
    assert served(ipvs_mode()) == IPVS_SERVED
    assert node_addresses(ipvs_mode()) == LOCAL


def test_virtual_servers_of_somebody_else_are_not_theirs() -> None:
    foreign = (tcp("198.51.100.99", 80), tcp("192.0.2.11", 8080))
    assert virtual_servers(ipvs_mode(*foreign)) == IPVS_SERVED


def test_iptables_mode_with_node_ports_on_every_address() -> None:
    loopback = VirtualServerKey(TCP, LOOPBACK, 30080)
    assert served(iptables_mode()) == IPVS_SERVED | {loopback}
    assert node_addresses(iptables_mode()) == LOCAL


def test_iptables_mode_with_node_port_addresses() -> None:
    narrowed = (
        iptables_mode()
        .rules["legacy", 4]
        .replace("-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS", "-d 192.0.2.11/32 -j KUBE-NODEPORTS")
    )
    remains = Remains(rules={("nft", 4): narrowed}, local=LOCAL)
    assert node_addresses(remains) == {packed("192.0.2.11")}


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [(("192.0.2.11",), {"192.0.2.11"}), (("0.0.0.0",), {"192.0.2.11", "10.244.1.1"})],
)
def test_nftables_mode(addresses: tuple[str, ...], expected: set[str]) -> None:
    remains = nftables_mode(*addresses)
    assert served(remains) == {tcp("10.96.0.10", 80), *(tcp(address, 30080) for address in expected)}


def test_kube_router() -> None:
    remains = kube_router()
    assert served(remains) == {tcp("10.96.0.10", 80), tcp("192.0.2.11", 30080)}
    assert node_addresses(remains) == {packed("192.0.2.11")}
    assert policy_chains(remains)["KUBE-POD-FW-"] == 1


def test_only_servers_on_marks_that_its_own_rules_give_and_read_are_kube_routers() -> None:
    theirs, other = MarkServerKey(0xCE2, 4), MarkServerKey(0x1000000, 4)
    remains = replace(kube_router(), servers=frozenset({theirs, other}))
    assert mark_servers(remains) == {theirs}
    assert mark_servers(replace(remains, mark_rules=frozenset())) == frozenset()


def test_somebody_elses_marks_are_no_kube_router() -> None:
    rules = "*mangle\n-A PREROUTING -d 203.0.113.7/32 -p tcp --dport 80 -j MARK --set-xmark 0x7/0xffffffff\nCOMMIT\n"
    snat = "*nat\n-A POSTROUTING -m ipvs --vdir ORIGINAL --vmethod MASQ -j SNAT --to-source 192.0.2.11\nCOMMIT\n"
    assert owners(Remains(rules={("legacy", 4): rules + snat})) == frozenset()
    assert owners(Remains(mark_rules=frozenset({MarkRule(4, 32764, 78, 7)}))) == frozenset()
