"""ipset in bytes: nfnetlink messages both ways, entries of every set type that we use, error numbers.

Pure functions over bytes; sockets and decisions are ipset.py's. Layouts: include/uapi/linux/netfilter/ipset/ip_set.h.
An entry's parts decide its encoding, so that nobody has to ask the kernel for a set's type before writing to it.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from kuberouter_py.kernel import netlink, netlink_socket
from kuberouter_py.model.kernel import NOMATCH, IpSet, MemberValue, SetEntry

CREATE, DESTROY, SWAP, LIST, ADD, DEL, TEST, TYPE = 2, 3, 6, 7, 9, 10, 11, 13
_SUBSYSTEM = 6 << 8  # NFNL_SUBSYS_IPSET
_PROTOCOL_VERSION = 6  # every kernel takes 6; 7 (Linux 4.20) adds nothing that we use

# Attributes of a command, of a set's header, of an entry.
_PROTOCOL, _NAME, _TYPE, _REVISION, _FAMILY, _FLAGS, _DATA, _ADT, _LINE, _REVISION_MIN = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
_NAME2 = 3
_MAXELEM, _HEADER_TIMEOUT, _CADT_FLAGS, _HEADER_NETMASK, _MARKMASK, _BITMASK = 19, 6, 8, 20, 11, 12
_IP, _CIDR, _PORT, _ENTRY_PROTOCOL, _IP2, _CIDR2, _BYTES, _PACKETS, _SKBMARK = 1, 3, 4, 7, 20, 21, 24, 25, 27
_LIST_HEADER = 1 << 2

# Flags of a header that change what an entry is or costs; 3..6 of ip_set.h's enum ipset_cadt_flags.
_OPTION_FLAGS = {1 << 3: "counters", 1 << 4: "comment", 1 << 5: "forceadd", 1 << 6: "skbinfo"}
_FLAGS_OF = {word: bit for bit, word in _OPTION_FLAGS.items()}
# The lowest revision that can what we want: SCTP for ports (1), counters of addresses (1), nomatch for networks (2),
# marks (5). A low one, because an older `ipset list` refuses the whole listing over one set of a revision that it does
# not know (no one knows the lowest of hash:ip,port,net).
_REVISIONS = {
    "hash:ip": 0,
    "hash:ip counters": 1,
    "hash:ip,port": 1,
    "hash:ip,port skbinfo": 5,
    "hash:ip,port,ip": 1,
    "hash:ip,port,net": 1,
    "hash:net": 2,
}

ERR_FIND_TYPE, ERR_BUSY, ERR_TYPE_MISMATCH, ERR_EXIST = 4098, 4100, 4102, 4103
ERR_HASH_FULL = 4352
_ERRORS = {
    4097: "malformed message",
    ERR_FIND_TYPE: "the kernel has no such set type",
    4099: "the kernel holds no more sets",
    ERR_BUSY: "in use",
    4101: "a set with the second name exists",
    ERR_TYPE_MISMATCH: "the two sets have different types",
    ERR_EXIST: "exists already",
    4104: "invalid prefix length",
    4105: "invalid netmask",
    4106: "invalid family",
    4107: "the set has no timeouts",
    4108: "referenced",
    4109: "an IPv4 address is missing: the set is of family inet",
    4110: "an IPv6 address is missing: the set is of family inet6",
    ERR_HASH_FULL: "the set is full (maxelem)",
    4354: "invalid protocol",
    4355: "protocol missing: the set holds ports",
}

ENTRIES_A_MESSAGE = 400  # the largest entry takes 88 bytes, the attribute around them at most 65,535

# 0x4000 says "network byte order": the kernel refuses addresses, ports and numbers without it.
_ORDER = 0x4000
_IP_HEAD, _IP2_HEAD = (
    {
        size: struct.pack("=HHHH", 8 + size, kind | netlink.NLA_F_NESTED, 4 + size, number | _ORDER)
        for size, number in ((4, 1), (16, 2))
    }
    for kind in (_IP, _IP2)
)
_CIDR_PART, _CIDR2_PART = (
    [struct.pack("=HHBxxx", 5, kind | _ORDER, prefix) for prefix in range(129)] for kind in (_CIDR, _CIDR2)
)
_LINES = [netlink.be32(_LINE, line) for line in range(ENTRIES_A_MESSAGE + 1)]
_DATA_HEAD = [struct.pack("=HH", length, _DATA | netlink.NLA_F_NESTED) for length in range(128)]
_NOMATCH = 1 << 2  # of an entry's _CADT_FLAGS
_NOMATCH_PART = netlink.be32(_CADT_FLAGS | _ORDER, _NOMATCH)
# The kernel gives a new member the place, and with it the counters, of one that went, unless it is told of others.
_AT_ZERO = netlink.attribute(_BYTES | _ORDER, bytes(8)) + netlink.attribute(_PACKETS | _ORDER, bytes(8))
_ports: dict[tuple[int, int], bytes] = {}

# What the kernel sends of an entry, by set type and size of address: its whole length, then its parts. Big-endian, so
# the native length is compared swapped. IP2 comes before the port here. Then: from such a row to a SetEntry's fields.
_ROWS: dict[tuple[str, int], tuple[struct.Struct, Callable[[tuple[Any, ...]], tuple[Any, ...]]]] = {
    ("hash:ip", 4): (struct.Struct(">H10x4s"), lambda row: (row[1], 0, 0, b"", -1)),
    ("hash:ip", 16): (struct.Struct(">H10x16s"), lambda row: (row[1], 0, 0, b"", -1)),
    ("hash:ip,port", 4): (struct.Struct(">H10x4s4xH2x4xB3x"), lambda row: (row[1], row[3], row[2], b"", -1)),
    ("hash:ip,port", 16): (struct.Struct(">H10x16s4xH2x4xB3x"), lambda row: (row[1], row[3], row[2], b"", -1)),
    ("hash:ip,port,ip", 4): (
        struct.Struct(">H10x4s8x4s4xH2x4xB3x"),
        lambda row: (row[1], row[4], row[3], row[2], -1),
    ),
    ("hash:ip,port,ip", 16): (
        struct.Struct(">H10x16s8x16s4xH2x4xB3x"),
        lambda row: (row[1], row[4], row[3], row[2], -1),
    ),
    ("hash:net", 4): (struct.Struct(">H10x4s4xB3x"), lambda row: (row[1], 0, 0, b"", row[2])),
    ("hash:net", 16): (struct.Struct(">H10x16s4xB3x"), lambda row: (row[1], 0, 0, b"", row[2])),
}


class Header(NamedTuple):
    """A set as the kernel lists it. options: what follows its type in ipset's notation."""

    name: str
    type: str
    family: int
    maxelem: int
    options: str


