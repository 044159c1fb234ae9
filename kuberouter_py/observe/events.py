"""Kubernetes Events on the objects whose owners should know why something is not as they asked.

Owns their names, their pace and their queue. An Event's name is a hash of its object, reason and message, so that all
nodes that see the same thing share one. Nothing here ever waits for the API in a caller's thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import structlog

from kuberouter_py.model.report import PEER_UP, Note
from kuberouter_py.ports import EdgeError

COMPONENT = "kuberouter-py"
PACE = 0.2  # seconds between two Events: at most 5 a second
WAITING = 1000  # Events that may wait; what comes on top is dropped and counted, status still has the reason
ATTEMPTS = 6  # for one Event, 1, 2, 4, 8 and 16 s apart: a restart of the API server passes within that
MESSAGE_BYTES = 1024  # the API refuses longer ones (validation of core/v1 Event)
NAME_HEAD = 200  # characters of the object's name in the Event's, which may have 253 in all

API_VERSIONS = {"NetworkPolicy": "networking.k8s.io/v1"}  # everything else that we write of is in core/v1

CreateEvent = Callable[[str, Mapping[str, object]], object]


class EventWriter:
    """write() from any thread; one thread of its own sends.

    create(namespace, body): sends one, raises EdgeError. exists: the error that says there is one of that name already.
    uid_of(kind, namespace, name): "" where it is not known; `kubectl describe` finds Events by it.
    """

    def __init__(
        self,
        create: CreateEvent,
        exists: type[Exception],
        uid_of: Callable[[Note], str],
        wall: Callable[[], float] = time.time,
        pace: float = PACE,
        backoff: float = 1.0,
    ) -> None:
        self._create = create
        self._exists = exists
        self._uid_of = uid_of
        self._wall = wall
        self._pace = pace
        self._backoff = backoff
        self._condition = threading.Condition()
        self._queue: dict[Note, None] = {}  # in the order of their coming, each once
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._counts = {"written": 0, "already there": 0, "dropped": 0}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What still waits is given up."""
        self._stopping.set()
        with self._condition:
            self._condition.notify_all()

    def write(self, notes: Iterable[Note]) -> None:
        """Those among them that are meant as Events. Call it with what is new, not with what stands."""
        with self._condition:
            for note in notes:
                if not note.event or note.owner is None or note in self._queue:
                    continue
                if len(self._queue) >= WAITING:
                    self._counts["dropped"] += 1
                else:
                    self._queue[note] = None
            if self._queue:  # every sync comes by here: a thread that wakes for nothing costs as much as the sync
                self._condition.notify()

    def counts(self) -> dict[str, int]:
        with self._condition:
            return {**self._counts, "waiting": len(self._queue)}

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._condition:
                while not self._queue and not self._stopping.is_set():
                    self._condition.wait()
                if self._stopping.is_set():
                    return
                note = next(iter(self._queue))
                del self._queue[note]
            outcome = self._send(note)
            with self._condition:
                self._counts[outcome] += 1
            self._stopping.wait(self._pace)

    def _send(self, note: Note) -> str:
        body = event_body(note, self._uid_of(note), self._wall())
        namespace = body["metadata"]["namespace"]
        delay = self._backoff
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._create(namespace, body)
                return "written"
            except self._exists:
                return "already there"
            except EdgeError as error:
                if attempt == ATTEMPTS or self._stopping.wait(delay):
                    structlog.get_logger().warning("event not written", name=body["metadata"]["name"], error=str(error))
                    return "dropped"
                delay *= 2
        return "dropped"


def event_body(note: Note, uid: str, now: float) -> dict[str, Any]:
    """A core/v1 Event. Everything but the times follows from the object and the note, whichever node writes it."""
    assert note.owner is not None
    namespace = note.owner.namespace
    message = _cut(note.message)
    seed = "\0".join((note.kind, namespace, note.owner.name, uid, note.reason, message))
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    regarding = {"apiVersion": API_VERSIONS.get(note.kind, "v1"), "kind": note.kind, "name": note.owner.name}
    if namespace:
        regarding["namespace"] = namespace
    if uid:
        regarding["uid"] = uid
    head = note.owner.name[:NAME_HEAD].rstrip(".-")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{head}.{sha256(seed.encode()).hexdigest()[:16]}",
            # Events about objects without a namespace live in default (client-go's recorder does the same)
            "namespace": namespace or "default",
        },
        "involvedObject": regarding,
        "type": "Normal" if note.reason == PEER_UP else "Warning",
        "reason": note.reason,
        "message": message,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }


def _cut(message: str) -> str:
    if len(message.encode()) <= MESSAGE_BYTES:
        return message
    return message.encode()[: MESSAGE_BYTES - 3].decode(errors="ignore") + "..."
