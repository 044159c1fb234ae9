"""COMPARE: what is wanted, what the kernel has, and the difference between them, written in order.

Who wants what is in claims.py. Across units, equal items are counted: one VIP with many ports has one route. The tables
own the kernel, mirror.py what we know of each. Nothing here knows of Services.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from typing import Any

from kuberouter_py.controllers.claims import Claims, Owner, Share, Unit
from kuberouter_py.controllers.mirror import Mirror
from kuberouter_py.controllers.outcome import Outcome
from kuberouter_py.model.report import TableCounts
from kuberouter_py.ports import EdgeError, Plan, Refused, SlicedTable, Table

Dirty = dict[str, set[Any]]  # keys by table: those whose wanted value may differ from what is there


def _done(asked: Mapping[Any, Any], refused: Mapping[Any, Refused]) -> int:
    return len(asked) - sum(key in asked for key in refused)


class Reconciler:
    """tables: in the order in which they grow; they shrink in the reverse.

    leaning: table -> those whose content has to stand before anything is added to it. Where such a table refuses all
    that is wanted of it (a lock that is held, a module that is missing), the additions wait for a better moment.
    """

    def __init__(self, tables: Sequence[Table[Any, Any]], leaning: Mapping[str, Collection[str]] | None = None) -> None:
        self._leaning = leaning or {}
        self._early: set[str] = set()  # tables whose additions wait
        self._order = [table.name for table in tables]
        self._states = {table.name: Mirror(table) for table in tables}
        self.claims = Claims()

    # -- what is wanted ----------------------------------------------------------------------------------------------

    def claim(self, shares: Mapping[Owner, Share]) -> dict[str, set[Any]]:
        """Replace these owners' shares; returns the keys per table whose wanted value may have changed."""
        dirty: dict[str, set[Any]] = {name: set() for name in self._order}
        for old, new in self.claims.replace(shares):
            self._exchange(old, new, dirty)
        return dirty

    def want(self, name: str, come: Iterable[tuple[Any, Any]], gone: Iterable[Any]) -> None:
        """For keys that cannot be contested, by the ten thousand: wanted from now on, with what they are to hold, and
        not wanted any more. Counted as items are; whoever calls knows what it has asked for.
        """
        state = self._states[name]
        for key, value in come:
            state.acquire(key, value)
        for key in gone:
            state.release(key)

    def _exchange(self, old: Unit, new: Unit, dirty: dict[str, set[Any]]) -> None:
        if old == new:
            return
        for item in new:  # acquired before the old is released: what stays never drops to nobody
            self._states[item.table].acquire(item.key, item.value)
            dirty[item.table].add(item.key)
        for item in old:
            self._states[item.table].release(item.key)
            dirty[item.table].add(item.key)

    # -- what is there -----------------------------------------------------------------------------------------------

    def read(self, names: Collection[str] | None = None) -> dict[str, set[Any]]:
        """Read these tables (default: all) from the kernel; returns every key that is wanted or there."""
        dirty: dict[str, set[Any]] = {name: set() for name in self._order}
        for name in self._order:
            if names is not None and name not in names:
                continue
            state = self._states[name]
            try:
                state.replace(state.table.read())
            except EdgeError as error:
                state.fail(error)
            dirty[name] = state.wanted.keys() | state.actual.keys()
            self._early.discard(name)  # all of it comes up again
        return dirty

    def read_part(self, name: str) -> tuple[dict[str, set[Any]], bool]:
        """Go on reading this table; returns the keys of this piece that are not as wanted, and whether it was the last:
        then those that were refused, for they may be taken by now.

        Between two pieces anything may be claimed and written. A table that has no pieces is read whole.
        """
        state = self._states[name]
        if not state.known or not isinstance(state.table, SlicedTable):
            return self.read((name,)), True
        try:
            if state.parts is None:
                state.touched = set()
                state.parts = state.table.parts([*state.actual, *state.foreign])
            part = next(state.parts, None)
        except EdgeError as error:
            state.fail(error)
            return {}, True
        state.unread = ""
        if part is None:
            missing = state.refused.keys() - state.touched  # what is not there is in no part
            state.parts, state.touched = None, set()
            return {name: missing}, True
        return {name: state.take(part)}, False

    def is_reading(self, name: str) -> bool:
        """Whether a reading in parts is under way."""
        return self._states[name].parts is not None

    # -- the difference ----------------------------------------------------------------------------------------------

    def plans(self, dirty: Mapping[str, Collection[Any]]) -> dict[str, Plan[Any, Any]]:
        """What `write` would do, in growth order; only tables with a difference."""
        plans = {name: self._states[name].plan(dirty[name]) for name in self._order if dirty.get(name)}
        return {name: plan for name, plan in plans.items() if plan}

    def write(self, dirty: Mapping[str, Collection[Any]]) -> Outcome:
        """Grow along the dependency, then shrink in the reverse: make before break.

        While a table has not been read once, nothing that its content may lean on is taken away (a left-over virtual
        server's mark of ownership): those removals wait for the next attempt.
        """
        plans = self.plans(dirty)
        unread = {name: state.unread for name, state in self._states.items() if state.unread}
        states = self._states
        lacking = frozenset(name for name in unread if not states[name].known and not states[name].hidden)
        outcome = Outcome(unread=unread, lacking=lacking)
        for name, keys in dirty.items():
            self._states[name].adopt(keys)
            if refused := self._states[name].refused:
                for key in keys:
                    refused.pop(key, None)
        last = self._order[-1]  # what it grows and what it shrinks by stand side by side: one step of the kernel's
        for name, plan in plans.items():
            add, remove = plan.add, plan.remove if name == last else {}
            if add and any(self._is_absent(other) for other in self._leaning.get(name, ())):
                self._early.add(name)
                add = {}
            if add or plan.change or remove:
                self._apply(name, Plan(add, plan.change, remove), outcome)
        in_the_dark = False
        for name in reversed(self._order):
            state, removals = self._states[name], plans[name].remove if name in plans and name != last else {}
            if removals and not in_the_dark:
                self._apply(name, Plan(remove=removals), outcome)
            state.waits = in_the_dark and (state.waits or bool(removals))
            in_the_dark = in_the_dark or state.hidden
        return outcome

    def _is_absent(self, name: str) -> bool:
        """Nothing of what is wanted there stands, and not because this node cannot have it for good."""
        state = self._states[name]
        if all(reason.missing for reason in state.refused.values()):
            return False
        return not any(key in state.actual for key in state.wanted)

    def _apply(self, name: str, plan: Plan[Any, Any], outcome: Outcome) -> None:
        state = self._states[name]
        if state.parts is not None:
            state.touched.update(plan.add, plan.change, plan.remove)
        refused = state.table.apply(plan)
        for key, value in plan.add.items():
            if key not in refused:
                state.hold(key, value)
        for key, (_, value) in plan.change.items():
            if key not in refused:
                state.hold(key, value)
        for key in plan.remove:
            if key not in refused:
                state.drop(key)
        for key, reason in refused.items():
            state.refused[key] = reason
            outcome.refused[name, key] = reason
        counts = outcome.tables.get(name, TableCounts())
        outcome.tables[name] = TableCounts(
            counts.added + _done(plan.add, refused),
            counts.changed + _done(plan.change, refused),
            counts.removed + _done(plan.remove, refused),
            counts.refused + len(refused),
        )

    # -- what may be asked -------------------------------------------------------------------------------------------

    def wanted(self, name: str) -> Mapping[Any, Any]:
        return self._states[name].wanted

    def held(self, name: str) -> dict[Any, Any]:
        """What is there now: as read, and as written since."""
        return self._states[name].actual

    def version(self, name: str) -> int:
        """Another one whenever what is held there may be another: for who keeps something that follows from it."""
        return self._states[name].version

    def unwanted(self, name: str) -> Set[Any]:
        """What is held there and nobody wants. From the second time on this costs nothing."""
        return self._states[name].without_owner()

    def foreign(self, name: str) -> dict[Any, Any]:
        return self._states[name].foreign

    def standing(self) -> dict[tuple[str, Any], Refused]:
        """Every key that is refused now; table-wide failures are under the key None."""
        found: dict[tuple[str, Any], Refused] = {}
        for name, state in self._states.items():
            if state.unread:
                found[name, None] = Refused(state.unread)
            found.update({(name, key): reason for key, reason in state.refused.items()})
        return found

    def suspect_tables(self) -> set[str]:
        """Tables to read again: something was refused there or put off, or they could not be read."""
        return self._early | {
            name for name, state in self._states.items() if state.refused or state.unread or state.waits
        }
