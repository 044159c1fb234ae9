"""Owns the layout of a tunnel's link messages (include/uapi/linux/if_tunnel.h), both ways.

Pure: bytes in, bytes out. All that is alike in every tunnel of ours is fixed here; which tunnels there are is left to
kernel/tunnels.py.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from kuberouter_py.kernel import netlink, rtnetlink
from kuberouter_py.kernel.rtnetlink import AF_INET, CONF_RP_FILTER, IFF_UP, IFLA_INFO_DATA, IFLA_INFO_KIND, LinkMessage
from kuberouter_py.model.podnet import Tunnel

KINDS: Final[Mapping[int, str]] = {4: "ipip", 6: "ip6tnl"}
MODULES: Final[Mapping[int, str]] = {4: "ipip", 6: "ip6_tunnel"}

_LOCAL, _REMOTE, _TTL, _FLAGS, _PROTO, _PMTUDISC = 2, 3, 4, 8, 9, 10
_ENCAP_TYPE, _ENCAP_FLAGS, _ENCAP_SPORT, _ENCAP_DPORT = 15, 16, 17, 18
_OF_ENCAPSULATION: Final = (_ENCAP_FLAGS, _ENCAP_SPORT, _ENCAP_DPORT)
_IPPROTO_IPIP, _IPPROTO_IPV6 = 4, 41
_ENCAP_NONE, _ENCAP_GUE = 0, 2
# A zero checksum is legal for tunnels over UDP in IPv6 (RFC 6935), but there are firewalls that drop it.
# Set also where there is no UDP, as `ip` does.
_ENCAP_CHECKSUM_6: Final = 2
# The option would cost 8 bytes of every packet, and an extension header that routers may drop.
_NO_ENCAPSULATION_LIMIT: Final = 1
_FLAGS_OF_OURS: Final = 0xFFFF  # above them the kernel notes what the addresses allow
# Of the outer header. Not inherited: to pods the tunnel is one hop (RFC 2003, 3.1), so that what was sent with a small
# TTL arrives wherever the nodes are; and with a fixed one the kernel lets nobody switch path MTU discovery off. 64 is
# its own default, more than any way between nodes.
_HOPS: Final = 64
# rp_filter. What comes by a tunnel may have an address that is reached without it: of the node at the other end, or of
# its pods as soon as only one of the two knows a better way. Loose (2) would do, but is as strict as 1 on a link that
# has no address (net/ipv4/fib_frontend.c). Nothing is lost: without a tunnel every host of the subnet could send so.
_UNFILTERED: Final = 0

_U32 = struct.Struct("=I")
_HEADER = struct.Struct("=BxHiII")  # struct ifinfomsg: family, device type, index, flags, mask of flags to change


def new_tunnel(name: str, tunnel: Tunnel) -> bytes:
    """EEXIST where a link has that name, or a tunnel of that kind has these two ends."""
    return _describe(name, tunnel, netlink.NLM_F_CREATE | netlink.NLM_F_EXCL)


def change_tunnel(name: str, tunnel: Tunnel) -> bytes:
    """The link stays, with the routes that lead into it."""
    return _describe(name, tunnel, 0)


def open_tunnel(name: str, family: int, alias: str) -> bytes:
    """Up, known by its alias, and letting in what the kernel would answer by another way."""
    parts = [netlink.text(rtnetlink.IFLA_IFNAME, name), netlink.text(rtnetlink.IFLA_IFALIAS, alias)]
    if family == 4:
        conf = netlink.nested(rtnetlink.IFLA_INET_CONF, netlink.u32(CONF_RP_FILTER, _UNFILTERED))
        parts.append(netlink.nested(rtnetlink.IFLA_AF_SPEC, netlink.nested(AF_INET, conf)))
    return netlink.message(rtnetlink.RTM_SETLINK, 0, _HEADER.pack(0, 0, 0, IFF_UP, IFF_UP), *parts)


def read_data(payload: memoryview) -> dict[int, bytes]:
    """What a link's kind tells of it."""
    found = netlink.attributes(payload, _HEADER.size)
    information = netlink.attributes(found[rtnetlink.IFLA_LINKINFO]) if rtnetlink.IFLA_LINKINFO in found else {}
    data = netlink.attributes(information[IFLA_INFO_DATA]) if IFLA_INFO_DATA in information else {}
    return {key: bytes(value) for key, value in data.items()}