def error_text(number: int) -> str:
    return _ERRORS.get(number) or netlink_socket.error_text(number)


# -- Messages to the kernel --------------------------------------------------------------------------------------------


def create(name: str, wanted: IpSet, revision: int) -> bytes:
    """Succeeds when the set exists with just this header; EEXIST when with another. Raises KeyError for an option that
    is no bare word.
    """
    type_name, *options = wanted.type.split()
    flags = sum(_FLAGS_OF[word] for word in options)
    return _message(
        CREATE,
        _name(name),
        netlink.text(_TYPE, type_name),
        netlink.u8(_REVISION, revision),
        netlink.u8(_FAMILY, _kernel_family(wanted.family)),
        netlink.nested(
            _DATA,
            netlink.be32(_MAXELEM | _ORDER, wanted.maxelem),
            netlink.be32(_CADT_FLAGS | _ORDER, flags) if flags else b"",
        ),
    )


def destroy(name: str) -> bytes:
    return _message(DESTROY, _name(name))


def swap(one: str, other: str) -> bytes:
    return _message(SWAP, _name(one), netlink.text(_NAME2, other))


def ask_type(type_name: str, family: int) -> bytes:
    """Which revisions the kernel has; it loads the type's module."""
    return _message(TYPE, netlink.text(_TYPE, type_name), netlink.u8(_FAMILY, _kernel_family(family)))


def list_headers() -> bytes:
    return _message(LIST, netlink.be32(_FLAGS, _LIST_HEADER))


def list_members(name: str) -> bytes:
    return _message(LIST, _name(name))


