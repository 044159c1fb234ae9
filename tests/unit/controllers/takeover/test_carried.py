"""What of kube-proxy's configuration goes on, and what it is not asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kuberouter_py.config import Config
from kuberouter_py.controllers.takeover.carried import carried
from kuberouter_py.model.others import Remains
from tests.fakes.objects import packed
from tests.unit.controllers.takeover.remains import LOCAL, iptables_mode, ipvs_mode, kube_router, tcp

ALL = "all,10.244.1.1/32,192.0.2.11/32,2001:db8::11/128,fd00:10:244:1::1/128"


def options(remains: Remains, settings: dict[str, Any] | None = None, config: Config | None = None) -> dict[str, str]:
    return dict(carried(remains, settings or {}, config or Config()).options)


def addresses(text: str) -> set[str]:
    return set(text.split(","))


@pytest.mark.parametrize("remains", [ipvs_mode(), iptables_mode()])
def test_node_ports_on_every_address_stay_there(remains: Remains) -> None:
    found = options(remains)
    assert addresses(found.pop("nodeport-addresses")) == addresses(ALL)
    assert found == {}


def test_node_ports_on_some_addresses() -> None:
    more = {*LOCAL, packed("203.0.113.1"), packed("203.0.113.2")}
    served = {tcp("192.0.2.11", 30080), tcp("203.0.113.1", 30080)}
    remains = replace(ipvs_mode(), local=frozenset(more), servers=frozenset(served))
    assert options(remains) == {"nodeport-addresses": "192.0.2.11/32,203.0.113.1/32"}


def test_node_ports_on_the_primary_address_alone_are_what_we_do() -> None:
    assert options(kube_router()) == {}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"nodePortAddresses": ["192.0.2.0/24"]}, {"nodeport-addresses": "192.0.2.0/24"}),
        ({"nodePortAddresses": ["primary"]}, {"nodeport-addresses": "primary"}),
        ({"ipvs": {"tcpTimeout": "2h0m0s", "udpTimeout": "0s", "tcpFinTimeout": None}},
         {"service-tcp-timeout": "2h0m0s"}),
        ({"ipvs": {"excludeCIDRs": ["198.51.100.0/24"]}}, {"excluded-cidrs": "198.51.100.0/24"}),
        ({"ipvs": {"excludeCIDRs": None}, "iptables": None}, {}),
        ({"clusterCIDR": "10.244.0.0/16,fd00:10:244::/48"}, {"cluster-cidr": "10.244.0.0/16,fd00:10:244::/48"}),
        ({"detectLocalMode": "NodeCIDR", "clusterCIDR": "10.244.0.0/16"}, {"detect-local-mode": "NodeCIDR"}),
        ({"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "cbr0"}},
         {"pod-bridge-interface": "cbr0"}),
        ({"iptables": {"masqueradeAll": True}}, {"masquerade-all": "true"}),
        ({"conntrack": {"maxPerCore": 0, "min": None, "tcpEstablishedTimeout": "0s"}},
         {"conntrack-max-per-core": "0", "conntrack-tcp-timeout-established": "0s"}),
        ({"conntrack": {"maxPerCore": 32768}}, {}),
    ],
)  # fmt: skip
def test_settings(settings: dict[str, Any], expected: dict[str, str]) -> None:
    found = options(ipvs_mode(), settings)
    if "nodeport-addresses" not in expected:
        del found["nodeport-addresses"]
    assert found == expected


def test_a_flag_of_ours_counts_more() -> None:
    config = Config(service_tcp_timeout=60.0, nodeport_addresses=("primary",))
    assert options(ipvs_mode(), {"ipvs": {"tcpTimeout": "2h0m0s"}}, config) == {}


def test_a_value_that_we_refuse_is_told() -> None:
    found = carried(ipvs_mode(), {"clusterCIDR": "10.244.0.0/40"}, Config())
    assert "cluster-cidr" not in found.options
    assert any("--cluster-cidr" in notice for notice in found.notices)


@pytest.mark.parametrize(
    ("remains", "settings", "notice"),
    [
        (iptables_mode(), {}, "in iptables mode it was conntrack's 24h"),
        (ipvs_mode(), {}, "(as before)"),
        (ipvs_mode(), {"ipvs": {"scheduler": "wrr"}}, "the scheduler was wrr"),
        (ipvs_mode(), {"ipvs": {"strictARP": False}}, "--strict-arp=false"),
    ],
)
def test_notices(remains: Remains, settings: dict[str, Any], notice: str) -> None:
    assert any(notice in each for each in carried(remains, settings, Config()).notices)


def test_a_timeout_that_is_carried_over_needs_no_notice() -> None:
    found = carried(ipvs_mode(), {"ipvs": {"tcpTimeout": "2h0m0s"}}, Config())
    assert not any("idle TCP" in notice for notice in found.notices)
