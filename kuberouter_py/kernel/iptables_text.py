"""Owns the text that iptables-save prints and iptables-restore reads: our chains and jumps in it, and their
fingerprints.

Pure. Which program to run, and when, is left to kernel/iptables.py.

A rule of ours carries the comment "krpy:" and a hash over the chain's key, the rules before it and itself. The kernel
prints rules in another spelling than they were written in (and each flavour in its own), so text is never compared: a
chain is as wanted when its rules carry exactly the wanted hashes, in the wanted order, with nothing between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from kuberouter_py.model import names
from kuberouter_py.model.kernel import Chain, Rules

# The chains that the kernel itself has (netfilter hooks); a policy or a hook hangs on them and they cannot be deleted.
BUILT_IN: Final = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})
# What kubelet leaves in table mangle to tell everybody which flavour the node uses (Kubernetes KEP-3178; the older
# canary).
HINT_CHAINS: Final = frozenset({"KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"})

_MARK = re.compile(rf'--comment "?{re.escape(names.RULE_COMMENT)}([0-9a-f]+)"?(?= |$)')
_SAID = re.compile(r'-m comment --comment "([^"]*)" ')
_TARGET = re.compile(r"(?:^| )(?:-j|--jump|-g|--goto) (\S+)")


def marks(key: Chain, rules: Iterable[str]) -> tuple[str, ...]:
    """The hash of each rule, over the chain's key, the rules before it and itself: 48 bits are plenty for one chain."""
    running = blake2b(f"{key.family} {key.table} {key.chain}".encode(), digest_size=6)
    found = []
    for rule in rules:
        running.update(b"\n" + rule.encode())
        found.append(running.hexdigest())
    return tuple(found)


def target(rule: str) -> str:
    """The chain or target that a rule leads to; "" for a rule without one."""
    match = _TARGET.search(rule)
    return match.group(1) if match else ""


def spoken(rule: str, mark: str) -> str:
    """A rule as it is written into the kernel, with its comment. One that says something itself is quoted there behind
    the mark: iptables-nft keeps one comment a rule.
    """
    said = _SAID.match(rule)
    words, rest = (f" {said[1]}", rule[said.end() :]) if said else ("", rule)
    return f'-m comment --comment "{names.RULE_COMMENT}{mark}{words}" {rest}'


class Seen(Rules):
    """What a chain of ours holds in the kernel: it equals any Rules whose fingerprints are the ones that stand there.

    rules: the lines as the kernel prints them, without `-A CHAIN`. Only `==` and `!=` look at the fingerprints, so a
    plan made by comparing an actual value with a wanted one needs to know nothing of this.
    """

    _key: Chain
    _marks: tuple[str, ...]
    _leads: bool
    _trails: bool
    _astray: bool

    @classmethod
    def of(cls, key: Chain, place: Place, *, astray: bool = False) -> Seen:
        """astray: (also) in the flavour of iptables that is not in use, so it is never as wanted."""
        seen = cls(tuple(place.lines), place.leads or not place.trails)
        seen._key = key
        seen._marks = tuple(place.marks)
        seen._leads = place.leads
        seen._trails = place.trails
        seen._astray = astray
        return seen

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Seen):
            return (self._key, self._marks, self._leads, self._trails, self._astray) == (
                other._key, other._marks, other._leads, other._trails, other._astray,
            )  # fmt: skip
        if not isinstance(other, Rules) or self._astray:
            return False
        placed = self._leads if other.first else self._trails
        return placed and self._marks == marks(self._key, other.rules)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]


@dataclass
class Place:
    """One chain of ours, or our jumps in a built-in one, as found: lines, their marks ("" for none), and where they
    stand.
    """

    lines: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    before: list[int] = field(default_factory=list)  # for each of them: how many rules of others stand before it
    others: int = 0  # rules of others in the chain; a jump to another controller's chain is nobody's

    @property
    def leads(self) -> bool:
        return not any(self.before)

    @property
    def trails(self) -> bool:
        return all(count == self.others for count in self.before)


@dataclass
class Saved:
    """What one iptables-save printed: what is ours, and of the rest only what the choice of a flavour needs."""

    places: dict[Chain, Place] = field(default_factory=dict)
    foreign_rules: int = 0
    hint: bool = False


def parse(text: str, family: int, prefix: str) -> Saved:
    """Reads iptables-save's output (either flavour, without counters). Ours: chains whose name starts with `prefix`,
    and every rule in a built-in chain that leads to one, with or without our comment (the name space is ours, and such
    a rule holds our chain in place).

    What another controller of this program has there is neither ours nor anybody else's: two that both have to be first
    in a chain do not take turns.
    """
    saved = Saved()
    table = ""
    others: dict[Chain, int] = {}
    for line in text.splitlines():
        if line.startswith("-A "):
            _take(saved, others, Chain(family, table, line.split(" ", 2)[1]), line, prefix)
        elif line.startswith(":"):
            name = line[1:].split(" ", 1)[0]
            saved.hint = saved.hint or (table == "mangle" and name in HINT_CHAINS)
            if name.startswith(prefix):
                saved.places.setdefault(Chain(family, table, name), Place())
        elif line.startswith("*"):
            table = line[1:].strip()
    for key, place in saved.places.items():
        place.others = others.get(key, 0)
    return saved


def _take(saved: Saved, others: dict[Chain, int], key: Chain, line: str, prefix: str) -> None:
    rule = line.split(" ", 2)[2] if line.count(" ") > 1 else ""
    owner = target(rule) if key.chain in BUILT_IN else key.chain
    if not owner.startswith(prefix):
        if not owner.startswith(names.CHAIN_PREFIX):
            saved.foreign_rules += 1
            others[key] = others.get(key, 0) + 1
        return
    place = saved.places.setdefault(key, Place())
    mark = _MARK.search(rule)
    place.lines.append(rule)
    place.marks.append(mark.group(1) if mark else "")
    place.before.append(others.get(key, 0))


def script(wanted: Mapping[Chain, Rules | None], there: Mapping[Chain, Place]) -> str:
    """The input of `iptables-restore --noflush` that turns what is `there` into what is `wanted`; None: it shall be
    gone.

    Tables one after the other, each one transaction. Only our chains are named with a colon (which empties, and where
    need be creates, them; a policy is never set), and of a built-in chain only our jumps are touched: old ones go by
    exact text, in the place that the same line puts the new ones.
    """
    lines: list[str] = []
    for table in dict.fromkeys(key.table for key in wanted):
        here = {key: rules for key, rules in wanted.items() if key.table == table}
        own = {key: rules for key, rules in here.items() if key.chain not in BUILT_IN}
        lines.append(f"*{table}")
        lines += (f":{key.chain} - [0:0]" for key in own)
        for key in here:
            if key.chain in BUILT_IN and key in there:
                lines += (f"-D {key.chain} {line}" for line in there[key].lines)
        for key, rules in here.items():
            lines += _additions(key, rules)
        lines += (f"-X {key.chain}" for key, rules in own.items() if rules is None)
        lines.append("COMMIT")
    return "\n".join([*lines, ""])


def _additions(key: Chain, rules: Rules | None) -> Sequence[str]:
    if rules is None:
        return ()
    told = [spoken(rule, mark) for rule, mark in zip(rules.rules, marks(key, rules.rules), strict=True)]
    if key.chain in BUILT_IN and rules.first:
        return [f"-I {key.chain} {number} {rule}" for number, rule in enumerate(told, start=1)]
    return [f"-A {key.chain} {rule}" for rule in told]