def read_ends(data: Mapping[int, bytes]) -> tuple[bytes, bytes]:
    """(local, remote) of a tunnel of whatever making; no bytes where it has none."""
    return data.get(_LOCAL, b""), data.get(_REMOTE, b"")


def read_tunnel(link: LinkMessage, data: Mapping[int, bytes]) -> Tunnel | None:
    """None where it is down, or anything is set otherwise than we do: what is wanted never equals it."""
    family = next((family for family, kind in KINDS.items() if kind == link.kind), 0)
    if not family or not {_LOCAL, _REMOTE, _ENCAP_DPORT} <= data.keys() or not link.flags & IFF_UP:
        return None
    encapsulated = data.get(_ENCAP_TYPE) == struct.pack("=H", _ENCAP_GUE)
    port = int.from_bytes(data[_ENCAP_DPORT], "big") if encapsulated else 0
    found = Tunnel(family, data[_LOCAL], data[_REMOTE], port, link.mtu)
    if _FLAGS in data:
        [flags] = _U32.unpack(data[_FLAGS])
        data = {**data, _FLAGS: _U32.pack(flags & _FLAGS_OF_OURS)}
    expected = _parameters(found)
    if not encapsulated:  # what is left of a port that was there, or that the kernel refused, says nothing
        expected = {key: value for key, value in expected.items() if key not in _OF_ENCAPSULATION}
    if any(data.get(key) != value for key, value in expected.items()):
        return None
    strict = family == 4 and link.settings[CONF_RP_FILTER - 1 :][:1] != (_UNFILTERED,)
    return None if strict else found


def _describe(name: str, tunnel: Tunnel, flags: int) -> bytes:
    data = (netlink.attribute(key, value) for key, value in _parameters(tunnel).items())
    information = netlink.nested(
        rtnetlink.IFLA_LINKINFO,
        netlink.text(IFLA_INFO_KIND, KINDS[tunnel.family]),
        netlink.nested(IFLA_INFO_DATA, *data),
    )
    mtu = netlink.u32(rtnetlink.IFLA_MTU, tunnel.mtu) if tunnel.mtu else b""
    header = _HEADER.pack(0, 0, 0, 0, 0)
    return netlink.message(
        rtnetlink.RTM_NEWLINK, flags, header, netlink.text(rtnetlink.IFLA_IFNAME, name), mtu, information
    )


def _parameters(tunnel: Tunnel) -> dict[int, bytes]:
    """As the kernel is told, and as it tells."""
    alike = {
        _LOCAL: tunnel.local,
        _REMOTE: tunnel.remote,
        _TTL: bytes([_HOPS]),
        _ENCAP_TYPE: struct.pack("=H", _ENCAP_GUE if tunnel.port else _ENCAP_NONE),
        _ENCAP_FLAGS: struct.pack("=H", _ENCAP_CHECKSUM_6 if tunnel.family == 6 else 0),
        _ENCAP_SPORT: struct.pack(">H", 0),  # of each flow its own: routers between nodes spread them
        _ENCAP_DPORT: struct.pack(">H", tunnel.port),
    }
    if tunnel.family == 4:
        return {**alike, _PROTO: bytes([_IPPROTO_IPIP]), _PMTUDISC: b"\1"}
    return {**alike, _PROTO: bytes([_IPPROTO_IPV6]), _FLAGS: _U32.pack(_NO_ENCAPSULATION_LIMIT)}
