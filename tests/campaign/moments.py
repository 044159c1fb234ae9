"""The moments campaign: new connections all the time, of both families, while everything changes.

The process of the agent dies in the middle of a change and another takes over, iptables-restore fails now and then. No
attempt gets through that the judge forbids before and after a change, and none fails that it allows before and after.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
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
from tests.fakes.worlds import OBJECT, Change, scenes

AT_ONCE = 12  # attempts that are under way together: their moment is as long as all of them take
PATIENCE = 0.8  # seconds; a lost SYN is sent once more after one
FAILS = 0.5  # the share of the programs that fail
RETRIES = 3  # of a change, until nothing fails any more
_SHOWN = 12


class How(Enum):
    """What else happens during a change."""

    NOTHING = auto()
    DEATH = auto()  # after so many writes, of the process; another one takes over
    FAILURES = auto()  # of iptables-restore, now and then


_MOST = 8
HOWS = st.lists(st.tuples(st.sampled_from(How), st.integers(0, 25)), min_size=_MOST, max_size=_MOST)


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
    forbidden_passed: int = 0
    allowed_lost: int = 0

    def __str__(self) -> str:
        return (
            f"{self.worlds} worlds, {self.changes} changes ({self.deaths} with a restart in the middle, "
            f"{self.failures} that failed at first), {self.attempts} attempts, {self.through_changes} of them during "
            f"a change: "
            f"forbidden passed {self.forbidden_passed}, allowed lost {self.allowed_lost}"
        )


class Asker:
    """A process that asks without a pause."""

    def __init__(self, places: Mapping[str, Place], family: int, number: int) -> None:
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

    def close(self) -> None:
        self._connection.send("end")
        self._process.join()
        self._connection.close()


def _ask(places: Mapping[str, Place], family: int, number: int, connection: Connection) -> None:
    """IPv6 by way of ip_vs is left out where it is denied by silence (see matrix.py), which would hold up the rest."""
    chance = random.Random(number)
    asked = [cell for cell in cells(places) if cell.family == family and not (cell.service and family == 6)]
    by_source = {source: [cell for cell in asked if cell.source == source] for source in places}
    probes = Probes(places, (family,))
    records: list[Record] = []
    while True:
        if connection.poll():
            if connection.recv() == "end":
                return
            connection.send(records)
            records = []
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

    def play(
        self, objects: Sequence[HEARD], changes: Sequence[Change], hows: Sequence[tuple[How, int]], config: Config
    ) -> None:
        self._eras = [Era(time.monotonic(), [])]
        assert FakeFirewall(N1, kernel=self.kernel).controller.cleanup().left_over == 0
        agent = FakeFirewall(N1, *objects, kernel=self.kernel, config=config)
        assert agent.start(), agent.notes()
        now = self._judged(agent)
        self._eras.append(Era(time.monotonic(), [now]))
        self.tally.worlds += 1
        for change, (how, number) in zip(changes, hows, strict=False):
            agent, now = self._step(agent, now, change, how, number)
        self._judge()

    def _step(
        self, agent: FakeFirewall, before: Mapping[Cell, Said], change: Change, how: How, number: int
    ) -> tuple[FakeFirewall, Mapping[Cell, Said]]:
        after = self._judged_with(agent, change)
        era = Era(time.monotonic(), [before, after])
        self._eras.append(era)
        self.tally.changes += 1
        if how is How.DEATH:
            agent = self._with_death(agent, change, number)
        elif how is How.FAILURES:
            self._with_failures(agent, change, number, era)
        else:
            assert make(agent, change), agent.notes()
        self._eras.append(Era(time.monotonic(), [after]))
        return agent, after

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
        wrong = []
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
        failing = any(era.failing for era in eras)
        for cell, outcome in record.outcomes:
            said = [state[cell] for state in states]
            self.tally.attempts += 1
            self.tally.through_changes += len(states) > 1
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

    def run(self, examples: int, number: int, pace: Pace) -> None:
        """number: the seed. What went wrong depends on moments and is not shrunk."""

        @seed(number)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),
        )
        @given(scenes(2, _MOST), HOWS, DEFAULT_DENY)
        def holds(scene: tuple[list[OBJECT], list[Change]], hows: list[tuple[How, int]], closed: bool) -> None:
            with pace.world(self.tally):
                self.play(*scene, hows, Config(netpol_default_deny=closed))

        with pace.until_over():
            holds()


def _may_pass(said: Sequence[Said], failing: bool) -> bool:
    if failing:
        return any(each.egress[1] for each in said) and any(each.ingress[1] for each in said)
    return any(each.allowed for each in said)


def _may_fail(said: Sequence[Said], failing: bool) -> bool:
    """Who is to be isolated and has no rules yet is closed while they cannot be written."""
    if failing and any(len({isolated for isolated, _ in side}) > 1 for side in zip(*said, strict=True)):
        return True
    return not all(each.allowed for each in said)
