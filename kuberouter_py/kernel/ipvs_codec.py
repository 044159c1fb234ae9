"""IPVS in bytes: generic netlink messages both ways.

Pure functions over bytes; sockets and decisions are ipvs.py's, words are model/notation_servers.py's. Layouts:
include/uapi/linux/ip_vs.h; which attributes a command must have, and of what size: net/netfilter/ipvs/ip_vs_ctl.c,
ip_vs_genl_parse_service and _dest.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from kuberouter_py.kernel import netlink
from kuberouter_py.kernel.generic_netlink import generic_header
from kuberouter_py.model.kernel import (
    PERSISTENT,
    Destination,
    DestinationKey,
    Forwarding,
    MarkServerKey,
    ServerKey,
    VirtualServer,
    VirtualServerKey,
    server_family,
)

VERSION = 1
NEW_SERVICE, SET_SERVICE, DEL_SERVICE, GET_SERVICE = 1, 2, 3, 4
NEW_DEST, SET_DEST, DEL_DEST, GET_DEST = 5, 6, 7, 8
SET_CONFIG, GET_CONFIG = 12, 13

_SERVICE, _DEST = 1, 2  # IPVS_CMD_ATTR_*
_TIMEOUT_TCP, _TIMEOUT_TCP_FIN, _TIMEOUT_UDP = 4, 5, 6
_AF, _PROTOCOL, _ADDR, _PORT, _FWMARK, _SCHEDULER, _FLAGS, _TIMEOUT, _NETMASK = 1, 2, 3, 4, 5, 6, 7, 8, 9  # IPVS_SVC_*
_PE_NAME, _STATS64 = 11, 12
_ACTIVE, _INACTIVE, _PERSIST, _DEST_AF = 7, 8, 9, 11  # IPVS_DEST_ATTR_*; address 1, port 2

_new = tuple.__new__

_HASHED = 0x0002  # the kernel's own flag: "is in the table"
# Not the kernel's: in what we read, "a persistence netmask or engine that nothing of ours sets". It makes the value
# differ from every wanted one, so that adopting the server puts it right.
UNUSUAL = 0x8000_0000

# Key of a server by address as the kernel wants it: nested header, then family, protocol, address and port.
_KEY = {
    4: struct.Struct("=HHHHHxxHHHxxHH4sHH2sxx"),
    16: struct.Struct("=HHHHHxxHHHxxHH16sHH2sxx"),
}
_MARK_KEY = struct.Struct("=HHHHHxxHHI")  # of a server by mark: nested header, family, mark
# Family and netmask: a v4 mask in network order; for IPv6 the prefix length as a native number (an address is EINVAL).
_FAMILY = {4: (socket.AF_INET, 0xFFFF_FFFF), 16: (socket.AF_INET6, 128)}
_SIZES = {4: 4, 6: 16}  # of an address
# A destination: nested header, address, port, forwarding, weight, upper and lower threshold (0: none), address family.
_TARGET = {
    4: struct.Struct("=HHHH4sHH2sxxHHIHHIHHIHHIHHHxx"),
    16: struct.Struct("=HHHH16sHH2sxxHHIHHIHHIHHIHHHxx"),
}
_TARGET_KEY = {4: struct.Struct("=HHHH4sHH2sxxHHHxx"), 16: struct.Struct("=HHHH16sHH2sxxHHHxx")}


class Service(NamedTuple):
    """A server as the kernel lists it."""

    key: ServerKey
    scheduler: str
    flags: int
    timeout: int


class Connections(NamedTuple):
    """Of one destination. persistent: affinity templates that lead to it."""

    active: int
    inactive: int
    persistent: int


class Timeouts(NamedTuple):
    """Seconds that the kernel keeps an idle connection."""

    tcp: int
    tcp_fin: int
    udp: int


class Statistics(NamedTuple):
    """Totals since the server was made, and the kernel's estimates a second."""

    connections: int
    packets_in: int
    packets_out: int
    bytes_in: int
    bytes_out: int
    connections_rate: int
    packets_in_rate: int
    packets_out_rate: int
    bytes_in_rate: int
    bytes_out_rate: int


# -- Messages to the kernel --------------------------------------------------------------------------------------------


