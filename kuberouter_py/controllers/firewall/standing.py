"""What stands in the kernel of the firewall's chains, and what they speak of: as written and read last.

A chain is looked at when it has become another one, and nothing is when no chain has: what a change of a pod costs does
not depend on how many guards there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from kuberouter_py.controllers.firewall import chains as fixed
from kuberouter_py.controllers.firewall.guards import Guard, guard_chain
from kuberouter_py.controllers.firewall.membership import guard_of, isolated_by
from kuberouter_py.controllers.reconcile import Reconciler
from kuberouter_py.model.kernel import Chain, Rules, family_of
from kuberouter_py.model.names import FIREWALL_CHAINS, FIREWALL_SETS

SYSCTLS, SETS, MEMBERS, CHAINS = "sysctls", "ipsets", "set members", "iptables"  # tables, see ports.Table
FILTER = "filter"
_OURS = (FIREWALL_CHAINS, FIREWALL_SETS)


class _Spoken(NamedTuple):
    rules: Rules
    names: frozenset[str]


class Standing:
    """Of the chains that a reconciler holds."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._spoken: dict[Chain, _Spoken] = {}
        self._as_of = -1
        self._led: tuple[int, tuple[int, ...], Mapping[int, Collection[str]]] = (-1, (), {})

    @property
    def version(self) -> int:
        """Another one when any chain is."""
        return self._reconciler.version(CHAINS)

    def led_to(self, families: tuple[int, ...]) -> Mapping[int, Collection[str]]:
        """By family, of those that have any: the chains of guards that judge packets now. A way leads to them."""
        version, asked, found = self._led
        if (version, asked) != (self.version, families):
            found = led_to(self._reconciler.held(CHAINS), families)
            self._led = self.version, families, found
        return found

    def written(self, guards: Collection[Guard], families: tuple[int, ...]) -> set[str]:
        """Names of those whose chain there is, in every family that has any of ours."""
        chains: dict[int, set[str]] = {}
        for key in self._reconciler.held(CHAINS):
            chains.setdefault(key.family, set()).add(key.chain)
        of_family = [chains[family] for family in families if family in chains]
        everywhere = of_family[0].intersection(*of_family) if of_family else {guard.chain for guard in guards}
        return {guard.name for guard in guards if guard.chain in everywhere}

    def as_wanted(self, guard: Guard, families: tuple[int, ...]) -> bool:
        held, wanted = self._reconciler.held(CHAINS), self._reconciler.wanted(CHAINS)
        keys = [Chain(family, FILTER, guard.chain) for family in families]
        return all(key in held and held[key] == wanted.get(key) for key in keys)

    def met_sets(self) -> set[str]:
        """Sets that decide of packets now: those of guards that an isolated pod is in."""
        members, met = self._reconciler.held(MEMBERS), set()
        for member in members:
            place = guard_of(member)
            if place is not None and isolated_by(place[0], member.entry.address) in members:
                met.add(Chain(family_of(member.entry.address), FILTER, guard_chain(place[1])))
        return self._names(met & self._reconciler.held(CHAINS).keys())

    def chains_left_behind(self) -> set[Chain]:
        """What an earlier process made and nobody wants: but for guards that pods are still in."""
        unwanted = self._reconciler.unwanted(CHAINS)
        if not unwanted:
            return set()
        spoken = self._names(key for key in self._reconciler.held(CHAINS) if key not in unwanted)
        return {key for key in unwanted if key.chain not in spoken}

    def sets_left_behind(self) -> set[str]:
        """Likewise: but for sets that a rule still speaks of, which would be others without their members."""
        unwanted = self._reconciler.unwanted(SETS)
        return {*unwanted} - self._names(self._reconciler.held(CHAINS)) if unwanted else set()

    def _names(self, chains: Iterable[Chain]) -> set[str]:
        """Sets and chains of ours that these speak of."""
        if self._as_of != self.version:
            self._as_of = self.version
            before = self._spoken
            self._spoken = {}
            for key, rules in self._reconciler.held(CHAINS).items():
                known = before.get(key)
                if known is None or known.rules is not rules:
                    known = _Spoken(rules, frozenset(_names(rules)))
                self._spoken[key] = known
        return set().union(*(self._spoken[key].names for key in chains))


def led_to(held: Mapping[Chain, Rules], families: tuple[int, ...]) -> Mapping[int, Collection[str]]:
    """The same of any chains. Where a rule leads to is its last word, in our spelling and in the kernel's."""
    found = {}
    for family in families:
        ways = [rules for chain in (fixed.FROM, fixed.TO) if (rules := held.get(Chain(family, FILTER, chain)))]
        if len(ways) == 2:
            there = {key.chain for key in held if key.family == family}
            found[family] = there.intersection(rule[rule.rfind(" ") + 1 :] for rules in ways for rule in rules.rules)
    return found


def _names(rules: Rules) -> Iterable[str]:
    return (word for rule in rules.rules for word in rule.split() if word.startswith(_OURS))
