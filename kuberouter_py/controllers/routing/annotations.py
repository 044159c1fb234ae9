"""What a Node's annotations say of BGP: values, and reasons for what makes no sense. Pure.

Each part stands for itself: one that makes no sense names itself and leaves what was said before in force. Where
nothing good was said before, the good items of a list count; of communities they do anyway. What is made of the parts
is decided in speaker.py. Pod CIDRs, which every controller goes by, are kept in the same way where all get them from
(watchers/decode_workloads.as_said_before).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from kuberouter_py.controllers.routing.peer_annotations import PEER_KEYS, peers
from kuberouter_py.model.bgp import BgpPeer
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.values import parse_cidr
from kuberouter_py.model.values_bgp import parse_address, parse_asn, parse_community, parse_uint32

PREFIX = "kube-router.io/"
ASN, SERVER, CLIENT = f"{PREFIX}node.asn", f"{PREFIX}rr.server", f"{PREFIX}rr.client"
PREPEND_AS, PREPEND_TIMES = f"{PREFIX}path-prepend.as", f"{PREFIX}path-prepend.repeat-n"
COMMUNITIES = f"{PREFIX}node.bgp.communities"
REJECTS = f"{PREFIX}node.bgp.customimportreject"
LISTEN = f"{PREFIX}bgp-local-addresses"

MOST_PREPENDED = 255  # kube-router's, 8 bits


class Said(NamedTuple):
    """asn: 0: none. server, client: the cluster ID (4 bytes) of a route reflector, or of a client of one; b"": neither.
    prepend: AS number and how often. rejects: prefixes that no peer may give this node. listen: addresses that BGP
    listens on. peers: external ones, as they are written (no multihop, which is a flag's).
    """

    asn: int = 0
    server: bytes = b""
    client: bytes = b""
    prepend: tuple[int, int] | None = None
    communities: tuple[str, ...] = ()
    rejects: tuple[Cidr, ...] = ()
    listen: tuple[bytes, ...] = ()
    peers: tuple[BgpPeer, ...] = ()


class Heard(NamedTuple):
    """reasons: each starts with its annotation."""

    said: Said
    reasons: tuple[str, ...] = ()


NOTHING = Said()


def hear(annotations: Mapping[str, str], before: Said = NOTHING, parts: Collection[str] = Said._fields) -> Heard:
    """before: what the same Node has said until now. parts: those of Said that anybody asks for."""
    values: dict[str, Any] = {}
    reasons: list[str] = []
    for part in parts:
        read = _PARTS[part]
        if not any(key in annotations for key in read.keys):
            continue
        found = read.parse(annotations)
        kept = getattr(before, part)
        keeps = bool(found.reasons and kept and not found.as_good)
        values[part] = kept if keeps else found.value
        ending = "; what it said before stays in force" if keeps else ""
        reasons += [f"{reason}{ending}" for reason in found.reasons]
    return Heard(NOTHING._replace(**values), tuple(reasons))


class _Found(NamedTuple):
    """as_good: whatever the reasons are, the value is better than the one before."""

    value: Any
    reasons: tuple[str, ...] = ()
    as_good: bool = False


class _Part(NamedTuple):
    keys: tuple[str, ...]
    parse: Callable[[Mapping[str, str]], _Found]


def _one(key: str, parse: Callable[[str], Any], nothing: Any) -> _Part:
    """An annotation that is one value."""

    def found(annotations: Mapping[str, str]) -> _Found:
        try:
            return _Found(parse(annotations[key].strip()))
        except ValueError as error:
            return _Found(nothing, (f"{key}: {error}",))

    return _Part((key,), found)


def _list(key: str, parse: Callable[[str], Any], as_good: bool = False) -> _Part:
    """An annotation that is a list; found are its good items."""

    def found(annotations: Mapping[str, str]) -> _Found:
        good: dict[Any, None] = {}
        reasons = []
        for text in annotations[key].split(","):
            try:
                if text.strip():
                    good[parse(text.strip())] = None
            except ValueError as error:
                reasons.append(f"{key}: {error}" + ("; it is left out" if as_good else ""))
        return _Found(tuple(good), tuple(reasons), as_good)

    return _Part((key,), found)


def _cluster_id(text: str) -> bytes:
    """Written as a number or like an IPv4 address (RFC 4456 §7: 4 bytes)."""
    try:
        number = int(IPv4Address(text))
    except ValueError:
        try:
            number = parse_uint32(text)
        except ValueError:
            number = 0
    if not number:
        raise ValueError(f'"{text[:40]}" is no cluster ID: neither a number of 32 bits nor like an IPv4 address')
    return number.to_bytes(4, "big")


def _prepend(annotations: Mapping[str, str]) -> _Found:
    asn, times = (annotations.get(key) for key in (PREPEND_AS, PREPEND_TIMES))
    if asn is None or times is None:
        given, missing = (PREPEND_AS, PREPEND_TIMES) if times is None else (PREPEND_TIMES, PREPEND_AS)
        return _Found(None, (f"{given}: {missing} is needed, too",))
    try:
        number = parse_asn(asn.strip())
    except ValueError as error:
        return _Found(None, (f"{PREPEND_AS}: {error}",))
    try:
        count = parse_uint32(times.strip())
    except ValueError as error:
        return _Found(None, (f"{PREPEND_TIMES}: {error}",))
    if count > MOST_PREPENDED:
        return _Found(None, (f"{PREPEND_TIMES}: {count} is more than {MOST_PREPENDED}",))
    return _Found((number, count) if count else None)


def _peers(annotations: Mapping[str, str]) -> _Found:
    return _Found(*peers(annotations))


_PARTS: Mapping[str, _Part] = {
    "asn": _one(ASN, parse_asn, 0),
    "server": _one(SERVER, _cluster_id, b""),
    "client": _one(CLIENT, _cluster_id, b""),
    "prepend": _Part((PREPEND_AS, PREPEND_TIMES), _prepend),
    "communities": _list(COMMUNITIES, parse_community, as_good=True),
    "rejects": _list(REJECTS, parse_cidr),
    "listen": _list(LISTEN, parse_address),
    "peers": _Part(PEER_KEYS, _peers),
}
OF_OTHERS = ("asn", "server", "client")  # what one Node has to know of another
_KEYS = tuple(key for part in _PARTS.values() for key in part.keys)
_KEYS_OF_OTHERS = tuple(key for part in OF_OTHERS for key in _PARTS[part].keys)


def relevant(annotations: Mapping[str, str], own: bool) -> tuple[str | None, ...]:
    """All of them that anything here depends on, for comparison. own: of this node, else of another one."""
    return tuple(map(annotations.get, _KEYS if own else _KEYS_OF_OTHERS)) if annotations else ()
