"""The text that takes another proxy's chains out of iptables: iptables-save's output in, the input of
`iptables-restore --noflush` out. Pure.

Only what is named goes: their chains, and in others the rules that lead there (or that they are known to put there). A
chain that somebody else's rule leads to stays, with all that it needs: taking it away would take their rule along.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from kuberouter_py.kernel.iptables_text import BUILT_IN, target
from kuberouter_py.model.others import SHARED_CHAINS

# Of table nat: a packet that is marked has to meet the rule that masquerades it.
_TOGETHER = frozenset({"KUBE-MARK-MASQ", "KUBE-POSTROUTING"})

IsTheirs = Callable[[str, str], bool]  # (table, chain)
IsTheirRule = Callable[[str, str, str], bool]  # (table, built-in chain, rule)


class Removal(NamedTuple):
    """script: "" where there is nothing to do. chains: how many go. kept: chains of theirs that stay, and for whom."""

    script: str
    chains: int
    kept: tuple[str, ...]


@dataclass
class _Table:
    chains: dict[str, None] = field(default_factory=dict)
    rules: list[tuple[str, str]] = field(default_factory=list)  # (chain, rule)


def removal(
    saved: str, theirs: IsTheirs, their_rule: IsTheirRule, sets: Collection[str], keep: Mapping[str, str]
) -> Removal:
    """sets: theirs, which no rule may go on using. keep: chains that stay whatever else, each with the reason."""
    lines: list[str] = []
    chains = 0
    kept: list[str] = []
    for name, table in _tables(saved).items():
        staying = _staying(name, table, theirs, keep)
        going = [chain for chain in table.chains if theirs(name, chain) and chain not in staying]
        gone = frozenset(going)
        rules = [
            (chain, rule)
            for chain, rule in table.rules
            if chain not in gone
            and (
                target(rule) in gone
                or (chain in BUILT_IN and their_rule(name, chain, rule))
                or (chain in staying and _uses(rule, sets))
            )
        ]
        kept += [f"{name} {chain}: {reason}" for chain, reason in staying.items() if chain in table.chains]
        chains += len(going)
        if going or rules:
            lines += [f"*{name}", *(f":{chain} - [0:0]" for chain in going)]
            lines += [f"-D {chain} {rule}" for chain, rule in rules]
            lines += [*(f"-X {chain}" for chain in going), "COMMIT"]
    return Removal("\n".join([*lines, ""]) if lines else "", chains, tuple(kept))


def _tables(saved: str) -> dict[str, _Table]:
    tables: dict[str, _Table] = {}
    table = _Table()
    for line in saved.splitlines():
        if line.startswith("*"):
            table = tables.setdefault(line[1:].strip(), _Table())
        elif line.startswith(":"):
            table.chains[line[1:].split(" ", 1)[0]] = None
        elif line.startswith("-A ") and line.count(" ") > 1:
            _, chain, rule = line.split(" ", 2)
            table.rules.append((chain, rule))
    return tables


def _staying(name: str, table: _Table, theirs: IsTheirs, keep: Mapping[str, str]) -> dict[str, str]:
    """Chains of theirs that stay, each with the reason; whatever a staying chain leads to stays as well."""
    staying = {chain: keep[chain] for chain in table.chains if name == "nat" and chain in keep}
    for chain, rule in table.rules:
        led = target(rule)
        if theirs(name, led) and not theirs(name, chain) and chain not in BUILT_IN:
            staying.setdefault(led, f"{chain} leads to it")
    if name == "nat" and staying.keys() & SHARED_CHAINS:
        staying |= {chain: "masquerades by the mark" for chain in _TOGETHER - staying.keys() if chain in table.chains}
    _close(staying, table.rules, lambda chain: theirs(name, chain))
    return staying


def _close(staying: dict[str, str], rules: Iterable[tuple[str, str]], theirs: Callable[[str], bool]) -> None:
    more = True
    while more:
        more = False
        for chain, rule in rules:
            led = target(rule)
            if chain in staying and led not in staying and theirs(led):
                staying[led] = f"{chain} leads to it"
                more = True


def _uses(rule: str, sets: Collection[str]) -> bool:
    return any(word == "--match-set" and name in sets for word, name in pairwise(rule.split()))
