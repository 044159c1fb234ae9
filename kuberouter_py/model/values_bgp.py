"""Kinds of values that BGP brings along, as flags and annotations write them: AS numbers, router IDs, passwords.

The same promises as in values.py, but for passwords: no reason quotes one, and their text is "***".
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import TypeVar

from kuberouter_py.model.bgp import WITHHELD, Password
from kuberouter_py.model.kernel import address_text
from kuberouter_py.model.values import DURATION, TEXT, Kind, checked, duration_text, number, required

T = TypeVar("T")

DEFAULT_CLUSTER_ASN = 64512  # kube-router's; the first one for private use (RFC 6996)
GENERATED_ROUTER_ID = "generate"
_HIDDEN = "***"  # no base64: no password is written so

# What kube-router takes for a cluster's own AS: for private use (RFC 6996), and 65535, which is reserved (RFC 7300).
_CLUSTER_ASNS = ((64512, 65535), (4200000000, 4294967294))
# What may be a peer's: neither AS_TRANS (23456, RFC 6793) nor those for documentation (RFC 5398), nor reserved ones.
_PEER_ASNS = ((1, 23455), (23457, 63999), (64512, 65534), (131072, 4294967294))


def _as_number(what: str, ranges: tuple[tuple[int, int], ...]) -> Callable[[str], int]:
    told = ", ".join(f"{low}-{high}" for low, high in ranges)

    def parse(text: str) -> int:
        asn = _integer(text)
        if asn is None or not any(low <= asn <= high for low, high in ranges):
            raise ValueError(f'"{text[:40]}" is not {what} ({told})')
        return asn

    return parse


_INTEGER = re.compile(r"0[xX][0-9a-fA-F]{1,8}|\d{1,10}", re.ASCII)


def _integer(text: str) -> int | None:
    """Decimal or 0x…, as Go reads them; None for anything else."""
    if not _INTEGER.fullmatch(text):
        return None
    return int(text, 16) if text[:2] in ("0x", "0X") else int(text)


def parse_uint32(text: str) -> int:
    """Raises ValueError."""
    number = _integer(text)
    if number is None or number > 0xFFFFFFFF:
        raise ValueError(f'"{text[:40]}" is not a number of 32 bits')
    return number


parse_cluster_asn = _as_number("an AS number for private use", _CLUSTER_ASNS)
parse_peer_asn = _as_number("an AS number that a peer can have", _PEER_ASNS)
parse_asn = _as_number("an AS number", ((1, 4294967294),))


def _parse_cluster_asn_or_none(text: str) -> int:
    return 0 if text == "0" else parse_cluster_asn(text)


def _listed(parse: Callable[[str], T], render: Callable[[T], str], metavar: str) -> Kind[tuple[T, ...]]:
    def parse_all(text: str) -> tuple[T, ...]:
        return tuple(parse(part.strip()) for part in text.split(",") if part.strip())

    def render_all(values: tuple[T, ...]) -> str:
        return ",".join(map(render, values))

    return Kind(f"{metavar},...", parse_all, render_all, gathers=True)


def parse_address(text: str) -> bytes:
    """ "192.0.2.1": packed. Zones name links of one node and are none of an address that others send to."""
    if "%" not in text:
        try:
            return ip_address(text).packed
        except ValueError:
            pass
    raise ValueError(f'"{text[:60]}" is not an IP address')


def parse_peer_address(text: str) -> bytes:
    """An address that a session can lead to. Raises ValueError."""
    address = parse_address(text)
    about = ip_address(address)
    if about.is_unspecified or about.is_multicast or about.is_loopback or about.is_link_local:
        raise ValueError(f'"{text[:60]}" is no address that a session can lead to')
    return address


def _check_router_id(text: str) -> None:
    try:
        fits = text == GENERATED_ROUTER_ID or int(IPv4Address(text)) != 0
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f'"{text}" is neither {GENERATED_ROUTER_ID} nor written like an IPv4 address')


# The kernel keeps 80 bytes (TCP_MD5SIG_MAXKEYLEN); BIRD's configuration has no way to write a quote or a line's end.
_LONGEST_PASSWORD = 80


def parse_password(text: str) -> Password | None:
    """Base64, as kube-router has it. "": none. Raises ValueError, which quotes nothing of it."""
    if not text:
        return None
    if text == _HIDDEN:
        return WITHHELD
    try:
        plain = b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        raise ValueError("a password is not base64 of UTF-8") from None
    if not plain or len(plain.encode()) > _LONGEST_PASSWORD:
        raise ValueError(f"a password is not 1 to {_LONGEST_PASSWORD} bytes long")
    if plain.endswith(("\n", "\r")):
        raise ValueError("a password ends in a line break: encode it without (printf, not echo)")
    if '"' in plain or not plain.isprintable():
        raise ValueError("a password has a double quote or a control character in it")
    return Password(plain)


def parse_passwords(text: str) -> tuple[Password | None, ...]:
    """One for each peer, in their order; an empty place is a peer without one. Raises ValueError, with the place."""
    parts = text.strip().split(",") if text.strip() else []
    found = []
    for place, part in enumerate(parts, 1):
        try:
            found.append(parse_password(part.strip()))
        except ValueError as error:
            where = f" (password {place} of {len(parts)})" if len(parts) > 1 else ""
            raise ValueError(f"{error}{where}") from None
    return tuple(found)


def _passwords_text(passwords: tuple[Password | None, ...]) -> str:
    return ",".join(_HIDDEN if each else "" for each in passwords)


def _check_hold_time(seconds: float) -> None:
    # RFC 4271 §4.2: 16 bits, and no less than three seconds
    if seconds != int(seconds) or not 3 <= seconds <= 65535:
        raise ValueError(f"{duration_text(seconds)} is not 3 to 65535 whole seconds")


def _check_multihop(ttl: int) -> None:
    if ttl == 1:
        raise ValueError("1 reaches no further than the link: 0 says that, 2 to 255 that peers are behind routers")


def _check_cni_file(text: str) -> None:
    if not text.startswith("/") or not text.endswith((".conf", ".conflist")):
        raise ValueError(f'"{text}" is not an absolute path that ends in .conf or .conflist')


# IANA's registry of well-known communities, under the names that GoBGP, and so kube-router, has for them.
_WELL_KNOWN = {
    "internet": 0,
    "planned-shut": 0xFFFF0000,
    "graceful-shutdown": 0xFFFF0000,
    "accept-own": 0xFFFF0001,
    "route-filter-translated-v4": 0xFFFF0002,
    "route-filter-v4": 0xFFFF0003,
    "route-filter-translated-v6": 0xFFFF0004,
    "route-filter-v6": 0xFFFF0005,
    "llgr-stale": 0xFFFF0006,
    "no-llgr": 0xFFFF0007,
    "blackhole": 0xFFFF029A,
    "no-export": 0xFFFFFF01,
    "no-advertise": 0xFFFFFF02,
    "no-export-subconfed": 0xFFFFFF03,
    "no-peer": 0xFFFFFF04,
}


def parse_community(text: str) -> str:
    """A number, "65000:100", a large one "65000:1:2" (RFC 8092) or a well-known name; out comes "65000:100" or
    "65000:1:2". Raises ValueError.
    """
    parts = text.split(":")
    try:
        if len(parts) == 3:
            return ":".join(str(parse_uint32(part)) for part in parts)
        if len(parts) == 2:
            return ":".join(str(_half(part)) for part in parts)
        whole = _WELL_KNOWN.get(text.lower())
        number = parse_uint32(text) if whole is None else whole
    except ValueError:
        raise ValueError(
            f'"{text[:60]}" is no community: a number, 65000:100, 65000:1:2, or one of {", ".join(_WELL_KNOWN)}'
        ) from None
    return f"{number >> 16}:{number & 0xFFFF}"


def _half(text: str) -> int:
    number = parse_uint32(text)
    if number > 0xFFFF:
        raise ValueError
    return number


CLUSTER_ASN: Kind[int] = Kind("ASN", _parse_cluster_asn_or_none, str)
PEER_ASNS = _listed(parse_peer_asn, str, "ASN")
PEER_ADDRESSES = _listed(parse_peer_address, address_text, "ADDRESS")
BGP_PORT = replace(number("a port", 1, 65535), metavar="PORT")
PEER_PORTS = _listed(BGP_PORT.parse, str, "PORT")
PASSWORDS: Kind[tuple[Password | None, ...]] = Kind("BASE64,...", parse_passwords, _passwords_text, gathers=True)
ROUTER_ID = checked(TEXT, _check_router_id, metavar=f"ID|{GENERATED_ROUTER_ID}")
HOLD_TIME = checked(DURATION, _check_hold_time)
TTL = checked(number("a TTL", 0, 255), _check_multihop)
# RFC 5880 §4.1: 32 bits of microseconds, 8 bits.
BFD_INTERVAL = replace(number("a number of milliseconds", 1, 4294967), metavar="MS")
BFD_MULTIPLIER = number("a multiplier", 1, 255)
ENCAP_PORT = replace(number("a port that no service of the system has", 1024, 65535), metavar="PORT")
CNI_FILE = required(replace(TEXT, metavar="PATH"), _check_cni_file)
