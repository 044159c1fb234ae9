"""Owns the layout of rtnetlink's messages about routes and policy rules, both ways. As rtnetlink.py.

The router's own routes are packed in route_codec.py.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Final, NamedTuple

from kuberouter_py.kernel import netlink
from kuberouter_py.kernel.netlink import NLM_F_REQUEST
from kuberouter_py.kernel.rtnetlink import AF_INET, AF_INET6, RT_SCOPE_UNIVERSE, RTM_GETROUTE, RTM_GETRULE

RT_TABLE_MAIN, RT_TABLE_LOCAL = 254, 255
RTN_LOCAL: Final = 2
RTPROT_KERNEL: Final = 2
_RT_SCOPE_HOST = 254
_RTM_F_FIB_MATCH = 0x2000  # answer with the table's entry, not with the route made of it
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, _RTA_TABLE, _RTA_MARK = 1, 4, 5, 6, 7, 15, 16
_FRA_SRC, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK, _FRA_PROTOCOL = 2, 6, 10, 15, 16, 21
_FR_ACT_TO_TBL: Final = 1

ROUTE = struct.Struct("=8BI")  # family, lengths of dst and src, tos, table, protocol, scope, type; flags
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")


class RouteMessage(NamedTuple):
    """destination: b"" for a default route. link 0: none, or several (multipath). metric: of IPv6 never 0, but for the
    kernel's own.
    """

    destination: bytes
    prefix: int
    link: int
    source: bytes
    protocol: int
    type: int
    table: int
    gateway: bytes = b""
    metric: int = 0


class RuleMessage(NamedTuple):
    """`ip rule`: packets with such a mark, or from such a network, look into a table. mask 0: whatever the mark;
    source_prefix 0: wherever from.
    """

    priority: int
    mark: int
    mask: int
    table: int
    protocol: int
    source: bytes = b""
    source_prefix: int = 0


# -- Routes ------------------------------------------------------------------------------------------------------------


@cache
def _route_layout(size: int, with_source: bool) -> struct.Struct:
    return struct.Struct(f"=IHHII8BIHH{size}sHHI" + (f"HH{size}s" if with_source else ""))


def local_route(kind: int, flags: int, link: int, address: bytes, source: bytes, protocol: int) -> bytes:
    """`ip route … local ADDRESS dev LINK table local src SOURCE proto PROTOCOL`; kind: RTM_NEWROUTE or RTM_DELROUTE.

    source b"": not named. IPv6 gives it metric 1024, the kernel's own has 0 and wins.
    """
    size = len(address)
    layout = _route_layout(size, bool(source))
    family, scope = (AF_INET, _RT_SCOPE_HOST) if size == 4 else (AF_INET6, RT_SCOPE_UNIVERSE)
    head = (
        layout.size, kind, flags | NLM_F_REQUEST, 0, 0,
        family, size * 8, 0, 0, RT_TABLE_LOCAL, protocol, scope, RTN_LOCAL, 0,
        4 + size, RTA_DST, address, 8, RTA_OIF, link,
    )  # fmt: skip
    return layout.pack(*head, 4 + size, RTA_PREFSRC, source) if source else layout.pack(*head)


def local_routes(family: int, link: int = 0) -> bytes:
    """A dump of table local; family 4 or 6; link: those by way of it only (where the socket is strict)."""
    header = ROUTE.pack(AF_INET if family == 4 else AF_INET6, 0, 0, 0, RT_TABLE_LOCAL, 0, 0, RTN_LOCAL, 0)
    return netlink.message(RTM_GETROUTE, 0, header, *([netlink.u32(RTA_OIF, link)] if link else []))


def route_to(address: bytes) -> bytes:
    """Asks for the entry of the routing tables that a packet to `address` meets; ENETUNREACH where there is none.

    The table that IPv4 names in its answer is always main's.
    """
    return _ask_route(address, _RTM_F_FIB_MATCH)


def way_to(address: bytes, mark: int = 0) -> bytes:
    """Asks how a packet of this node would go to `address`: its link, and the source that it would be given."""
    return _ask_route(address, 0, netlink.u32(_RTA_MARK, mark) if mark else b"")


def _ask_route(address: bytes, flags: int, more: bytes = b"") -> bytes:
    family = AF_INET if len(address) == 4 else AF_INET6
    header = ROUTE.pack(family, len(address) * 8, 0, 0, 0, 0, 0, 0, flags)
    return netlink.message(RTM_GETROUTE, 0, header, netlink.attribute(RTA_DST, address), more)


def read_route(payload: memoryview) -> RouteMessage:
    _, prefix, _, _, table, protocol, _, type_, _ = ROUTE.unpack_from(payload)
    destination = source = gateway = b""
    link = metric = 0
    offset, end = 12, len(payload)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(payload, offset)
        if length < 4:
            break
        if kind == RTA_DST:
            destination = bytes(payload[offset + 4 : offset + length])
        elif kind == RTA_OIF:
            link = _U32.unpack_from(payload, offset + 4)[0]
        elif kind == RTA_PRIORITY:
            metric = _U32.unpack_from(payload, offset + 4)[0]
        elif kind == RTA_GATEWAY:
            gateway = bytes(payload[offset + 4 : offset + length])
        elif kind == RTA_PREFSRC:
            source = bytes(payload[offset + 4 : offset + length])
        elif kind == _RTA_TABLE:
            table = _U32.unpack_from(payload, offset + 4)[0]
        offset += (length + 3) & ~3
    return RouteMessage(destination, prefix, link, source, protocol, type_, table, gateway, metric)


def local_default(kind: int, flags: int, family: int, table: int, link: int, protocol: int) -> bytes:
    """`ip route … local default dev LINK table TABLE proto PROTOCOL`: whatever looks there is this node's own."""
    af, scope = (AF_INET, _RT_SCOPE_HOST) if family == 4 else (AF_INET6, RT_SCOPE_UNIVERSE)
    header = ROUTE.pack(af, 0, 0, 0, table, protocol, scope, RTN_LOCAL, 0)
    return netlink.message(kind, flags, header, netlink.u32(RTA_OIF, link))


