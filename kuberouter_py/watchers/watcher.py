"""One kind: list, watch, resume, relist, and when to try again (M1.01-M1.16, M2.01-M2.03).

Owns the protocol with the API server. The transport is api.py's, the objects go to the cache, the keys to the
broadcaster.
`step` is the state machine, one request long; `run` is the thread around it, which only waits.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import structlog

from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.watchers import api_errors as errors
from kuberouter_py.watchers.backoff import Backoff
from kuberouter_py.watchers.broadcaster import Broadcaster
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.decode import ClusterObject, Decoded, DecodeError, decode_versioned, head
from kuberouter_py.watchers.envelopes import EnvelopeError, Event, ends_initial_events, event, page
from kuberouter_py.watchers.kinds import Kind
from kuberouter_py.watchers.status import WatchStatus

log = structlog.get_logger(__name__)

PAGE_SIZE = 500  # objects; client-go's default (M1.03)
WATCH_SECONDS = 300  # a watch is asked to last this long, and up to as much again (M1.05)
DEADLINE_SLACK = 30.0  # seconds that the server may be late with ending a watch before it counts as dead
VERY_SHORT = 1.0  # seconds; a watch that ends sooner and brought nothing is a warning sign (M1.11)
PROBE_SECONDS = 600.0  # between looks for an optional kind that the server does not have (M3.04)
MOST_WATCH_FAILURES = 5  # in a row, before a list is tried instead (M1.07)
MOST_REFUSALS = 5  # in a row, before an optional kind that we may not see is asked for as rarely as an absent one
HASTY = 10.0  # seconds; a version that expires sooner after its list is no reason to list again at once
MOST_STREAM_FAILURES = 3  # in a row, before a paged list is tried instead of a streamed one


class Stream(Protocol):
    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


class Api(Protocol):
    """What a watcher asks of api.py. Both raise ApiError; so does iterating a stream."""

    def get(self, path: str, query: Mapping[str, str]) -> bytes: ...

    def stream(self, path: str, query: Mapping[str, str], read_timeout: float) -> Stream: ...


@dataclass
class _Listing:
    """A list in the making; it takes the place of the cache's content in one step."""

    objects: dict[ObjectKey, ClusterObject] = field(default_factory=dict)
    failures: dict[ObjectKey, str] = field(default_factory=dict)
    nameless: int = 0


