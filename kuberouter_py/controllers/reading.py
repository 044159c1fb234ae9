"""Our own rules, read as the kernel reads them: which of them a packet meets, and what becomes of it there. Pure.

The rules themselves are the input (each controller's chains.py wrote them), so that what is told of them cannot drift
away from them. Whatever a packet's state is asked of `Tables`: once as it was decided, once as the kernel has it. What
one rule says is read in matches.py; one that is not understood is returned as such, and taken as not matching.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kuberouter_py.controllers.matches import Packet, Tables, Unknown, entry_of, understood, value_and_mask
from kuberouter_py.model.kernel import Chain, Rules


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


def rules_there(chain: Chain, there: Mapping[Chain, Rules], wanted: Mapping[Chain, Rules]) -> Sequence[str]:
    """Of a chain in the kernel. As they were written where it is untouched: iptables says the same in other words."""
    found, written = there.get(chain), wanted.get(chain)
    if written is not None and found == written:
        return tuple(written.rules)
    return found.rules if found else ()


def _chain(tables: Tables, passage: Passage, chain: Chain) -> str:
    """The target that ended it; "" for the end of the chain or a RETURN."""
    for number, rule in enumerate(tables.rules(chain), 1):
        try:
            matches, target = understood(rule)
            matched = all(match(tables, passage.packet) for match in matches)
        except Unknown:
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
    value, mask = value_and_mask(options[1])
    if target == "MARK":
        return replace(packet, mark=packet.mark & ~mask ^ value)
    return replace(packet, connection_mark=packet.connection_mark & ~mask ^ value)


def _mapped(tables: Tables, packet: Packet, options: Sequence[str]) -> Packet:
    """--map-set NAME DIRECTIONS --map-mark: the mark of the member that the packet meets; without one it stays."""
    mark = tables.mark_of(options[1], entry_of(packet, options[2]))
    return replace(packet, mark=mark) if mark else packet
