"""One kind from an API server, in a thread that only waits: what to ask, and when again, is following.py's."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from kuberouter_py.watchers.asking import Api
from kuberouter_py.watchers.broadcaster import Broadcaster
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.following import Follower
from kuberouter_py.watchers.kinds import Kind
from kuberouter_py.watchers.status import WatchStatus


class Watcher:
    """reached: called when the server answers again; the others of its watchers shall hear of it (nudge). Whether they
    did.

    clock: monotonic seconds. now: seconds since 1970. random: 0.0 to 1.0.
    """

    def __init__(
        self,
        api: Api,
        kind: Kind,
        cache: Cache,
        broadcaster: Broadcaster,
        *,
        reached: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._follower = Follower(api, kind, cache, broadcaster, reached, self._stopping, clock, now, random)
        self._thread = threading.Thread(target=self.run, name=f"watch-{kind.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns at once; join() waits for the end. A request that has no answer yet ends with ApiClient.close()."""
        self._stopping.set()
        self._wake.set()
        self._follower.interrupt()

    def join(self, timeout: float | None = None) -> None:
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()  # before the step: a nudge during it counts
            seconds = self.step()
            if not self._stopping.is_set():
                self._wake.wait(seconds)

    def step(self) -> float:
        """See Follower.step."""
        return self._follower.step()

    def nudge(self) -> None:
        """From any thread: the server answers somebody again. Who waits because it did not asks now."""
        if self._follower.failing:
            self._wake.set()

    def status(self) -> WatchStatus:
        """See Follower.status."""
        return self._follower.status()
