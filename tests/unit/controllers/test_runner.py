"""When a controller is called. The clock is a number; to wait is to move it on; rings arrive when a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable
from itertools import pairwise
from typing import Any

from kuberouter_py.controllers.runner import HEARTBEAT, RETRY_LAST, Runner


class Stage:
    """A clock, a script of what happens when, and a controller that writes down when it was called."""

    def __init__(self, *, period: float = 300.0, min_interval: float = 0.0) -> None:
        self.now = 0.0
        self.script: list[tuple[float, Callable[[], None]]] = []
        self.calls: list[tuple[float, str, Any]] = []
        self.beats = 0
        self.answers: dict[str, list[bool]] = {}
        self.slices: list[bool] = []
        self.due_at: float | None = None  # when background() wants to be called
        self.cost = 0.0  # seconds that every call takes
        self.name = "stage"
        self.runner = Runner(self, period=period, min_interval=min_interval, clock=lambda: self.now)
        self.runner._condition = _Condition(self)  # type: ignore[assignment]

    def at(self, time: float, act: Callable[[], None]) -> None:
        self.script.append((time, act))
        self.script.sort(key=lambda entry: entry[0])

    def ring(self, time: float, *keys: str) -> None:
        self.at(time, lambda: self.runner.ring(keys))

    def work(self, *slices: bool) -> None:
        """A comparison that takes so many slices."""
        self.slices += slices
        self.runner.ask_compare(["routes"])

    def run(self, until: float) -> list[tuple[float, str, Any]]:
        self.at(until, self.runner.stop)
        self.runner.run(self._beat)
        return self.calls

    def advance(self, seconds: float) -> bool:
        """Let time pass, at most to the next thing that happens; whether something did."""
        target = self.now + seconds
        if self.script and self.script[0][0] <= target:
            time, act = self.script.pop(0)
            self.now = max(self.now, time)
            act()
            return True
        self.now = target
        return False

    def _beat(self) -> None:
        self.beats += 1
        assert self.beats < 10_000, "the loop spins"

    def _called(self, what: str, detail: Any = None) -> bool:
        self.calls.append((self.now, what, detail))
        self.advance(self.cost)
        answers = self.answers.get(what)
        return answers.pop(0) if answers else True

    # -- the controller

    def due(self) -> float | None:
        return self.due_at

    def first_sync(self) -> bool:
        return self._called("first")

    def sync(self, keys: Collection[Hashable]) -> bool:
        return self._called("sync", set(keys))

    def begin_compare(self, tables: Collection[str]) -> None:
        self._called("compare", set(tables))

    def background(self) -> bool | None:
        if self.due_at is not None and self.due_at <= self.now:
            self.due_at = None
            return self._called("due")
        if not self.slices:
            return None
        self._called("slice")
        return self.slices.pop(0)

    def retry(self) -> bool:
        return self._called("retry")


class _Condition:
    """threading.Condition without a thread: to wait is to let the stage's time pass."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def notify(self) -> None:
        pass

    def wait(self, timeout: float) -> bool:
        assert timeout > 0
        return self._stage.advance(timeout)


def only(calls: list[tuple[float, str, Any]], what: str) -> list[tuple[float, Any]]:
    return [(time, detail) for time, name, detail in calls if name == what]


def test_what_was_rung_before_the_first_sync_is_in_it_and_what_is_rung_meanwhile_comes_after() -> None:
    stage = Stage()
    stage.cost = 2.0
    stage.runner.ring(["before"])
    stage.ring(1.0, "meanwhile")
    assert [(name, keys) for _, name, keys in stage.run(until=9)] == [("first", None), ("sync", {"meanwhile"})]


def test_a_ring_is_answered_at_once() -> None:
    stage = Stage()
    stage.ring(2.5, "a")
    assert only(stage.run(until=5), "sync") == [(2.5, {"a"})]


def test_nothing_rung_nothing_called() -> None:
    stage = Stage()
    assert stage.run(until=100) == [(0, "first", None)]
    assert stage.beats <= 100 / HEARTBEAT + 5  # it beats, and does not spin


def test_rings_within_the_minimum_interval_are_one_sync() -> None:
    stage = Stage(min_interval=1.0)
    stage.ring(5.0, "a")
    stage.ring(5.2, "b")
    stage.ring(5.3, "a", "c")
    stage.ring(9.0, "d")
    assert only(stage.run(until=20), "sync") == [(5.0, {"a"}), (6.0, {"b", "c", "a"}), (9.0, {"d"})]


def test_rings_during_a_sync_are_kept_for_the_next() -> None:
    stage = Stage()
    stage.cost = 1.0
    stage.ring(3.0, "a")
    stage.ring(3.5, "b")
    assert [keys for _, keys in only(stage.run(until=20), "sync")] == [{"a"}, {"b"}]


