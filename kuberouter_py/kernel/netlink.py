"""Netlink's messages: their header, the packing and unpacking of attributes, and the numbers that all families share.

What messages mean is left to ipvs_codec.py, ipset_codec.py, rtnetlink.py and the like; netlink_socket.py sends them.
pyroute2 is not used for it: encoding a message takes it 0.2 ms, its import 25 MB. Native byte order throughout; what
the kernel wants in network order says so by name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

# Message flags (include/uapi/linux/netlink.h).
NLM_F_REQUEST = 0x0001
NLM_F_ACK = 0x0004
NLM_F_DUMP_INTR = 0x0010
NLM_F_DUMP = 0x0300
NLM_F_REPLACE = 0x0100
NLM_F_EXCL = 0x0200
NLM_F_CREATE = 0x0400

NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE, NLMSG_OVERRUN = 1, 2, 3, 4
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_ATTRIBUTE = struct.Struct("=HH")  # length with these four bytes, type


def message(kind: int, flags: int, *parts: bytes) -> bytes:
    """A whole message: header (NLM_F_REQUEST added) and parts, each already padded to four bytes."""
    body = b"".join(parts)
    return HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST, 0, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = len(value)
    return _ATTRIBUTE.pack(4 + length, kind) + value + b"\0" * (-length & 3)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute made of attributes. Raises ValueError past 64 KiB, where the length field would wrap."""
    body = b"".join(parts)
    if len(body) > 0xFFFF - 4:
        raise ValueError(f"nested attribute {kind} of {len(body)} bytes does not fit its 16-bit length")
    return _ATTRIBUTE.pack(4 + len(body), kind | NLA_F_NESTED) + body


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=B", value))


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def be16(kind: int, value: int) -> bytes:
    """Network byte order, as IPVS and ipset have ports."""
    return attribute(kind, struct.pack(">H", value))


def be32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def text(kind: int, value: str) -> bytes:
    """NUL-terminated."""
    return attribute(kind, value.encode() + b"\0")


def attributes(data: memoryview, offset: int = 0) -> dict[int, memoryview]:
    """Attributes by type (without the type's flags); of repeated ones the last. Stops where the data is cut short."""
    found = {}
    end, unpack = len(data), _ATTRIBUTE.unpack_from
    while offset + 4 <= end:
        length, kind = unpack(data, offset)
        if length < 4 or offset + length > end:
            break
        found[kind & NLA_TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def each_attribute(data: memoryview, offset: int = 0) -> Iterator[tuple[int, memoryview]]:
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            return
        yield kind & NLA_TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def string(value: memoryview) -> str:
    """A NUL-terminated string attribute."""
    return bytes(value).split(b"\0", 1)[0].decode(errors="replace")


def messages(data: memoryview, size: int) -> Iterator[tuple[int, int, int, memoryview]]:
    """(type, flags, sequence, payload) of each message in a datagram of that size."""
    offset = 0
    while offset + 16 <= size:
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        if length < 16 or offset + length > size:
            return
        if kind not in (NLMSG_NOOP, NLMSG_OVERRUN):
            yield kind, flags, sequence, data[offset + 16 : offset + length]
        offset += (length + 3) & ~3
