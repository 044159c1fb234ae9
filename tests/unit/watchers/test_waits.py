"""How long a watcher waits after a failure, and what ends a wait (M1.08, M1.09, M1.11)."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest

from kuberouter_py.watchers import api_errors as errors
from kuberouter_py.watchers.api import ApiClient
from kuberouter_py.watchers.broadcaster import Broadcaster
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.kinds import SERVICE_CIDRS, SERVICES
from kuberouter_py.watchers.watcher import Watcher
from kuberouter_py.watchers.watchers import NUDGE_SECONDS, Watchers
from tests.fakes.scripted_api import Answer, FakeApi, FakeStream, World, bookmark, event, items, thing

REFUSED = errors.Unreachable("refused")
CUT = errors.Unreachable("reset")


def test_backoff_starts_anew_with_a_watch_that_outlives_the_last_wait() -> None:
    """M1.09, sooner than client-go's two minutes: one dropped connection long after an outage costs a second."""
    world = World([bookmark("3", end=True), 9.0, CUT], REFUSED, [3.5, CUT], [7.5, CUT], [11.0, CUT], [bookmark("5")])
    assert world.play()[:5] == pytest.approx([1.2, 2.4, 1.2, 1.2, 1.2])
    world = World([bookmark("3", end=True), 9.0, CUT], REFUSED, [2.3, CUT], [4.7, CUT], [9.7, CUT], [bookmark("5")])
    assert world.play()[:5] == pytest.approx([1.2, 2.4, 4.8, 9.6, 1.2])


def test_backoff_starts_anew_with_an_event() -> None:
    refused = [REFUSED] * 4
    world = World([bookmark("3", end=True), 9.0], *refused, [event("ADDED", thing("a", "4")), CUT], [bookmark("5")])
    assert world.play()[1:6] == pytest.approx([1.2, 2.4, 4.8, 9.6, 1.2])


@pytest.mark.parametrize("streaming", [True, False])
def test_backoff_starts_anew_with_a_list(streaming: bool) -> None:
    found: list[Answer] = [[bookmark("3", end=True), CUT]] if streaming else [items("3"), [CUT]]
    world = World(*[REFUSED] * 4, *found, [bookmark("5")], streaming=streaming)
    waits = [wait for wait in world.play() if wait]
    assert waits == pytest.approx([1.2, 2.4, 4.8, 9.6, 1.2])


def test_a_watch_that_ends_at_once_is_no_success() -> None:
    """M1.11: neither one that is cut, nor one that ends, nor half a streamed list."""
    half = [event("ADDED", thing("a", "1")), CUT]
    world = World(REFUSED, half, half, [bookmark("3", end=True), 9.0], REFUSED, [CUT], [], [bookmark("5")])
    assert world.play()[:7] == pytest.approx([1.2, 2.4, 4.8, 0.0, 1.2, 2.4, 4.8])


def test_the_first_to_reach_the_server_again_wakes_the_others() -> None:
    """After an outage a node is blind until its luckiest watcher asks, not until its unluckiest one does."""
    calls: list[str] = []
    asked = threading.Event()

    class Gone(FakeApi):
        def stream(self, path: str, query: Mapping[str, str], read_timeout: float) -> FakeStream:
            calls.append(path)
            if len(calls) == 2:
                asked.set()
            raise self.refusal

        refusal: Exception = REFUSED

    def waiting(refusal: Exception) -> tuple[Watcher, threading.Event]:
        calls.clear()
        asked.clear()
        api = Gone()
        api.refusal = refusal
        watcher = Watcher(api, SERVICES, Cache(), Broadcaster(), random=lambda: 1000.0)
        watcher.start()
        while not watcher.status().last_error:
            assert not asked.wait(0.01)
        return watcher, asked

    def reached() -> bool:
        slow.nudge()
        return True

    slow, heard = waiting(REFUSED)
    world = World(REFUSED, [bookmark("3", end=True), 9.0], [bookmark("4")], reached=reached)
    world.watcher.step()
    assert not heard.wait(0.05)
    world.watcher.step()
    assert heard.wait(10.0)
    slow.stop()
    slow.join(10.0)

    told, heard = waiting(errors.Throttled("later", retry_after=900.0))
    told.nudge()
    assert not heard.wait(0.05)
    told.stop()
    told.join(10.0)


class Cutting(ApiClient):
    """Answers every watch, and cuts it before it says anything."""

    def __init__(self) -> None:
        self.server = "a proxy in trouble"

    def stream(self, *_asked: object, **_how: object) -> FakeStream:  # type: ignore[override]
        return FakeStream([CUT], lambda _seconds: None)


def test_watchers_that_are_answered_and_cut_do_not_wake_each_other_in_a_circle() -> None:
    now = [1000.0]
    watchers = Watchers(Cutting(), [SERVICES, SERVICE_CIDRS], Broadcaster(), Cache(), clock=lambda: now[0])
    one, other = watchers._parts
    assert isinstance(one, Watcher) and isinstance(other, Watcher)

    def wakes(asking: Watcher, sleeping: Watcher) -> bool:
        sleeping._wake.clear()
        asking.step()
        return sleeping._wake.is_set()

    one.step()
    other.step()
    assert wakes(one, other)
    assert not wakes(other, one)
    assert not wakes(one, other)
    now[0] += NUDGE_SECONDS
    assert wakes(other, one)


def test_who_was_answered_too_soon_after_a_nudge_nudges_when_more_is_heard() -> None:
    told: list[bool] = []

    def reached() -> bool:
        told.append(len(told) == 2)
        return told[-1]

    heard = [event("ADDED", thing(name, version)) for name, version in (("a", "4"), ("b", "5"), ("c", "6"))]
    World([bookmark("3", end=True), 9.0], REFUSED, heard, reached=reached).play()
    assert told == [False, False, True]