def members(command: int, name: str, entries: Mapping[SetEntry, MemberValue], *, from_zero: bool = False) -> bytes:
    """Adds or deletes up to ENTRIES_A_MESSAGE, each with what it holds. To add what is there gives it that.

    from_zero: of a set with counters; what is there is refused as ERR_EXIST, and goes on counting. The kernel stops at
    the first that it refuses and tells its line.
    """
    more = _AT_ZERO if from_zero else b""
    parts: list[bytes] = []
    for line, (entry, held) in enumerate(entries.items(), 1):
        packed = (entry_bytes(entry) if held is None else entry_bytes(entry) + _held_part(held)) + more
        parts += (_DATA_HEAD[len(packed) + 12], packed, _LINES[line])
    return _message(command, _name(name), _LINES[0], netlink.nested(_ADT, *parts), new=from_zero)


def member(command: int, name: str, entry: SetEntry, held: MemberValue = None, *, from_zero: bool = False) -> bytes:
    """Just one, with an ordinary answer."""
    more = (_held_part(held), _AT_ZERO if from_zero else b"")
    return _message(command, _name(name), netlink.nested(_DATA, entry_bytes(entry), *more), new=from_zero)


def refused_line(repeated: bytes) -> int:
    """The line number in the answer to `members`; 0 when the message as a whole was refused."""
    found = netlink.attributes(memoryview(repeated), 16 + 4).get(_LINE)
    return _big(found) if found is not None else 0


def entry_bytes(entry: SetEntry) -> bytes:
    """The attributes of an entry. Raises KeyError or IndexError for what is no address or prefix length."""
    address, protocol, port, address2, prefix = entry
    packed = _IP_HEAD[len(address)] + address
    if prefix >= 0 and not address2:
        packed += _CIDR_PART[prefix]
    if protocol:
        packed += _ports.get((protocol, port)) or _port_part(protocol, port)
    if address2:
        packed += _IP2_HEAD[len(address2)] + address2
        if prefix >= 0:
            packed += _CIDR2_PART[prefix]
    return packed


def _port_part(protocol: int, port: int) -> bytes:
    """Kept: thousands of members share a handful of ports."""
    part = struct.pack(
        "=HH2sxxHHBxxx", 6, _PORT | _ORDER, port.to_bytes(2, "big"), 5, _ENTRY_PROTOCOL | _ORDER, protocol
    )
    if len(_ports) > 10_000:
        _ports.clear()
    _ports[protocol, port] = part
    return part


def _held_part(held: MemberValue) -> bytes:
    """A mark is set in all its 32 bits, whatever the packet's mark is."""
    if held is None:
        return b""
    if held is NOMATCH:
        return _NOMATCH_PART
    return netlink.attribute(_SKBMARK | _ORDER, struct.pack(">II", held, 0xFFFF_FFFF))


def _message(command: int, *parts: bytes, new: bool = False) -> bytes:
    """With NLM_F_ACK a failed LIST is told of; a batch sets and clears the flag as it needs it. new: what is there
    already is refused.
    """
    flags = (netlink.NLM_F_ACK if command == LIST else 0) | (netlink.NLM_F_EXCL if new else 0)
    header = struct.pack("=BBH", socket.AF_INET, 0, 0)  # struct nfgenmsg; ipset does not look at its family
    return netlink.message(_SUBSYSTEM | command, flags, header, netlink.u8(_PROTOCOL, _PROTOCOL_VERSION), *parts)


def _name(name: str) -> bytes:
    """Never empty: DESTROY without a name destroys every set of the node."""
    if not 0 < len(name.encode()) < 32:
        raise ValueError(f"an ipset's name has 1 to 31 bytes: {name!r}")
    return netlink.text(_NAME, name)


def _kernel_family(family: int) -> int:
    return socket.AF_INET if family == 4 else socket.AF_INET6


# -- Answers of the kernel ---------------------------------------------------------------------------------------------


def parse_revision(payload: memoryview, type_name: str) -> int:
    """The revision to create a set with, from the answer to `ask_type`."""
    found = netlink.attributes(payload, 4)
    highest = found[_REVISION][0] if _REVISION in found else 0
    lowest = found[_REVISION_MIN][0] if _REVISION_MIN in found else 0
    return max(lowest, min(highest, _REVISIONS.get(type_name, lowest)))


