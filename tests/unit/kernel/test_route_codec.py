"""The router's routes as bytes: pyroute2 decodes what we encode, and what we read is what we wrote."""

from __future__ import annotations

from typing import Any

import pytest
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from kuberouter_py.kernel import netlink, route_codec, rtnetlink, rtnetlink_routes
from kuberouter_py.model.podnet import PodRoute, RouteKey
from kuberouter_py.model.values import parse_cidr

LINK = 7
CASES = [("10.244.2.0/24", "192.0.2.3", "192.0.2.2"), ("fd00:10:244:2::/64", "fd00:9::3", "fd00:9::2")]


def key(cidr: str, table: int = 254) -> RouteKey:
    return RouteKey(table, *parse_cidr(cidr))


def packed(text: str) -> bytes:
    return parse_cidr(text).network


def decoded(data: bytes) -> Any:
    message = rtmsg(data)
    message.decode()
    return message


@pytest.mark.parametrize(("cidr", "gateway", "source"), CASES)
@pytest.mark.parametrize("onlink", [False, True])
def test_a_pod_route(cidr: str, gateway: str, source: str, onlink: bool) -> None:
    route = PodRoute("up0", packed(gateway), packed(source))
    data = route_codec.new_pod_route(key(cidr), 1580, LINK, route, onlink=onlink)
    made = decoded(data)
    assert made["header"]["flags"] == netlink.NLM_F_REQUEST | netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
    assert (made["table"], made["proto"], made["type"], made["scope"]) == (254, 158, 1, 0)
    assert (made["dst_len"], made["flags"]) == (int(cidr.split("/")[1]), 4 if onlink else 0)
    attributes = {name: made.get_attr(name) for name in ("RTA_DST", "RTA_OIF", "RTA_GATEWAY", "RTA_PREFSRC")}
    assert list(attributes.values()) == [cidr.split("/")[0], LINK, gateway, source]
    assert made.get_attr("RTA_PRIORITY") == 1580
    read = rtnetlink_routes.read_route(memoryview(data)[16:])
    assert (read.destination, read.prefix, read.link, read.metric) == (packed(cidr), made["dst_len"], LINK, 1580)
    assert (read.gateway, read.source, read.protocol) == (packed(gateway), packed(source), 158)


@pytest.mark.parametrize(("cidr", "scope"), [("10.244.2.0/24", 253), ("fd00:10:244:2::/64", 0)])
def test_a_pod_route_into_a_tunnel(cidr: str, scope: int) -> None:
    made = decoded(route_codec.new_pod_route(key(cidr, 160), 1580, LINK, PodRoute("tun0"), onlink=True))
    assert (made["table"], made["scope"], made["flags"]) == (160, scope, 0)
    assert made.get_attr("RTA_GATEWAY") is None and made.get_attr("RTA_PREFSRC") is None


@pytest.mark.parametrize("cidr", ["10.96.0.10/32", "fd00:96::a/128"])
def test_a_blackhole(cidr: str) -> None:
    made = decoded(route_codec.new_blackhole(key(cidr, 159), 2))
    assert (made["table"], made["proto"], made["type"]) == (159, 158, 6)
    assert (made.get_attr("RTA_DST"), made.get_attr("RTA_PRIORITY")) == (cidr.split("/")[0], 2)


@pytest.mark.parametrize(("cidr", "gateway", "source"), CASES)
def test_a_deletion_says_whose_it_is_and_nothing_of_its_kind(cidr: str, gateway: str, source: str) -> None:
    gone = decoded(route_codec.delete_route(key(cidr), 1580, packed(gateway)))
    assert gone["header"]["type"] == rtnetlink.RTM_DELROUTE
    assert (gone["proto"], gone["scope"], gone["type"]) == (158, 255, 0)
    assert (gone.get_attr("RTA_GATEWAY"), gone.get_attr("RTA_PRIORITY")) == (gateway, 1580)
    assert decoded(route_codec.delete_route(key(cidr), 1580)).get_attr("RTA_GATEWAY") is None
