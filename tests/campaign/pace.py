"""How long a campaign goes on, and what it says meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from unittest import SkipTest  # of all exceptions hypothesis lets this one end it

_TELLS_EVERY = 60.0  # seconds


class Pace:
    """minutes: no world is begun after that; None: all are played."""

    def __init__(self, minutes: float | None = None) -> None:
        self.began = time.monotonic()
        self._end = None if minutes is None else self.began + minutes * 60
        self._told = self.began
        self._failed = False

    @contextlib.contextmanager
    def world(self, tally: object) -> Iterator[None]:
        """One is played meanwhile. tally: told now and then, and as it was when something failed first.

        After a failure there is always time: what shows it once more in a smaller world is still to be found.
        """
        if self._end is not None and time.monotonic() > self._end and not self._failed:
            raise SkipTest("the time is over")
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

    def until_over(self) -> contextlib.AbstractContextManager[None]:
        """Around everything: that the time is over is no failure."""
        return contextlib.suppress(SkipTest)
