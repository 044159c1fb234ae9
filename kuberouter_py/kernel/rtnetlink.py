"""Owns the layout of rtnetlink's messages (rtnetlink(7), include/uapi/linux/{rtnetlink,if_link,if_addr}.h), both ways.

Pure: bytes in, bytes out. Which messages to send is left to links.py, routes.py, diversions.py, pod_addresses.py,
bridge.py and monitor.py, the sending to netlink.py; the router's own routes are packed in route_codec.py. What goes by
the ten thousand is packed in one step.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache
from typing import Final, NamedTuple

from kuberouter_py.kernel import netlink
from kuberouter_py.kernel.netlink import NLM_F_REQUEST

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34

AF_UNSPEC, AF_BRIDGE, AF_INET, AF_INET6 = 0, 7, 2, 10
IFF_UP: Final = 0x1
IFF_LOOPBACK: Final = 0x8
IFF_NOARP: Final = 0x80
IFF_PROMISC: Final = 0x100
RT_TABLE_MAIN, RT_TABLE_LOCAL = 254, 255
RTN_LOCAL: Final = 2
RTPROT_KERNEL: Final = 2
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, _RT_SCOPE_HOST = 0, 253, 254
_RTM_F_FIB_MATCH = 0x2000  # answer with the table's entry, not with the route made of it

IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_PROTINFO, IFLA_LINKINFO, IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_EXT_MASK = (
    3, 4, 10, 12, 18, 20, 26, 29,
)  # fmt: skip
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
_IFLA_IPTUN_LOCAL, _IFLA_IPTUN_PROTO = 2, 9  # if_tunnel.h
_IPPROTO_IPV6: Final = 41
IFLA_INET_CONF: Final = 1
# Numbers of an IPv4 link's settings (ip.h); told as an array, in which the first has index 0.
CONF_RP_FILTER, CONF_ARP_IGNORE = 8, 19
_RTEXT_FILTER_SKIP_STATS = 1 << 3
IFLA_BRPORT_MODE: Final = 4  # hairpin mode
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 6, 8
_IFA_F_NODAD, _IFA_F_TENTATIVE, _IFA_F_NOPREFIXROUTE = 0x02, 0x40, 0x200
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, _RTA_TABLE, _RTA_MARK = 1, 4, 5, 6, 7, 15, 16
_FRA_SRC, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK, _FRA_PROTOCOL = 2, 6, 10, 15, 16, 21
_FR_ACT_TO_TBL: Final = 1
_FOREVER: Final = 0xFFFF_FFFF  # INFINITY_LIFE_TIME

_IFINFO = struct.Struct("=BxHiII")  # family, device type, index, flags, mask of flags to change
ROUTE = struct.Struct("=8BI")  # family, lengths of dst and src, tos, table, protocol, scope, type; flags
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, link


class LinkMessage(NamedTuple):
    """kind: "" for no virtual device. master: index, 0 for none. hairpin: where the message tells (AF_BRIDGE)."""

    family: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody misses here
    name: str
    kind: str
    flags: int
    master: int
    hairpin: bool | None
    alias: str = ""
    tunnel_from: bytes = b""  # our end of a tunnel, where one is named
    settings: tuple[int, ...] = ()  # of IPv4, by CONF_… - 1
    mtu: int = 0


class AddressMessage(NamedTuple):
    """tentative: IPv6, before it is proved that nobody else has it; no source until then."""

    link: int
    address: bytes
    prefix: int
    tentative: bool


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


# -- Links -------------------------------------------------------------------------------------------------------------


def get_link(name: str) -> bytes:
    return netlink.message(RTM_GETLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0), netlink.text(IFLA_IFNAME, name))


def all_links(family: int = AF_UNSPEC) -> bytes:
    """A dump. AF_BRIDGE: bridge ports only, each with its hairpin mode."""
    return netlink.message(
        RTM_GETLINK, 0, _IFINFO.pack(family, 0, 0, 0, 0), netlink.u32(IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    )


def new_link(name: str, kind: str, up: bool) -> bytes:
    flags = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
    information = netlink.nested(IFLA_LINKINFO, netlink.text(IFLA_INFO_KIND, kind))
    header = _IFINFO.pack(0, 0, 0, IFF_UP if up else 0, IFF_UP)
    return netlink.message(RTM_NEWLINK, flags, header, netlink.text(IFLA_IFNAME, name), information)


def new_tunnel(name: str, kind: str, local: bytes) -> bytes:
    """Receives what anybody sends to `local` with another packet inside; kind: "ipip" (IPv4) or "ip6tnl" (IPv6)."""
    data = netlink.attribute(_IFLA_IPTUN_LOCAL, local)
    if len(local) == 16:
        data += netlink.u8(_IFLA_IPTUN_PROTO, _IPPROTO_IPV6)
    information = netlink.nested(
        IFLA_LINKINFO, netlink.text(IFLA_INFO_KIND, kind), netlink.nested(IFLA_INFO_DATA, data)
    )
    flags = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
    return netlink.message(
        RTM_NEWLINK, flags, _IFINFO.pack(0, 0, 0, 0, 0), netlink.text(IFLA_IFNAME, name), information
    )


def describe(name: str, alias: str) -> bytes:
    """What `ip link` shows as alias: at most 255 bytes (IFALIASZ)."""
    header = _IFINFO.pack(0, 0, 0, 0, 0)
    return netlink.message(RTM_SETLINK, 0, header, netlink.text(IFLA_IFNAME, name), netlink.text(IFLA_IFALIAS, alias))


def adjust_link(name: str, mtu: int) -> bytes:
    """Up, with this MTU; 0: as it is."""
    header = _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP)
    size = netlink.u32(IFLA_MTU, mtu) if mtu else b""
    return netlink.message(RTM_SETLINK, 0, header, netlink.text(IFLA_IFNAME, name), size)


def set_ipv4(link: int, setting: int, value: int) -> bytes:
    """One of /proc/sys/net/ipv4/conf/LINK/…, in whichever namespace the socket is."""
    conf = netlink.nested(IFLA_INET_CONF, netlink.u32(setting, value))
    spec = netlink.nested(IFLA_AF_SPEC, netlink.nested(AF_INET, conf))
    return netlink.message(RTM_SETLINK, 0, _IFINFO.pack(0, 0, link, 0, 0), spec)


def set_up(link: int, up: bool) -> bytes:
    return netlink.message(RTM_NEWLINK, 0, _IFINFO.pack(0, 0, link, IFF_UP if up else 0, IFF_UP))


def delete_link(link: int) -> bytes:
    return netlink.message(RTM_DELLINK, 0, _IFINFO.pack(0, 0, link, 0, 0))


def delete_named(name: str) -> bytes:
    return netlink.message(RTM_DELLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0), netlink.text(IFLA_IFNAME, name))


def set_hairpin(port: int, on: bool) -> bytes:
    mode = netlink.nested(IFLA_PROTINFO, netlink.u8(IFLA_BRPORT_MODE, int(on)))
    return netlink.message(RTM_SETLINK, 0, _IFINFO.pack(AF_BRIDGE, 0, port, 0, 0), mode)


def read_link(payload: memoryview) -> LinkMessage:
    family, _, index, flags, _ = _IFINFO.unpack_from(payload)
    found = netlink.attributes(payload, _IFINFO.size)
    information = netlink.attributes(found[IFLA_LINKINFO]) if IFLA_LINKINFO in found else {}
    kind = netlink.string(information[IFLA_INFO_KIND]) if IFLA_INFO_KIND in information else ""
    hairpin = None
    if family == AF_BRIDGE and IFLA_PROTINFO in found:
        mode = netlink.attributes(found[IFLA_PROTINFO]).get(IFLA_BRPORT_MODE)
        hairpin = bool(mode[0]) if mode else None
    master = _U32.unpack_from(found[IFLA_MASTER])[0] if IFLA_MASTER in found else 0
    name = netlink.string(found[IFLA_IFNAME]) if IFLA_IFNAME in found else ""
    alias = netlink.string(found[IFLA_IFALIAS]) if IFLA_IFALIAS in found else ""
    mtu = _U32.unpack_from(found[IFLA_MTU])[0] if IFLA_MTU in found else 0
    return LinkMessage(
        family, index, name, kind, flags, master, hairpin, alias, _tunnel_from(information), _ipv4_settings(found), mtu
    )


def _tunnel_from(information: Mapping[int, memoryview]) -> bytes:
    data = netlink.attributes(information[IFLA_INFO_DATA]) if IFLA_INFO_DATA in information else {}
    return bytes(data.get(_IFLA_IPTUN_LOCAL, b""))


def _ipv4_settings(found: Mapping[int, memoryview]) -> tuple[int, ...]:
    families = netlink.attributes(found[IFLA_AF_SPEC]) if IFLA_AF_SPEC in found else {}
    conf = netlink.attributes(families[AF_INET]).get(IFLA_INET_CONF) if AF_INET in families else None
    return struct.unpack(f"={len(conf) // 4}I", conf) if conf is not None else ()


# -- Addresses ---------------------------------------------------------------------------------------------------------

_ADDRESS_4 = struct.Struct("=IHHII BBBBI HH4s".replace(" ", ""))
_ADDRESS_6 = struct.Struct("=IHHII BBBBI HH16s HHI HHIIII".replace(" ", ""))


def new_address(link: int, address: bytes) -> bytes:
    """A /32 or /128; EEXIST where it is there.

    IPv4 has scope link and IPv6 is deprecated from the start (preferred for 0 s, valid for ever): both say that the
    kernel shall not pick it as a source by itself. Without duplicate address detection, which would keep it unusable
    for a second.
    """
    flags = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL | NLM_F_REQUEST
    if len(address) == 4:
        return _ADDRESS_4.pack(
            _ADDRESS_4.size, RTM_NEWADDR, flags, 0, 0, AF_INET, 32, 0, RT_SCOPE_LINK, link, 8, _IFA_LOCAL, address
        )
    return _ADDRESS_6.pack(
        _ADDRESS_6.size, RTM_NEWADDR, flags, 0, 0,
        AF_INET6, 128, _IFA_F_NODAD, RT_SCOPE_UNIVERSE, link, 20, _IFA_ADDRESS, address,
        8, _IFA_FLAGS, _IFA_F_NODAD | _IFA_F_NOPREFIXROUTE, 20, _IFA_CACHEINFO, 0, _FOREVER, 0, 0,
    )  # fmt: skip


def delete_address(link: int, address: bytes) -> bytes:
    """EADDRNOTAVAIL where it is not there."""
    family, prefix, local = (AF_INET, 32, _IFA_LOCAL) if len(address) == 4 else (AF_INET6, 128, _IFA_ADDRESS)
    header = _ADDRESS.pack(family, prefix, 0, 0, link)
    return netlink.message(RTM_DELADDR, 0, header, netlink.attribute(local, address))


def all_addresses(link: int = 0) -> bytes:
    """A dump of both families; link: of that one only (where the socket is strict)."""
    return netlink.message(RTM_GETADDR, 0, _ADDRESS.pack(AF_UNSPEC, 0, 0, 0, link))


def read_address(payload: memoryview) -> AddressMessage:
    """address: our own end, also of a point-to-point link."""
    _, prefix, flags, _, link = _ADDRESS.unpack_from(payload)
    local = peer = b""
    offset, end = 8, len(payload)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(payload, offset)
        if length < 4:
            break
        if kind == _IFA_LOCAL:
            local = bytes(payload[offset + 4 : offset + length])
        elif kind == _IFA_ADDRESS:
            peer = bytes(payload[offset + 4 : offset + length])
        offset += (length + 3) & ~3
    return AddressMessage(link, local or peer, prefix, bool(flags & _IFA_F_TENTATIVE))


def is_link_local(address: bytes) -> bool:
    """Of IPv6: every link has one, the kernel's own."""
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


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
