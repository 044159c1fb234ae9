"""How long to wait before asking again (M1.09)."""

from __future__ import annotations

from collections.abc import Callable

FIRST = 0.8  # seconds; all four numbers are client-go's reflector's
FACTOR = 2.0
CAP = 30.0
RESET_AFTER = 120.0  # seconds without a failure


class Backoff:
    """Each wait is between once and twice the step, so that a thousand nodes do not come back together.

    client-go's starts anew only after two minutes without a failure, because it cannot tell what came between two of
    them; its caller says so here, and one dropped connection after an outage does not cost half a minute of blindness.
    """

    def __init__(self, clock: Callable[[], float], random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._step = FIRST
        self._last: float | None = None
        self._wait = 0.0

    def healthy(self, seconds: float | None = None) -> None:
        """The server did what it was asked; seconds: for so long (a watch). Less than the last wait proves nothing."""
        if seconds is None or seconds >= self._wait:
            self._step, self._wait = FIRST, 0.0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        now = self._clock()
        if self._last is None or now - self._last > RESET_AFTER:
            self._step = FIRST
        wait = self._step * (1.0 + self._random())
        self._step = min(CAP, self._step * FACTOR)
        self._last, self._wait = now + wait, wait
        return wait
