"""Conntrack's messages against pyroute2's bytes, and entries as the kernel tells them."""

from __future__ import annotations

import contextlib
import socket
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.nfnetlink.nfctsocket import nfct_msg

from kuberouter_py.kernel import netlink
from kuberouter_py.kernel.conntrack import delete, parse_flow
from kuberouter_py.model.kernel import Flow, Protocol


def flow(family: int, zone: int = 0) -> Flow:
    addresses = {
        4: ("10.244.1.9", "10.96.0.53", "10.244.2.1", "192.0.2.11"),
        6: ("fd00::9", "fd00:96::53", "fd00:2::1", "2001:db8::11"),
    }
    client, service, endpoint, node = (ip_address(text).packed for text in addresses[family])
    return Flow(Protocol.UDP, client, 40000, service, 53, endpoint, 5353, 0xC64B1234, zone, node, 61234)


def told(one: Flow) -> bytes:
    """An entry as the kernel tells it, by pyroute2."""
    v6 = len(one.source) == 16
    kinds = ("CTA_IP_V6_SRC", "CTA_IP_V6_DST") if v6 else ("CTA_IP_V4_SRC", "CTA_IP_V4_DST")

    def ends(source: bytes, source_port: int, destination: bytes, port: int) -> dict[str, object]:
        return {
            "attrs": [
                (
                    "CTA_TUPLE_IP",
                    {"attrs": [(kinds[0], str(ip_address(source))), (kinds[1], str(ip_address(destination)))]},
                ),
                (
                    "CTA_TUPLE_PROTO",
                    {
                        "attrs": [
                            ("CTA_PROTO_NUM", one.protocol),
                            ("CTA_PROTO_SRC_PORT", source_port),
                            ("CTA_PROTO_DST_PORT", port),
                        ]
                    },
                ),
            ]
        }

    message = nfct_msg()
    message["nfgen_family"] = socket.AF_INET6 if v6 else socket.AF_INET
    message["attrs"] = [
        ("CTA_TUPLE_ORIG", ends(one.source, one.source_port, one.destination, one.port)),
        ("CTA_TUPLE_REPLY", ends(one.answers, one.answers_port, one.replies_to, one.replies_to_port)),
        ("CTA_ID", one.identity),
    ]
    message.encode()
    zone = netlink.be16(18, one.zone) if one.zone else b""
    return bytes(message.data[16:]) + zone


@pytest.mark.parametrize("zone", [0, 7])
@pytest.mark.parametrize("family", [4, 6])
def test_reads_an_entry(family: int, zone: int) -> None:
    assert parse_flow(memoryview(told(flow(family, zone)))) == flow(family, zone)


@pytest.mark.parametrize("more", [b"", netlink.be16(3, 7)])
@pytest.mark.parametrize("family", [4, 6])
def test_reads_an_entry_with_and_without_a_zone_of_one_direction(family: int, more: bytes) -> None:
    """Without, all of its parts lie where they usually do."""
    one = flow(family)
    kinds = (1, 2) if family == 4 else (3, 4)

    def ends(direction: int, source: bytes, source_port: int, destination: bytes, port: int) -> bytes:
        addresses = [netlink.attribute(kind, each) for kind, each in zip(kinds, (source, destination), strict=True)]
        ports = [netlink.u8(1, one.protocol), netlink.be16(2, source_port), netlink.be16(3, port)]
        return netlink.nested(direction, netlink.nested(1, *addresses), netlink.nested(2, *ports), more)

    entry = b"".join([
        bytes((socket.AF_INET if family == 4 else socket.AF_INET6, 0, 0, 0)),
        ends(1, one.source, one.source_port, one.destination, one.port),
        ends(2, one.answers, one.answers_port, one.replies_to, one.replies_to_port),
        netlink.be32(3, 0x18E),
        netlink.be32(12, one.identity),
    ])  # fmt: skip
    assert parse_flow(memoryview(entry)) == one
    for cut in range(len(entry) - 8):
        with contextlib.suppress(ValueError):
            assert parse_flow(memoryview(entry[:cut])) in (None, one._replace(identity=0))


@pytest.mark.parametrize("zone", [0, 7])
@pytest.mark.parametrize("family", [4, 6])
def test_deletes_by_the_tuple_the_identity_and_the_zone(family: int, zone: int) -> None:
    message = delete(flow(family, zone))
    length, kind = struct.unpack_from("=IH", message)
    assert (length, kind) == (len(message), 0x0102)
    asked = netlink.attributes(memoryview(message), 20)
    known = netlink.attributes(memoryview(told(flow(family, zone))), 4)
    assert {kind: strip(value) for kind, value in asked.items()} == {
        kind: strip(value) for kind, value in known.items() if kind != 2
    }


def strip(value: memoryview) -> object:
    """Attributes inside attributes as a tree: whether their headers say "nested" is of no account."""
    inside = netlink.attributes(value)
    whole = sum((4 + len(each) + 3) & ~3 for each in inside.values())
    return {kind: strip(each) for kind, each in inside.items()} if inside and whole == len(value) else bytes(value)


def test_what_has_no_ports_is_no_flow() -> None:
    icmp = netlink.nested(1, netlink.nested(2, netlink.u8(1, 1))) + netlink.nested(
        2, netlink.nested(2, netlink.u8(1, 1))
    )
    assert parse_flow(memoryview(bytes(4) + icmp)) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_flow_or_none_or_refused(data: bytes) -> None:
    try:
        found = parse_flow(memoryview(data))
    except ValueError:
        return
    assert found is None or found.protocol
