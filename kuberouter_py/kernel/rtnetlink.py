"""Owns the layout of rtnetlink's messages (rtnetlink(7), include/uapi/linux/{rtnetlink,if_link,if_addr}.h), both ways.

Here links and addresses, and the numbers of all messages; routes and policy rules are in rtnetlink_routes.py. Pure:
bytes in, bytes out. Which messages to send is left to links.py, routes.py, diversions.py, pod_addresses.py, bridge.py
and monitor.py, the sending to netlink_socket.py. What goes by the ten thousand is packed in one step.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
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
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253

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
_FOREVER: Final = 0xFFFF_FFFF  # INFINITY_LIFE_TIME

_IFINFO = struct.Struct("=BxHiII")  # family, device type, index, flags, mask of flags to change
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