def routes_of_table(family: int, table: int, protocol: int = 0) -> bytes:
    """A dump (of that table only, and of that protocol, where the socket is strict; ENOENT where there is no such
    table).
    """
    header = ROUTE.pack(AF_INET if family == 4 else AF_INET6, 0, 0, 0, table, protocol, 0, 0, 0)
    return netlink.message(RTM_GETROUTE, 0, header)


# -- Policy rules ------------------------------------------------------------------------------------------------------


def policy_rule(kind: int, flags: int, family: int, rule: RuleMessage) -> bytes:
    """`ip rule … [from SOURCE] [fwmark MARK/MASK] lookup TABLE pref PRIORITY protocol PROTOCOL`. In a deletion what is
    not named may be anything.
    """
    af = AF_INET if family == 4 else AF_INET6
    # struct fib_rule_hdr: of the same layout
    header = ROUTE.pack(af, 0, rule.source_prefix, 0, rule.table, 0, 0, _FR_ACT_TO_TBL, 0)
    source = netlink.attribute(_FRA_SRC, rule.source) if rule.source_prefix else b""
    mark = netlink.u32(_FRA_FWMARK, rule.mark) + netlink.u32(_FRA_FWMASK, rule.mask) if rule.mask else b""
    return netlink.message(
        kind, flags, header,
        source, netlink.u32(_FRA_PRIORITY, rule.priority), mark, netlink.u8(_FRA_PROTOCOL, rule.protocol),
    )  # fmt: skip


def all_rules(family: int) -> bytes:
    """A dump."""
    return netlink.message(RTM_GETRULE, 0, ROUTE.pack(AF_INET if family == 4 else AF_INET6, *[0] * 8))


def read_rule(payload: memoryview) -> RuleMessage:
    found = netlink.attributes(payload, ROUTE.size)
    priority, mark, mask = (
        _U32.unpack_from(found[kind])[0] if kind in found else 0 for kind in (_FRA_PRIORITY, _FRA_FWMARK, _FRA_FWMASK)
    )
    table = _U32.unpack_from(found[_FRA_TABLE])[0] if _FRA_TABLE in found else payload[4]
    protocol = found[_FRA_PROTOCOL][0] if _FRA_PROTOCOL in found else 0
    source = bytes(found.get(_FRA_SRC, b""))
    return RuleMessage(priority, mark, mask, table, protocol, source, payload[2])
