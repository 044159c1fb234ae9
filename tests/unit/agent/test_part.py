"""What is alike in all parts: who is started before whom, who wakes the loop, and that its turns are told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import Any, cast

from kuberouter_py.agent.part import Part
from kuberouter_py.controllers.outcome import Outcome
from kuberouter_py.kernel.announcements import Announcements
from kuberouter_py.model.report import ControllerStatus
from kuberouter_py.observe.health import Health
from kuberouter_py.observe.http import Question


class FakeController:
    """Stops its part when it has been asked to compare."""

    name = "one"

    def __init__(self, journal: list[object], stop: Callable[[], None]) -> None:
        self.journal = journal
        self.stop = stop

    def first_sync(self) -> bool:
        self.journal.append("first sync")
        return True

    def sync(self, _keys: Collection[Hashable]) -> bool:
        return True

    def begin_compare(self, tables: Collection[str]) -> None:
        self.journal.append({*tables})
        self.stop()

    def background(self) -> bool | None:
        return None

    def due(self) -> float | None:
        return None

    def retry(self) -> bool:
        return True


class FakeNews:
    def __init__(self, journal: list[object], of: str = "kernel") -> None:
        self.journal = journal
        self.of = of

    def open(self) -> None:
        self.journal.append("listens")

    def run(self) -> None:
        self.journal.append(f"{self.of} is heard")

    def stop(self) -> None:
        self.journal.append(f"{self.of} is heard no more")


class OnePart(Part):
    name = "one"

    def __init__(self, journal: list[object], health: Health) -> None:
        news = cast(Announcements, FakeNews(journal))
        super().__init__(True, FakeController(journal, self.stop), news, health, period=1e9)

    def stand_by(self) -> Outcome:
        return Outcome()

    def subscribe(self) -> None:
        pass

    def status(self) -> ControllerStatus:
        raise NotImplementedError

    def problems(self) -> Iterable[str]:
        return ()

    def questions(self) -> Mapping[str, Question]:
        return {}


def test_the_kernel_is_heard_before_the_first_sync_and_rules_of_others_are_compared_until_it_stops() -> None:
    journal: list[object] = []
    now = [0.0]
    health = Health(lambda: now[0])
    part: Any = OnePart(journal, health)
    loops: dict[str, tuple[Callable[[], None], bool]] = {}

    def start(name: str, loop: Callable[[], None], *, first_sync: bool = False) -> None:
        loops[name] = loop, first_sync

    assert part.serve(start)
    assert journal == ["listens"]
    assert {name: first for name, (_, first) in loops.items()} == {
        "kernel news for one": False,
        "rule news for one": False,
        "one": True,
    }
    now[0] = 1e6
    assert health.stalled()
    part._rule_news._on_news()  # as its thread does
    part._rule_news = FakeNews(journal, "iptables")
    loops["one"][0]()
    assert journal == ["listens", "first sync", {"iptables"}, "kernel is heard no more", "iptables is heard no more"]
    assert not health.stalled()


def test_what_is_asked_of_a_part_that_never_served_does_no_harm() -> None:
    journal: list[object] = []
    part = OnePart(journal, Health(lambda: 0.0))
    part.compare(["routes"])
    part.look()
    part.stop()
    part.close()
    assert journal == ["kernel is heard no more"]
