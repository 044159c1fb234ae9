"""One kind: list, watch, resume, relist, and when to try again (M1.01-M1.16, M2.01-M2.03).

Owns the protocol with the API server: a state machine whose `step` is one request long. The transport is api.py's, the
thread around it watcher.py's; what has been heard is holding.py's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from kuberouter_py.watchers import api_errors as errors
from kuberouter_py.watchers.asking import Api, Stream
from kuberouter_py.watchers.backoff import Backoff
from kuberouter_py.watchers.broadcaster import Broadcaster
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.decode import DecodeError, head
from kuberouter_py.watchers.envelopes import EnvelopeError, Event, ends_initial_events, event, page
from kuberouter_py.watchers.holding import Holding, Listing
from kuberouter_py.watchers.kinds import Kind
from kuberouter_py.watchers.status import WatchStatus

log = structlog.get_logger(__name__)

PAGE_SIZE = 500  # objects; client-go's default (M1.03)
WATCH_SECONDS = 300  # a watch is asked to last this long, and up to as much again (M1.05)
DEADLINE_SLACK = 30.0  # seconds that the server may be late with ending a watch before it counts as dead
# Seconds; three bookmarks that did not come. Once it has sent one, kube-apiserver sends one a minute until the stream's
# end (its cacher's defaultBookmarkFrequency); before that, or from a server without them, silence says nothing.
SILENCE = 180.0
VERY_SHORT = 1.0  # seconds; a watch that ends sooner and brought nothing is a warning sign (M1.11)
PROBE_SECONDS = 600.0  # between looks for an optional kind that the server does not have (M3.04)
MOST_WATCH_FAILURES = 5  # in a row, before a list is tried instead (M1.07)
MOST_REFUSALS = 5  # in a row, before an optional kind that we may not see is asked for as rarely as an absent one
HASTY = 10.0  # seconds; a version that expires sooner after its list is no reason to list again at once
MOST_STREAM_FAILURES = 3  # in a row, before a paged list is tried instead of a streamed one


class Follower:
    """reached: called when the server answers again; False: asked too soon, it is asked again when more is heard.
    stopping: set when it shall end.

    clock: monotonic seconds. now: seconds since 1970. random: 0.0 to 1.0.
    """

    def __init__(
        self,
        api: Api,
        kind: Kind,
        cache: Cache,
        broadcaster: Broadcaster,
        reached: Callable[[], bool],
        stopping: threading.Event,
        clock: Callable[[], float],
        now: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._api = api
        self._kind = kind
        self._cache = cache
        self._reached = reached
        self._stopping = stopping
        self._clock, self._now, self._random = clock, now, random
        self._backoff = Backoff(clock, random)
        self._log = log.bind(kind=kind.name)
        self._held = Holding(kind.name, cache, broadcaster)
        self._stream: Stream | None = None
        self.failing = False  # and waiting on our own account: nobody asked us to
        self._untold = False  # the server answers again, and the others have not heard of it

        self._path = 0  # which of the kind's paths
        self._absent = False
        self._streaming = True  # whether the server is known to, or may, stream its lists (M2.02)
        self._fresh = False  # the version was refused: the next list has to be a consistent read (M1.02)
        self._watch_failures = self._stream_failures = self._refusals = 0  # in a row
        self._listed_at = 0.0  # clock
        self._hasty = False  # the version expired right after its list: that lists succeed proves nothing

        self._last_event = 0.0
        self._last_error = ""
        self._lists = self._reconnects = 0

    # From any thread

    def interrupt(self) -> None:
        """The open stream ends."""
        if stream := self._stream:
            stream.close()

    def status(self) -> WatchStatus:
        """From any thread; each value is right, all of them together may be of two moments."""
        name = self._kind.name
        return WatchStatus(
            kind=name,
            synced=self._cache.synced(name),
            objects=self._cache.count(name),
            last_event=self._last_event,
            resource_version=self._held.version,
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
            if self._held.complete or (self._streaming and self._stream_failures < MOST_STREAM_FAILURES):
                return self._watch()
            return self._list()
        except errors.ApiError as error:
            return 0.0 if self._stopping.is_set() else self._after(error)
        except EnvelopeError as error:
            return self._after(errors.ServerError(str(error)))
        except Exception as error:
            # A fault of ours. What is known stays in force; a new list is the way back to a known state.
            self._log.exception("watch failed")
            self._held.complete, self._last_error = False, f"{type(error).__name__}: {error}"
            return self._backoff.next()

    def _after(self, error: errors.ApiError) -> float:
        """What an error means for the next step (M1.02, M1.07, M1.08, M2.02)."""
        listing, self._held.listing = self._held.listing is not None, None
        wait = 0.0
        if isinstance(error, errors.Gone | errors.TooNew) and not (self._fresh and not self._held.complete):
            # First a list not older than what we have; if that is refused too, whatever the server calls newest.
            self._hasty = self._held.complete and self._clock() - self._listed_at < HASTY
            if self._hasty:
                wait = self._backoff.next()
            self._fresh = self._fresh or not self._held.complete
            self._held.complete = False
        elif isinstance(error, errors.Invalid) and listing:
            self._streaming = False
        elif isinstance(error, errors.NotFound | errors.Forbidden) and self._kind.optional:
            wait = self._without_kind(error)
        else:
            wait = max(error.retry_after, self._backoff.next())
            self.failing = not error.retry_after and not isinstance(error, errors.Throttled)
            self._count_failure(error, listing)
        if str(error) != self._last_error:
            self._log.warning("the API said no", error=str(error), seconds=round(wait, 1))
        self._last_error = str(error)
        return wait

    def _answered(self) -> None:
        if self.failing or self._untold:
            self.failing = False
            self._untold = not self._reached()

    def _count_failure(self, error: errors.ApiError, listing: bool) -> None:
        patient = isinstance(error, errors.Unreachable | errors.Throttled)  # M1.08: these say nothing about the version
        if listing and not patient:
            self._stream_failures += 1
        elif self._held.complete and not patient:
            self._watch_failures += 1
            if self._watch_failures >= MOST_WATCH_FAILURES:
                self._held.complete, self._watch_failures = False, 0

    def _without_kind(self, error: errors.ApiError) -> float:
        """The next version of it; after the last one, none: nobody shall wait for it (M3.04). What was seen stays."""
        self._held.complete, self._held.version = False, ""
        if isinstance(error, errors.NotFound) and self._path + 1 < len(self._kind.paths):
            self._path += 1
            return 0.0
        self._path, self._absent = 0, True
        self._held.settle_without()
        self._refusals += 1
        if isinstance(error, errors.Forbidden) and self._refusals < MOST_REFUSALS:
            return self._backoff.next()  # an API server that starts refuses everything until it has read its roles
        return PROBE_SECONDS * (1.0 + self._random())

    # Lists

    def _list(self) -> float:
        """A paged list (M1.01-M1.03). Its first request may be answered from the server's cache."""
        if not self._fresh and not self._held.version:
            query = {"resourceVersion": "0", "limit": str(PAGE_SIZE)}
        elif not self._fresh:
            # without a limit: with one, servers go past their cache
            query = {"resourceVersion": self._held.version, "resourceVersionMatch": "NotOlderThan"}
        else:
            query = {"limit": str(PAGE_SIZE)}
        listing = Listing()
        token = ""
        while not self._stopping.is_set():
            try:
                part = page(self._api.get(self._url(), {**query, **self._kind.selectors()}))
                self._answered()
            except errors.Gone:
                if not token:
                    raise
                # The continue token has expired: one full list instead.
                listing, query = Listing(), {}
                token = ""
                continue
            for raw in part.items:
                self._held.collect(listing, raw)
            token = part.continue_token
            if not token:
                self._adopt(listing, part.resource_version)
                break
            query = {"limit": str(PAGE_SIZE), "continue": token}
        return 0.0

    def _adopt(self, listing: Listing, version: str) -> None:
        keys = self._held.adopt(listing, version)
        self._last_event = self._now()
        if not self._hasty:
            self._backoff.healthy()
        self._listed_at = self._clock()
        self._absent, self._fresh, self._last_error = False, False, ""
        self._watch_failures = self._stream_failures = self._refusals = 0
        self._lists += 1
        self._held.ring_listed(listing, keys)

    # Watches

    def _watch(self) -> float:
        """From the last version, or from nothing with everything that exists sent first (M2.01)."""
        initial = not self._held.complete
        self._held.listing = Listing() if initial else None
        seconds = WATCH_SECONDS + int(WATCH_SECONDS * self._random())
        query = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds), **self._kind.selectors()}
        if initial:
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        query["resourceVersion"] = "" if initial and self._fresh else self._held.version
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
            if self._held.complete:
                self._backoff.healthy(None if events and not initial else self._clock() - opened)
        if self._held.listing is not None and not self._stopping.is_set():
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
            self._held.delete(heard.object)
        elif heard.type in ("ADDED", "MODIFIED"):
            self._held.put(heard.object)
        self._watch_failures = 0
        self._last_event = self._now()
        self._answered()

    def _bookmark(self, heard: Event) -> None:
        try:
            about = head(heard.object)
        except DecodeError as error:
            raise EnvelopeError(f"bookmark: {error.reason}") from None
        if self._held.listing is not None and ends_initial_events(about):
            listing, self._held.listing = self._held.listing, None
            self._adopt(listing, about.resource_version)
        else:
            self._held.seen(about.resource_version)
            if self._stream and self._held.listing is None:
                self._stream.expect(SILENCE)

    def _url(self) -> str:
        return self._kind.paths[self._path]