def parse_header(payload: memoryview) -> Header | None:
    """None for a message that only goes on with members."""
    found = netlink.attributes(payload, 4)
    if _TYPE not in found or _NAME not in found:
        return None
    data = netlink.attributes(found[_DATA]) if _DATA in found else {}
    options = []
    if _HEADER_TIMEOUT in data:
        options.append(f"timeout {_big(data[_HEADER_TIMEOUT])}")
    flags = _big(data[_CADT_FLAGS]) if _CADT_FLAGS in data else 0
    options += [word for bit, word in _OPTION_FLAGS.items() if flags & bit]
    for kind, word in ((_HEADER_NETMASK, "netmask"), (_MARKMASK, "markmask"), (_BITMASK, "bitmask")):
        if kind in data:
            options.append(f"{word} 0x{bytes(data[kind]).hex()}")
    return Header(
        netlink.string(found[_NAME]),
        sys.intern(netlink.string(found[_TYPE])),
        6 if found[_FAMILY][0] == socket.AF_INET6 else 4,
        _big(data[_MAXELEM]) if _MAXELEM in data else 0,
        " ".join(options),
    )


def parse_members(payload: memoryview, header: Header) -> Iterator[tuple[SetEntry, MemberValue]]:
    """The entries in one answer to `list_members`, of the set with that header, with what they hold.

    In a set with skbinfo 0 says that it has no mark. A mark that leaves bits as they are is none that we set: it is
    told as -1.
    """
    adt = netlink.attributes(payload, 4).get(_ADT)
    if not adt:
        return
    size = 4 if header.family == 4 else 16
    marked = "skbinfo" in header.options
    known = None if marked else _ROWS.get((header.type, size))
    if known is not None and len(adt) % known[0].size == 0:
        form, parts = known
        rows = list(form.iter_unpack(adt))
        length = int.from_bytes(form.size.to_bytes(2, sys.byteorder), "big")
        # Options of the set or of one entry (timeout, comment, nomatch) make it longer; then the slower way is taken.
        if all(row[0] == length for row in rows):
            for row in rows:
                yield tuple.__new__(SetEntry, parts(row)), None
            return
    for _, data in netlink.each_attribute(adt):
        found = netlink.attributes(data)
        yield _parse_entry(found), _parse_mark(found) if marked else _parse_flags(found)


def parse_counters(payload: memoryview) -> Iterator[tuple[SetEntry, tuple[int, int]]]:
    """Packets and bytes of each entry in one answer to `list_members`; of none in a set without counters."""
    adt = netlink.attributes(payload, 4).get(_ADT)
    for _, data in netlink.each_attribute(adt or memoryview(b"")):
        found = netlink.attributes(data)
        if _PACKETS in found and _BYTES in found:
            yield _parse_entry(found), (_big(found[_PACKETS]), _big(found[_BYTES]))


def _parse_mark(found: dict[int, memoryview]) -> int:
    mark, mask = struct.unpack(">II", found[_SKBMARK]) if _SKBMARK in found else (0, 0)
    return mark if not mark or mask == 0xFFFF_FFFF else -1


def _parse_flags(found: dict[int, memoryview]) -> MemberValue:
    return NOMATCH if _CADT_FLAGS in found and _big(found[_CADT_FLAGS]) & _NOMATCH else None


def _parse_entry(found: dict[int, memoryview]) -> SetEntry:
    return SetEntry(
        _parse_address(found[_IP]) if _IP in found else b"",  # bitmap:port
        found[_ENTRY_PROTOCOL][0] if _ENTRY_PROTOCOL in found else 0,
        _big(found[_PORT]) if _PORT in found else 0,
        _parse_address(found[_IP2]) if _IP2 in found else b"",
        next((found[kind][0] for kind in (_CIDR, _CIDR2) if kind in found), -1),
    )


def _parse_address(nested: memoryview) -> bytes:
    return bytes(nested[4:])


def _big(value: memoryview) -> int:
    return int.from_bytes(value, "big")
