"""Events: one name for all nodes, a pace, nothing lost to a short outage, nobody blocked."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.report import Note
from kuberouter_py.observe import events
from kuberouter_py.observe.events import EventWriter, event_body
from kuberouter_py.ports import EdgeError


class Exists(EdgeError):
    pass


class Api:
    """Answers create() with what was prepared, then with yes; `done` is set after `expected` answers."""

    def __init__(self, expected: int, *answers: Exception) -> None:
        self.answers = list(answers)
        self.expected = expected
        self.bodies: list[Mapping[str, Any]] = []
        self.times: list[float] = []
        self.done = threading.Event()

    def create(self, namespace: str, body: Mapping[str, object]) -> None:
        self.bodies.append(body)
        self.times.append(time.monotonic())
        if len(self.bodies) == self.expected:
            self.done.set()
        if self.answers:
            raise self.answers.pop(0)


def note(name: str = "web", message: str = "not served", *, event: bool = True) -> Note:
    return Note("Service", ObjectKey("default", name), "AddressRefused", message, event)


def writer(api: Api, pace: float = 0.0) -> EventWriter:
    return EventWriter(api.create, Exists, lambda _note: "uid-1", wall=lambda: 0.0, pace=pace, backoff=0.001)


def counts_of(sender: EventWriter, **expected: int) -> None:
    """The last count follows the last answer at once, on the sender's thread."""
    wanted = {"written": 0, "already there": 0, "dropped": 0, "waiting": 0} | {
        name.replace("_", " "): count for name, count in expected.items()
    }
    deadline = time.monotonic() + 5
    tick = threading.Event()
    while sender.counts() != wanted and time.monotonic() < deadline:
        tick.wait(0.005)
    assert sender.counts() == wanted


def test_body() -> None:
    body = event_body(note(), "uid-1", 0.0)
    assert body["metadata"]["namespace"] == "default"
    assert body["metadata"]["name"].startswith("web.")
    assert body["involvedObject"] == {
        "apiVersion": "v1", "kind": "Service", "namespace": "default", "name": "web", "uid": "uid-1",
    }  # fmt: skip
    assert (body["type"], body["reason"], body["message"]) == ("Warning", "AddressRefused", "not served")
    assert body["firstTimestamp"] == "1970-01-01T00:00:00Z"


def test_an_object_of_another_api_group_is_found_by_it() -> None:
    body = event_body(Note("NetworkPolicy", ObjectKey("x", "a"), "R", "m", event=True), "uid-1", 0.0)
    assert body["involvedObject"]["apiVersion"] == "networking.k8s.io/v1"


def test_name_is_the_same_on_every_node_and_another_for_anything_else() -> None:
    name = event_body(note(), "uid-1", 0.0)["metadata"]["name"]
    assert event_body(note(), "uid-1", 99.0)["metadata"]["name"] == name
    others = [
        event_body(note(message="other"), "uid-1", 0.0),
        event_body(note(), "uid-2", 0.0),
        event_body(note()._replace(reason="Other"), "uid-1", 0.0),
        event_body(note()._replace(owner=ObjectKey("other", "web")), "uid-1", 0.0),
    ]
    assert len({name, *(other["metadata"]["name"] for other in others)}) == 5


def test_limits_of_the_api() -> None:
    body = event_body(note("a" * 253, "ä" * 2000), "", 0.0)
    assert len(body["metadata"]["name"]) <= 253
    assert len(body["message"].encode()) <= 1024
    assert "uid" not in body["involvedObject"]
    node = Note("Node", ObjectKey("", "n1"), "R", "m", event=True)
    assert event_body(node, "", 0.0)["metadata"]["namespace"] == "default"


def test_writes_only_what_is_meant_as_an_event() -> None:
    api = Api(2)
    sender = writer(api)
    sender.write([note("a"), note("b", event=False), note("c")._replace(owner=None), note("a"), note("d")])
    sender.start()
    assert api.done.wait(5)
    counts_of(sender, written=2)
    assert [body["involvedObject"]["name"] for body in api.bodies] == ["a", "d"]
    sender.stop()


def test_one_that_exists_is_left_alone_and_an_outage_is_waited_for() -> None:
    api = Api(4, Exists(), EdgeError("down"), EdgeError("down"))
    sender = writer(api)
    sender.start()
    sender.write([note("a"), note("b")])
    assert api.done.wait(5)
    counts_of(sender, written=1, already_there=1)
    assert [body["involvedObject"]["name"] for body in api.bodies] == ["a", "b", "b", "b"]
    sender.stop()


def test_one_that_is_never_accepted_is_given_up() -> None:
    api = Api(events.ATTEMPTS + 1, *[EdgeError("no")] * events.ATTEMPTS)
    sender = writer(api)
    sender.start()
    sender.write([note("a"), note("b")])
    assert api.done.wait(5)
    counts_of(sender, written=1, dropped=1)
    sender.stop()


def test_pace() -> None:
    api = Api(4)
    sender = writer(api, pace=0.05)
    sender.start()
    sender.write([note(name) for name in "abcd"])
    assert api.done.wait(5)
    assert api.times[3] - api.times[0] >= 0.149
    sender.stop()
    assert events.PACE == 1 / 5


def test_the_queue_is_bounded_and_writing_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "WAITING", 3)
    sender = writer(Api(1))  # not started: nothing is taken away
    sender.write([note(f"s{number}") for number in range(10)])
    counts_of(sender, waiting=3, dropped=7)
