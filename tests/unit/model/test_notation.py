"""The notation is what the tools themselves take: tests/kernel runs these lines; here their text is fixed."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from kuberouter_py.model import notation, notation_servers
from kuberouter_py.model.kernel import (
    ONE_PACKET,
    PERSISTENT,
    SCHED_FLAG_1,
    SCHED_FLAG_2,
    SCHED_FLAG_3,
    Address,
    Chain,
    Destination,
    DestinationKey,
    Diversion,
    Forwarding,
    IpSet,
    Link,
    MarkServerKey,
    PodAddress,
    Protocol,
    Route,
    Rules,
    SetEntry,
    SetMember,
    VirtualServer,
    VirtualServerKey,
)
from kuberouter_py.ports import Plan


def packed(text: str) -> bytes:
    return ip_address(text).packed


def server(*destinations: str, scheduler: str = "rr", flags: int = 0, timeout: int = 0) -> VirtualServer:
    return VirtualServer(
        scheduler, flags, timeout, {DestinationKey(packed(one), 8080): Destination() for one in destinations}
    )


WEB = VirtualServerKey(Protocol.TCP, packed("10.96.0.10"), 80)
WEB6 = VirtualServerKey(Protocol.TCP, packed("fd00::10"), 80)
DNS = VirtualServerKey(Protocol.UDP, packed("10.96.0.53"), 53)
SIGNAL = VirtualServerKey(Protocol.SCTP, packed("10.96.0.9"), 3868)

IN_POD = PodAddress("7a7b", packed("10.244.1.2"), packed("198.51.100.7"))


def told(table: str, plan: Plan[Any, Any]) -> list[str]:
    return notation.lines({table: plan})


@pytest.mark.parametrize(
    ("scheduler", "flags", "timeout", "text"),
    [
        ("rr", 0, 0, "-s rr"),
        ("sed", PERSISTENT | SCHED_FLAG_1 | SCHED_FLAG_3, 300, "-s sed -p 300 -b flag-1,flag-3"),
        ("sh", SCHED_FLAG_1 | SCHED_FLAG_2, 0, "-s sh -b sh-fallback,sh-port"),
        ("mh", ONE_PACKET | SCHED_FLAG_2, 0, "-s mh -b mh-port -o"),
    ],
)
def test_how_a_server_balances(scheduler: str, flags: int, timeout: int, text: str) -> None:
    assert notation_servers.scheduling_options(scheduler, flags, timeout) == text


def test_which_server_and_destination() -> None:
    assert notation_servers.server_option(SIGNAL) == "--sctp-service 10.96.0.9:3868"
    assert notation_servers.server_option(WEB6._replace(protocol=255)) == "protocol 255 [fd00::10]:80"
    assert notation_servers.server_option(MarkServerKey(5, 4)) == "-f 5"
    assert notation_servers.server_option(MarkServerKey(2**32 - 1, 6)) == "-f 4294967295 -6"
    pod = DestinationKey(packed("fd00:1::2"), 6443)
    assert notation_servers.destination_option(pod) == "-r [fd00:1::2]:6443"
    assert notation_servers.destination_option(pod, Destination(0)) == "-r [fd00:1::2]:6443 -m -w 0"
    assert (
        notation_servers.destination_option(pod, Destination(2, Forwarding.DIRECT_ROUTE))
        == "-r [fd00:1::2]:6443 -g -w 2"
    )


def test_virtual_server_added_with_its_destinations() -> None:
    assert told("virtual servers", Plan({WEB: server("10.244.2.3", "10.244.1.2")})) == [
        "ipvsadm -A -t 10.96.0.10:80 -s rr",
        "ipvsadm -a -t 10.96.0.10:80 -r 10.244.1.2:8080 -m -w 1",
        "ipvsadm -a -t 10.96.0.10:80 -r 10.244.2.3:8080 -m -w 1",
    ]


def test_ipv6_in_brackets_ipv4_first() -> None:
    assert told("virtual servers", Plan({WEB6: server("fd00:1::2"), DNS: server(), SIGNAL: server()})) == [
        "ipvsadm -A --sctp-service 10.96.0.9:3868 -s rr",
        "ipvsadm -A -u 10.96.0.53:53 -s rr",
        "ipvsadm -A -t [fd00::10]:80 -s rr",
        "ipvsadm -a -t [fd00::10]:80 -r [fd00:1::2]:8080 -m -w 1",
    ]


def test_persistence_and_scheduler_flags() -> None:
    sticky = server(scheduler="mh", flags=PERSISTENT | SCHED_FLAG_1 | SCHED_FLAG_2, timeout=10800)
    assert told("virtual servers", Plan({WEB: sticky})) == [
        "ipvsadm -A -t 10.96.0.10:80 -s mh -p 10800 -b mh-fallback,mh-port"
    ]
    plain = server(scheduler="wlc", flags=SCHED_FLAG_1)
    assert told("virtual servers", Plan({WEB: plain})) == ["ipvsadm -A -t 10.96.0.10:80 -s wlc -b flag-1"]


def test_virtual_server_changed_shows_only_the_difference() -> None:
    before = server("10.244.1.2", "10.244.1.3", "10.244.1.4")
    kept, drained = DestinationKey(packed("10.244.1.2"), 8080), DestinationKey(packed("10.244.1.3"), 8080)
    new = DestinationKey(packed("10.244.1.9"), 8080)
    tunnel = Destination(3, Forwarding.TUNNEL)
    after = VirtualServer("lc", 0, 0, {kept: Destination(), drained: Destination(0), new: tunnel})
    assert told("virtual servers", Plan(change={WEB: (before, after)})) == [
        "ipvsadm -E -t 10.96.0.10:80 -s lc",
        "ipvsadm -e -t 10.96.0.10:80 -r 10.244.1.3:8080 -m -w 0",
        "ipvsadm -a -t 10.96.0.10:80 -r 10.244.1.9:8080 -i -w 3",
        "ipvsadm -d -t 10.96.0.10:80 -r 10.244.1.4:8080",
    ]


def test_virtual_server_removed() -> None:
    assert told("virtual servers", Plan(remove={WEB: server("10.244.1.2")})) == ["ipvsadm -D -t 10.96.0.10:80"]


@pytest.mark.parametrize(
    ("table", "plan", "expected"),
    [
        (
            "ipsets",
            Plan({"krpy-svc-vips-6": IpSet("hash:ip", 6)}),
            ["ipset create krpy-svc-vips-6 hash:ip family inet6 maxelem 1048576"],
        ),
        (
            "ipsets",
            Plan(change={"s": (IpSet("hash:ip", 4, 65536), IpSet("hash:ip", 4))}),
            [
                "ipset create s-new hash:ip family inet maxelem 1048576",
                "ipset swap s-new s",
                "ipset destroy s-new",
            ],
        ),
        ("ipsets", Plan(remove={"s": IpSet("hash:ip", 4)}), ["ipset destroy s"]),
        (
            "set members",
            Plan({SetMember("s", SetEntry(packed("10.96.0.10"))): None}),
            ["ipset add s 10.96.0.10"],
        ),
        (
            "set members",
            Plan({SetMember("s", SetEntry(packed("fd00::1"), Protocol.UDP, 53)): None}),
            ["ipset add s fd00::1,udp:53"],
        ),
        (
            "set members",
            Plan(
                remove={SetMember("s", SetEntry(packed("10.1.1.1"), Protocol.SCTP, 9, packed("10.1.1.1"))): None},
            ),
            ["ipset del s 10.1.1.1,sctp:9,10.1.1.1"],
        ),
        (
            "set members",
            Plan({SetMember("n", SetEntry(packed("10.0.0.0"), prefix=8)): None}),
            ["ipset add n 10.0.0.0/8"],
        ),
        (
            "addresses",
            Plan(
                {Address("kube-dummy-if", packed("10.96.0.1")): None, Address("kube-dummy-if", packed("fd00::1")): None}
            ),
            [
                "ip address add 10.96.0.1/32 dev kube-dummy-if",
                "ip -6 address add fd00::1/128 dev kube-dummy-if nodad",
            ],
        ),
        (
            "addresses",
            Plan(remove={Address("kube-dummy-if", packed("10.96.0.1")): None}),
            ["ip address del 10.96.0.1/32 dev kube-dummy-if"],
        ),
        (
            "routes",
            Plan(
                {packed("fd00::1"): Route("kube-dummy-if", b"")},
                {
                    packed("10.96.0.1"): (
                        Route("kube-dummy-if", packed("10.96.0.1")),
                        Route("kube-dummy-if", packed("192.0.2.11")),
                    )
                },
            ),
            [
                "ip route replace local 10.96.0.1 dev kube-dummy-if table local src 192.0.2.11",
                "ip -6 route replace local fd00::1 dev kube-dummy-if table local",
            ],
        ),
        (
            "routes",
            Plan(remove={packed("fd00::1"): Route("kube-dummy-if", b"")}),
            ["ip -6 route del local fd00::1 dev kube-dummy-if table local"],
        ),
        (
            "links",
            Plan({"kube-dummy-if": Link("dummy")}),
            [
                "ip link add kube-dummy-if type dummy",
                'ip link set kube-dummy-if alias "kuberouter-py: addresses of Services"',
                "ip link set kube-dummy-if up",
            ],
        ),
        ("links", Plan(change={"d": (Link("dummy", up=False), Link("dummy"))}), ["ip link set d up"]),
        (
            "links",
            Plan(change={"d": (Link("dummy", alias=""), Link("dummy", alias="ours"))}),
            ['ip link set d alias "ours"'],
        ),
        (
            "links",
            Plan(change={"d": (Link("bridge"), Link("dummy", up=False, alias="ours"))}),
            ["ip link del d", "ip link add d type dummy", 'ip link set d alias "ours"'],
        ),
        ("links", Plan(remove={"d": Link("dummy")}), ["ip link del d"]),
        ("bridge ports", Plan({"veth1": True}), ["bridge link set dev veth1 hairpin on"]),
        ("bridge ports", Plan(remove={"veth1": True}), ["bridge link set dev veth1 hairpin off"]),
        ("sysctls", Plan(change={"net/ipv4/ip_forward": ("0", "1")}), ["sysctl -w net/ipv4/ip_forward=1"]),
        (
            "sysctls",
            Plan(remove={"net/ipv4/ip_forward": "1"}),
            ["sysctl -w net/ipv4/ip_forward=FORMER  # now 1; its value before us is given back"],
        ),
        (
            "diversions",
            Plan({4: Diversion(0x40000000, 0xC00FFF00)}),
            [
                "ip -4 route replace local default dev lo table 158 proto 158",
                "ip -4 rule add fwmark 0x40000000/0xc00fff00 lookup 158 pref 15800 protocol 158",
            ],
        ),
        (
            "diversions",
            Plan(change={6: (Diversion(1, 1), Diversion(2, 2))}),
            [
                "ip -6 route replace local default dev lo table 158 proto 158",
                "ip -6 rule add fwmark 0x2/0x2 lookup 158 pref 15800 protocol 158",
                "ip -6 rule del fwmark 0x1/0x1 lookup 158 pref 15800 protocol 158",
            ],
        ),
        (
            "diversions",
            Plan(remove={6: Diversion(1, 1)}),
            [
                "ip -6 rule del fwmark 0x1/0x1 lookup 158 pref 15800 protocol 158",
                "ip -6 route del local default dev lo table 158 proto 158",
            ],
        ),
        (
            "pod addresses",
            Plan({IN_POD: None}, remove={IN_POD._replace(address=b""): None}),
            [
                "ip address add 198.51.100.7/32 dev krpy-dsr-4  # in pod 7a7b (10.244.1.2)",
                "ip address del none/32 dev krpy-dsr-4  # in pod 7a7b (10.244.1.2)",
            ],
        ),
        ("something new", Plan({"a": 1}, {"b": (1, 2)}, {"c": 3}), ["add a 1", "change b 1 -> 2", "remove c 3"]),
    ],
)
def test_lines(table: str, plan: Plan[Any, Any], expected: list[str]) -> None:
    assert told(table, plan) == expected


def test_chains_and_jumps() -> None:
    own, hook = Chain(4, "nat", "KRPY-SVC-NAT"), Chain(6, "filter", "INPUT")
    assert told("iptables", Plan({own: Rules(("-p tcp -j ACCEPT",)), hook: Rules(("-j KRPY-SVC-INPUT",))})) == [
        "iptables -t nat -N KRPY-SVC-NAT",
        "iptables -t nat -A KRPY-SVC-NAT -p tcp -j ACCEPT",
        "ip6tables -t filter -I INPUT 1 -j KRPY-SVC-INPUT",
    ]
    assert told("iptables", Plan(change={own: (Rules(()), Rules(("-j RETURN",)))})) == [
        "iptables -t nat -F KRPY-SVC-NAT",
        "iptables -t nat -A KRPY-SVC-NAT -j RETURN",
    ]
    old = Rules(("-j KRPY-SVC-OLD",))
    assert told("iptables", Plan(change={hook: (old, Rules(("-j KRPY-SVC-INPUT",), first=False))})) == [
        "ip6tables -t filter -D INPUT -j KRPY-SVC-OLD",
        "ip6tables -t filter -A INPUT -j KRPY-SVC-INPUT",
    ]
    assert told("iptables", Plan(remove={own: Rules(()), hook: old})) == [
        "ip6tables -t filter -D INPUT -j KRPY-SVC-OLD",
        "iptables -t nat -F KRPY-SVC-NAT",
        "iptables -t nat -X KRPY-SVC-NAT",
    ]


def test_growth_in_the_given_order_then_removal_backwards() -> None:
    plans: dict[str, Plan[Any, Any]] = {
        "ipsets": Plan({"new": IpSet("hash:ip", 4)}, remove={"old": IpSet("hash:ip", 4)}),
        "virtual servers": Plan({WEB: server()}, remove={DNS: server()}),
    }
    assert [line.split(" -s")[0] for line in notation.lines(plans)] == [
        "ipset create new hash:ip family inet maxelem 1048576",
        "ipvsadm -A -t 10.96.0.10:80",
        "ipvsadm -D -u 10.96.0.53:53",
        "ipset destroy old",
    ]


@pytest.mark.parametrize(
    ("table", "key", "expected"),
    [
        ("virtual servers", WEB6, "TCP [fd00::10]:80"),
        ("virtual servers", SIGNAL, "SCTP 10.96.0.9:3868"),
        ("set members", SetMember("s", SetEntry(packed("10.1.1.1"), 6, 80)), "s 10.1.1.1,tcp:80"),
        ("routes", packed("fd00::1"), "fd00::1"),
        ("addresses", Address("d", packed("10.1.1.1")), "10.1.1.1/32 dev d"),
        ("iptables", Chain(6, "nat", "OUTPUT"), "ip6tables -t nat OUTPUT"),
        ("sysctls", "net/ipv4/ip_forward", "net/ipv4/ip_forward"),
        ("pod addresses", IN_POD, "198.51.100.7 in pod 7a7b (10.244.1.2)"),
        ("diversions", 6, "IPv6 marks"),
    ],
)
def test_key_text(table: str, key: Any, expected: str) -> None:
    assert notation.key_text(table, key) == expected
    assert notation.where_text(table, key) == f"{table}: {expected}"
    assert notation.where_text(table, None) == table
