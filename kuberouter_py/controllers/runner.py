"""WHEN: one thread that calls a controller, with the keys that were rung, soon after a failure, and every period.

It knows no kernel and no cluster: only keys, a clock and a controller. Rings may come from any thread. Background
work (the periodic comparison with the kernel, a change that concerns every key) is cut into slices, and rung keys
pass between them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Protocol

# A failed sync is repeated after 1 s, then 2, 4 ... and at the latest after 30 s (S10.09: a failed sync is retried).
RETRY_FIRST, RETRY_LAST = 1.0, 30.0
# The loop turns at least this often, so that liveness can tell a loop that hangs from one with nothing to do. It waits
# for minutes before it says so (observe/health.py); every turn for nothing is CPU of an idle node.
HEARTBEAT = 30.0


class Controller(Protocol):
    """What a runner needs of a controller. Every call is made on the runner's thread."""

    name: str

    def first_sync(self) -> bool:
        """The whole first pass; False: something was refused, try again soon."""

    def sync(self, keys: Collection[Hashable]) -> bool:
        """Decide these keys anew and write the difference."""

    def begin_compare(self, tables: Collection[str]) -> None:
        """Compare these tables (none named: all) with the kernel, in the background."""

    def background(self) -> bool | None:
        """One slice of background work; None: there is none."""

    def due(self) -> float | None:
        """When background() wants to be called at the latest, by the runner's clock; None: it has no date."""

    def retry(self) -> bool:
        """After a failure: read again what cannot be believed, and write what is still missing."""


class Runner:
    """clock: monotonic seconds."""

    def __init__(
        self,
        controller: Controller,
        *,
        period: float,
        min_interval: float,
        clock: Callable[[], float],
    ) -> None:
        self._controller = controller
        self._period = period
        self._min_interval = min_interval
        self._clock = clock
        self._condition = threading.Condition()
        self._keys: set[Hashable] = set()
        self._compare_asked: set[str] = set()
        self._stopping = False
        self._retry_at: float | None = None
        self._retry_delay = RETRY_FIRST

    def ring(self, keys: Iterable[Hashable]) -> None:
        with self._condition:
            self._keys.update(keys)
            self._condition.notify()

    def ask_compare(self, tables: Iterable[str]) -> None:
        """Somebody changed something under us, or may have: compare these tables with the kernel now."""
        with self._condition:
            self._compare_asked.update(tables)
            self._condition.notify()

    def stop(self) -> None:
        with self._condition:
            self._stopping = True
            self._condition.notify()

    def _stopped(self) -> bool:
        with self._condition:
            return self._stopping

    def run(self, beat: Callable[[], None]) -> None:
        """Until stop(). The first sync is the caller's promise that every cache is synced.

        beat: called on every turn of the loop (liveness: the loop turns).
        """
        controller, clock = self._controller, self._clock
        with self._condition:
            self._keys.clear()  # the first sync looks at everything; what is rung from now on comes after it
        self._note(controller.first_sync())
        last = clock()
        next_compare = last + self._period
        idle = False
        while True:
            beat()
            keys, compare = self._wait(next_compare, idle, last)
            if self._stopped():
                return
            if keys:
                self._note(controller.sync(keys))
                last = clock()
            if compare:
                controller.begin_compare(compare)
            if clock() >= next_compare:
                controller.begin_compare(())
                next_compare = clock() + self._period
            good = controller.background()
            idle = good is None
            if good is False:
                self._note(False)
            if self._retry_at is not None and clock() >= self._retry_at:
                self._retry_at = None
                self._note(controller.retry())

    def _wait(self, next_compare: float, idle: bool, last: float) -> tuple[set[Hashable], set[str]]:
        """Sleep until something is due; hand out the rung keys once the minimum interval is over."""
        with self._condition:
            while idle and not self._stopping and not self._compare_asked:
                now = self._clock()
                soonest = min(next_compare, now + HEARTBEAT)
                if self._retry_at is not None:
                    soonest = min(soonest, self._retry_at)
                if (due := self._controller.due()) is not None:
                    soonest = min(soonest, due)
                if self._keys:
                    soonest = min(soonest, last + self._min_interval)
                if soonest <= now:
                    break
                if not self._condition.wait(soonest - now):
                    break
            compare, self._compare_asked = self._compare_asked, set()
            if self._clock() < last + self._min_interval:
                return set(), compare
            keys, self._keys = self._keys, set()
            return keys, compare

    def _note(self, good: bool) -> None:
        if good:
            if self._retry_at is None:
                self._retry_delay = RETRY_FIRST
        elif self._retry_at is None:
            self._retry_at = self._clock() + self._retry_delay
            self._retry_delay = min(RETRY_LAST, self._retry_delay * 2)
