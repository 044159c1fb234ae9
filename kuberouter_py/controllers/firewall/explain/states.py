"""The two states that a packet is followed through the firewall's chains over: decided, and the kernel's. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kuberouter_py.controllers.firewall.explain.known import KnownPolicies
from kuberouter_py.controllers.firewall.standing import CHAINS, MEMBERS, SETS
from kuberouter_py.controllers.reading import rules_there
from kuberouter_py.model.cluster import networks_of
from kuberouter_py.model.kernel import NOMATCH, Chain, IpSet, MemberValue, Rules, SetEntry, SetMember
from kuberouter_py.ports import FirewallLookups


class Decided:
    """What the controller wants; what it says of single members stays true without a lock."""

    def __init__(self, known: KnownPolicies) -> None:
        self.chains: Mapping[Chain, Rules] = dict(known.wanted(CHAINS))
        self._sets: Mapping[str, IpSet] = known.wanted(SETS)
        self._members: Mapping[SetMember, MemberValue] = known.wanted(MEMBERS)

    def rules(self, chain: Chain) -> Sequence[str]:
        found = self.chains.get(chain)
        return found.rules if found else ()

    def holds(self, name: str, entry: SetEntry) -> bool:
        """Of networks the smallest one decides, which may be an exception."""
        member = SetMember(name, entry)
        kind = self._sets.get(name)
        if kind is not None and kind.type.startswith("hash:net"):
            found = next((each for each in _networks(member) if each in self._members), None)
            return found is not None and self._members.get(found) is not NOMATCH
        return member in self._members


class Actual:
    """The kernel now. chains: as they stand there; wanted: as they should. Raises EdgeError."""

    def __init__(self, lookups: FirewallLookups, chains: Mapping[Chain, Rules], wanted: Mapping[Chain, Rules]) -> None:
        self._lookups = lookups
        self._chains = chains
        self._wanted = wanted
        self._known: dict[SetMember, bool] = {}

    def rules(self, chain: Chain) -> Sequence[str]:
        return rules_there(chain, self._chains, self._wanted)

    def holds(self, name: str, entry: SetEntry) -> bool:
        """One question to the kernel for a member, however many connections ask it."""
        member = SetMember(name, entry)
        if member not in self._known:
            self._known[member] = self._lookups.holds(member)
        return self._known[member]

    def is_as_written(self, chain: Chain) -> bool:
        return self._chains.get(chain) == self._wanted.get(chain)


def _networks(member: SetMember) -> Iterator[SetMember]:
    """Every network that the address is in, the smallest first."""
    for network, prefix in networks_of(member.entry.address):
        yield member._replace(entry=SetEntry(network, prefix=prefix))
