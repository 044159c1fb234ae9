"""The moments campaign: new connections all the time, of both families, while everything changes.

The process of the agent dies in the middle of a change and another takes over, iptables-restore fails now and then. No
attempt gets through that the judge forbids before and after a change, and none fails that it allows before and after.

A moment between two writes is short. So half of the changes are made slowly: after each write nothing goes on until
those were asked of whom before and after say the same for different reasons, and some whom rules allow throughout.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from kuberouter_py.config import Config
from tests.campaign.agent import Killed, RealKernel
from tests.campaign.judging import Said, cells, judged
from tests.campaign.matrix import DEFAULT_DENY, N1, make
from tests.campaign.network import Place
from tests.campaign.pace import Pace
from tests.campaign.probes import Cell, Outcome, Probes
from tests.fakes.firewall import HEARD, FakeFirewall
from tests.fakes.scenes import SCENES
from tests.fakes.worlds import Change, Scene, scenes

AT_ONCE = 12  # attempts that are under way together: their moment is as long as all of them take
PATIENCE = 0.8  # seconds; a lost SYN is sent once more after one
FAILS = 0.5  # the share of the programs that fail
FAILS_AT_ONCE = 1  # a number of which the first that is drawn is a failure
RETRIES = 3  # of a change, until nothing fails any more
_SHOWN = 12


class How(Enum):
    """What else happens during a change."""

    NOTHING = auto()
    DEATH = auto()  # after so many writes, of the process; another one takes over
    FAILURES = auto()  # of iptables-restore, now and then


class Way(NamedTuple):
    """number: of writes before a death, or what failures are drawn from. slowly: see above."""

    how: How
    number: int = 0
    slowly: bool = True


_MOST = 8
HOWS = st.lists(st.builds(Way, st.sampled_from(How), st.integers(0, 25), st.booleans()), min_size=_MOST, max_size=_MOST)
_ASKED_SLOWLY = 10  # of each family, after each write


class Record(NamedTuple):
    """Attempts that began and ended between two moments."""

    began: float
    ended: float
    outcomes: Sequence[tuple[Cell, Outcome]]


@dataclass
class Era:
    """From a moment to that of the next one. states: what may be in force; none: not known, nothing is judged.

    failing: the agent could not write all that it wanted: the states may be mixed, and whoever has no rules is closed.
    """

    began: float
    states: Sequence[Mapping[Cell, Said]]
    failing: bool = False


@dataclass
class Tally:
    worlds: int = 0
    changes: int = 0
    deaths: int = 0
    failures: int = 0
    attempts: int = 0
    through_changes: int = 0
    between_writes: int = 0
    forbidden_passed: int = 0
    allowed_lost: int = 0

    def __str__(self) -> str:
        return (
            f"{self.worlds} worlds, {self.changes} changes ({self.deaths} with a restart in the middle, "
            f"{self.failures} that failed at first), {self.attempts} attempts, {self.through_changes} of them during "
            f"a change, {self.between_writes} between two writes: "
            f"forbidden passed {self.forbidden_passed}, allowed lost {self.allowed_lost}"
        )


class Asker:
    """A process that asks without a pause."""

    def __init__(self, places: Mapping[str, Place], family: int, number: int) -> None:
        self.family = family
        context = get_context("fork")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_ask, args=(places, family, number, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.records()  # it has begun

    def records(self) -> list[Record]:
        """Since this was asked last."""
        self._connection.send("tell")
        found: list[Record] = self._connection.recv()
        return found

    def ask(self, cells: Sequence[Cell]) -> Mapping[Cell, Outcome]:
        """These, now."""
        self._connection.send(cells)
        found: Mapping[Cell, Outcome] = self._connection.recv()
        return found

    def close(self) -> None:
        self._connection.send("end")
        self._process.join()
        self._connection.close()


def _is_told(cell: Cell) -> bool:
    return not (cell.service and cell.family == 6)


def _ask(places: Mapping[str, Place], family: int, number: int, connection: Connection) -> None:
    """IPv6 by way of ip_vs is left out where it is denied by silence (see matrix.py), which would hold up the rest."""
    chance = random.Random(number)
    asked = [cell for cell in cells(places) if cell.family == family and _is_told(cell)]
    by_source = {source: [cell for cell in asked if cell.source == source] for source in places}
    probes = Probes(places, (family,))
    records: list[Record] = []
    while True:
        if connection.poll():
            message = connection.recv()
            if message == "end":
                return
            if message == "tell":
                connection.send(records)
                records = []
            else:
                connection.send(probes.ask_at_once(sorted(message), PATIENCE))
        now = chance.sample(by_source[chance.choice([*by_source])], AT_ONCE)
        began = time.monotonic()
        said = probes.ask_at_once(now, PATIENCE)
        records.append(Record(began, time.monotonic(), [*said.items()]))


@dataclass
class Campaign:
    places: Mapping[str, Place]
    kernel: RealKernel
    askers: Sequence[Asker]
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._cells = cells(self.places)
        self._eras: list[Era] = []
        self._wrong_between: list[str] = []

    def play(self, objects: Sequence[HEARD], changes: Sequence[Change], ways: Sequence[Way], config: Config) -> None:
        self._eras, self._wrong_between = [Era(time.monotonic(), [])], []
        assert FakeFirewall(N1, kernel=self.kernel).controller.cleanup().left_over == 0
        agent = FakeFirewall(N1, *objects, kernel=self.kernel, config=config)
        assert agent.start(), agent.notes()
        now = self._judged(agent)
        self._eras.append(Era(time.monotonic(), [now]))
        self.tally.worlds += 1
        for change, way in zip(changes, ways, strict=False):
            agent, now = self._step(agent, now, change, way)
        self._judge()

    def _step(
        self, agent: FakeFirewall, before: Mapping[Cell, Said], change: Change, way: Way
    ) -> tuple[FakeFirewall, Mapping[Cell, Said]]:
        after = self._judged_with(agent, change)
        era = Era(time.monotonic(), [before, after])
        self._eras.append(era)
        self.tally.changes += 1
        if way.slowly:
            self.kernel.watch = self._watcher(before, after, way)
        if way.how is How.DEATH:
            agent = self._with_death(agent, change, way.number)
        elif way.how is How.FAILURES:
            self._with_failures(agent, change, way.number, era)
        else:
            assert make(agent, change), agent.notes()
        self.kernel.watch = _nothing
        self._eras.append(Era(time.monotonic(), [after]))
        return agent, after

    def _watcher(self, before: Mapping[Cell, Said], after: Mapping[Cell, Said], way: Way) -> Callable[[], None]:
        """Asks of whom it matters, while nothing goes on."""
        same = [cell for cell in self._cells if _is_told(cell) and before[cell].allowed == after[cell].allowed]
        random.Random(way.number).shuffle(same)
        likely = [cell for cell in same if before[cell] != after[cell]]
        likely += [cell for cell in same if before[cell] == after[cell] and before[cell].is_by_rule]
        asked = {family: [cell for cell in likely if cell.family == family][:_ASKED_SLOWLY] for family in (4, 6)}

        def look() -> None:
            for asker in self.askers:
                if asked[asker.family]:
                    outcomes = [*asker.ask(asked[asker.family]).items()]
                    self.tally.between_writes += len(outcomes)
                    self._wrong_between += self._otherwise(outcomes, [before, after], failing=way.how is How.FAILURES)

        return look

    def _with_death(self, agent: FakeFirewall, change: Change, number: int) -> FakeFirewall:
        self.kernel.dies_after = number
        try:
            make(agent, change)
        except Killed:
            self.tally.deaths += 1
            agent = agent.restarted()
            assert agent.start(), agent.notes()
        self.kernel.dies_after = None
        return agent

    def _with_failures(self, agent: FakeFirewall, change: Change, number: int, era: Era) -> None:
        chance = random.Random(number)
        self.kernel.fails = lambda: chance.random() < FAILS
        good = make(agent, change)
        era.failing = not good
        self.tally.failures += not good
        for _ in range(RETRIES):
            good = good or (agent.controller.retry() and agent.settle())
        self.kernel.fails = lambda: False
        assert good or (agent.controller.retry() and agent.settle()), agent.notes()

    def _judged(self, agent: FakeFirewall) -> Mapping[Cell, Said]:
        return judged(self._cells, self.places, agent.cache, default_deny=agent.config.netpol_default_deny)

    def _judged_with(self, agent: FakeFirewall, change: Change) -> Mapping[Cell, Said]:
        """Of a cluster in which it is so, before anybody is told."""
        cache = agent.cache
        objects: list[HEARD] = [*cache.namespaces(), *cache.pods_in_full(), *cache.policies()]
        other = FakeFirewall(N1, *objects, config=agent.config)
        make(other, change)
        return self._judged(other)

    # -- what was seen ---------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        end = time.monotonic()
        wrong = self._wrong_between
        for asker in self.askers:
            for record in asker.records():
                if record.began < end:
                    wrong += [*self._wrong(record)]
        assert not wrong, "\n".join([f"{len(wrong)} attempts:", *wrong[:_SHOWN]])

    def _wrong(self, record: Record) -> Iterator[str]:
        eras = self._during(record)
        if not all(era.states for era in eras):
            return
        states = [state for era in eras for state in era.states]
        self.tally.attempts += len(record.outcomes)
        self.tally.through_changes += len(record.outcomes) if len(states) > 1 else 0
        yield from self._otherwise(record.outcomes, states, failing=any(era.failing for era in eras))

    def _otherwise(
        self, outcomes: Iterable[tuple[Cell, Outcome]], states: Sequence[Mapping[Cell, Said]], *, failing: bool
    ) -> Iterator[str]:
        for cell, outcome in outcomes:
            said = [state[cell] for state in states]
            if outcome is Outcome.OPEN and not _may_pass(said, failing):
                self.tally.forbidden_passed += 1
                yield f"{cell}: forbidden, and passed: {said}{', failing' if failing else ''}"
            if outcome is not Outcome.OPEN and not _may_fail(said, failing):
                self.tally.allowed_lost += 1
                yield f"{cell}: allowed, and {outcome}: {said}{', failing' if failing else ''}"

    def _during(self, record: Record) -> Sequence[Era]:
        if not self._eras or record.began < self._eras[0].began:
            return [Era(0.0, [])]
        first = max(index for index, era in enumerate(self._eras) if era.began <= record.began)
        return [era for index, era in enumerate(self._eras) if index >= first and era.began <= record.ended]

    def run(self, examples: int, number: int, pace: Pace, hows: Iterable[How] = How) -> None:
        """number: the seed. hows: what happens in the scenes. What went wrong depends on moments and is not shrunk."""

        @seed(number)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),
        )
        @given(scenes(2, _MOST), HOWS, DEFAULT_DENY)
        def holds(scene: Scene, ways: list[Way], closed: bool) -> None:
            with pace.world(self.tally):
                self.play(*scene, ways, Config(netpol_default_deny=closed))

        with pace.until_over():
            self.play_scenes(pace, hows)
            holds()

    def play_scenes(self, pace: Pace, hows: Iterable[How]) -> None:
        """Those that are likely to go wrong, before any that are drawn."""
        for (objects, changes), how in itertools.product(SCENES.values(), hows):
            with pace.world(self.tally):
                self.play(objects, changes, [Way(how, number=FAILS_AT_ONCE if how is How.FAILURES else 0)], Config())


def _nothing() -> None:
    pass


def _may_pass(said: Sequence[Said], failing: bool) -> bool:
    if failing:
        return any(each.egress.allowed for each in said) and any(each.ingress.allowed for each in said)
    return any(each.allowed for each in said)


def _may_fail(said: Sequence[Said], failing: bool) -> bool:
    """Who is to be isolated and has no rules yet is closed while they cannot be written: a pod that a policy comes to,
    and one that another pod has left its address to.
    """
    if failing and any(len({each.isolated and each.pod for each in side}) > 1 for side in zip(*said, strict=True)):
        return True
    return not all(each.allowed for each in said)
