"""How long a campaign goes on, and what it says meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

_TELLS_EVERY = 60.0  # seconds


class Pace:
    """minutes: worlds after that are passed over, so that a run has an end; None: all are played."""

    def __init__(self, minutes: float | None = None) -> None:
        self.began = time.monotonic()
        self._end = None if minutes is None else self.began + minutes * 60
        self._told = self.began
        self._failed = False

    def is_over(self) -> bool:
        """Never after a failure: what shows it once more in a smaller world is still to be found."""
        return self._end is not None and time.monotonic() > self._end and not self._failed

    @contextlib.contextmanager
    def world(self, tally: object) -> Iterator[None]:
        """One is played meanwhile. tally: told now and then, and as it was when something failed first."""
        try:
            yield
        except Exception:
            if not self._failed:
                print(f"campaign: a failure after {tally}", flush=True)
            self._failed = True
            raise
        if time.monotonic() > self._told + _TELLS_EVERY:
            self._told = time.monotonic()
            print(f"campaign: {self._told - self.began:.0f} s: {tally}", flush=True)
