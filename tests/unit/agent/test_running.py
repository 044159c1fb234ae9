"""How the agent starts, waits for and stops its controllers; the parts themselves are tested beside it."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from kuberouter_py.agent import running
from kuberouter_py.agent.collecting import LONGEST, Collecting
from kuberouter_py.agent.part import Start
from kuberouter_py.agent.running import ANEW, Agent
from kuberouter_py.agent.telling import first_sync
from kuberouter_py.config import Config
from kuberouter_py.controllers.outcome import Outcome
from kuberouter_py.model.report import SyncReport
from kuberouter_py.observe.health import Health

DIRTY, CLEAN = Outcome(unread={"iptables": "lock"}), Outcome(unread={"x": "no"}, lacking=frozenset({"x"}))


class FakePart:
    """Writes down what happens to it. on_serve: what its loop does at once."""

    def __init__(self, name: str, journal: list[str], *, wanted: bool = True, left: int = 0) -> None:
        self.name = name
        self.wanted = wanted
        self.journal = journal
        self.left = left  # attempts to stand by that leave something behind
        self.begins = True
        self.on_serve: Callable[[], None] = lambda: None
        self.cleaned: Callable[[], None] = lambda: None

    def stand_by(self) -> Outcome:
        self.journal.append(f"{self.name} cleans")
        if self.left:
            self.left -= 1
            return DIRTY
        self.cleaned()
        return CLEAN

    def subscribe(self) -> None:
        self.journal.append(f"{self.name} subscribes")

    def serve(self, start: Start) -> bool:
        self.journal.append(f"{self.name} serves")
        if self.begins:
            start(self.name, self.on_serve, first_sync=True)
        return self.begins

    def stop(self) -> None:
        self.journal.append(f"{self.name} stops")

    def close(self) -> None:
        self.journal.append(f"{self.name} closes")


class FakeSource:
    name = "a cluster"

    def __init__(self, journal: list[str], synced: bool = True) -> None:
        self.journal = journal
        self.synced = synced

    def start(self) -> None:
        self.journal.append("source starts")

    def stop(self) -> None:
        self.journal.append("source stops")

    def wait_synced(self, _timeout: float) -> bool:
        return self.synced

    def unsynced(self) -> list[str]:
        return ["Pod"]

    def errors(self) -> dict[str, str]:
        return {"Pod": "forbidden"}


@pytest.fixture(autouse=True)
def collecting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What an agent does to the collector ends with the test; and nobody waits."""
    monkeypatch.setattr(running, "RETRY_FIRST", 0.0)
    yield
    gc.unfreeze()
    gc.enable()


def an_agent(journal: list[str], *parts: FakePart, config: Config | None = None, synced: bool = True) -> Any:
    agent: Any = object.__new__(Agent)
    health = Health(lambda: 0.0)
    health.wait_for(*(first_sync(part.name) for part in parts))

    def reported(report: SyncReport, _notes: object) -> None:
        journal.append(f"{report.controller} told")

    agent._config = config or Config()
    agent._node = "n1"
    agent._ended = threading.Event()
    agent._died = ""
    agent._collecting = Collecting()
    agent._threads = []
    agent._outstanding = set()
    agent._source = FakeSource(journal, synced)
    agent._telling = SimpleNamespace(health=health, start=lambda: None, stop=lambda: None, reported=reported)
    agent._parts = parts
    return agent


def test_what_is_off_cleans_up_before_anything_is_heard_or_served() -> None:
    journal: list[str] = []
    off, first, second = FakePart("off", journal, wanted=False), FakePart("a", journal), FakePart("b", journal)
    agent = an_agent(journal, first, off, second)
    second.on_serve = agent.stop
    assert agent.run() == 0
    assert journal[:6] == ["off cleans", "a subscribes", "b subscribes", "source starts", "a serves", "b serves"]
    assert sorted(journal[6:9]) == ["a stops", "b stops", "off stops"]
    assert journal[9] == "source stops"
    assert sorted(journal[10:]) == ["a closes", "b closes", "off closes"]
    assert agent._telling.health.missing() == ["waiting for a's first sync", "waiting for b's first sync"]


def test_what_cannot_be_removed_at_once_holds_nobody_up_and_is_tried_until_it_is_gone() -> None:
    journal: list[str] = []
    off, on = FakePart("off", journal, wanted=False, left=3), FakePart("on", journal)
    agent = an_agent(journal, off, on)
    off.cleaned = agent.stop
    assert agent.run() == 0
    assert journal.count("off cleans") == 4
    assert "on serves" in journal
    assert agent._telling.health.missing() == ["waiting for on's first sync"]