def test_the_interval_counts_from_the_end_of_a_sync() -> None:
    stage = Stage(min_interval=1.0)
    stage.at(4.9, lambda: setattr(stage, "cost", 2.0))
    stage.ring(5.0, "a")
    stage.ring(5.1, "b")
    times = [time for time, _ in only(stage.run(until=30), "sync")]
    assert times[0] == 5.0
    assert times[1] >= 6.1


def test_compares_every_period() -> None:
    stage = Stage(period=10.0)
    assert [time for time, _ in only(stage.run(until=35), "compare")] == [10, 20, 30]


def test_a_compare_that_was_asked_for_comes_at_once_beside_the_periodic_one() -> None:
    stage = Stage(period=10.0)
    stage.at(4.0, lambda: stage.runner.ask_compare(["routes"]))
    assert only(stage.run(until=25), "compare") == [(4, {"routes"}), (10, set()), (20, set())]


def test_asking_is_not_held_up_by_the_minimum_interval() -> None:
    stage = Stage(min_interval=5.0)
    stage.ring(6.0, "a")
    stage.at(6.5, lambda: stage.runner.ask_compare(["routes"]))
    stage.ring(6.6, "b")
    calls = stage.run(until=30)
    assert only(calls, "compare") == [(6.5, {"routes"})]
    assert only(calls, "sync") == [(6.0, {"a"}), (11.0, {"b"})]


def test_rung_keys_pass_between_background_slices() -> None:
    stage = Stage()
    stage.cost = 0.1
    stage.at(2.0, lambda: stage.work(*[True] * 10))
    stage.ring(2.35, "urgent")
    names = [name for time, name, _ in stage.run(until=60) if time >= 2.0]
    assert names.count("slice") == 10
    assert 0 < names.index("sync") < len(names) - 5
    assert names[-1] == "slice"


def test_a_date_of_the_controller_is_kept_and_nothing_turns_before_it() -> None:
    stage = Stage()
    stage.at(4.0, lambda: setattr(stage, "due_at", 7.5))
    stage.ring(4.0, "a")
    assert [time for time, _ in only(stage.run(until=20), "due")] == [7.5]
    assert stage.beats < 10


def test_slices_go_on_while_rung_keys_wait_for_their_interval() -> None:
    stage = Stage(min_interval=5.0)
    stage.ring(5.5, "a")
    stage.at(5.6, lambda: stage.work(*[True] * 3))
    stage.ring(5.7, "b")
    stage.slices = []
    calls = stage.run(until=30)
    assert len(only(calls, "slice")) == 3
    assert max(time for time, _ in only(calls, "slice")) < 10.5
    assert only(calls, "sync")[-1] == (10.5, {"b"})


def test_a_failure_is_retried_soon_then_less_often_and_never_less_than_the_last_delay() -> None:
    stage = Stage(period=1000.0)
    stage.answers = {"first": [False], "retry": [False] * 8}
    times = [time for time, _ in only(stage.run(until=200), "retry")]
    assert times[:6] == [1, 3, 7, 15, 31, 61]
    assert all(later - earlier <= RETRY_LAST for earlier, later in pairwise(times))


def test_after_a_success_the_next_failure_is_retried_soon_again() -> None:
    stage = Stage(period=1000.0)
    stage.answers = {"first": [False], "retry": [False, False, True, True], "sync": [False]}
    stage.ring(50.0, "a")
    calls = stage.run(until=100)
    assert [time for time, _ in only(calls, "retry")] == [1, 3, 7, 51]


def test_a_good_sync_of_other_keys_does_not_call_off_the_retry() -> None:
    stage = Stage()
    stage.answers = {"sync": [False, True]}
    stage.ring(5.0, "bad")
    stage.ring(5.5, "good")
    assert [time for time, _ in only(stage.run(until=20), "retry")] == [6]


def test_a_background_slice_that_failed_is_retried() -> None:
    stage = Stage()
    stage.at(5.0, lambda: stage.work(False))
    assert [time for time, _ in only(stage.run(until=20), "retry")] == [6]


def test_stop_ends_the_loop_between_two_slices() -> None:
    stage = Stage()
    stage.cost = 0.1
    stage.at(2.0, lambda: stage.work(*[True] * 1000))
    assert 9 <= len(only(stage.run(until=3), "slice")) <= 11  # and they follow each other without a pause


def test_rings_and_stop_from_other_threads_wake_the_loop() -> None:
    """The real condition: no waiting for the heartbeat."""
    synced = threading.Event()

    class Real(Stage):
        def sync(self, keys: Collection[Hashable]) -> bool:
            synced.set()
            return True

    stage = Real()
    stage.runner._condition = threading.Condition()
    thread = threading.Thread(target=stage.runner.run, args=(stage._beat,), daemon=True)
    thread.start()
    stage.runner.ring(["a"])
    assert synced.wait(5)
    stage.runner.stop()
    thread.join(5)
    assert not thread.is_alive()
