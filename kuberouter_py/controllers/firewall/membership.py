"""Which guard a local pod is in, in each direction and family, and for what it is isolated. Pure.

A pod goes into the guard that it wants as soon as that stands. Until then it stays in the one that it is in; is there
none, it is closed, which needs a set's member and no rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping

from kuberouter_py.config import Config
from kuberouter_py.controllers.firewall import chains as fixed
from kuberouter_py.controllers.firewall.guards import Guard, Guards, guard_chain
from kuberouter_py.controllers.firewall.notes import CLOSED, NOT_UP_TO_DATE
from kuberouter_py.controllers.firewall.rules import DIRECTIONS, EGRESS, INGRESS
from kuberouter_py.controllers.firewall.rung import POD
from kuberouter_py.controllers.firewall.world import World
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import SetEntry, SetMember, address_text, family_of
from kuberouter_py.model.names import FIREWALL_SETS, firewall_set
from kuberouter_py.model.report import Note

Standing = Mapping[int, Collection[str]]  # by family, the chains of guards that judge packets now
Place = tuple[str, int]  # direction and family

_ISOLATED = {EGRESS: fixed.EGRESS_ISOLATED, INGRESS: fixed.INGRESS_ISOLATED}
_CLOSED = {EGRESS: fixed.CLOSED_EGRESS, INGRESS: fixed.CLOSED_INGRESS}
_GUARD_HEADS = {f"{FIREWALL_SETS}{direction[0]}-": direction for direction in DIRECTIONS}


class Membership:
    def __init__(self, config: Config, world: World, guards: Guards) -> None:
        self._config = config
        self._world = world
        self._guards = guards
        self._in: dict[ObjectKey, dict[Place, str]] = {}  # names of guards
        self._pods_in: Counter[str] = Counter()  # each of them as often as a pod is in it; none is there with 0
        self.version = 0  # another one when names() may be
        self._roles: dict[ObjectKey, frozenset[Place]] = {}  # fixed sets, by role and family
        self._had: dict[ObjectKey, tuple[bytes, ...]] = {}  # addresses, of those that are in any of either
        self._unsettled: set[ObjectKey] = set()
        self._found: dict[bytes, dict[Place, str]] = {}  # what an earlier process left, by address

    def found(self, members: Collection[SetMember]) -> None:
        """What the kernel holds from before this process: pods are held in it until theirs stands."""
        self.version += 1
        for member in members:
            if place := guard_of(member):
                direction, name = place
                address = member.entry.address
                self._found.setdefault(address, {})[direction, family_of(address)] = name

    def names(self) -> set[str]:
        """Of the guards that pods are in."""
        return {*self._pods_in, *(name for places in self._found.values() for name in places.values())}

    def forget_found(self) -> None:
        """Everybody was asked once."""
        self.version += 1
        self._found = {}

    def unsettled(self, more: Collection[ObjectKey]) -> set[ObjectKey]:
        """These, and who is not yet where it wants to be."""
        pods, self._unsettled = {*more, *self._unsettled}, set()
        return pods

    def guards(self, pod: ObjectKey, standing: Standing, *, stay: bool) -> Iterator[SetMember]:
        """The guards' sets that it is to be in; stay: those that it is in as well."""
        before = self._places(pod)
        now = self._targets(pod, standing)
        for address, has in self._addresses(pod, stay=stay):
            family = family_of(address)
            for direction in DIRECTIONS:
                place = direction, family
                names = now.get(place) if has else None, before.get(place) if stay else None
                for name in dict.fromkeys(names):
                    if name is not None and family in standing:
                        yield SetMember(firewall_set(name, family), SetEntry(address))

    def isolation(
        self, pod: ObjectKey, standing: Standing, families: Collection[int], *, stay: bool, waits: bool = False
    ) -> Iterator[SetMember]:
        """The fixed sets that it is to be in; stay: and those that it is in, but not yet what would open it.

        waits: see waits(); it stays isolated.
        """
        now, before = self._fixed_sets(pod, standing, families), self._roles.get(pod, frozenset())
        if stay:
            now = {place for place in now if place[0] != fixed.KNOWN} | before
        elif waits:
            now |= {place for place in before if place[0] in fixed.ISOLATED}
        for address, has in self._addresses(pod, stay=stay):
            for role, family in now if has else before:
                if family == family_of(address):
                    yield SetMember(firewall_set(role, family), SetEntry(address))

    def waits(self, pod: ObjectKey, standing: Standing, written: Callable[[Guard], bool]) -> bool:
        """Whether it is judged by rules of before for as long as its own cannot be written, at the same addresses."""
        if self._had.get(pod) != self._world.addresses(pod):
            return False
        now = self._targets(pod, standing)
        return any(
            (name := now.get((direction, family))) is not None and not (name == guard.name and written(guard))
            for direction, guard in self._guards.wanted(pod).items()
            for family in standing
        )

    def _addresses(self, pod: ObjectKey, *, stay: bool) -> Iterator[tuple[bytes, bool]]:
        """And whether it has it. stay: also those that it had; one that is gone leaves the sets of peers first."""
        addresses = self._world.addresses(pod)
        yield from ((address, True) for address in addresses)
        if stay:
            yield from ((address, False) for address in self._had.get(pod, ()) if address not in addresses)

    def _fixed_sets(self, pod: ObjectKey, standing: Standing, families: Collection[int]) -> set[Place]:
        """By role and family."""
        wanted, held = self._guards.wanted(pod), self._world.pods.get(pod)
        places = {(direction, family) for direction in wanted for family in families}
        found = {(_ISOLATED[direction], family) for direction, family in places}
        found |= {(_CLOSED[direction], family) for direction, family in places - self._targets(pod, standing).keys()}
        if self._config.netpol_default_deny and held is not None and self._world.is_local(held):
            found |= {(fixed.KNOWN, family) for family in families}
        return found

    def settled(
        self, pod: ObjectKey, standing: Standing, families: Collection[int], written: Callable[[Guard], bool]
    ) -> tuple[Note, ...]:
        """It is in its guards now. What is to be said of it. written: whether a guard says what it is to say."""
        roles = self._fixed_sets(pod, standing, families)
        waits = self.waits(pod, standing, written)
        if waits:
            roles |= {place for place in self._roles.get(pod, ()) if place[0] in fixed.ISOLATED}
        if roles:
            self._roles[pod] = frozenset(roles)
        else:
            self._roles.pop(pod, None)
        wanted, now = self._guards.wanted(pod), self._targets(pod, standing)
        notes = []
        for address in self._world.addresses(pod):
            family = family_of(address)
            for direction, guard in wanted.items():
                name = now.get((direction, family))
                if name == guard.name and written(guard):
                    continue
                self._unsettled.add(pod)
                if family not in standing:  # nothing of this family can be written: said of the tables
                    continue
                where = f"{direction} of {address_text(address)}"
                if name is None:
                    notes.append(Note(POD, pod, CLOSED, f"{where}: closed, its rules cannot be written", event=True))
                else:
                    notes.append(Note(POD, pod, NOT_UP_TO_DATE, f"{where}: as before, its new rules cannot be written"))
        self._put(pod, {**now, **self._places(pod)} if waits else now)
        if roles or now:
            self._had[pod] = self._world.addresses(pod)
        else:
            self._had.pop(pod, None)
        return tuple(notes)

    def _put(self, pod: ObjectKey, now: dict[Place, str]) -> None:
        if self._in.get(pod, {}) == now:
            return
        self.version += 1
        self._pods_in.update(now.values())
        for name in self._in.pop(pod, {}).values():
            self._pods_in[name] -= 1
            if not self._pods_in[name]:
                del self._pods_in[name]
        if now:
            self._in[pod] = now

    def _places(self, pod: ObjectKey) -> Mapping[Place, str]:
        if pod in self._in or not self._found:
            return self._in.get(pod, {})
        return {place: name for each in self._world.addresses(pod) for place, name in self._found.get(each, {}).items()}

    def _targets(self, pod: ObjectKey, standing: Standing) -> dict[Place, str]:
        """Where it is to be: the guard that it wants, else the one that it is in, if that stands."""
        before = self._places(pod)
        found = {}
        for direction, guard in self._guards.wanted(pod).items():
            for family, chains in standing.items():
                kept = before.get((direction, family))
                if guard.chain in chains:
                    found[direction, family] = guard.name
                elif kept is not None and guard_chain(kept) in chains:
                    found[direction, family] = kept
        return found


def guard_of(member: SetMember) -> tuple[str, str] | None:
    """Direction and name of the guard that a pod is in by this; None: it is a member of another kind of set."""
    for head, direction in _GUARD_HEADS.items():
        if member.set.startswith(head):
            return direction, member.set[len(FIREWALL_SETS) :].rpartition("-")[0]
    return None


def isolated_by(direction: str, address: bytes) -> SetMember:
    """What holds a local pod's address to its guard of this direction."""
    return SetMember(firewall_set(_ISOLATED[direction], family_of(address)), SetEntry(address))