def test_with_every_controller_off_no_cluster_is_asked_and_the_agent_lives_and_is_ready() -> None:
    journal: list[str] = []
    parts = [FakePart("a", journal, wanted=False), FakePart("b", journal, wanted=False, left=1)]
    agent = an_agent(journal, *parts)
    parts[1].cleaned = agent.stop
    assert agent.run() == 0
    assert "source starts" not in journal
    assert agent._telling.health.readyz().status == 200


def test_a_part_that_waited_begins_the_agent_anew_when_the_loops_of_the_others_have_ended() -> None:
    journal: list[str] = []
    other, part = FakePart("firewall", journal), FakePart("services", journal)
    part.begins = False
    stopped = threading.Event()
    other.on_serve = lambda: journal.append("loop ends") if stopped.wait(60.0) else None
    other.stop = stopped.set  # type: ignore[method-assign]
    assert an_agent(journal, other, part).run() == ANEW
    assert journal.index("loop ends") < journal.index("firewall closes")


@pytest.mark.parametrize("during", ["run", "making"])
def test_a_signal_while_it_begins_anew_is_not_lost(monkeypatch: pytest.MonkeyPatch, during: str) -> None:
    made: list[Any] = []

    class Once:
        def __init__(self, _config: Config, _others: object) -> None:
            self.stopped = False
            made.append(self)
            if during == "making" and len(made) == 2:
                signal.raise_signal(signal.SIGTERM)

        def stop(self) -> None:
            self.stopped = True

        def run(self) -> int:
            if len(made) == 1:
                if during == "run":
                    signal.raise_signal(signal.SIGTERM)
                return ANEW
            return 0 if self.stopped else 1

    monkeypatch.setattr(running, "Agent", Once)
    monkeypatch.setattr(running, "_allow_files", lambda _number: None)
    monkeypatch.setattr(running, "Others", lambda _config: None)
    monkeypatch.setattr(running, "configure", lambda _form, _verbosity: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert running.run_agent(Config()) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert len(made) == (1 if during == "run" else 2)


def test_first_lists_that_do_not_come_end_it_and_nothing_was_served() -> None:
    journal: list[str] = []
    agent = an_agent(journal, FakePart("a", journal), config=Config(cache_sync_timeout=-1.0), synced=False)
    assert agent.run() == 1
    assert "a serves" not in journal


def test_a_loop_that_dies_ends_the_agent() -> None:
    def die() -> None:
        raise ValueError("boom")

    journal: list[str] = []
    part = FakePart("a", journal)
    part.on_serve = die
    agent = an_agent(journal, part)
    assert agent.run() == 1
    assert agent._died == "the loop a died: ValueError: boom"
    assert journal[-1] == "a closes"


def test_garbage_is_collected_again_once_every_controller_has_done_its_first_sync() -> None:
    journal: list[str] = []
    agent = an_agent(journal)
    gc.disable()
    for name in ("a", "b"):
        agent._start(name, lambda: None, first_sync=True)
    told = []
    for name, full in (("a", True), ("b", False), ("a", True), ("b", True)):
        agent._reported(SyncReport(name, 0.0, 0.1, full, 1), ())
        told.append((gc.isenabled(), gc.get_freeze_count() > 0))
    assert told == [(False, False)] * 3 + [(True, True)]
    assert journal == ["a told", "b told", "a told", "b told"]


def test_garbage_is_collected_again_after_some_minutes_whatever_is_outstanding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller without its Node never does its first sync."""
    now = [1000.0]
    journal: list[str] = []
    part = FakePart("a", journal)
    agent = an_agent(journal, part)
    agent._collecting = Collecting(lambda: now[0])
    look, looks = agent._collecting.look, []

    def looking() -> None:
        look()
        looks.append(gc.isenabled())
        now[0] += LONGEST / 2
        if len(looks) == 4:
            agent.stop()

    monkeypatch.setattr(agent._collecting, "look", looking)
    monkeypatch.setattr(running, "LOOK", 0.0)
    assert agent.run() == 0
    assert "a told" not in journal
    assert looks == [False, False, True, True]


def test_the_pause_begins_anew_with_each_first_sync() -> None:
    now = [1000.0]
    collecting = Collecting(lambda: now[0])
    told = []
    for seconds, act in ((0.0, collecting.rest), (LONGEST - 1.0, collecting.rest), (2.0, collecting.look)):
        now[0] += seconds
        act()
        told.append(gc.isenabled())
    now[0] += LONGEST
    collecting.look()
    assert [*told, gc.isenabled()] == [False, False, False, True]
