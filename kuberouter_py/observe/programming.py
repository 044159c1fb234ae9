"""Changes of endpoints on their way from the cluster into the kernel: when each has arrived (S14.01, M4.16).

What is measured of it is metrics.py's. A change is known by the time that the endpoints' controller wrote on it; the
same time heard of again (a Service that changes, a slice that is relabelled) is no new change.
"""

from __future__ import annotations

import threading

from kuberouter_py.model.cluster import ObjectKey


class Programming:
    """started: changes older than that (seconds since 1970) were somebody else's to bring in. Callable from any thread.

    Remembers one time for each Service that has slices (M4.17).
    """

    def __init__(self, started: float) -> None:
        self._started = started
        self._lock = threading.Lock()
        self._seen: dict[ObjectKey, float] = {}
        self._waiting: dict[ObjectKey, tuple[float, float]] = {}  # -> (heard of at, came about at)

    def heard(self, service: ObjectKey, triggered: float, now: float) -> None:
        """triggered: the newest time on the Service's slices, 0.0 where there are none, or none has one."""
        if not triggered and service not in self._seen:  # most of a first list: not worth a lock each
            return
        with self._lock:
            if not triggered:
                self._seen.pop(service, None)
                self._waiting.pop(service, None)
            elif triggered > self._seen.get(service, self._started):
                self._seen[service] = triggered
                self._waiting[service] = (now, triggered)

    def arrived(self, started: float) -> list[float]:
        """A sync that began at `started` is done; when the changes that it brought in came about."""
        with self._lock:
            done = {key: triggered for key, (heard, triggered) in self._waiting.items() if heard <= started}
            for key in done:
                del self._waiting[key]
        return list(done.values())
