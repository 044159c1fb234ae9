"""IPVS messages against pyroute2's bytes."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.generic.ipvs import ipvsmsg

from kuberouter_py.kernel import ipvs_codec as codec
from kuberouter_py.model.kernel import (
    PERSISTENT,
    SCHED_FLAG_1,
    SCHED_FLAG_2,
    Destination,
    DestinationKey,
    Forwarding,
    MarkServerKey,
    Protocol,
    VirtualServer,
    VirtualServerKey,
)

FAMILY = 31
KEYS = [VirtualServerKey(Protocol.TCP, ip_address(text).packed, 443) for text in ("10.96.0.1", "fd00::1")]
WHERE = {4: DestinationKey(bytes((10, 244, 1, 2)), 6443), 16: DestinationKey(ip_address("fd00:1::2").packed, 6443)}
SERVER = VirtualServer("mh", SCHED_FLAG_2 | PERSISTENT, 10800, {})

messages = codec.Messages(FAMILY)


def reference(command: int, service: list[tuple[str, Any]], destination: list[tuple[str, Any]] | None = None) -> bytes:
    """The same by pyroute2. Its nested attributes lack NLA_F_NESTED, which the kernel does not ask for here; and it
    types the netmask as an address, so for IPv6 the native number 128 has to be written as one.
    """
    message = ipvsmsg()
    message["header"]["type"], message["header"]["flags"] = FAMILY, 1
    message["cmd"], message["version"] = command, 1
    message["attrs"] = [("IPVS_CMD_ATTR_SERVICE", {"attrs": [("IPVS_SVC_ATTR_" + k, v) for k, v in service]})]
    if destination is not None:
        attributes = [("IPVS_DEST_ATTR_" + k, v) for k, v in destination]
        message["attrs"].append(("IPVS_CMD_ATTR_DEST", {"attrs": attributes}))
    message.encode()
    return bytes(message.data)


def without_nested_bit(message: bytes) -> bytes:
    data = bytearray(message)
    offset = 20
    while offset < len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        struct.pack_into("=H", data, offset + 2, kind & 0x7FFF)
        offset += (length + 3) & ~3
    return bytes(data)


def service_key(key: VirtualServerKey) -> list[tuple[str, Any]]:
    family = 2 if len(key.address) == 4 else 10
    address = str(ip_address(key.address))
    return [("AF", family), ("PROTOCOL", key.protocol), ("ADDR", address), ("PORT", key.port)]


@pytest.mark.parametrize("key", KEYS, ids=["IPv4", "IPv6"])
class TestMessages:
    @pytest.mark.parametrize("command", [codec.NEW_SERVICE, codec.SET_SERVICE])
    def test_server(self, key: VirtualServerKey, command: int) -> None:
        values: list[tuple[str, Any]] = [
            ("SCHED_NAME", "mh"),
            ("FLAGS", {"flags": 0x11, "mask": 0xFFFFFFFF}),
            ("TIMEOUT", 10800),
            ("NETMASK", "255.255.255.255" if len(key.address) == 4 else "128.0.0.0"),
        ]
        wanted = reference(command, service_key(key) + values)
        assert without_nested_bit(messages.server(command, key, SERVER)) == wanted

    def test_delete(self, key: VirtualServerKey) -> None:
        assert without_nested_bit(messages.delete(key)) == reference(codec.DEL_SERVICE, service_key(key))

    @pytest.mark.parametrize("command", [codec.NEW_DEST, codec.SET_DEST])
    def test_destination(self, key: VirtualServerKey, command: int) -> None:
        where = WHERE[len(key.address)]
        wanted = [
            ("ADDR", str(ip_address(where.address))), ("PORT", 6443), ("FWD_METHOD", 2), ("WEIGHT", 70000),
            ("U_THRESH", 0), ("L_THRESH", 0), ("ADDR_FAMILY", 2 if len(key.address) == 4 else 10),
        ]  # fmt: skip
        packed = codec.target(where, Destination(70000, Forwarding.TUNNEL))
        made = messages.pair(command, codec.server_key(key), packed)
        assert without_nested_bit(made) == reference(command, service_key(key), wanted)

    def test_destination_to_delete(self, key: VirtualServerKey) -> None:
        where = WHERE[len(key.address)]
        family = 2 if len(key.address) == 4 else 10
        wanted = [("ADDR", str(ip_address(where.address))), ("PORT", 6443), ("ADDR_FAMILY", family)]
        made = messages.pair(codec.DEL_DEST, codec.server_key(key), codec.target_key(where))
        assert without_nested_bit(made) == reference(codec.DEL_DEST, service_key(key), wanted)


def answer(key: VirtualServerKey, *more: tuple[str, Any], flags: int = 2, timeout: int = 0) -> memoryview:
    netmask = "255.255.255.255" if len(key.address) == 4 else "128.0.0.0"
    values = [("SCHED_NAME", "rr"), ("FLAGS", {"flags": flags, "mask": 0xFFFFFFFF}), ("TIMEOUT", timeout)]
    return memoryview(reference(1, service_key(key) + values + [("NETMASK", netmask), *more]))[16:]


class TestAnswers:
    @pytest.mark.parametrize("key", KEYS, ids=["IPv4", "IPv6"])
    def test_service(self, key: VirtualServerKey) -> None:
        assert codec.parse_service(answer(key)) == codec.Service(key, "rr", 0, 0)
        persistent = codec.parse_service(answer(key, flags=2 | PERSISTENT | SCHED_FLAG_1, timeout=60))
        assert persistent == codec.Service(key, "rr", PERSISTENT | SCHED_FLAG_1, 60)

    def test_a_timeout_without_persistence_is_none(self) -> None:
        assert codec.parse_service(answer(KEYS[0], timeout=60)).timeout == 0

    @pytest.mark.parametrize(
        "more", [("PE_NAME", "sip"), ("NETMASK", "255.255.255.0")], ids=["persistence engine", "netmask"]
    )
    def test_what_nothing_of_ours_sets_differs_from_everything_wanted(self, more: tuple[str, Any]) -> None:
        assert codec.parse_service(answer(KEYS[0], more, flags=3)).flags == PERSISTENT | codec.UNUSUAL

    def test_service_on_a_mark(self) -> None:
        values = [
            ("AF", 10),
            ("FWMARK", 0xFFFFFFFF),
            ("SCHED_NAME", "sh"),
            ("FLAGS", {"flags": 0x12, "mask": 0}),
            ("TIMEOUT", 0),
        ]
        service = codec.parse_service(memoryview(reference(1, [*values, ("NETMASK", "128.0.0.0")]))[16:])
        assert service == codec.Service(MarkServerKey(0xFFFFFFFF, 6), "sh", SCHED_FLAG_2, 0)

    def test_destination(self) -> None:
        values = [
            ("ADDR", "10.244.1.2"), ("PORT", 6443), ("FWD_METHOD", 3), ("WEIGHT", 9), ("U_THRESH", 0), ("L_THRESH", 0),
            ("TUN_TYPE", 0), ("ACTIVE_CONNS", 1), ("INACT_CONNS", 2), ("PERSIST_CONNS", 3), ("ADDR_FAMILY", 2),
        ]  # fmt: skip
        payload = memoryview(reference(codec.NEW_DEST, [], values))[16:]
        assert codec.parse_connections(payload, 4) == (
            WHERE[4],
            Destination(9, Forwarding.DIRECT_ROUTE),
            codec.Connections(1, 2, 3),
        )

    def test_statistics(self) -> None:
        names = ["CONNS", "INPKTS", "OUTPKTS", "INBYTES", "OUTBYTES", "CPS", "INPPS", "OUTPPS", "INBPS", "OUTBPS"]
        counters = {"attrs": [("IPVS_STATS_ATTR_" + name, 1 << 40 | at) for at, name in enumerate(names)]}
        found = codec.parse_statistics(answer(KEYS[0], ("STATS64", counters)))
        assert found == codec.Statistics(*(1 << 40 | at for at in range(10)))
        assert codec.parse_statistics(answer(KEYS[0])) is None

    @given(st.binary(max_size=200))
    def test_any_bytes_are_an_answer_or_a_value_error(self, data: bytes) -> None:
        for parse in (codec.parse_service, lambda payload: codec.parse_connections(payload, 4), codec.parse_statistics):
            try:
                parse(memoryview(data))
            except ValueError:
                continue
