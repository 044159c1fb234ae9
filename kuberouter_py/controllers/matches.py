"""One rule of ours, read: what it asks of a packet, and its target. Pure.

Only what our rules use is understood; a rule with anything else is Unknown.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from kuberouter_py.model.bytecode import SAME_ADDRESS
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.kernel import Chain, SetEntry
from kuberouter_py.model.notation_servers import protocol_text
from kuberouter_py.model.values import parse_cidr


class Tables(Protocol):
    """What rules ask for. set types are told by how many dimensions a rule names (dst,dst,src)."""

    def rules(self, chain: Chain) -> Sequence[str]:
        """Of a built-in chain: our jumps."""

    def holds(self, name: str, entry: SetEntry) -> bool:
        """entry: host addresses throughout; of a set of networks the smallest one that it is in decides."""

    def mark_of(self, name: str, entry: SetEntry) -> int:
        """The packet mark that the member carries; 0: none, or no such member."""

    def is_local(self, address: bytes) -> bool:
        """Whether the node takes the address for its own (addrtype LOCAL)."""


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection (NEW), at one hook. incoming, outgoing: links, "" where it has none (yet)."""

    source: bytes
    destination: bytes
    protocol: int
    port: int
    incoming: str = ""
    outgoing: str = ""
    mark: int = 0
    connection_mark: int = 0

    @property
    def family(self) -> int:
        return 4 if len(self.destination) == 4 else 6


class Unknown(Exception):
    """A word that this reading does not know."""


Match = Callable[[Tables, Packet], bool]

_OPTIONS = {"MARK": "--set-xmark", "CONNMARK": "--set-xmark", "SET": "--map-set"}  # the one that we understand


@lru_cache(maxsize=8192)
def understood(rule: str) -> tuple[list[Match], list[str]]:
    """Its matches; then -j or -g, the target and its options, if any. Raises Unknown. The same few are read for every
    destination.
    """
    words = shlex.split(rule)
    at = next((at for at, word in enumerate(words) if word in ("-j", "-g")), len(words))
    target = words[at:]
    if len(target) == 1:
        raise Unknown(rule)
    option = _OPTIONS.get(target[1]) if target else None
    if option and target[2:3] != [option]:
        raise Unknown(rule)
    return list(_matches(words[:at])), target


def _matches(words: list[str]) -> Iterator[Match]:
    rest = iter(words)
    extension, negated = "", False
    for word in rest:
        if word == "!":  # before its option
            negated = True
        elif word == "-m":
            extension = next(rest)
        elif word == "--comment":
            next(rest)
        elif word == "--update-counters":  # of a set's member: whether or not, it is the same match
            negated = False
        else:
            make = _MATCHES.get(f"{extension} {word}") or _MATCHES.get(word)
            if make is None:
                raise Unknown(word)
            match = make(rest)
            yield _negation(match) if negated else match
            negated = False


def _negation(match: Match) -> Match:
    return lambda tables, packet: not match(tables, packet)


def value_and_mask(text: str) -> tuple[int, int]:
    value, _, mask = text.partition("/")
    return int(value, 0), int(mask, 0) if mask else 0xFFFF_FFFF


def _in_set(words: Iterator[str]) -> Match:
    name, directions = next(words), next(words)
    return lambda tables, packet: tables.holds(name, entry_of(packet, directions))


def entry_of(packet: Packet, directions: str) -> SetEntry:
    """ "dst,dst,src" -> (destination, its port, source)"""
    first, *more = directions.split(",")
    sides = {"dst": packet.destination, "src": packet.source}
    ports = {"dst": packet.port, "src": 0}  # a client's own port is any, and none of a Service's
    entry = SetEntry(sides[first])
    if more:
        entry = entry._replace(protocol=packet.protocol, port=ports[more[0]])
    if len(more) > 1:
        entry = entry._replace(address2=sides[more[1]])
    return entry


def _in_network(side: str) -> Callable[[Iterator[str]], Match]:
    def make(words: Iterator[str]) -> Match:
        cidrs: Sequence[Cidr] = [parse_cidr(text) for text in next(words).split(",")]
        return lambda _tables, packet: any(getattr(packet, side) in cidr for cidr in cidrs)

    return make


def _by_link(side: str) -> Callable[[Iterator[str]], Match]:
    """ "veth+" is every link whose name begins so."""

    def make(words: Iterator[str]) -> Match:
        name = next(words)
        if name.endswith("+"):
            return lambda _tables, packet: getattr(packet, side).startswith(name[:-1])
        return lambda _tables, packet: bool(getattr(packet, side) == name)

    return make


def _of_type(side: str) -> Callable[[Iterator[str]], Match]:
    def make(words: Iterator[str]) -> Match:
        if next(words) != "LOCAL":
            raise Unknown("addrtype")
        return lambda tables, packet: tables.is_local(getattr(packet, side))

    return make


def _in_state(words: Iterator[str]) -> Match:
    new = "NEW" in next(words).split(",")
    return lambda _tables, _packet: new


def _of_protocol(words: Iterator[str]) -> Match:
    name = next(words)
    return lambda _tables, packet: protocol_text(packet.protocol) == name


def _to_port(words: Iterator[str]) -> Match:
    first, _, last = next(words).partition(":")
    return lambda _tables, packet: int(first) <= packet.port <= int(last or first)


def _to_ports(words: Iterator[str]) -> Match:
    """ "80,443,8000:9000"."""
    pairs = [each.partition(":") for each in next(words).split(",")]
    ranges = [(int(first), int(last or first)) for first, _, last in pairs]
    return lambda _tables, packet: any(first <= packet.port <= last for first, last in ranges)


def _by_mark(which: str) -> Callable[[Iterator[str]], Match]:
    def make(words: Iterator[str]) -> Match:
        value, mask = value_and_mask(next(words))
        return lambda _tables, packet: getattr(packet, which) & mask == value

    return make


def _with_flags(words: Iterator[str]) -> Match:
    """--tcp-flags MASK SET: which of the flags in MASK are set; of a first packet it is SYN alone."""
    mask, wanted = (set(next(words).split(",")) for _ in range(2))
    return lambda _tables, _packet: {"SYN"} & mask == wanted - {"NONE"}


def _begins(_words: Iterator[str]) -> Match:
    return lambda _tables, _packet: True


def _by_program(words: Iterator[str]) -> Match:
    """Only the one that we have; see model/bytecode.py."""
    if next(words) not in SAME_ADDRESS.values():
        raise Unknown("bytecode")
    return lambda _tables, packet: packet.source == packet.destination


def _always(words: Iterator[str]) -> Match:
    next(words)
    return lambda _tables, _packet: True


def _never(words: Iterator[str]) -> Match:
    next(words)
    return lambda _tables, _packet: False


_MATCHES: dict[str, Callable[[Iterator[str]], Match]] = {
    "--match-set": _in_set,
    "-s": _in_network("source"),
    "-d": _in_network("destination"),
    "-i": _by_link("incoming"),
    "-o": _by_link("outgoing"),
    "-p": _of_protocol,
    "--dport": _to_port,
    "multiport --dports": _to_ports,
    "--tcp-flags": _with_flags,
    "--syn": _begins,
    "--bytecode": _by_program,
    "--limit": _always,
    "--limit-burst": _always,
    "--src-type": _of_type("source"),
    "--dst-type": _of_type("destination"),
    "--ctstate": _in_state,
    "--icmp-type": _never,  # no packet that is asked about is one of ICMP
    "--icmpv6-type": _never,
    "mark --mark": _by_mark("mark"),
    "connmark --mark": _by_mark("connection_mark"),
}
