"""How long to wait before asking again (M1.09)."""

from __future__ import annotations

from collections.abc import Callable

FIRST = 0.8  # seconds; all four numbers are client-go's reflector's
FACTOR = 2.0
CAP = 30.0
RESET_AFTER = 120.0  # seconds without a failure


class Backoff:
    """Each wait is between once and twice the step, so that a thousand nodes do not come back together."""

    def __init__(self, clock: Callable[[], float], random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._step = FIRST
        self._last: float | None = None

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        now = self._clock()
        if self._last is None or now - self._last > RESET_AFTER:
            self._step = FIRST
        wait = self._step * (1.0 + self._random())
        self._step = min(CAP, self._step * FACTOR)
        self._last = now + wait
        return wait
