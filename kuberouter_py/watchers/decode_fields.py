"""What every kind's decoder shares: metadata, names, addresses, ports, times, protocols, and how a "no" is said.

Owns the rules that hold for single values. What a whole object of a kind means is for the decode_* modules beside it;
which decoder belongs to which kind is in decode.py. Pure: values in, values out, reasons returned or raised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_network
from sys import intern
from typing import Any, TypeVar, cast

import msgspec

from kuberouter_py.model.cluster import Cidr, ObjectKey
from kuberouter_py.model.kernel import Protocol

T = TypeVar("T")

ANNOTATION_PREFIX = "kube-router.io/"
FAMILIES = {"IPv4": 4, "IPv6": 6}
PROTOCOLS: Mapping[str, int] = {protocol.name: int(protocol) for protocol in Protocol}
# Objects without annotations or labels share one mapping: an empty dict each would be 64 bytes a Service.
EMPTY: Mapping[str, str] = {}
# Every name that the API server lets through (RFC 1123, and RBAC's with colons); nothing that could break a rule.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,252}", re.ASCII)
_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)


class DecodeError(Exception):
    """An object that cannot be used at all. key and resource_version: None and "" where they could not be read."""

    def __init__(self, reason: str, key: ObjectKey | None = None, resource_version: str = "") -> None:
        super().__init__(f"{key}: {reason}" if key else reason)
        self.reason = reason
        self.key = key
        self.resource_version = resource_version


class Metadata(msgspec.Struct, gc=False):
    """ObjectMeta as far as any kind needs it. null and absent mean the same, as they do to the API server."""

    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resourceVersion: str | None = None
    creationTimestamp: str | None = None
    deletionTimestamp: str | None = None
    labels: dict[str, str | None] | None = None
    annotations: dict[str, str | None] | None = None


class Named(msgspec.Struct, gc=False):
    """The least that any object shows of itself."""

    name: str | None = None
    namespace: str | None = None
    resourceVersion: str | None = None


def object_key(name: str | None, namespace: str | None, namespaced: bool) -> ObjectKey:
    """The key of an object. A namespaced one without a namespace is in "default", as it is for kubectl.

    Raises DecodeError where there is no name, or one that the API server would not have let through.
    """
    if not name:
        raise DecodeError("metadata.name is missing")
    if not _NAME.fullmatch(name):
        raise DecodeError(f"metadata.name {name[:80]!r} is not a name")
    if not namespaced:
        return ObjectKey("", name)
    namespace = namespace or "default"
    if not _NAMESPACE.fullmatch(namespace):
        raise DecodeError(f"metadata.namespace {namespace[:80]!r} is not a name")
    return ObjectKey(intern(namespace), name)


def timestamp(text: str | None) -> float:
    """Seconds since 1970 of an RFC 3339 time (nanoseconds are cut to micro); 0.0 for none. Raises ValueError."""
    if not text:
        return 0.0
    moment = datetime.fromisoformat(text)
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except OverflowError:
        raise ValueError(f"time {text!r} is out of range") from None


def created(metadata: Metadata) -> float:
    """creationTimestamp as seconds. Raises DecodeError: claims between Services are settled by it."""
    try:
        return timestamp(metadata.creationTimestamp)
    except ValueError:
        raise DecodeError(f"metadata.creationTimestamp {metadata.creationTimestamp!r:.80} is not a time") from None


def our_annotations(annotations: Mapping[str, str | None] | None) -> Mapping[str, str]:
    """Only kube-router.io/*: the rest of them (last-applied-configuration) is often larger than the object."""
    if not annotations:
        return EMPTY
    ours = {intern(key): value or "" for key, value in annotations.items() if key.startswith(ANNOTATION_PREFIX)}
    return ours or EMPTY


def our_labels(labels: Mapping[str, str | None] | None) -> Mapping[str, str]:
    """All labels, keys and values interned: they repeat over pods."""
    return {intern(key): intern(value or "") for key, value in labels.items()} if labels else EMPTY


def address(text: str) -> bytes:
    """Packed address. IPv4 octets may have leading zeros and are decimal (S11.06, M4.05); an IPv4-mapped IPv6 address
    is the IPv4 address that it maps, as for every Go component. Raises ValueError.
    """
    if ":" not in text:
        return _ipv4(text)
    if "%" in text:
        raise ValueError(f"{text[:80]!r} has a zone")
    try:
        packed = IPv6Address(text).packed
    except ValueError:
        return _mapped(text)
    return packed[12:] if packed.startswith(b"\0" * 10 + b"\xff\xff") else packed


# Every octet as it is written without leading zeros: four look-ups are faster than any parsing.
_OCTETS = {str(octet): octet for octet in range(256)}


def _ipv4(text: str) -> bytes:
    try:
        one, two, three, four = text.split(".")
        return bytes((_OCTETS[one], _OCTETS[two], _OCTETS[three], _OCTETS[four]))
    except (ValueError, KeyError):
        return _with_zeros(text)


def _with_zeros(text: str) -> bytes:
    # bytes() refuses numbers past 255; isdecimal and isascii refuse what int() takes beside digits (" 1", "+1", "1_0").
    try:
        packed = bytes(map(int, text.split(".")))
    except ValueError:
        raise ValueError(f"{text[:80]!r} is not an address") from None
    if len(packed) != 4 or not (text.isascii() and text.replace(".", "").isdecimal()):
        raise ValueError(f"{text[:80]!r} is not an address")
    return packed


def _mapped(text: str) -> bytes:
    """::ffff:010.0.0.1, which ipaddress refuses for its leading zero."""
    head, _, tail = text.rpartition(":")
    if head.lower() not in ("::ffff", "0:0:0:0:0:ffff"):
        raise ValueError(f"{text[:80]!r} is not an address")
    return _ipv4(tail)


def addresses(texts: Iterable[str | None] | None, where: str, unusable: list[str]) -> tuple[bytes, ...]:
    """Packed addresses in their order, each once. What does not parse is left out, with a reason added to unusable."""
    found: dict[bytes, None] = {}
    for text in texts or ():
        if text is None:
            continue
        try:
            found[address(text)] = None
        except ValueError as error:
            unusable.append(f"{where}: {error}")
    return tuple(found)


def cidr(text: str) -> Cidr:
    """A network; host bits are cut off. The length after an IPv4-mapped IPv6 address is IPv4's, or as for every Go
    component that of all 128 bits. Raises ValueError.
    """
    base, slash, length = text.strip().partition("/")
    if not slash:
        raise ValueError(f"{text[:80]!r} is not a CIDR")
    packed = address(base)
    if not (length.isascii() and length.isdecimal() and len(length) <= 3):
        raise ValueError(f"{text[:80]!r} is not a CIDR")
    bits = int(length) - 96 if ":" in base and len(packed) == 4 and int(length) >= 96 else int(length)
    if bits > 8 * len(packed):
        raise ValueError(f"{text[:80]!r} is not a CIDR")
    return Cidr(ip_network((packed, bits), strict=False).network_address.packed, bits)


def cidrs(texts: Iterable[str | None], where: str, unusable: list[str]) -> tuple[Cidr, ...]:
    """Networks in their order, each once; what does not parse is left out, with a reason added to unusable."""
    found: dict[Cidr, None] = {}
    for text in texts:
        if text is None:
            continue
        try:
            found[cidr(text)] = None
        except ValueError as error:
            unusable.append(f"{where}: {error}")
    return tuple(found)


def port_number(number: int | None) -> int:
    """1..65535. Raises ValueError."""
    if number is None or not 0 < number < 65536:
        raise ValueError("has no port" if not number else f"{number} is not a port")
    return number


def protocol_number(name: str | None) -> int:
    """IP protocol number; TCP where none is given (M4.08). Raises ValueError."""
    try:
        return PROTOCOLS[name or "TCP"]
    except KeyError:
        raise ValueError(f"protocol {name!r:.40} is not known") from None


_shared: dict[Any, Any] = {}
_SHARED_AT_MOST = 4096


def shared(value: T) -> T:
    """One object for equal values: thousands of Services and slices have one of a few lists of ports."""
    if len(_shared) >= _SHARED_AT_MOST:
        _shared.clear()
    return cast(T, _shared.setdefault(value, value))
