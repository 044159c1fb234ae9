"""What running.py starts, asks and stops of each controller, and what is alike in all of them.

A part owns its controller with that controller's edges, loop and listeners. The cluster (source.py) and what people are
told (telling.py) are shared.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import ClassVar, Protocol

from kuberouter_py.controllers.outcome import Outcome
from kuberouter_py.controllers.runner import Controller, Runner
from kuberouter_py.kernel.announcements import Announcements
from kuberouter_py.kernel.rule_news import RuleNews
from kuberouter_py.model.report import ControllerStatus
from kuberouter_py.observe.health import Health
from kuberouter_py.observe.http import Question


class Start(Protocol):
    """Starts a loop on a thread of its own; the agent ends when it dies. first_sync: a controller's
    first sync comes first, which is told with `full` when it is done.
    """

    def __call__(self, name: str, loop: Callable[[], None], *, first_sync: bool = False) -> None: ...


class Part(ABC):
    """name: the controller's. wanted: its flag. news: what the kernel announces that concerns it. period, min_interval:
    see Runner.
    """

    name: ClassVar[str]

    def __init__(
        self,
        wanted: bool,
        controller: Controller,
        news: Announcements,
        health: Health,
        *,
        period: float,
        min_interval: float = 0.0,
    ) -> None:
        self.wanted = wanted
        self._health = health
        self._runner = Runner(controller, period=period, min_interval=min_interval, clock=time.monotonic)
        self._news = news
        self._rule_news = RuleNews(lambda: self.compare(["iptables"]))

    # -- from start to end -------------------------------------------------------------------------------------------

    @abstractmethod
    def stand_by(self) -> Outcome:
        """Switched off, a controller is a sync to nothing: one attempt."""

    @abstractmethod
    def subscribe(self) -> None:
        """Before the cluster is heard."""

    def serve(self, start: Start) -> bool:
        """Every cache is whole: starts the loops. False: the agent has to begin anew. Raises EdgeError."""
        self._start_loops(start, self._health.expect(self.name))
        return True

    def _start_loops(self, start: Start, beat: Callable[[], None]) -> None:
        self._news.open()  # before the first look at the node, so that nothing changes unseen
        start(f"kernel news for {self.name}", self._news.run)
        start(f"rule news for {self.name}", self._rule_news.run)
        start(self.name, partial(self._runner.run, beat), first_sync=True)

    def compare(self, tables: Collection[str]) -> None:
        """Somebody may have changed them. Any thread; also before and after its loop turns."""
        self._runner.ask_compare(tables)

    def stop(self) -> None:
        """Asks the loops to end, also those that were never started."""
        self._runner.stop()
        self._news.stop()
        self._rule_news.stop()

    def close(self) -> None:  # noqa: B027  # most have nothing that outlives their loops
        """They have ended."""

    # -- what may be asked, from any thread --------------------------------------------------------------------------

    @abstractmethod
    def status(self) -> ControllerStatus: ...

    def look(self) -> None:  # noqa: B027  # most show nothing that changes in silence
        """Right before `status` is shown to somebody: what nothing announces is looked at now."""

    @abstractmethod
    def problems(self) -> Iterable[str]: ...

    @abstractmethod
    def questions(self) -> Mapping[str, Question]:
        """What the local socket answers of it, by path."""
