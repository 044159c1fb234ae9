"""loadBalancerSourceRanges: which families are filtered, and what the sets then hold."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from kuberouter_py.config import Config
from kuberouter_py.controllers.services.desired import decide
from kuberouter_py.controllers.services.sources import allowed, source_ranges
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model import notation_sets
from kuberouter_py.model.cluster import Service
from tests.fakes.objects import NODE_NAME, cidr, packed, port, service

VIP = packed("203.0.113.8")
VIEW = NodeView(
    NODE_NAME, families=(4, 6), primary={4: packed("192.0.2.11")}, nodeport_addresses=(packed("192.0.2.11"),)
)


def ranged(*ranges: str, **more: object) -> Service:
    plain = service(
        kind="LoadBalancer", ports=[port(80, node_port=30080)], ingress=["203.0.113.8"], external=["203.0.113.9"]
    )
    return msgspec.structs.replace(plain, source_ranges=ranges, **more)


def members(one: Service, view: NodeView = VIEW) -> dict[str, set[str]]:
    """Set -> its members in ipset's notation."""
    found: dict[str, set[str]] = {}
    config = Config(service_external_ip_range=(cidr("203.0.113.0/24"),))
    for unit in decide(one, (), view, config, lambda address: False, lambda *_: 0).share.units.values():
        for item in unit:
            if item.table == "set members" and ("ranged" in item.key.set or "sources" in item.key.set):
                found.setdefault(item.key.set, set()).add(notation_sets.entry_text(item.key.entry))
    return found


def test_only_the_load_balancer_address_is_filtered() -> None:
    """S7.01: neither NodePorts nor externalIPs."""
    assert members(ranged("198.51.100.0/24")) == {
        "krpy-svc-ranged-4": {"203.0.113.8,tcp:80"},
        "krpy-svc-sources-4": {"203.0.113.8,tcp:80,198.51.100.0/24"},
    }


def test_without_ranges_nothing_is_filtered() -> None:
    assert members(ranged()) == {}


def test_a_node_port_on_the_load_balancers_address_stays_open() -> None:
    """K3s writes node addresses into the status: the port of the Service is filtered there, its NodePort is not."""
    here = replace(VIEW, nodeport_addresses=(VIP,), primary={4: VIP}, local={VIP: "eth0"})
    assert members(ranged("198.51.100.0/24"), here)["krpy-svc-ranged-4"] == {"203.0.113.8,tcp:80"}


def test_ranges_are_trimmed_and_split_by_family() -> None:
    """S7.02: a family without a range is open."""
    assert source_ranges(ranged(" 198.51.100.0/24 ")).by_family.keys() == {4}
    both = source_ranges(ranged("198.51.100.0/24", "2001:db8:f::/48", "198.51.100.7/24"))
    assert {family: len(ranges) for family, ranges in both.by_family.items()} == {4: 2, 6: 1}


def test_what_is_no_range_allows_nobody_and_says_so() -> None:
    found = source_ranges(ranged("anywhere", "198.51.100.0/24"))
    assert {family: len(ranges) for family, ranges in found.by_family.items()} == {4: 1, 6: 0}
    assert found.reasons == ("loadBalancerSourceRanges: 'anywhere' is no range; it allows nobody",)
    assert members(ranged("anywhere")) == {"krpy-svc-ranged-4": {"203.0.113.8,tcp:80"}}


def test_a_node_in_a_range_may_come_as_the_address_itself() -> None:
    """S7.04; S7.05: a node outside every range has no such entry."""
    assert allowed((cidr("192.0.2.0/24"),), VIP, VIEW) == [cidr("192.0.2.0/24"), cidr("203.0.113.8/32")]
    assert allowed((cidr("198.51.100.0/24"),), VIP, VIEW) == [cidr("198.51.100.0/24")]


def test_everybody_is_two_halves() -> None:
    """The kernel's set has no /0."""
    assert allowed((cidr("0.0.0.0/0"),), VIP, replace(VIEW, primary={})) == [cidr("0.0.0.0/1"), cidr("128.0.0.0/1")]
    assert len(allowed((cidr("::/0"),), packed("2001:db8::8"), VIEW)) == 2