class Messages:
    """Packs messages for the generic netlink family with number `family`."""

    def __init__(self, family: int) -> None:
        self.family = family
        self._heads: dict[tuple[int, int], bytes] = {}

    def make(self, command: int, *parts: bytes, flags: int = 0) -> bytes:
        return netlink.message(self.family, flags, generic_header(command, VERSION), *parts)

    def server(self, command: int, key: ServerKey, server: VirtualServer) -> bytes:
        """NEW_SERVICE or SET_SERVICE. Every flag is set or cleared as the value says."""
        netmask = _FAMILY[_SIZES[server_family(key)]][1]
        return self.make(
            command,
            netlink.nested(
                _SERVICE,
                server_key(key)[4:],
                netlink.text(_SCHEDULER, server.scheduler),
                netlink.attribute(_FLAGS, struct.pack("=II", server.flags & ~UNUSUAL, 0xFFFF_FFFF)),
                netlink.u32(_TIMEOUT, server.timeout),
                netlink.u32(_NETMASK, netmask),
            ),
        )

    def delete(self, key: ServerKey) -> bytes:
        """The server; its destinations go with it."""
        return self.pair(DEL_SERVICE, server_key(key), b"")

    def pair(self, command: int, server: bytes, destination: bytes) -> bytes:
        """A command on a destination of a server, from `server_key` and `target` or `target_key`."""
        length = len(server) + len(destination)
        head = self._heads.get((command, length))
        if head is None:
            whole = self.make(command, bytes(length))
            head = self._heads[command, length] = whole[: len(whole) - length]
        return head + server + destination

    def new_destinations(self, server: bytes, destinations: Mapping[DestinationKey, Destination]) -> list[bytes]:
        """NEW_DEST for each, as `pair` makes it, of the server that `server_key` names."""
        heads: dict[tuple[int, int, Destination], tuple[bytes, bytes]] = {}
        messages = []
        for (address, port), destination in destinations.items():
            kind = (len(address), port, destination)
            around = heads.get(kind)
            if around is None:
                head, tail = _around(*kind)
                whole = self.pair(NEW_DEST, server, head + address + tail)
                around = heads[kind] = whole[: len(whole) - len(address) - len(tail)], tail
            messages.append(around[0] + address + around[1])
        return messages

    def list_servers(self) -> bytes:
        return self.make(GET_SERVICE)

    def get_server(self, key: ServerKey) -> bytes:
        return self.make(GET_SERVICE, server_key(key))

    def list_destinations(self, key: ServerKey) -> bytes:
        return self.make(GET_DEST, server_key(key))

    def set_timeouts(self, wanted: Timeouts) -> bytes:
        """0 keeps the kernel's value."""
        kinds = (_TIMEOUT_TCP, _TIMEOUT_TCP_FIN, _TIMEOUT_UDP)
        return self.make(SET_CONFIG, *(netlink.u32(kind, value) for kind, value in zip(kinds, wanted, strict=True)))


def server_key(key: ServerKey) -> bytes:
    """The nested attribute that names a server."""
    if isinstance(key, MarkServerKey):
        family = _FAMILY[_SIZES[key.family]][0]
        return _MARK_KEY.pack(_MARK_KEY.size, _SERVICE | netlink.NLA_F_NESTED, 6, _AF, family, 8, _FWMARK, key.mark)
    size = len(key.address)
    form = _KEY[size]
    return form.pack(
        *(form.size, _SERVICE | netlink.NLA_F_NESTED, 6, _AF, _FAMILY[size][0], 6, _PROTOCOL, key.protocol),
        *(4 + size, _ADDR, key.address, 6, _PORT, key.port.to_bytes(2, "big")),
    )


def target(key: DestinationKey, destination: Destination) -> bytes:
    """The nested attribute of a destination with its values, for NEW_DEST and SET_DEST."""
    address, port = key
    head, tail = _around(len(address), port, destination)
    return head + address + tail


@lru_cache(maxsize=1024)
def _around(size: int, port: int, destination: Destination) -> tuple[bytes, bytes]:
    """What comes before and after the address: the same for thousands of destinations, which share port and values."""
    form = _TARGET[size]
    whole = form.pack(
        *(form.size, _DEST | netlink.NLA_F_NESTED, 4 + size, 1, bytes(size), 6, 2, port.to_bytes(2, "big")),
        *(8, 3, destination.forwarding, 8, 4, destination.weight, 8, 5, 0, 8, 6, 0),
        *(6, _DEST_AF, _FAMILY[size][0]),
    )
    return whole[:8], whole[8 + size :]


def target_key(key: DestinationKey) -> bytes:
    """The nested attribute that names a destination, for DEL_DEST."""
    size = len(key.address)
    form = _TARGET_KEY[size]
    return form.pack(
        *(form.size, _DEST | netlink.NLA_F_NESTED, 4 + size, 1, key.address),
        *(6, 2, key.port.to_bytes(2, "big"), 6, _DEST_AF, _FAMILY[size][0]),
    )


# -- Answers of the kernel ---------------------------------------------------------------------------------------------


