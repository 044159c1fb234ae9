"""ipset messages against pyroute2's bytes, and what the kernel sends of members, whatever options they have."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.nfnetlink.ipset import ipset_msg

from kuberouter_py.kernel import ipset_codec as codec
from kuberouter_py.kernel import netlink
from kuberouter_py.model.kernel import NOMATCH, IpSet, SetEntry

ADDRESS = {4: "10.96.0.1", 16: "fd00::1"}
PACKED = {size: ip_address(text).packed for size, text in ADDRESS.items()}


def reference(command: int, attributes: list[tuple[str, Any]], flags: int = 1) -> bytes:
    message = ipset_msg()
    message["header"]["type"], message["header"]["flags"] = 6 << 8 | command, flags
    message["nfgen_family"] = 2
    message["attrs"] = [("IPSET_ATTR_" + key, value) for key, value in [("PROTOCOL", 6), *attributes]]
    message.encode()
    return bytes(message.data)


def address_attribute(kind: str, size: int) -> tuple[str, Any]:
    name = "IPSET_ATTR_IPADDR_IPV4" if size == 4 else "IPSET_ATTR_IPADDR_IPV6"
    return "IPSET_ATTR_" + kind, {"attrs": [(name, ADDRESS[size])]}


def parts(size: int) -> list[tuple[SetEntry, list[tuple[str, Any]]]]:
    """Every shape of an entry, ours and pyroute2's."""
    ip, ip2 = address_attribute("IP", size), address_attribute("IP2", size)
    port = [("IPSET_ATTR_PORT", 443), ("IPSET_ATTR_PROTO", 132)]
    return [
        (SetEntry(PACKED[size]), [ip]),
        (SetEntry(PACKED[size], 132, 443), [ip, *port]),
        (SetEntry(PACKED[size], 132, 443, PACKED[size]), [ip, *port, ip2]),
        (SetEntry(PACKED[size], prefix=8), [ip, ("IPSET_ATTR_CIDR", 8)]),
    ]


