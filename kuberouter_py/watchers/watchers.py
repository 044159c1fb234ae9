"""Everything that is heard of the cluster, as one thing to start, to wait for and to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kuberouter_py.watchers.api import ApiClient, MetadataOnly
from kuberouter_py.watchers.broadcaster import Broadcaster
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.kinds import Kind
from kuberouter_py.watchers.manifests import ManifestFolder
from kuberouter_py.watchers.status import WatchStatus
from kuberouter_py.watchers.watcher import Watcher

STOP_SECONDS = 2.0  # for all threads together; one that still connects dies with the process

# Between two nudges. What cuts every watch right after its headers (a proxy in trouble) would have any two of them wake
# each other in a circle, without a pause: each of them is answered, and fails again.
NUDGE_SECONDS = 10.0


class Watchers:
    """source: an API server, or a folder of manifests. kinds: those that a running controller reads (kinds.py).

    Subscribe before start(). Raises Unavailable where the folder cannot be read. A source is closed with its watchers.
    clock: monotonic seconds.
    """

    def __init__(
        self,
        source: ApiClient | Path,
        kinds: Sequence[Kind],
        broadcaster: Broadcaster,
        cache: Cache,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._nudging = threading.Lock()
        self._nudged: float | None = None  # clock
        self._awaited = [kind.name for kind in kinds if kind.awaited]
        self._cache = cache
        self._api = source if isinstance(source, ApiClient) else None
        self._parts: Sequence[Watcher | ManifestFolder]
        if isinstance(source, ApiClient):
            lean = MetadataOnly(source)
            self._parts = [
                Watcher(lean if kind.metadata_only else source, kind, cache, broadcaster, reached=self._nudge)
                for kind in kinds
            ]
            self.source = source.server
        else:
            self._parts = [ManifestFolder(source, kinds, cache, broadcaster)]
            self.source = f"manifests in {source}"

    def start(self) -> None:
        for part in self._parts:
            part.start()

    def _nudge(self) -> bool:
        """After an outage the first of them that gets through spares the others the rest of their waits. From any
        thread. False: they had been nudged a moment ago.
        """
        with self._nudging:
            now = self._clock()
            if self._nudged is not None and now - self._nudged < NUDGE_SECONDS:
                return False
            self._nudged = now
        for part in self._parts:
            if isinstance(part, Watcher):
                part.nudge()
        return True

    def stop(self) -> None:
        """Everything ends at once; who waits for an answer gets none."""
        for part in self._parts:
            part.stop()
        if self._api:
            self._api.close()
        for part in self._parts:
            part.join(STOP_SECONDS / len(self._parts))

    def unsynced(self) -> list[str]:
        """Kinds that are waited for."""
        return [kind for kind in self._awaited if not self._cache.synced(kind)]

    def wait_synced(self, timeout: float | None = None) -> bool:
        """Wait until the first list of every kind that is waited for is complete, at most that many seconds. Whether
        they are.
        """
        return self._cache.wait_synced(self._awaited, timeout)

    def status(self) -> Sequence[WatchStatus]:
        """One for each kind; of a folder also one for its files."""
        return [
            status
            for part in self._parts
            for status in (part.status() if isinstance(part, ManifestFolder) else [part.status()])
        ]
