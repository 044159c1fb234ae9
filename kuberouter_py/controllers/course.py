"""What a controller's syncs have in common: the reconciler and who may ask it when, comparing piece by piece, reports.

Deciding is its user's, and so is what to write, in which order. All calls come from the runner's thread, but for those
that say otherwise.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kuberouter_py.controllers.comparison import Comparison
from kuberouter_py.controllers.history import Clocks, History
from kuberouter_py.controllers.outcome import Outcome, first_failure
from kuberouter_py.controllers.reconcile import Dirty, Reconciler
from kuberouter_py.model.report import Note, SyncReport
from kuberouter_py.ports import Busy, Refused, Table

PATIENCE = 2.0  # seconds that a question may wait for a sync: the first one of a big cluster takes longer
THE_NODE = "node"  # what it is that could not be looked at

OnReport = Callable[[SyncReport, Sequence[Note]], None]


class Course:
    """name: the controller's. on_report: called after every sync, with the notes that are new. messages: what the edges
    have sent so far. judge: called before every report with what was written; takes out what was refused and is no
    failure, and returns the notes that are new. leaning: see Reconciler.

    unread: what else could not be looked at, by what it is, with the reason; its user keeps it.
    """

    def __init__(
        self,
        name: str,
        tables: Sequence[Table[Any, Any]],
        clocks: Clocks,
        on_report: OnReport,
        messages: Callable[[], int],
        judge: Callable[[Outcome], Sequence[Note]],
        leaning: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self.name = name
        self.reconciler = Reconciler(tables, leaning)
        self.history = History()
        self.comparison = Comparison([table.name for table in tables], self.reconciler.is_reading)
        self.lock = threading.Lock()  # held while state changes: others ask from other threads
        self.unread: dict[str, str] = {}
        self._names = [table.name for table in tables]
        self._clocks = clocks
        self._on_report = on_report
        self._messages = messages
        self._messages_before = 0
        self._judge = judge

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clocks.monotonic()

    def nothing_dirty(self) -> Dirty:
        return {name: set() for name in self._names}

    def compare_part(self, write: Callable[[Dirty, bool], Outcome]) -> bool | None:
        """One piece of a table; None: there is none to compare. Only what had to be written or could not be read is
        reported, and the end of it all. write: called with the keys that are not as wanted, and whether the piece was
        the table's last.
        """
        if (name := self.comparison.table()) is None:
            return None
        started = self.now()
        with self.lock:
            dirty, last = self.reconciler.read_part(name)
            outcome = write(dirty, last)
        if self.comparison.took(self.now() - started, last=last):
            news = outcome.tables or name in outcome.unread
            return self.report(started, 0, outcome, full=False) if news else True
        seconds, whole = self.comparison.ended()
        return self.report(self.now() - seconds, 0, outcome, full=whole)

    def report(self, started: float, keys: int, outcome: Outcome, news: Sequence[Note] = (), *, full: bool) -> bool:
        """Whether nothing failed. news: notes that are new besides those that `judge` tells of."""
        duration = self.now() - started
        messages = self._messages()
        news = [*news, *self._judge(outcome)]
        report = SyncReport(
            controller=self.name,
            started=self._clocks.wall() - duration,
            duration=duration,
            full=full,
            keys=keys,
            tables=outcome.tables,
            messages=messages - self._messages_before,
            failures=outcome.failures,
        )
        self._messages_before = messages
        self.history.add(report, first_failure(outcome))
        self._on_report(report, news)
        return outcome.failures == 0

    def standing(self) -> dict[tuple[str, Any], Refused]:
        """What is refused now, by table and key; key None: all of the table."""
        found = self.reconciler.standing()
        found.update({(what, None): Refused(reason) for what, reason in self.unread.items()})
        return found

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Any thread: between two syncs. Raises Busy where one takes long."""
        if not self.lock.acquire(timeout=PATIENCE):
            raise Busy("the agent is in the middle of a sync that takes long; ask again")
        try:
            yield
        finally:
            self.lock.release()
