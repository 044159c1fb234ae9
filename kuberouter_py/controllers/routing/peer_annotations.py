"""External BGP peers as a Node's annotations list them: kube-router.io/peers, or the older comma separated lists. Pure.

No reason quotes a value that could be a password.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import yaml

from kuberouter_py.config.routing import BFD_PORT
from kuberouter_py.model.bgp import Bfd, BgpPeer, Password
from kuberouter_py.model.kernel import address_text, family_of
from kuberouter_py.model.values import parse_bool
from kuberouter_py.model.values_bgp import (
    BFD_INTERVAL,
    BFD_MULTIPLIER,
    BGP_PORT,
    parse_address,
    parse_password,
    parse_peer_address,
    parse_peer_asn,
)

T = TypeVar("T")
Peers = tuple[tuple[BgpPeer, ...], tuple[str, ...]]  # and reasons, each of which starts with its annotation

PEERS = "kube-router.io/peers"
_IPS, _ASNS = "kube-router.io/peer.ips", "kube-router.io/peer.asns"
_PORTS, _PASSWORDS, _LOCALS = (f"kube-router.io/peer.{name}" for name in ("ports", "passwords", "localips"))
PEER_KEYS = (PEERS, _IPS, _ASNS, _PORTS, _PASSWORDS, _LOCALS)

# 16,384 characters are 160 peers with all that may be said of them. PyYAML takes 0.2 s for them, and a time that grows
# with the square of open brackets.
_LONGEST, _MOST_BRACKETS = 16384, 500

_PEER_FIELDS = frozenset({"remoteip", "remoteasn", "localip", "password", "port", "bfd"})
_BFD_FIELDS = frozenset(
    {"enabled", "port", "detection_multiplier", "required_min_rx_interval", "desired_min_tx_interval"}
)


def peers(annotations: Mapping[str, str]) -> Peers:
    """The good ones among them, and what is wrong with the others. The list in YAML counts where there are both."""
    try:
        if PEERS in annotations:
            key, found = PEERS, list(_in_yaml(annotations[PEERS]))
        else:
            key, found = _IPS, list(_in_lists(annotations))
    except ValueError as error:
        return (), (str(error),)
    good: dict[bytes, BgpPeer] = {}
    reasons = []
    for number, peer in enumerate(found, 1):
        if isinstance(peer, str):
            reasons.append(f"{key}: peer {number}: {peer}")
        elif peer.address in good:
            reasons.append(f"{key}: peer {number}: {address_text(peer.address)} is there twice")
        else:
            good[peer.address] = peer
    return tuple(good.values()), tuple(reasons)


# -- the list in YAML ------------------------------------------------------------------------------------------------


def _in_yaml(text: str) -> Iterator[BgpPeer | str]:
    """A peer or what is wrong with it, for each item. Raises ValueError where it is no list."""
    items = _loaded(text)
    if items in (None, "", "null", "~"):
        return
    if not isinstance(items, list):
        raise ValueError(f"{PEERS}: it is no YAML list of peers")
    for item in items:
        yield _or_reason(_peer_of_item, item)


def _loaded(text: str) -> Any:
    """With texts for all plain values: what they are, each field says itself."""
    if len(text) > _LONGEST or text.count("[") + text.count("{") > _MOST_BRACKETS:
        raise ValueError(f"{PEERS}: it is longer than {_LONGEST} characters, or nested too deeply")
    try:
        return yaml.load(text, yaml.BaseLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ValueError(f"{PEERS}: line {mark.line + 1 if mark else 1} is no YAML") from None
    except RecursionError:
        raise ValueError(f"{PEERS}: it is nested too deeply") from None


def _peer_of_item(item: Any) -> BgpPeer:
    said = _fields(item, _PEER_FIELDS)
    for name in ("remoteip", "remoteasn"):
        if name not in said:
            raise ValueError(f"{name} is missing")
    return _peer(*map(said.get, ("remoteip", "remoteasn", "port", "password", "localip", "bfd")))


def _fields(item: Any, known: frozenset[str]) -> dict[str, Any]:
    """What is said of something, by field; an empty one is not said. Raises ValueError."""
    if not isinstance(item, dict):
        raise ValueError(f"it is no mapping of {', '.join(sorted(known))}")
    for name in item:
        if name not in known:
            raise ValueError(f'"{str(name)[:40]}" is none of {", ".join(sorted(known))}')
    return {name: value for name, value in item.items() if value not in ("", "~", "null")}


def _bfd(item: Any) -> Bfd | None:
    said = _fields(item, _BFD_FIELDS)
    port = _read("bfd.port", BGP_PORT.parse, said.get("port", str(BFD_PORT)))
    if port != BFD_PORT:
        raise ValueError(f"bfd.port: {port}, but BIRD's is {BFD_PORT} and cannot be changed")
    if not _read("bfd.enabled", parse_bool, said.get("enabled", "false")):
        return None
    usual = Bfd()
    return Bfd(
        *(
            _read(f"bfd.{name}", parse, said.get(name, str(default)))
            for name, parse, default in (
                ("desired_min_tx_interval", BFD_INTERVAL.parse, usual.min_tx),
                ("required_min_rx_interval", BFD_INTERVAL.parse, usual.min_rx),
                ("detection_multiplier", BFD_MULTIPLIER.parse, usual.multiplier),
            )
        )
    )


# -- the older lists -------------------------------------------------------------------------------------------------


def _in_lists(annotations: Mapping[str, str]) -> Iterator[BgpPeer | str]:
    """Likewise. Without both addresses and AS numbers nothing is said."""
    if _IPS not in annotations or _ASNS not in annotations:
        return
    columns = {
        key: [part.strip() for part in annotations[key].split(",")] for key in PEER_KEYS[1:] if key in annotations
    }
    count = len(columns[_IPS])
    for key, texts in columns.items():
        if texts == [""] and key not in (_IPS, _ASNS):
            columns[key] = [""] * count
        elif len(texts) != count:
            raise ValueError(f"{key}: {len(texts)} for {count} in {_IPS}")
    nothing = [""] * count
    for row in zip(*(columns.get(key, nothing) for key in PEER_KEYS[1:]), strict=True):
        yield _or_reason(lambda texts: _peer(*texts), row)


# -- one peer, however it is written ---------------------------------------------------------------------------------


def _peer(
    address: Any, asn: Any, port: Any = None, password: Any = None, local: Any = None, bfd: Any = None
) -> BgpPeer:
    """Raises ValueError with the reason."""
    peer = BgpPeer(
        address=_read("address", parse_peer_address, address),
        asn=_read("AS number", parse_peer_asn, asn),
        port=_read("port", BGP_PORT.parse, port) if port else BgpPeer._field_defaults["port"],
        local=_read("local address", parse_address, local) if local else b"",
        password=_read("password", _password, password) if password else None,
        bfd=_bfd(bfd) if bfd else None,
    )
    if peer.local and family_of(peer.local) != family_of(peer.address):
        told = f"{address_text(peer.local)} and {address_text(peer.address)}"
        raise ValueError(f"local address: {told} are not of one address family")
    return peer


def _password(text: str) -> Password | None:
    """ "***" is no password here, but what somebody copied out of an answer of ours."""
    password = parse_password(text)
    if password is not None and not password.text:
        raise ValueError("it is not base64")
    return password


def _read(what: str, parse: Callable[[str], T], value: Any) -> T:
    if not isinstance(value, str):
        raise ValueError(f"{what}: it is no single value")
    try:
        return parse(value.strip())
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _or_reason(make: Callable[[Any], BgpPeer], item: Any) -> BgpPeer | str:
    try:
        return make(item)
    except ValueError as error:
        return str(error)
