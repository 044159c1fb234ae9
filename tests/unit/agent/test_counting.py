"""What IPVS has counted, under the labels that metrics have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kuberouter_py.agent.counting import service_counters
from kuberouter_py.kernel.ipvs_codec import Statistics
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import MarkServerKey, VirtualServerKey

WEB = ObjectKey("default", "web")
MARK = 0x4000_0000


def edges(*keys: Any, rates: bool = True) -> Any:
    counted = {key: Statistics(*range(1, 11)) for key in keys}
    return SimpleNamespace(estimates_rates=lambda: rates, servers=SimpleNamespace(statistics=lambda: counted))


def test_the_two_families_of_a_mark_are_told_apart() -> None:
    by_address = VirtualServerKey(6, bytes((10, 96, 0, 10)), 80)
    found = service_counters(edges(by_address, MarkServerKey(MARK, 4), MarkServerKey(MARK, 6)), lambda _key: WEB)
    assert [(each.vip, each.protocol, each.port) for each in found] == [
        ("10.96.0.10", "tcp", 80),
        ("1073741824", "fwm", 0),
        ("1073741824 IPv6", "fwm", 0),
    ]


def test_servers_of_nobody_are_left_out_and_rates_only_told_where_there_are_some() -> None:
    owners = {MarkServerKey(MARK, 4): WEB}
    [only] = service_counters(edges(MarkServerKey(MARK, 4), MarkServerKey(MARK, 6), rates=False), owners.get)
    assert (only.service, only.connections, only.bytes_out) == ("web", 1, 5)
    assert only.connection_rate is None and only.byte_rate_out is None