class TestMessages:
    @pytest.mark.parametrize("command", [codec.ADD, codec.DEL])
    @pytest.mark.parametrize(("entry", "attributes"), parts(4) + parts(16))
    def test_one_member(self, command: int, entry: SetEntry, attributes: list[tuple[str, Any]]) -> None:
        wanted = reference(command, [("SETNAME", "krpy-x"), ("DATA", {"attrs": attributes})])
        assert codec.member(command, "krpy-x", entry) == wanted

    @pytest.mark.parametrize("size", [4, 16])
    def test_many_members_with_their_lines(self, size: int) -> None:
        entries = [entry for entry, _ in parts(size)]
        data = [
            ("IPSET_ATTR_DATA", {"attrs": [*attributes, ("IPSET_ATTR_CADT_LINENO", line)]})
            for line, (_, attributes) in enumerate(parts(size), 1)
        ]
        wanted = reference(codec.ADD, [("SETNAME", "krpy-x"), ("LINENO", 0), ("ADT", {"attrs": data})])
        assert codec.members(codec.ADD, "krpy-x", dict.fromkeys(entries)) == wanted

    @pytest.mark.parametrize("family", [4, 6])
    def test_create(self, family: int) -> None:
        wanted = reference(
            codec.CREATE,
            [
                ("SETNAME", "krpy-x"),
                ("TYPENAME", "hash:ip,port"),
                ("REVISION", 1),
                ("FAMILY", 2 if family == 4 else 10),
                ("DATA", {"attrs": [("IPSET_ATTR_MAXELEM", 1 << 20)]}),
            ],
        )
        assert codec.create("krpy-x", IpSet("hash:ip,port", family), 1) == wanted

    @pytest.mark.parametrize("size", [4, 16])
    def test_one_with_a_mark(self, size: int) -> None:
        entry, attributes = parts(size)[1]
        marked = [*attributes, ("IPSET_ATTR_SKBMARK", (0x4000_0001, 0xFFFF_FFFF))]
        wanted = reference(codec.ADD, [("SETNAME", "krpy-x"), ("DATA", {"attrs": marked})])
        assert codec.member(codec.ADD, "krpy-x", entry, 0x4000_0001) == wanted

    @pytest.mark.parametrize(
        ("type_name", "option", "bit"), [("hash:ip,port", "skbinfo", 6), ("hash:ip", "counters", 3)]
    )
    def test_create_with_an_option(self, type_name: str, option: str, bit: int) -> None:
        wanted = reference(
            codec.CREATE,
            [
                ("SETNAME", "krpy-x"),
                ("TYPENAME", type_name),
                ("REVISION", 5),
                ("FAMILY", 2),
                ("DATA", {"attrs": [("IPSET_ATTR_MAXELEM", 1 << 20), ("IPSET_ATTR_CADT_FLAGS", 1 << bit)]}),
            ],
        )
        assert codec.create("krpy-x", IpSet(f"{type_name} {option}", 4), 5) == wanted

    @pytest.mark.parametrize("size", [4, 16])
    def test_an_exception(self, size: int) -> None:
        entry, attributes = parts(size)[3]
        excepted = [*attributes, ("IPSET_ATTR_CADT_FLAGS", 1 << 2)]
        wanted = reference(codec.ADD, [("SETNAME", "krpy-x"), ("DATA", {"attrs": excepted})])
        assert codec.member(codec.ADD, "krpy-x", entry, NOMATCH) == wanted

    @pytest.mark.parametrize("size", [4, 16])
    def test_from_zero_is_only_for_what_is_new(self, size: int) -> None:
        entry, attributes = parts(size)[0]
        counted = [*attributes, ("IPSET_ATTR_BYTES", 0), ("IPSET_ATTR_PACKETS", 0)]
        wanted = reference(codec.ADD, [("SETNAME", "krpy-x"), ("DATA", {"attrs": counted})], flags=1 | 0x200)
        assert codec.member(codec.ADD, "krpy-x", entry, from_zero=True) == wanted
        line = ("IPSET_ATTR_DATA", {"attrs": [*counted, ("IPSET_ATTR_CADT_LINENO", 1)]})
        wanted = reference(
            codec.ADD, [("SETNAME", "krpy-x"), ("LINENO", 0), ("ADT", {"attrs": [line]})], flags=1 | 0x200
        )
        assert codec.members(codec.ADD, "krpy-x", {entry: None}, from_zero=True) == wanted

    def test_destroy_and_swap(self) -> None:
        assert codec.destroy("krpy-x") == reference(codec.DESTROY, [("SETNAME", "krpy-x")])
        wanted = reference(codec.SWAP, [("SETNAME", "krpy-x"), ("TYPENAME", "krpy-y")])
        assert codec.swap("krpy-x", "krpy-y") == wanted

    @pytest.mark.parametrize("name", ["", "x" * 32])
    def test_a_set_without_a_proper_name_is_never_destroyed(self, name: str) -> None:
        with pytest.raises(ValueError, match="name"):
            codec.destroy(name)

    def test_the_largest_message_fits_its_length_field(self) -> None:
        largest = [SetEntry(PACKED[16], 132, port, PACKED[16], 128) for port in range(codec.ENTRIES_A_MESSAGE)]
        message = codec.members(codec.ADD, "x" * 31, dict.fromkeys(largest, 1))
        assert len(message) < 60_000  # the answer to a refusal repeats it whole, in a datagram of 64 KiB at most

    def test_line_of_a_refusal(self) -> None:
        message = bytearray(
            codec.members(codec.ADD, "krpy-x", {SetEntry(PACKED[4], 6, port): None for port in range(9)})
        )
        at = bytes(message).index(netlink.be32(9, 0))
        struct.pack_into(">I", message, at + 4, 7)
        assert codec.refused_line(bytes(message)) == 7
        assert codec.refused_line(codec.destroy("krpy-x")) == 0
        assert codec.refused_line(bytes(message[:16])) == 0


def header(type_name: str, size: int) -> codec.Header:
    return codec.Header("krpy-x", type_name, 4 if size == 4 else 6, 10, "")


