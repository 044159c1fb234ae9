"""Whether this process has just written rules itself: news of them say nothing new then.

One for the process, because the kernel's news do not tell who wrote, and several edges write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

# Seconds that news of a write may come after it: a program's last close, a message in a socket's queue.
ECHO: Final = 0.3


class OwnWrites:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._writing = 0
        self._ended = -ECHO

    @contextmanager
    def writing(self) -> Iterator[None]:
        self._writing += 1
        try:
            yield
        finally:
            self._writing -= 1
            self._ended = self._clock()

    def just_now(self) -> bool:
        return self._writing > 0 or self._clock() <= self._ended + ECHO


OWN_WRITES: Final = OwnWrites()
