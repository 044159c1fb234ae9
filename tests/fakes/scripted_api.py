"""An API server that follows a script, one entry a request, and a watcher over it: no clock, thread or network."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.watchers import api_errors as errors
from kuberouter_py.watchers.broadcaster import Broadcaster
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.kinds import SERVICES, Kind
from kuberouter_py.watchers.watcher import Watcher

Answer = Exception | bytes | list[Any]


def thing(name: str, version: str, address: str = "10.96.0.1") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": version},
        "spec": {"clusterIP": address, "ports": [{"port": 80}]},
    }


def key(name: str) -> ObjectKey:
    return ObjectKey("shop", name)


def items(version: str, *objects: dict[str, Any], more: str = "") -> bytes:
    return json.dumps({"metadata": {"resourceVersion": version, "continue": more}, "items": objects}).encode()


def event(kind: str, body: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": body}).encode()


def bookmark(version: str, end: bool = False) -> bytes:
    annotations = {"k8s.io/initial-events-end": "true"} if end else {}
    return event("BOOKMARK", {"kind": "Service", "metadata": {"resourceVersion": version, "annotations": annotations}})


def failure(code: int, reason: str = "", message: str = "", causes: Collection[str] = ()) -> bytes:
    details = {"causes": [{"reason": cause} for cause in causes]}
    return event("ERROR", {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details})


class Request:
    def __init__(self, path: str, query: Mapping[str, str]) -> None:
        self.path = path
        self.query = dict(query)

    @property
    def kind(self) -> str:
        if "watch" not in self.query:
            return "list"
        return "stream" if "sendInitialEvents" in self.query else "watch"

    @property
    def version(self) -> str | None:
        return self.query.get("resourceVersion")

    def __repr__(self) -> str:
        return f"{self.kind} {self.version}"


class FakeStream:
    def __init__(self, script: list[Any], passes: Callable[[float], None]) -> None:
        self._script = script
        self._passes = passes
        self.closed = False
        self.expected: list[float] = []  # what silence is the end, from when on it was not the request's

    def __iter__(self) -> Iterator[bytes]:
        for entry in self._script:
            if isinstance(entry, Exception):
                raise entry
            if callable(entry):
                entry()
            elif isinstance(entry, float):
                self._passes(entry)
            else:
                yield entry

    def expect(self, seconds: float) -> None:
        self.expected.append(seconds)

    def close(self) -> None:
        self.closed = True


class FakeApi:
    """Answers in order: an exception is raised, bytes are a list's body, a list is a stream (floats: time passes)."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.streams: list[FakeStream] = []
        self.now = 1000.0

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def _answer(self, path: str, query: Mapping[str, str]) -> Answer:
        self.requests.append(Request(path, query))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def get(self, path: str, query: Mapping[str, str]) -> bytes:
        answer = self._answer(path, query)
        assert isinstance(answer, bytes), self.requests
        return answer

    def stream(self, path: str, query: Mapping[str, str], read_timeout: float) -> FakeStream:
        answer = self._answer(path, query)
        assert isinstance(answer, list), self.requests
        assert read_timeout > float(query["timeoutSeconds"])
        self.streams.append(FakeStream(answer, self.pass_time))
        return self.streams[-1]


class World:
    def __init__(
        self,
        *answers: Answer,
        kind: Kind = SERVICES,
        streaming: bool = True,
        reached: Callable[[], bool] = lambda: True,
    ) -> None:
        self.api = FakeApi(*answers)
        self.cache = Cache()
        self.rung: list[set[ObjectKey]] = []
        self.synced = 0
        broadcaster = Broadcaster()
        broadcaster.subscribe(kind.name, lambda keys: self.rung.append(set(keys)), self._note_synced)
        self.watcher = Watcher(
            self.api,
            kind,
            self.cache,
            broadcaster,
            reached=reached,
            clock=lambda: self.api.now,
            now=lambda: 5.0,
            random=lambda: 0.5,
        )
        if not streaming:
            self.api.answers.insert(0, errors.Invalid("no WatchList here"))
            assert self.watcher.step() == 0.0
            self.api.requests.clear()

    def _note_synced(self) -> None:
        self.synced += 1

    def play(self) -> list[float]:
        """Every step until the script is out; the waits between them."""
        waits = []
        while self.api.answers:
            wait = self.watcher.step()
            self.api.pass_time(wait)
            waits.append(wait)
        return waits

    @property
    def names(self) -> set[str]:
        return {found.name for found in self.cache.service_keys()}

    @property
    def asked(self) -> list[str]:
        return [repr(request) for request in self.api.requests]
