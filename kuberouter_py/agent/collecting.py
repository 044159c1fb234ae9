"""Python's garbage collector, which rests while a first sync makes what stays.

Nothing that is made before the first sync is garbage; 100,000 endpoints would be walked again and again. But a first
sync may be outstanding for days (there is no Node yet, another proxy is alive), and garbage of these days has to go.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

# Seconds. Of the longest first sync measured, 45,000 Services with an address each, the kernel alone takes 254 s
# (observe/health.py).
LONGEST = 300.0
LOOK = 15.0  # seconds between two looks at whether that is over, where nothing else turns


class Collecting:
    """Callable from any thread. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: float | None = None  # clock; None: it does not rest

    def rest(self) -> None:
        """From now on, LONGEST seconds at most."""
        self._until = self._clock() + LONGEST
        gc.disable()

    def go_on(self) -> None:
        """What is there now is never looked at again."""
        self._until = None
        gc.freeze()
        gc.enable()

    def look(self) -> None:
        """Whoever waits for something calls it now and then: it goes on when it has rested for long enough."""
        until = self._until  # read once: a first sync may be done meanwhile
        if until is not None and self._clock() >= until:
            log.info("garbage is collected again although a first sync is outstanding", after=LONGEST)
            self.go_on()