def sent_by_kernel(type_name: str, size: int, extra: bytes = b"", count: int = 3) -> tuple[memoryview, list[SetEntry]]:
    """Members as the kernel sends them: IP2 before the port, no flag of byte order on the protocol."""
    entries, data = [], []
    for number in range(count):
        packed = PACKED[size][:-1] + bytes((number,))
        inner = netlink.nested(1, netlink.attribute(1 if size == 4 else 2, packed))
        entry = SetEntry(packed)
        if type_name == "hash:ip,port,ip":
            inner += netlink.nested(20, netlink.attribute(1 if size == 4 else 2, PACKED[size]))
            entry = entry._replace(address2=PACKED[size])
        if "port" in type_name:
            inner += netlink.be16(4 | 0x4000, 1000 + number) + netlink.u8(7, 17)
            entry = entry._replace(protocol=17, port=1000 + number)
        if type_name == "hash:net":
            inner += netlink.u8(3, 24 + number)
            entry = entry._replace(prefix=24 + number)
        data.append(netlink.nested(7, inner, extra if number == count - 1 else b""))
        entries.append(entry)
    body = b"\2\0\0\0" + netlink.u8(1, 6) + netlink.text(2, "krpy-x") + netlink.nested(8, *data)
    return memoryview(body), entries


@pytest.mark.parametrize("size", [4, 16])
@pytest.mark.parametrize("type_name", ["hash:ip", "hash:ip,port", "hash:ip,port,ip", "hash:net"])
class TestMembers:
    def test_as_the_kernel_sends_them(self, type_name: str, size: int) -> None:
        payload, entries = sent_by_kernel(type_name, size)
        found = list(codec.parse_members(payload, header(type_name, size)))
        assert found == [(entry, None) for entry in entries]
        assert all(type(one) is SetEntry for one, _ in found)

    @pytest.mark.parametrize("extra", [netlink.be32(6, 600), netlink.text(26, "a comment"), netlink.be32(8, 1 << 1)])
    def test_with_options_of_one(self, type_name: str, size: int, extra: bytes) -> None:
        payload, entries = sent_by_kernel(type_name, size, extra)
        found = list(codec.parse_members(payload, header(type_name, size)))
        assert found == [(entry, None) for entry in entries]

    def test_of_which_one_is_an_exception(self, type_name: str, size: int) -> None:
        payload, entries = sent_by_kernel(type_name, size, netlink.be32(8 | 0x4000, 1 << 2))
        found = list(codec.parse_members(payload, header(type_name, size)))
        assert found == [*((entry, None) for entry in entries[:-1]), (entries[-1], NOMATCH)]

    def test_with_counters_of_one(self, type_name: str, size: int) -> None:
        counters = netlink.attribute(24 | 0x4000, struct.pack(">Q", 1 << 40)) + netlink.attribute(
            25 | 0x4000, struct.pack(">Q", 7)
        )
        payload, entries = sent_by_kernel(type_name, size, counters)
        assert list(codec.parse_counters(payload)) == [(entries[-1], (7, 1 << 40))]
        assert [entry for entry, _ in codec.parse_members(payload, header(type_name, size))] == entries

    def test_none(self, type_name: str, size: int) -> None:
        payload, _ = sent_by_kernel(type_name, size, count=0)
        assert list(codec.parse_members(payload, header(type_name, size))) == []


def test_header_with_options() -> None:
    data = netlink.nested(
        7, netlink.be32(19, 77), netlink.be32(6, 600), netlink.be32(8, 1 << 3 | 1 << 4), netlink.u8(20, 24)
    )
    body = b"\2\0\0\0" + netlink.text(2, "krpy-x") + netlink.text(3, "hash:ip") + netlink.u8(5, 10) + data
    found = codec.parse_header(memoryview(body))
    assert found == codec.Header("krpy-x", "hash:ip", 6, 77, "timeout 600 counters comment netmask 0x18")
    assert codec.parse_header(sent_by_kernel("hash:ip", 4)[0]) is None


@pytest.mark.parametrize(
    ("type_name", "highest", "lowest", "revision"),
    [
        ("hash:ip,port", 7, 0, 1),
        ("hash:ip,port", 0, 0, 0),
        ("hash:ip", 6, 3, 3),
        ("hash:ip counters", 5, 0, 1),
        ("hash:net", 7, 0, 2),
        ("hash:ip,port,net", 8, 0, 1),
        ("else", 5, 1, 1),
    ],
)
def test_revision(type_name: str, highest: int, lowest: int, revision: int) -> None:
    body = b"\2\0\0\0" + netlink.u8(4, highest) + netlink.u8(10, lowest)
    assert codec.parse_revision(memoryview(body), type_name) == revision


@given(st.binary())
def test_any_bytes_of_a_header_are_harmless(data: bytes) -> None:
    codec.refused_line(data)
