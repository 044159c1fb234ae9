"""What a watcher holds of its kind: what is in the cache, the list in the making, the version to go on from."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

import msgspec
import structlog

from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.watchers.broadcaster import Broadcaster
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.decode import ClusterObject, Decoded, DecodeError, decode_versioned, head
from kuberouter_py.watchers.envelopes import EnvelopeError

log = structlog.get_logger(__name__)


@dataclass
class Listing:
    """A list in the making; it takes the place of the cache's content in one step."""

    objects: dict[ObjectKey, ClusterObject] = field(default_factory=dict)
    failures: dict[ObjectKey, str] = field(default_factory=dict)
    nameless: int = 0


class Holding:
    """kind: its name. Objects come as JSON; whatever of them changes is rung for."""

    def __init__(self, kind: str, cache: Cache, broadcaster: Broadcaster) -> None:
        self._kind = kind
        self._cache = cache
        self._broadcaster = broadcaster
        self._log = log.bind(kind=kind)
        self.complete = False  # whether the cache holds a list and `version` can be watched from
        self.listing: Listing | None = None  # the streamed list in the making
        self.version = ""  # the last one seen; what a relist must not be older than (M1.01, M1.06)

    # Lists

    def collect(self, listing: Listing, raw: bytes | msgspec.Raw) -> None:
        """One object of a list; what does not decode is noted there."""
        decoded = self._decode(listing, raw)
        if decoded is not None:
            listing.failures.pop(decoded.key, None)
            if decoded.object is None:
                listing.objects.pop(decoded.key, None)
            else:
                listing.objects[decoded.key] = decoded.object

    def _decode(self, listing: Listing | None, raw: bytes | msgspec.Raw) -> Decoded | None:
        """None: it does not decode, which is noted in the listing, or in the cache if there is none."""
        try:
            return decode_versioned(self._kind, raw)
        except DecodeError as error:
            self._log.warning("object left out", object=str(error.key), reason=error.reason)
            if listing is None:
                self._cache.undecodable(self._kind, error.key or ObjectKey("", "?"), error.reason)
            elif error.key is None:
                listing.nameless += 1
            else:
                listing.failures[error.key] = error.reason
                listing.objects.pop(error.key, None)
            if error.resource_version:
                self.seen(error.resource_version)
            return None

    def adopt(self, listing: Listing, version: str) -> set[ObjectKey]:
        """The list is complete. The keys that are to be rung for."""
        keys = self._cache.replace(self._kind, listing.objects, listing.failures, listing.nameless)
        self.version, self.complete = version, True
        return keys

    def ring_listed(self, listing: Listing, keys: Set[ObjectKey]) -> None:
        """Those keys, and after the first list whoever waits for it."""
        self._broadcaster.ring(self._kind, keys)
        first = self._cache.mark_synced(self._kind)
        self._log.info("listed", objects=len(listing.objects), changed=len(keys), failed=len(listing.failures))
        if first:
            self._broadcaster.ring_synced(self._kind)

    def settle_without(self) -> None:
        """There is none of the kind: nobody shall wait for it."""
        if self._cache.mark_synced(self._kind):
            self._broadcaster.ring_synced(self._kind)

    # Events

    def delete(self, raw: msgspec.Raw) -> None:
        """Its last state comes along, but the name is enough, and is read even where the rest has no sense. Raises
        EnvelopeError.
        """
        try:
            about = head(raw)
            key = about.key(self._kind)
        except DecodeError as error:
            raise EnvelopeError(f"deletion: {error.reason}") from None
        if self.listing is not None:
            self.listing.objects.pop(key, None)
            self.listing.failures.pop(key, None)
        else:
            keys = self._cache.delete(self._kind, key)
            self.seen(about.resource_version)
            self._broadcaster.ring(self._kind, keys)

    def put(self, raw: msgspec.Raw) -> None:
        if self.listing is not None:
            self.collect(self.listing, raw)
        elif decoded := self._decode(None, raw):
            kind, key = self._kind, decoded.key
            keys = (
                self._cache.delete(kind, key) if decoded.object is None else self._cache.put(kind, key, decoded.object)
            )
            self.seen(decoded.resource_version)
            self._broadcaster.ring(self._kind, keys)

    def seen(self, version: str) -> None:
        """Only while following: the events of a list in the making are in no order that could be resumed from."""
        if version and self.listing is None and self.complete:
            self.version = version