class Watcher:
    """reached: called when the server answers again; the others of its watchers shall hear of it (nudge).

    clock: monotonic seconds. now: seconds since 1970. random: 0.0 to 1.0.
    """

    def __init__(
        self,
        api: Api,
        kind: Kind,
        cache: Cache,
        broadcaster: Broadcaster,
        *,
        reached: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._api = api
        self._kind = kind
        self._cache = cache
        self._broadcaster = broadcaster
        self._reached = reached
        self._clock = clock
        self._now = now
        self._random = random
        self._backoff = Backoff(clock, random)
        self._log = log.bind(kind=kind.name)
        self._thread = threading.Thread(target=self.run, name=f"watch-{kind.name}", daemon=True)
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._failing = False  # and waiting on our own account: nobody asked us to
        self._stream: Stream | None = None

        self._path = 0  # which of the kind's paths
        self._absent = False
        self._streaming = True  # whether the server is known to, or may, stream its lists (M2.02)
        self._complete = False  # whether the cache holds a list and _version can be watched from
        self._listing: _Listing | None = None  # the streamed list in the making
        self._version = ""  # the last one seen; what a relist must not be older than (M1.01, M1.06)
        self._fresh = False  # that version was refused: the next list has to be a consistent read (M1.02)
        self._watch_failures = 0
        self._stream_failures = 0
        self._refusals = 0
        self._listed_at = 0.0  # clock
        self._hasty = False  # the version expired right after its list: that lists succeed proves nothing

        self._last_event = 0.0
        self._last_error = ""
        self._lists = 0
        self._reconnects = 0

    # The thread

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns at once; join() waits for the end. A request that has no answer yet ends with ApiClient.close()."""
        self._stopping.set()
        self._wake.set()
        if stream := self._stream:
            stream.close()

    def join(self, timeout: float | None = None) -> None:
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()  # before the step: a nudge during it counts
            seconds = self.step()
            if not self._stopping.is_set():
                self._wake.wait(seconds)

    def nudge(self) -> None:
        """From any thread: the server answers somebody again. Who waits because it did not asks now."""
        if self._failing:
            self._wake.set()

    def status(self) -> WatchStatus:
        """From any thread; each value is right, all of them together may be of two moments."""
        name = self._kind.name
        return WatchStatus(
            kind=name,
            synced=self._cache.synced(name),
            objects=self._cache.count(name),
            last_event=self._last_event,
            resource_version=self._version,
            last_error=self._last_error,
            lists=self._lists,
            reconnects=self._reconnects,
            absent=self._absent,
            problems=tuple((str(key), reason) for key, reason in self._cache.failures(name).items()),
        )

    # The state machine

    def step(self) -> float:
        """One list or one watch, from its request to its end. Seconds to wait before the next step."""
        try:
            if self._complete or (self._streaming and self._stream_failures < MOST_STREAM_FAILURES):
                return self._watch()
            return self._list()
        except errors.ApiError as error:
            return 0.0 if self._stopping.is_set() else self._after(error)
        except EnvelopeError as error:
            return self._after(errors.ServerError(str(error)))
        except Exception as error:
            # A fault of ours. What is known stays in force; a new list is the way back to a known state.
            self._log.exception("watch failed")
            self._complete, self._last_error = False, f"{type(error).__name__}: {error}"
            return self._backoff.next()

    def _after(self, error: errors.ApiError) -> float:
        """What an error means for the next step (M1.02, M1.07, M1.08, M2.02)."""
        listing, self._listing = self._listing is not None, None
        wait = 0.0
        if isinstance(error, errors.Gone | errors.TooNew) and not (self._fresh and not self._complete):
            # First a list not older than what we have; if that is refused too, whatever the server calls newest.
            self._hasty = self._complete and self._clock() - self._listed_at < HASTY
            if self._hasty:
                wait = self._backoff.next()
            self._fresh = self._fresh or not self._complete
            self._complete = False
        elif isinstance(error, errors.Invalid) and listing:
            self._streaming = False
        elif isinstance(error, errors.NotFound | errors.Forbidden) and self._kind.optional:
            wait = self._without_kind(error)
        else:
            wait = max(error.retry_after, self._backoff.next())
            self._failing = not error.retry_after and not isinstance(error, errors.Throttled)
            self._count_failure(error, listing)
        if str(error) != self._last_error:
            self._log.warning("the API said no", error=str(error), seconds=round(wait, 1))
        self._last_error = str(error)
        return wait

    def _answered(self) -> None:
        if self._failing:
            self._failing = False
            self._reached()

    def _count_failure(self, error: errors.ApiError, listing: bool) -> None:
        patient = isinstance(error, errors.Unreachable | errors.Throttled)  # M1.08: these say nothing about the version
        if listing and not patient:
            self._stream_failures += 1
        elif self._complete and not patient:
            self._watch_failures += 1
            if self._watch_failures >= MOST_WATCH_FAILURES:
                self._complete, self._watch_failures = False, 0

    def _without_kind(self, error: errors.ApiError) -> float:
        """The next version of it; after the last one, none: nobody shall wait for it (M3.04). What was seen stays."""
        self._complete, self._version = False, ""
        if isinstance(error, errors.NotFound) and self._path + 1 < len(self._kind.paths):
            self._path += 1
            return 0.0
        self._path, self._absent = 0, True
        if self._cache.mark_synced(self._kind.name):
            self._broadcaster.ring_synced(self._kind.name)
        self._refusals += 1
        if isinstance(error, errors.Forbidden) and self._refusals < MOST_REFUSALS:
            return self._backoff.next()  # an API server that starts refuses everything until it has read its roles
        return PROBE_SECONDS * (1.0 + self._random())

    # Lists

    def _list(self) -> float:
        """A paged list (M1.01-M1.03). Its first request may be answered from the server's cache."""
        if not self._fresh and not self._version:
            query = {"resourceVersion": "0", "limit": str(PAGE_SIZE)}
        elif not self._fresh:
            # without a limit: with one, servers go past their cache
            query = {"resourceVersion": self._version, "resourceVersionMatch": "NotOlderThan"}
        else:
            query = {"limit": str(PAGE_SIZE)}
        listing = _Listing()
        token = ""
        while not self._stopping.is_set():
            try:
                part = page(self._api.get(self._url(), {**query, **self._kind.selectors()}))
                self._answered()
            except errors.Gone:
                if not token:
                    raise
                # The continue token has expired: one full list instead.
                listing, query = _Listing(), {}
                token = ""
                continue
            for raw in part.items:
                self._collect(listing, raw)
            token = part.continue_token
            if not token:
                self._adopt(listing, part.resource_version)
                break
            query = {"limit": str(PAGE_SIZE), "continue": token}
        return 0.0

    def _collect(self, listing: _Listing, raw: bytes | msgspec.Raw) -> None:
        decoded = self._decode(listing, raw)
        if decoded is not None:
            listing.failures.pop(decoded.key, None)
            if decoded.object is None:
                listing.objects.pop(decoded.key, None)
            else:
                listing.objects[decoded.key] = decoded.object

    def _decode(self, listing: _Listing | None, raw: bytes | msgspec.Raw) -> Decoded | None:
        """None: it does not decode, which is noted in the listing, or in the cache if there is none."""
        try:
            return decode_versioned(self._kind.name, raw)
        except DecodeError as error:
            self._log.warning("object left out", object=str(error.key), reason=error.reason)
            if listing is None:
                self._cache.undecodable(self._kind.name, error.key or ObjectKey("", "?"), error.reason)
            elif error.key is None:
                listing.nameless += 1
            else:
                listing.failures[error.key] = error.reason
                listing.objects.pop(error.key, None)
            if error.resource_version:
                self._seen(error.resource_version)
            return None

    def _adopt(self, listing: _Listing, version: str) -> None:
        name = self._kind.name
        keys = self._cache.replace(name, listing.objects, listing.failures, listing.nameless)
        self._last_event = self._now()
        if not self._hasty:
            self._backoff.healthy()
        self._listed_at = self._clock()
        self._version, self._complete = version, True
        self._absent, self._fresh, self._last_error = False, False, ""
        self._watch_failures = self._stream_failures = self._refusals = 0
        self._lists += 1
        self._broadcaster.ring(name, keys)
        first = self._cache.mark_synced(name)
        self._log.info("listed", objects=len(listing.objects), changed=len(keys), failed=len(listing.failures))
        if first:
            self._broadcaster.ring_synced(name)

    # Watches

    def _watch(self) -> float:
        """From the last version, or from nothing with everything that exists sent first (M2.01)."""
        initial = not self._complete
        self._listing = _Listing() if initial else None
        seconds = WATCH_SECONDS + int(WATCH_SECONDS * self._random())
        query = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds), **self._kind.selectors()}
        if initial:
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        query["resourceVersion"] = "" if initial and self._fresh else self._version
        started = self._clock()
        events = 0
        if not initial:
            self._reconnects += 1
        stream = self._api.stream(self._url(), query, seconds + DEADLINE_SLACK)
        self._stream = stream
        self._answered()
        if not initial:
            self._last_error = ""
        opened = self._clock()
        try:
            if self._stopping.is_set():
                return 0.0
            for line in stream:
                self._hear(event(line))
                events += 1
        finally:
            self._stream = None
            stream.close()
            if self._complete:
                self._backoff.healthy(None if events and not initial else self._clock() - opened)
        if self._listing is not None and not self._stopping.is_set():
            raise errors.ServerError("the stream ended before the end of its initial events")
        if not events and self._clock() - started < VERY_SHORT:
            return self._backoff.next()
        return 0.0

    def _hear(self, heard: Event) -> None:
        if heard.type == "ERROR":
            raise errors.error_of(0, heard.object, "watch")
        if heard.type == "BOOKMARK":
            self._bookmark(heard)
        elif heard.type == "DELETED":
            self._delete(heard)
        elif heard.type in ("ADDED", "MODIFIED"):
            self._put(heard)
        self._watch_failures = 0
        self._last_event = self._now()

    def _bookmark(self, heard: Event) -> None:
        try:
            about = head(heard.object)
        except DecodeError as error:
            raise EnvelopeError(f"bookmark: {error.reason}") from None
        if self._listing is not None and ends_initial_events(about):
            listing, self._listing = self._listing, None
            self._adopt(listing, about.resource_version)
        else:
            self._seen(about.resource_version)

    def _delete(self, heard: Event) -> None:
        """Its last state comes along, but the name is enough, and is read even where the rest has no sense."""
        try:
            about = head(heard.object)
            key = about.key(self._kind.name)
        except DecodeError as error:
            raise EnvelopeError(f"deletion: {error.reason}") from None
        if self._listing is not None:
            self._listing.objects.pop(key, None)
            self._listing.failures.pop(key, None)
        else:
            keys = self._cache.delete(self._kind.name, key)
            self._seen(about.resource_version)
            self._broadcaster.ring(self._kind.name, keys)

    def _put(self, heard: Event) -> None:
        if self._listing is not None:
            self._collect(self._listing, heard.object)
        elif decoded := self._decode(None, heard.object):
            name, key = self._kind.name, decoded.key
            keys = (
                self._cache.delete(name, key) if decoded.object is None else self._cache.put(name, key, decoded.object)
            )
            self._seen(decoded.resource_version)
            self._broadcaster.ring(self._kind.name, keys)

    def _seen(self, version: str) -> None:
        """Only while following: the events of a list in the making are in no order that could be resumed from."""
        if version and self._listing is None and self._complete:
            self._version = version

    def _url(self) -> str:
        return self._kind.paths[self._path]
