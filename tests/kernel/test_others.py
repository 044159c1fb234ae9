"""What kube-proxy and kube-router left, read from this kernel and taken out of it; everybody else's state stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kuberouter_py.kernel.others import OthersInKernel
from kuberouter_py.model.kernel import MarkServerKey, Protocol, SetEntry, VirtualServerKey
from kuberouter_py.model.names import VIP_LINK
from kuberouter_py.model.others import PROXY, ROUTER_SERVICES, Away, MarkRule
from tests.fakes.objects import packed
from tests.kernel.exam import sh

THEIRS = VirtualServerKey(Protocol.TCP, packed("10.96.0.10"), 80)
MARKED = MarkServerKey(0xCE2, 4)

UPLINK = """
ip link add eth7 type dummy; ip link set eth7 up
ip addr add 192.0.2.11/24 dev eth7; ip addr add 2001:db8::11/64 dev eth7 nodad
iptables -N KUBE-FIREWALL
"""
LAY = """
ip link add kube-ipvs0 type dummy
ip addr add 10.96.0.10/32 dev kube-ipvs0; ip addr add fd00:10:96::10/128 dev kube-ipvs0 nodad
ipset create KUBE-CLUSTER-IP hash:ip,port; ipset add KUBE-CLUSTER-IP 10.96.0.10,tcp:80
ipset create KUBE-NODE-PORT-TCP bitmap:port range 0-65535; ipset add KUBE-NODE-PORT-TCP 30080
ipset create KUBE-6-LOAD-BALANCER-SOURCE-CID hash:ip,port,net family inet6
iptables -t nat -N KUBE-SERVICES; iptables -t nat -N KUBE-MARK-MASQ
iptables -t nat -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
iptables -t nat -A KUBE-SERVICES -m comment --comment 'a "b" c' \\
    -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ
iptables -t nat -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
ip6tables -t nat -N KUBE-SERVICES; ip6tables -t nat -A OUTPUT -j KUBE-SERVICES
ipvsadm -A -t 10.96.0.10:80 -s rr; ipvsadm -A -f 3298 -s rr
iptables -t mangle -A PREROUTING -d 203.0.113.7 -p tcp -m tcp --dport 80 -j MARK --set-mark 3298
ip rule add fwmark 3298 table 78 priority 32764; ip route add local default dev lo table 78
ip rule add from all table 79 priority 32765; ip route add 203.0.113.0/24 dev eth7 table 79
"""
FOREIGN = """
ipset create KUBE-OTHER hash:ip; ipvsadm -A -t 198.51.100.7:80 -s rr; ipvsadm -A -f 7 -s rr
iptables -t nat -N CNI-X; iptables -t nat -A PREROUTING -j CNI-X; iptables -A INPUT -j KUBE-FIREWALL
iptables -t mangle -A PREROUTING -d 203.0.113.8 -p tcp -m tcp --dport 80 -j MARK --set-mark 7
iptables -t nat -A POSTROUTING -m ipvs --ipvs --vdir ORIGINAL --vmethod MASQ -j SNAT --to-source 192.0.2.11
ip rule add from 10.244.1.0/24 table 77 priority 32763; ip route add 10.244.2.0/24 dev eth7 table 77
for tables in iptables ip6tables; do for table in nat mangle filter; do $tables -t $table -S; done; done
"""
STATE = (
    "iptables-save | grep -v '^#'; ip6tables-save | grep -v '^#'; ipset save; ipvsadm -Sn; ip rule; ip -o link; "
    "ip route show table all"
)

pytestmark = pytest.mark.usefixtures("netns")


@pytest.fixture
def others() -> Iterator[OthersInKernel]:
    kernel = OthersInKernel((VIP_LINK,))
    yield kernel
    kernel.close()


def state() -> list[str]:
    """Without counters and hash seeds."""
    return sorted(line.split(" [")[0].split(" initval")[0] for line in sh(STATE).splitlines())


def test_everything_is_read(others: OthersInKernel) -> None:
    sh(UPLINK + LAY)
    found = others.read()
    assert "-A PREROUTING" in found.rules["legacy", 4] and "-A OUTPUT -j KUBE-SERVICES" in found.rules["legacy", 6]
    assert found.sets == {
        "KUBE-CLUSTER-IP": {SetEntry(packed("10.96.0.10"), 6, 80)},
        "KUBE-NODE-PORT-TCP": {SetEntry(b"", 0, 30080)},
        "KUBE-6-LOAD-BALANCER-SOURCE-CID": frozenset(),
    }
    assert found.ipvs_link is not None and {packed("10.96.0.10"), packed("fd00:10:96::10")} <= found.ipvs_link
    assert found.servers == {THEIRS, MARKED}
    assert found.mark_rules == {MarkRule(4, 32764, 78, 0xCE2), MarkRule(4, 32765, 79, 0)}
    assert found.local == {packed("192.0.2.11"), packed("2001:db8::11")}
    assert found.unread == ()


def test_theirs_goes_and_nothing_else(others: OthersInKernel) -> None:
    sh(UPLINK + FOREIGN)
    before = state()
    sh(LAY)
    away = Away(frozenset({PROXY, ROUTER_SERVICES}), frozenset({THEIRS, MARKED}), frozenset({0xCE2}))
    gone = others.remove(others.read(), away)
    assert gone.failed == [] and gone.kept == []
    assert gone.done == {"chains": 3, "ipsets": 3, "virtual servers": 2, "links": 1, "policy rules": 2}
    assert state() == before
    again = others.remove(others.read(), away)
    assert (again.failed, again.done) == ([], {})


def test_a_set_that_somebody_uses_is_told_and_the_rest_goes(others: OthersInKernel) -> None:
    sh(UPLINK + LAY)
    sh("iptables -A INPUT -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT")
    gone = others.remove(others.read(), Away(frozenset({PROXY})))
    assert gone.failed == ["ipsets KUBE-CLUSTER-IP: in use"]
    assert gone.done["links"] == 1


def test_a_link_of_that_name_that_the_flag_makes_ours_stays() -> None:
    sh(UPLINK + LAY)
    ours = OthersInKernel(("kube-ipvs0", VIP_LINK))
    found = ours.read()
    assert found.ipvs_link is None
    ours.remove(found, Away(frozenset({PROXY})))
    assert "kube-ipvs0" in sh("ip -o link")
    ours.close()
