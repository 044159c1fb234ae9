"""The router's tables in the notation of `ip`; tests/kernel runs such lines."""

from __future__ import annotations

from typing import Any

import pytest

from kuberouter_py.model import notation
from kuberouter_py.model.bgp import Announced
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.podnet import LookupRule, PodRoute, RouteKey
from kuberouter_py.model.values import parse_cidr
from kuberouter_py.ports import Plan

PODS, PODS6 = (RouteKey(254, *parse_cidr(cidr)) for cidr in ("10.244.2.0/24", "fd00:10:244:2::/64"))
NODE = RouteKey(160, *parse_cidr("192.0.2.3/32"))
VIA = PodRoute("eth0", parse_cidr("192.0.2.3").network, parse_cidr("192.0.2.2").network)
TUNNEL = PodRoute("krt4-c0000203")
FROM = LookupRule(*parse_cidr("fd00:10:244:1::/64"))
VIP, VIP6 = parse_cidr("10.96.0.10/32"), parse_cidr("fd00:96::a/128")


@pytest.mark.parametrize(
    ("table", "plan", "expected"),
    [
        (
            "pod routes",
            Plan(add={PODS: VIA, NODE: TUNNEL}),
            [
                "ip route add 192.0.2.3/32 dev krt4-c0000203 table 160 proto 158 metric 1580",
                "ip route add 10.244.2.0/24 via 192.0.2.3 dev eth0 src 192.0.2.2 proto 158 metric 1580",
            ],
        ),
        (
            "pod routes",
            Plan(change={PODS6: (PodRoute(""), TUNNEL)}, remove={NODE: TUNNEL}),
            [
                "ip -6 route replace fd00:10:244:2::/64 dev krt4-c0000203 proto 158 metric 1580",
                "ip route del 192.0.2.3/32 table 160 proto 158 metric 1580",
            ],
        ),
        (
            "lookup rules",
            Plan(add={FROM: 160}),
            ["ip -6 rule add from fd00:10:244:1::/64 lookup 160 pref 15810 protocol 158"],
        ),
        (
            "lookup rules",
            Plan(change={FROM: (0, 160)}),
            [
                "ip -6 rule add from fd00:10:244:1::/64 lookup 160 pref 15810 protocol 158",
                "ip -6 rule del from fd00:10:244:1::/64 protocol 158",
            ],
        ),
        (
            "lookup rules",
            Plan(remove={FROM: 160}),
            ["ip -6 rule del from fd00:10:244:1::/64 lookup 160 pref 15810 protocol 158"],
        ),
        (
            "announced",
            Plan(add={VIP6: Announced.PODS}, change={VIP: (Announced.SERVICE, Announced.HELD)}),
            [
                "ip route add blackhole 10.96.0.10/32 table 159 proto 158 metric 3",
                "ip route del blackhole 10.96.0.10/32 table 159 proto 158 metric 2",
                "ip -6 route add blackhole fd00:96::a/128 table 159 proto 158 metric 1",
            ],
        ),
        ("announced", Plan(remove={VIP: None}), ["ip route del blackhole 10.96.0.10/32 table 159 proto 158"]),
    ],
)
def test_a_plan(table: str, plan: Plan[Any, Any], expected: list[str]) -> None:
    assert notation.lines({table: plan}) == expected


@pytest.mark.parametrize(
    ("table", "key", "text"),
    [
        ("pod routes", PODS, "10.244.2.0/24"),
        ("pod routes", NODE, "192.0.2.3/32 table 160"),
        ("lookup rules", FROM, "from fd00:10:244:1::/64"),
        ("announced", Cidr(b"\x0a\x60\0\0", 12), "10.96.0.0/12"),
    ],
)
def test_a_key(table: str, key: Any, text: str) -> None:
    assert notation.key_text(table, key) == text
