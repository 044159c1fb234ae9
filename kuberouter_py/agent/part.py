"""The shape that every controller of the agent has: what running.py starts, asks and stops; nothing of what it does.

A part owns its controller with that controller's edges, loop and listeners. The cluster (source.py) and what people are
told (telling.py) are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from kuberouter_py.controllers.reconcile import Outcome
from kuberouter_py.model.report import ControllerStatus, Note, SyncReport
from kuberouter_py.observe.http import Question

OnReport = Callable[[SyncReport, Sequence[Note]], None]


class Start(Protocol):
    """Starts a loop on a thread of its own; the agent ends when it dies. first_sync: a controller's
    first sync comes first, which is told with `full` when it is done.
    """

    def __call__(self, name: str, loop: Callable[[], None], *, first_sync: bool = False) -> None: ...


class Part(Protocol):
    """name: the controller's. wanted: its flag."""

    name: str
    wanted: bool

    def stand_by(self) -> Outcome:
        """Switched off, a controller is a sync to nothing: one attempt."""

    def subscribe(self) -> None:
        """Before the cluster is heard."""

    def serve(self, start: Start) -> bool:
        """Every cache is whole: starts the loops. False: the agent has to begin anew. Raises EdgeError."""

    def compare(self, tables: Collection[str]) -> None:
        """Somebody may have changed them. Any thread; also before and after its loop turns."""

    def stop(self) -> None:
        """Asks the loops to end, also those that were never started."""

    def close(self) -> None:
        """They have ended."""

    # -- what may be asked, from any thread --

    def status(self) -> ControllerStatus: ...

    def look(self) -> None:
        """Right before `status` is shown to somebody: what nothing announces is looked at now."""

    def problems(self) -> Iterable[str]: ...

    def questions(self) -> Mapping[str, Question]:
        """What the local socket answers of it, by path."""