def parse_service(payload: memoryview) -> Service:
    """One answer to GET_SERVICE. Raises ValueError for bytes that are none."""
    found = _inside(payload, _SERVICE)
    try:
        size = 16 if _number(found[_AF]) == socket.AF_INET6 else 4
        flags = _number(found[_FLAGS][:4])
        persistent = bool(flags & PERSISTENT)
        unusual = _PE_NAME in found or (persistent and _number(found[_NETMASK]) != _FAMILY[size][1])
        key: ServerKey
        if _ADDR in found:
            port = int.from_bytes(found[_PORT], "big")
            key = VirtualServerKey(_number(found[_PROTOCOL]), bytes(found[_ADDR][:size]), port)
        else:
            key = MarkServerKey(_number(found[_FWMARK]), 6 if size == 16 else 4)
        return Service(
            key=key,
            scheduler=sys.intern(netlink.string(found[_SCHEDULER])),
            flags=flags & ~_HASHED | (UNUSUAL if unusual else 0),
            timeout=_number(found[_TIMEOUT]) if persistent else 0,
        )
    except KeyError as missing:
        raise ValueError(f"an IPVS service without attribute {missing}") from None


def parse_connections(payload: memoryview, family: int) -> tuple[DestinationKey, Destination, Connections]:
    """One answer to GET_DEST of a server of that family. Raises ValueError for bytes that are none."""
    found = _inside(payload, _DEST)
    try:
        size = 16 if (_number(found[_DEST_AF]) == socket.AF_INET6 if _DEST_AF in found else family == 6) else 4
        key = DestinationKey(bytes(found[1][:size]), int.from_bytes(found[2], "big"))
        destination = Destination(_number(found[4]), _forwarding(_number(found[3])))
        counters = Connections(_number(found[_ACTIVE]), _number(found[_INACTIVE]), _number(found[_PERSIST]))
        return key, destination, counters
    except KeyError as missing:
        raise ValueError(f"an IPVS destination without attribute {missing}") from None


# What every kernel tells first of a destination: address, port, forwarding method and weight, each behind its header.
_ROW = struct.Struct("=8xI16sI2sxxIIII")
_ROW_HEADS = tuple(struct.unpack("=I", struct.pack("=HH", *head))[0] for head in ((20, 1), (6, 2), (8, 3), (8, 4)))


def parse_destinations(answers: Iterable[memoryview], server: ServerKey) -> dict[DestinationKey, Destination]:
    """All answers to GET_DEST of that server, without counters. Raises ValueError for bytes that are none."""
    family = server_family(server)
    size = _SIZES[family]
    values: dict[int, Destination] = {}
    found: dict[DestinationKey, Destination] = {}
    for payload in answers:
        if len(payload) >= _ROW.size:
            head1, address, head2, port, head3, method, head4, weight = _ROW.unpack_from(payload)
            # A masqueraded one has its server's family; only tunnels may cross.
            if (head1, head2, head3, head4) == _ROW_HEADS and not method & 7:
                value = values.get(weight)
                if value is None:
                    value = values[weight] = Destination(weight)
                found[_new(DestinationKey, (address[:size], int.from_bytes(port, "big")))] = value
                continue
        key, value, _ = parse_connections(payload, family)
        found[key] = value
    return found


def parse_statistics(payload: memoryview) -> Statistics | None:
    """The counters in one answer to GET_SERVICE; None where the kernel tells none (before Linux 4.0)."""
    stats = _inside(payload, _SERVICE).get(_STATS64)
    if stats is None:
        return None
    found = netlink.attributes(stats)
    return Statistics(*(_number(found[kind]) if kind in found else 0 for kind in range(1, 11)))


def parse_timeouts(payload: memoryview) -> Timeouts:
    found = netlink.attributes(payload, 4)
    kinds = (_TIMEOUT_TCP, _TIMEOUT_TCP_FIN, _TIMEOUT_UDP)
    return Timeouts(*(_number(found[kind]) if kind in found else 0 for kind in kinds))


def _inside(payload: memoryview, kind: int) -> dict[int, memoryview]:
    outer = netlink.attributes(payload, 4).get(kind)
    if outer is None:
        raise ValueError("an IPVS answer without its object")
    return netlink.attributes(outer)


def _number(value: memoryview) -> int:
    return int.from_bytes(value, sys.byteorder)


def _forwarding(method: int) -> Forwarding:
    """Local (1) is what old kernels made of a masqueraded destination on the node itself; bypass (4) has no address."""
    method &= 7
    return Forwarding(method) if method in (0, 2, 3) else Forwarding.MASQUERADE
