"""What `plan` prints is what the tools take: every kind of line is run, and the tools show what was meant."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from kuberouter_py.model import notation
from kuberouter_py.model.kernel import (
    NOMATCH,
    PERSISTENT,
    SCHED_FLAG_1,
    SCHED_FLAG_2,
    Address,
    Chain,
    Destination,
    DestinationKey,
    IpSet,
    Link,
    MemberValue,
    Protocol,
    Route,
    Rules,
    SetEntry,
    SetMember,
    VirtualServer,
    VirtualServerKey,
)
from kuberouter_py.ports import Plan
from tests.kernel.exam import sh

pytestmark = pytest.mark.usefixtures("netns")

LINK = "kube-dummy-if"
POD = {
    family: DestinationKey(ip_address(text).packed, 8080) for family, text in ((4, "10.244.1.2"), (6, "fd00:10:244::2"))
}


def packed(text: str) -> bytes:
    return ip_address(text).packed


def run(plans: dict[str, Plan[Any, Any]]) -> list[str]:
    lines = notation.lines(plans)
    for line in lines:
        sh(line)
    return lines


SERVERS = {
    VirtualServerKey(Protocol.TCP, packed("10.96.0.10"), 80): VirtualServer("rr", 0, 0, {POD[4]: Destination()}),
    VirtualServerKey(Protocol.UDP, packed("10.96.0.10"), 53): VirtualServer(
        "mh", PERSISTENT | SCHED_FLAG_1 | SCHED_FLAG_2, 600, {}
    ),
    VirtualServerKey(Protocol.SCTP, packed("fd00::10"), 80): VirtualServer(
        "sh", SCHED_FLAG_2, 0, {POD[6]: Destination(3)}
    ),
}


def test_virtual_servers() -> None:
    assert set(run({"virtual servers": Plan(SERVERS)})) == {
        "ipvsadm " + line.strip() for line in sh("ipvsadm -Sn").splitlines()
    }
    changed = {
        key: (server, server._replace(scheduler="lc", flags=0, timeout=0, destinations={}))
        for key, server in SERVERS.items()
    }
    run({"virtual servers": Plan(change=changed)})
    assert sorted(sh("ipvsadm -Sn").split("\n")[:-1]) == [
        "-A --sctp-service [fd00::10]:80 -s lc",
        "-A -t 10.96.0.10:80 -s lc",
        "-A -u 10.96.0.10:53 -s lc",
    ]
    run({"virtual servers": Plan(remove=SERVERS)})
    assert sh("ipvsadm -Sn") == ""


def test_sets_and_members() -> None:
    sets = {
        "a": IpSet("hash:ip", 4),
        "b": IpSet("hash:ip,port", 6),
        "c": IpSet("hash:ip,port,ip", 4),
        "d": IpSet("hash:net", 4),
        "e": IpSet("hash:ip counters", 6),
    }
    members: dict[SetMember, MemberValue] = {
        SetMember("a", SetEntry(packed("10.96.0.10"))): None,
        SetMember("b", SetEntry(packed("fd00::10"), Protocol.SCTP, 80)): None,
        SetMember("c", SetEntry(packed("10.244.1.2"), Protocol.UDP, 53, packed("10.244.1.2"))): None,
        SetMember("d", SetEntry(packed("10.0.0.0"), prefix=8)): None,
        SetMember("d", SetEntry(packed("10.1.0.0"), prefix=16)): NOMATCH,
        SetMember("e", SetEntry(packed("fd00::10"))): None,
    }
    run({"ipsets": Plan(sets), "set members": Plan(members)})
    saved = sh("ipset save")
    for line in notation.lines({"set members": Plan(members)}):
        assert line.removeprefix("ipset ") in saved
    run({"ipsets": Plan(change={"a": (sets["a"], IpSet("hash:ip", 4, 4096))})})
    assert "maxelem 4096" in sh("ipset save a")
    excepted = SetMember("d", SetEntry(packed("10.0.0.0"), prefix=8))
    run({"set members": Plan(change={excepted: (None, NOMATCH)})})
    assert "add d 10.0.0.0/8 nomatch" in sh("ipset save d")
    run({"ipsets": Plan(remove=sets), "set members": Plan(remove={m: None for m in members if m.set != "a"})})
    assert sh("ipset save") == ""


def test_link_addresses_and_routes() -> None:
    sh("ip link add u0 type dummy && ip address add 192.0.2.11/24 dev u0 && ip link set u0 up")
    vips = {Address(LINK, packed("10.96.0.10")): None, Address(LINK, packed("fd00::10")): None}
    routes = {
        packed("10.96.0.10"): Route(LINK, packed("192.0.2.11")),
        packed("fd00::11"): Route(LINK, b""),
    }
    plans: dict[str, Plan[Any, Any]] = {
        "links": Plan({LINK: Link("dummy")}),
        "addresses": Plan(vips),
        "routes": Plan(routes),
    }
    run(plans)
    assert "src 192.0.2.11" in sh("ip route get 10.96.0.10")
    assert f"dev {LINK}" in sh("ip -6 route show table local fd00::11")
    assert "fd00::10/128" in sh(f"ip -6 address show dev {LINK}")
    run({name: Plan(remove=plan.add) for name, plan in plans.items()})
    assert LINK not in sh("ip link")


def test_chains_and_jumps() -> None:
    own, hook = Chain(4, "nat", "KRPY-TEST"), Chain(4, "nat", "OUTPUT")
    chain = Rules(("-m conntrack --ctstate NEW -j ACCEPT", "-j RETURN"))
    plan: Plan[Chain, Rules] = Plan({own: chain, hook: Rules(("-j KRPY-TEST",))})
    sh("iptables -t nat -A OUTPUT -j RETURN")
    run({"iptables": plan})
    saved = sh("iptables -t nat -S")
    assert saved.index("-A OUTPUT -j KRPY-TEST") < saved.index("-A OUTPUT -j RETURN")
    run({"iptables": Plan(change={own: (chain, Rules(("-j RETURN",)))})})
    assert "-A KRPY-TEST -j RETURN" in sh("iptables -t nat -S KRPY-TEST")
    run({"iptables": Plan(remove=plan.add)})
    assert "KRPY" not in sh("iptables -t nat -S")


def test_sysctls_and_bridge_ports() -> None:
    run({"sysctls": Plan({"net/ipv4/ip_forward": "1"})})
    assert sh("sysctl -n net.ipv4.ip_forward").strip() == "1"
    sh("ip link add br0 type bridge && ip link add v0 type veth peer name v1 && ip link set v0 master br0")
    run({"bridge ports": Plan({"v0": True})})
    assert "hairpin on" in sh("bridge -d link show dev v0")
