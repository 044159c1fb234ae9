"""New flows at a steady pace in the background, and what their failures amount to."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from tests.labkit.traffic.flows import Outcome


@dataclass(frozen=True)
class Try:
    began: float
    answered: bool


def summary(tries: Sequence[Try], began: float, ended: float) -> dict[str, float]:
    """attempts, failed, and the longest time in which no attempt began that was to succeed.

    The stream's own begin and end count as bounds of such a time only when the attempts beside them failed.
    """
    tries = sorted(tries, key=lambda each: each.began)
    starts = [each.began for each in tries if each.answered]
    if tries and not tries[0].answered:
        starts.insert(0, began)
    if tries and not tries[-1].answered:
        starts.append(ended)
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    failed = sum(not each.answered for each in tries)
    return {"attempts": len(tries), "failed": failed, "longest_gap": max(gaps, default=0.0)}


@dataclass
class Stream:
    """Begins an attempt every `every` seconds, whatever became of those before it."""

    attempt: Callable[[], Awaitable[Outcome]]
    every: float
    tries: list[Try] = field(default_factory=list)

    def start(self) -> None:
        self._began = time.monotonic()
        self._running: set[asyncio.Task[None]] = set()
        self._pace = asyncio.create_task(self._go())

    async def stop(self) -> dict[str, float]:
        """Begins no more, waits for those under way, and sums up."""
        self._pace.cancel()
        ended = time.monotonic()
        await asyncio.gather(*self._running)
        return summary(self.tries, self._began, ended)

    async def abandon(self) -> None:
        """Nobody wants to know any more."""
        self._pace.cancel()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _go(self) -> None:
        due = time.monotonic()
        while True:
            task = asyncio.create_task(self._one())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            due = max(due + self.every, time.monotonic())  # a late one does not make the next ones hurry
            await asyncio.sleep(due - time.monotonic())

    async def _one(self) -> None:
        began = time.monotonic()
        outcome = await self.attempt()
        self.tries.append(Try(began, outcome["outcome"] == "open"))
