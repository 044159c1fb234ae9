"""Our bytes against pyroute2's: it encodes what we decode, and the other way round."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from kuberouter_py.kernel import netlink, rtnetlink, rtnetlink_routes

LINK = 7


def packed(text: str) -> bytes:
    return ip_address(text).packed


def encoded(kind: Any, header: dict[str, int], fields: dict[str, Any], *attributes: tuple[str, Any]) -> bytes:
    message = kind()
    message["header"].update(header)
    message.update(fields)
    message["attrs"] = list(attributes)
    message.encode()
    return bytes(message.data)


def decoded(kind: Any, data: bytes) -> Any:
    message = kind(data)
    message.decode()
    return message


@pytest.mark.parametrize(
    ("vip", "source", "family", "scope"), [("10.96.0.1", "192.0.2.2", 2, 254), ("fd00:96::1", "fd00:9::2", 10, 0)]
)
@pytest.mark.parametrize("with_source", [True, False])
def test_local_route(vip: str, source: str, family: int, scope: int, with_source: bool) -> None:
    fields = {
        "family": family,
        "dst_len": 32 if family == 2 else 128,
        "table": 255,
        "proto": 158,
        "scope": scope,
        "type": 2,
    }
    attributes = [("RTA_DST", vip), ("RTA_OIF", LINK), *([("RTA_PREFSRC", source)] if with_source else [])]
    header = {"type": rtnetlink.RTM_NEWROUTE, "flags": netlink.NLM_F_REQUEST | netlink.NLM_F_CREATE}
    theirs = encoded(rtmsg, header, fields, *attributes)
    ours = rtnetlink_routes.local_route(
        rtnetlink.RTM_NEWROUTE, netlink.NLM_F_CREATE, LINK, packed(vip), packed(source) if with_source else b"", 158
    )
    assert ours == theirs
    assert rtnetlink_routes.read_route(memoryview(theirs)[16:]) == rtnetlink_routes.RouteMessage(
        packed(vip), fields["dst_len"], LINK, packed(source) if with_source else b"", 158, 2, 255
    )


def test_a_route_of_a_table_with_a_big_number() -> None:
    data = encoded(rtmsg, {"type": 24}, {"family": 2, "table": 252, "type": 1}, ("RTA_TABLE", 1000))
    assert rtnetlink_routes.read_route(memoryview(data)[16:]) == rtnetlink_routes.RouteMessage(
        b"", 0, 0, b"", 0, 1, 1000
    )


def test_addresses() -> None:
    four = decoded(ifaddrmsg, rtnetlink.new_address(LINK, packed("10.96.0.1")))
    assert (four["family"], four["prefixlen"], four["scope"], four["index"]) == (2, 32, 253, LINK)
    assert [tuple(one) for one in four["attrs"]] == [("IFA_LOCAL", "10.96.0.1")]
    six = decoded(ifaddrmsg, rtnetlink.new_address(LINK, packed("fd00:96::1")))
    assert (six["family"], six["prefixlen"], six["scope"], six["index"]) == (10, 128, 0, LINK)
    assert six.get_attr("IFA_ADDRESS") == "fd00:96::1"
    assert six.get_attr("IFA_FLAGS") == 0x202
    assert six.get_attr("IFA_CACHEINFO")["ifa_preferred"] == 0
    gone = decoded(ifaddrmsg, rtnetlink.delete_address(LINK, packed("fd00:96::1")))
    assert (gone["header"]["type"], gone["prefixlen"], gone.get_attr("IFA_ADDRESS")) == (21, 128, "fd00:96::1")


def test_an_address_read() -> None:
    peer = encoded(
        ifaddrmsg, {"type": 20}, {"family": 2, "prefixlen": 32, "index": LINK},
        ("IFA_ADDRESS", "192.0.2.2"), ("IFA_LOCAL", "192.0.2.1"), ("IFA_LABEL", "up0"),
    )  # fmt: skip
    assert rtnetlink.read_address(memoryview(peer)[16:]) == (LINK, packed("192.0.2.1"), 32, False)
    six = encoded(
        ifaddrmsg,
        {"type": 20},
        {"family": 10, "prefixlen": 64, "flags": 0x40, "index": LINK},
        ("IFA_ADDRESS", "fd00::1"),
    )
    assert rtnetlink.read_address(memoryview(six)[16:]) == (LINK, packed("fd00::1"), 64, True)


def test_links() -> None:
    made = decoded(ifinfmsg, rtnetlink.new_link("kube-dummy-if", "dummy", True))
    assert (made["flags"], made["change"]) == (1, 1)
    assert made.get_attr("IFLA_IFNAME") == "kube-dummy-if"
    assert made.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "dummy"
    named = decoded(ifinfmsg, rtnetlink.describe("kube-dummy-if", "ours"))
    assert (named["header"]["type"], named["index"]) == (rtnetlink.RTM_SETLINK, 0)
    assert (named.get_attr("IFLA_IFNAME"), named.get_attr("IFLA_IFALIAS")) == ("kube-dummy-if", "ours")
    port = decoded(ifinfmsg, rtnetlink.set_hairpin(LINK, True))
    assert (port["header"]["type"], port["family"], port["index"]) == (rtnetlink.RTM_SETLINK, 7, LINK)
    assert port.get_nested("IFLA_PROTINFO", "IFLA_BRPORT_MODE") == 1


def test_a_link_read() -> None:
    data = encoded(
        ifinfmsg, {"type": 16}, {"family": 7, "index": LINK, "flags": 0x101, "change": 0},
        ("IFLA_IFNAME", "port0"), ("IFLA_MASTER", 3), ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth")]}),
        ("IFLA_PROTINFO", {"attrs": [("IFLA_BRPORT_STATE", 3), ("IFLA_BRPORT_MODE", 1)]}),
        ("IFLA_IFALIAS", "to pod web-1"),
    )  # fmt: skip
    expected = rtnetlink.LinkMessage(7, LINK, "port0", "veth", 0x101, 3, True, "to pod web-1")
    assert rtnetlink.read_link(memoryview(data)[16:]) == expected


@pytest.mark.parametrize("family", [4, 6])
def test_a_rule_both_ways(family: int) -> None:
    rule = rtnetlink_routes.RuleMessage(15800, 0x4000_0000, 0xC00F_FF00, 158, 158)
    ours = rtnetlink_routes.policy_rule(rtnetlink.RTM_NEWRULE, netlink.NLM_F_CREATE, family, rule)
    made = decoded(fibmsg, ours)
    assert (made["family"], made["table"], made["action"]) == (2 if family == 4 else 10, 158, 1)
    assert made.get_attr("FRA_FWMARK") == 0x4000_0000 and made.get_attr("FRA_FWMASK") == 0xC00F_FF00
    assert made.get_attr("FRA_PRIORITY") == 15800 and made.get_attr("FRA_PROTOCOL") == 158
    assert rtnetlink_routes.read_rule(memoryview(ours)[16:]) == rule


@pytest.mark.parametrize("cidr", ["10.244.1.0/24", "fd00:10:244:1::/64"])
def test_a_rule_for_a_network_both_ways(cidr: str) -> None:
    network, prefix = cidr.split("/")
    rule = rtnetlink_routes.RuleMessage(15810, 0, 0, 160, 158, packed(network), int(prefix))
    ours = rtnetlink_routes.policy_rule(rtnetlink.RTM_NEWRULE, 0, 6 if ":" in cidr else 4, rule)
    made = decoded(fibmsg, ours)
    assert (made["table"], made["src_len"], made.get_attr("FRA_SRC")) == (160, int(prefix), network)
    assert made.get_attr("FRA_FWMARK") is None and made.get_attr("FRA_FWMASK") is None
    assert rtnetlink_routes.read_rule(memoryview(ours)[16:]) == rule


@pytest.mark.parametrize(("family", "scope"), [(4, 254), (6, 0)])
def test_a_local_default_route(family: int, scope: int) -> None:
    ours = rtnetlink_routes.local_default(rtnetlink.RTM_NEWROUTE, 0, family, 158, LINK, 158)
    made = decoded(rtmsg, ours)
    assert (made["dst_len"], made["table"], made["proto"], made["scope"], made["type"]) == (0, 158, 158, scope, 2)
    assert made.get_attr("RTA_OIF") == LINK


@pytest.mark.parametrize(("kind", "local"), [("ipip", "10.244.1.2"), ("ip6tnl", "fd00:10:244:1::2")])
def test_a_tunnel_and_what_it_reads_as(kind: str, local: str) -> None:
    made = decoded(ifinfmsg, rtnetlink.new_tunnel("krpy-dsr", kind, packed(local)))
    assert made.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == kind
    data = rtnetlink.new_tunnel("krpy-dsr", kind, packed(local)) + netlink.text(rtnetlink.IFLA_IFALIAS, "krpy:uid eth0")
    link = rtnetlink.read_link(memoryview(data)[16:])
    assert (link.name, link.kind, link.tunnel_from, link.alias) == ("krpy-dsr", kind, packed(local), "krpy:uid eth0")
