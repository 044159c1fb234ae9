"""What every controller keeps of its past syncs, and the clocks that it is given. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from kuberouter_py.model.report import ControllerStatus, SyncReport


@dataclass(frozen=True)
class Clocks:
    """wall: seconds since 1970; monotonic: for durations."""

    wall: Callable[[], float]
    monotonic: Callable[[], float]


@dataclass
class History:
    """What is remembered of past syncs."""

    synced: bool = False
    last_sync: float = 0.0
    last_duration: float = 0.0
    last_full_sync: float = 0.0
    syncs: int = 0
    last_error: str = ""

    def add(self, report: SyncReport, error: str) -> None:
        self.synced = self.synced or report.full
        self.syncs += 1
        self.last_sync = report.started + report.duration
        self.last_duration = report.duration
        if report.full:
            self.last_full_sync = self.last_sync
        if error:
            self.last_error = error

    def status(self, name: str) -> ControllerStatus:
        """What of a controller's status comes from here; the rest is empty, for its caller to replace."""
        return ControllerStatus(
            name=name,
            synced=self.synced,
            last_sync=self.last_sync,
            last_duration=self.last_duration,
            last_full_sync=self.last_full_sync,
            syncs=self.syncs,
            failures=0,
            last_error=self.last_error,
            counts={},
            notes=(),
            refused=(),
            facts={},
        )


def busy_status(name: str, history: History, said: Mapping[str, str]) -> ControllerStatus:
    """While a sync takes long: what is known without waiting for it."""
    state = "in the middle of a sync; counts and refusals follow when it is done"
    return replace(history.status(name), facts={"state": state, **said})
