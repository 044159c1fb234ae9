"""New flows at a steady pace in the background, and what their failures amount to."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from tests.labkit.traffic.flows import Flow, Outcome


@dataclass(frozen=True)
class Try:
    began: float
    outcome: str

    @property
    def answered(self) -> bool:
        return self.outcome == "open"


def summary(tries: Sequence[Try], began: float, ended: float) -> dict[str, float]:
    """attempts, failed, how many of these in which way, and the longest time in which no attempt began that was to
    succeed.

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
    ways = Counter(f"failed {each.outcome}" for each in tries if not each.answered)
    return {"attempts": len(tries), "failed": failed, **ways, "longest_gap": max(gaps, default=0.0)}


class Kept:
    """So many connections that are asked in turn, each again and again.

    One whose answer says `Connection: close` is replaced by a new one, as every client does; so is one that failed.
    """

    def __init__(self, make: Callable[[], Flow], count: int) -> None:
        self._make = make
        self._idle: asyncio.Queue[Flow | None] = asyncio.Queue()
        for _ in range(count):
            self._idle.put_nowait(None)

    async def ask(self, timeout: float) -> Outcome:
        began = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                flow = await self._idle.get()
        except TimeoutError:
            return {"outcome": "silent"}
        kept = None
        try:
            flow = flow or self._make()
            outcome = await flow.ask(max(0.0, began + timeout - time.monotonic()))
            if outcome["outcome"] == "open" and not outcome.get("close"):
                kept = flow
            return outcome
        finally:
            if flow is not None and kept is None:
                flow.close()
            self._idle.put_nowait(kept)

    def close(self) -> None:
        while not self._idle.empty():
            flow = self._idle.get_nowait()
            if flow is not None:
                flow.close()


@dataclass
class Stream:
    """Begins an attempt every `every` seconds, whatever became of those before it."""

    attempt: Callable[[], Awaitable[Outcome]]
    every: float
    kept: Kept | None = None  # what its attempts ask, where these are no new connections
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
        self._close()
        return summary(self.tries, self._began, ended)

    async def abandon(self) -> None:
        """Nobody wants to know any more."""
        self._pace.cancel()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._close()

    def _close(self) -> None:
        if self.kept is not None:
            self.kept.close()

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
        self.tries.append(Try(began, outcome["outcome"]))
