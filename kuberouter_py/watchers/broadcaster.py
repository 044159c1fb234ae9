"""Who asked for which kind. Carries keys, never objects: an event is a doorbell, and who is woken asks the cache.

The keys of an EndpointSlice's bell are those of Services (cache.py). Coalescing is for who is rung
(controllers/runner.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import NamedTuple

import structlog

from kuberouter_py.model.cluster import ObjectKey

log = structlog.get_logger(__name__)

Ring = Callable[[Collection[ObjectKey]], None]


class _Subscription(NamedTuple):
    ring: Ring
    synced: Callable[[], None] | None


class Broadcaster:
    """Subscribers are called on the watcher's thread, when the cache holds the news: they take note and return."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: dict[str, tuple[_Subscription, ...]] = {}

    def subscribe(self, kind: str, ring: Ring, synced: Callable[[], None] | None = None) -> None:
        """ring: with the keys that a change concerns. synced: once, when the kind's first list is complete."""
        with self._lock:
            self._subscriptions[kind] = (*self._subscriptions.get(kind, ()), _Subscription(ring, synced))

    def ring(self, kind: str, keys: Collection[ObjectKey]) -> None:
        if not keys:
            return
        for subscription in self._subscriptions.get(kind, ()):
            self._call(kind, lambda ring=subscription.ring: ring(keys))  # type: ignore[misc]

    def ring_synced(self, kind: str) -> None:
        for subscription in self._subscriptions.get(kind, ()):
            if subscription.synced is not None:
                self._call(kind, subscription.synced)

    def _call(self, kind: str, bell: Callable[[], None]) -> None:
        # One subscriber's fault is neither the others' nor the watcher's, whose cache is right by now.
        try:
            bell()
        except Exception:
            log.exception("a subscriber failed", kind=kind)
