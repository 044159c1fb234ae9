"""Who claims what, and whose claim is in force.

Owners (a Service, the node itself) hand in *shares*. A share is made of *units*, one per claimed key; a unit is
everything that hangs on that claim (virtual server, set members, address, route). Where two owners claim the same key
the senior one's whole unit is in force, the other's is not.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Any, NamedTuple

import msgspec


class Item(msgspec.Struct, frozen=True, gc=False):
    """60,000 of these live at once for 10,000 Services: half the size of a named tuple, and none to the collector."""

    table: str
    key: Any
    value: Any


Unit = tuple[Item, ...]
Owner = Hashable


class Share(NamedTuple):
    """seniority: the smallest wins a claim (for a Service: creationTimestamp, namespace, name).

    draining: claims of it that are only kept for connections that go on. Such a claim is lost, for good, to whoever
    else claims the key.
    """

    seniority: tuple[Any, ...]
    units: Mapping[Any, Unit]
    draining: frozenset[Any] = frozenset()


NOTHING = Share((), {})


class Claims:
    """Every owner's share, as it was handed in last."""

    def __init__(self) -> None:
        self._shares: dict[Owner, Share] = {}
        self._claims: dict[Hashable, tuple[Owner, ...]] = {}
        self._contested: set[Hashable] = set()
        self._heirs: set[Owner] = set()

    def replace(self, shares: Mapping[Owner, Share]) -> list[tuple[Unit, Unit]]:
        """Replace these owners' shares. For each claim that this may concern: the unit in force before, and now."""
        before: dict[Hashable, tuple[Owner | None, Unit]] = {}
        for owner, share in shares.items():
            old = self._shares.get(owner, NOTHING)
            moved = (old.seniority, old.draining) != (share.seniority, share.draining)
            for claim in old.units.keys() | share.units.keys():
                if claim not in before and (moved or old.units.get(claim) != share.units.get(claim)):
                    before[claim] = self.owner_of(claim), self._in_force(claim)
        for owner, share in shares.items():
            self._replace(owner, share)
        changes = []
        for claim, (old_owner, old_unit) in before.items():
            changes.append((old_unit, self._in_force(claim)))
            owners = self._claims.get(claim, ())
            if owners and (len(owners) > 1 or old_owner not in (None, owners[0])):
                self._heirs.add(owners[0])
        return changes

    def heirs(self) -> set[Owner]:
        """Owners that have prevailed over others, or come in their place, since this was asked last."""
        heirs, self._heirs = self._heirs, set()
        return heirs

    def _in_force(self, claim: Hashable) -> Unit:
        owners = self._claims.get(claim)
        return self._shares[owners[0]].units[claim] if owners else ()

    def _replace(self, owner: Owner, share: Share) -> None:
        old = self._shares.pop(owner, NOTHING)
        if share.units:
            self._shares[owner] = share
        for claim in old.units.keys() - share.units.keys():
            rest = tuple(other for other in self._claims[claim] if other != owner)
            self._set_claim(claim, rest)
        for claim in share.units:
            owners = self._claims.get(claim, ())
            if owners == (owner,):
                continue
            self._set_claim(claim, self._settled(claim, {*owners, owner}))

    def _settled(self, claim: Hashable, owners: Collection[Owner]) -> tuple[Owner, ...]:
        """The senior one first; those that only drain give the claim up where somebody else wants it."""
        live = [one for one in owners if claim not in self._shares[one].draining]
        if live:
            for one in set(owners).difference(live):
                share = self._shares.pop(one)
                if units := {key: unit for key, unit in share.units.items() if key != claim}:
                    self._shares[one] = share._replace(units=units)
        return tuple(sorted(live or owners, key=lambda one: self._shares[one].seniority))

    def _set_claim(self, claim: Hashable, owners: tuple[Owner, ...]) -> None:
        if owners:
            self._claims[claim] = owners
        else:
            del self._claims[claim]
        if len(owners) > 1:
            self._contested.add(claim)
        else:
            self._contested.discard(claim)

    # -- what may be asked -------------------------------------------------------------------------------------------

    def share(self, owner: Owner) -> Share:
        """As it was claimed last."""
        return self._shares.get(owner, NOTHING)

    def owners(self) -> Collection[Owner]:
        return self._shares.keys()

    def owner_of(self, claim: Hashable) -> Owner | None:
        """Whose unit is in force."""
        owners = self._claims.get(claim)
        return owners[0] if owners else None

    def claimants(self, claim: Hashable) -> tuple[Owner, ...]:
        """Everybody who wants it, the one in force first."""
        return self._claims.get(claim, ())

    def contested(self) -> dict[Hashable, tuple[Owner, ...]]:
        """Claims with more than one claimant, the one in force first."""
        return {claim: self._claims[claim] for claim in self._contested}
