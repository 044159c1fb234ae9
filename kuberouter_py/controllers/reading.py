"""Our own rules, read as the kernel reads them: which of them a packet meets, and what becomes of it there. Pure.

The rules themselves are the input (each controller's chains.py wrote them), so that what is told of them cannot drift
away from them. Whatever a packet's state is asked of `Tables`: once as it was decided, once as the kernel has it. Only
what our rules use is understood; a rule with anything else is returned as not understood, and taken as not matching.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple, Protocol

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


class Met(NamedTuple):
    """One rule that matched. number: its place in the chain, from 1 as iptables counts."""

    chain: Chain
    rule: str
    number: int = 0


@dataclass
class Passage:
    """What came of one hook. ended: "DROP", "SNAT" ... where a rule decided; "" where none did."""

    packet: Packet
    ended: str = ""
    met: list[Met] = field(default_factory=list)
    unread: list[Met] = field(default_factory=list)

    @property
    def lost(self) -> bool:
        return self.ended in ("DROP", "REJECT")


_FINAL = frozenset({"ACCEPT", "DROP", "REJECT", "MASQUERADE", "SNAT"})
_QUIET = frozenset({"TCPMSS", "LOG", "NFLOG"})  # change nothing that a later rule asks for


def pass_hook(tables: Tables, packet: Packet, hook: str, of_tables: Sequence[str]) -> Passage:
    """Through our jumps of one hook, table after table as the kernel has them there ("mangle", "nat")."""
    passage = Passage(packet)
    for table in of_tables:
        ended = _chain(tables, passage, Chain(packet.family, table, hook))
        if ended:
            passage.ended = ended
        if passage.lost:
            break
    return passage


def _chain(tables: Tables, passage: Passage, chain: Chain) -> str:
    """The target that ended it; "" for the end of the chain or a RETURN."""
    for number, rule in enumerate(tables.rules(chain), 1):
        try:
            matches, target = _understood(rule)
            matched = all(match(tables, passage.packet) for match in matches)
        except _Unknown:
            passage.unread.append(Met(chain, rule, number))
            continue
        if not matched:
            continue
        passage.met.append(Met(chain, rule, number))
        if not target:  # it only counts, at its members
            continue
        verb, name, *options = target
        if name == "RETURN":
            return ""
        if name in _FINAL:
            return name
        if name in ("MARK", "CONNMARK"):
            passage.packet = _marked(passage.packet, name, options)
        elif name == "SET":
            passage.packet = _mapped(tables, passage.packet, options)
        elif name not in _QUIET:
            ended = _chain(tables, passage, chain._replace(chain=name))
            if ended or verb == "-g":  # goto: who returns there returns to who called this chain
                return ended
    return ""


def _marked(packet: Packet, target: str, options: Sequence[str]) -> Packet:
    """--set-xmark VALUE/MASK: the bits of MASK to zero, then exclusive or."""
    value, mask = _value_and_mask(options[1])
    if target == "MARK":
        return replace(packet, mark=packet.mark & ~mask ^ value)
    return replace(packet, connection_mark=packet.connection_mark & ~mask ^ value)


def _mapped(tables: Tables, packet: Packet, options: Sequence[str]) -> Packet:
    """--map-set NAME DIRECTIONS --map-mark: the mark of the member that the packet meets; without one it stays."""
    mark = tables.mark_of(options[1], _entry(packet, options[2]))
    return replace(packet, mark=mark) if mark else packet


def _value_and_mask(text: str) -> tuple[int, int]:
    value, _, mask = text.partition("/")
    return int(value, 0), int(mask, 0) if mask else 0xFFFF_FFFF


# -- matches ---------------------------------------------------------------------------------------------------------


class _Unknown(Exception):
    """A word that this reading does not know."""


_Match = Callable[[Tables, Packet], bool]


def understands(rule: str) -> bool:
    """Whether every word of the rule is known."""
    try:
        _understood(rule)
    except _Unknown:
        return False
    return True


_OPTIONS = {"MARK": "--set-xmark", "CONNMARK": "--set-xmark", "SET": "--map-set"}  # the one that we understand


@lru_cache(maxsize=8192)
def _understood(rule: str) -> tuple[list[_Match], list[str]]:
    """Its matches; then -j or -g, the target and its options, if any. The same few are read for every destination."""
    words = shlex.split(rule)
    at = next((at for at, word in enumerate(words) if word in ("-j", "-g")), len(words))
    target = words[at:]
    if len(target) == 1:
        raise _Unknown(rule)
    option = _OPTIONS.get(target[1]) if target else None
    if option and target[2:3] != [option]:
        raise _Unknown(rule)
    return list(_matches(words[:at])), target


def _matches(words: list[str]) -> Iterator[_Match]:
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
                raise _Unknown(word)
            match = make(rest)
            yield _negation(match) if negated else match
            negated = False


def _negation(match: _Match) -> _Match:
    return lambda tables, packet: not match(tables, packet)


def _in_set(words: Iterator[str]) -> _Match:
    name, directions = next(words), next(words)
    return lambda tables, packet: tables.holds(name, _entry(packet, directions))


def _entry(packet: Packet, directions: str) -> SetEntry:
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


def _in_network(side: str) -> Callable[[Iterator[str]], _Match]:
    def make(words: Iterator[str]) -> _Match:
        cidrs: Sequence[Cidr] = [parse_cidr(text) for text in next(words).split(",")]
        return lambda _tables, packet: any(getattr(packet, side) in cidr for cidr in cidrs)

    return make


def _by_link(side: str) -> Callable[[Iterator[str]], _Match]:
    """ "veth+" is every link whose name begins so."""

    def make(words: Iterator[str]) -> _Match:
        name = next(words)
        if name.endswith("+"):
            return lambda _tables, packet: getattr(packet, side).startswith(name[:-1])
        return lambda _tables, packet: bool(getattr(packet, side) == name)

    return make


def _of_type(side: str) -> Callable[[Iterator[str]], _Match]:
    def make(words: Iterator[str]) -> _Match:
        if next(words) != "LOCAL":
            raise _Unknown("addrtype")
        return lambda tables, packet: tables.is_local(getattr(packet, side))

    return make


def _in_state(words: Iterator[str]) -> _Match:
    new = "NEW" in next(words).split(",")
    return lambda _tables, _packet: new


def _of_protocol(words: Iterator[str]) -> _Match:
    name = next(words)
    return lambda _tables, packet: protocol_text(packet.protocol) == name


def _to_port(words: Iterator[str]) -> _Match:
    first, _, last = next(words).partition(":")
    return lambda _tables, packet: int(first) <= packet.port <= int(last or first)


def _to_ports(words: Iterator[str]) -> _Match:
    """ "80,443,8000:9000"."""
    pairs = [each.partition(":") for each in next(words).split(",")]
    ranges = [(int(first), int(last or first)) for first, _, last in pairs]
    return lambda _tables, packet: any(first <= packet.port <= last for first, last in ranges)


def _by_mark(which: str) -> Callable[[Iterator[str]], _Match]:
    def make(words: Iterator[str]) -> _Match:
        value, mask = _value_and_mask(next(words))
        return lambda _tables, packet: getattr(packet, which) & mask == value

    return make


def _with_flags(words: Iterator[str]) -> _Match:
    """--tcp-flags MASK SET: which of the flags in MASK are set; of a first packet it is SYN alone."""
    mask, wanted = (set(next(words).split(",")) for _ in range(2))
    return lambda _tables, _packet: {"SYN"} & mask == wanted - {"NONE"}


def _begins(_words: Iterator[str]) -> _Match:
    return lambda _tables, _packet: True


def _by_program(words: Iterator[str]) -> _Match:
    """Only the one that we have; see model/bytecode.py."""
    if next(words) not in SAME_ADDRESS.values():
        raise _Unknown("bytecode")
    return lambda _tables, packet: packet.source == packet.destination


def _always(words: Iterator[str]) -> _Match:
    next(words)
    return lambda _tables, _packet: True


def _never(words: Iterator[str]) -> _Match:
    next(words)
    return lambda _tables, _packet: False


_MATCHES: dict[str, Callable[[Iterator[str]], _Match]] = {
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
