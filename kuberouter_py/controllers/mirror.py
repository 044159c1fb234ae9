"""What one table of the kernel is to hold, and what it holds as far as we know: a mirror of what was read and written.

The table owns the kernel, reconcile.py who claims what and the order of writing. Here are the counts of who wants a
key, and the difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kuberouter_py.ports import Actual, EdgeError, Part, Plan, Refused, Table, Unavailable

ABSENT: Any = object()


class Mirror:
    """One table: what is wanted, how often, what is there."""

    __slots__ = (
        "actual", "counts", "foreign", "hidden", "known", "parts", "refused", "table", "touched", "unread", "unwanted",
        "version", "waits", "wanted",
    )  # fmt: skip

    def __init__(self, table: Table[Any, Any]) -> None:
        self.table = table
        self.wanted: dict[Any, Any] = {}
        self.counts: dict[Any, int] = {}  # only keys wanted by more than one unit; absent means one
        self.actual: dict[Any, Any] = {}
        self.version = 0  # of actual
        self.unwanted: set[Any] | None = None  # keys of actual alone; followed from when somebody asks for them
        self.foreign: dict[Any, Any] = {}
        self.known = False  # read at least once
        self.refused: dict[Any, Refused] = {}
        self.unread = ""
        self.hidden = False  # never read, and there may be something in it
        self.waits = False  # its removals were put off, see Reconciler.write()
        self.parts: Iterator[Part[Any, Any]] | None = None  # the reading in parts that is under way
        self.touched: set[Any] = set()  # keys written since it began: of those its parts may be older than the mirror

    def acquire(self, key: Any, value: Any) -> None:
        if key in self.wanted:
            self.counts[key] = self.counts.get(key, 1) + 1
        elif key in self.actual and self.actual[key] == value:
            # What an earlier process left is as wanted: its copies go, so that 250,000 destinations are held once.
            del self.actual[key]
            self.actual[key] = value
            self.version += 1
        self.wanted[key] = value
        if self.unwanted:
            self.unwanted.discard(key)

    def release(self, key: Any) -> None:
        count = self.counts.get(key, 1) - 1
        if count == 0:
            del self.wanted[key]
            if self.unwanted is not None and key in self.actual:
                self.unwanted.add(key)
        elif count == 1:
            del self.counts[key]
        else:
            self.counts[key] = count

    def plan(self, keys: Iterable[Any]) -> Plan[Any, Any]:
        plan: Plan[Any, Any] = Plan({}, {}, {})
        for key in keys:
            if key in self.wanted:
                value = self.wanted[key]
                present = self.actual[key] if key in self.actual else self.foreign.get(key, ABSENT)
                if present is ABSENT:
                    plan.add[key] = value  # type: ignore[index]
                elif present != value:
                    plan.change[key] = (present, value)  # type: ignore[index]
            elif key in self.actual:
                plan.remove[key] = self.actual[key]  # type: ignore[index]
        return plan

    def adopt(self, keys: Iterable[Any]) -> None:
        """What is there just as wanted, whoever made it, is ours from now on, so that it can go again."""
        if not self.foreign:
            return
        for key in keys:
            if key in self.wanted and key in self.foreign and self.foreign[key] == self.wanted[key]:
                self.actual[key] = self.foreign.pop(key)
                self.version += 1

    def replace(self, actual: Actual[Any, Any]) -> None:
        """Take in the whole table as it is."""
        self.actual, self.foreign, self.known, self.hidden, self.unread = actual.ours, actual.foreign, True, False, ""
        self.parts = None
        self.version += 1
        self.unwanted = None

    def drop(self, key: Any) -> None:
        """It was taken away."""
        self.version += 1
        self.actual.pop(key, None)
        if self.unwanted:
            self.unwanted.discard(key)

    def without_owner(self) -> set[Any]:
        if self.unwanted is None:
            self.unwanted = {key for key in self.actual if key not in self.wanted}
        return self.unwanted

    def fail(self, error: EdgeError) -> None:
        self.unread = str(error)
        self.hidden = not self.known and not isinstance(error, Unavailable)
        self.parts = None

    def take(self, part: Part[Any, Any]) -> set[Any]:
        """Take in a piece of the table; the keys that are not as wanted."""
        self.version += 1
        dirty: set[Any] = set()
        for key, value in part.ours.items():
            if key not in self.touched:
                _note(key, value, self.actual, self.foreign)
                if self.wanted.get(key, ABSENT) != value:
                    dirty.add(key)
        for key, value in part.foreign.items():
            if key not in self.touched:
                _note(key, value, self.foreign, self.actual)
                if key in self.wanted:
                    dirty.add(key)
        for key in part.gone:
            if key not in self.touched:
                self.actual.pop(key, None)
                self.foreign.pop(key, None)
                if key in self.wanted:
                    dirty.add(key)
        if self.unwanted is not None:
            seen = {*part.ours, *part.foreign, *part.gone}
            self.unwanted -= seen
            self.unwanted.update(key for key in seen if key in self.actual and key not in self.wanted)
        return dirty

    def hold(self, key: Any, value: Any) -> None:
        """It was written: whose it was before does not matter any more."""
        self.version += 1
        self.actual[key] = value
        self.foreign.pop(key, None)


def _note(key: Any, value: Any, mirror: dict[Any, Any], other: dict[Any, Any]) -> None:
    """An equal value stays the one that is held: it is shared with what is wanted, a new one would be a copy."""
    if mirror.get(key, ABSENT) != value:
        mirror[key] = value
        other.pop(key, None)
