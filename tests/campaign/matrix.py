"""The matrix campaign: after every change of a random world, who reaches whom is what the judge says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from kuberouter_py.config import Config
from kuberouter_py.model.cluster import Pod
from tests.campaign.agent import RealKernel
from tests.campaign.judging import Said, cells, judged
from tests.campaign.network import Place, forget_flows, forget_neighbours
from tests.campaign.pace import Pace
from tests.campaign.probes import Cell, Outcome, Probes
from tests.fakes.firewall import HEARD, FakeFirewall
from tests.fakes.objects import node
from tests.fakes.worlds import Change, Scene, scenes

N1 = node("10.244.1.1", pod_cidrs=("10.244.1.0/24", "fd00:10:244:1::/64"))
DEFAULT_DENY = st.sampled_from([False, False, True])
_SHOWN = 12
_SHORT, _LONG = 0.2, 3.0  # seconds without an answer; the second time for what is not as the judge says


@dataclass
class Tally:
    worlds: int = 0
    matrices: int = 0
    nobodys: int = 0
    allowed: int = 0
    denied: int = 0

    def count(self, wanted: Iterable[Said]) -> None:
        self.matrices += 1
        for said in wanted:
            if not said.allowed:
                self.denied += 1
            elif said.isolated:
                self.allowed += 1
            else:
                self.nobodys += 1

    def __str__(self) -> str:
        return (
            f"{self.worlds} worlds, {self.matrices} matrices, {self.nobodys + self.allowed + self.denied} probes "
            f"({self.allowed} allowed by rules, {self.denied} denied)"
        )


@dataclass
class Campaign:
    """One kernel, emptied before each world."""

    places: Mapping[str, Place]
    probes: Probes
    kernel: RealKernel
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._cells = cells(self.places)

    def play(self, objects: Sequence[HEARD], changes: Sequence[Change], config: Config) -> None:
        self._empty()
        agent = FakeFirewall(N1, *objects, kernel=self.kernel, config=config)
        self.tally.worlds += 1
        assert agent.start(), agent.notes()
        forget_neighbours(self.places.values())
        self._compare(agent)
        for change in changes:
            assert make(agent, change), (change, agent.notes())
            self._compare(agent)
        plans = agent.restarted().controller.plan()
        left = {name: plan for name, plan in plans.items() if plan.add or plan.change or plan.remove}
        assert not left, f"another process would write {left}"

    def _empty(self) -> None:
        outcome = FakeFirewall(N1, kernel=self.kernel).controller.cleanup()
        assert outcome.left_over == 0, outcome

    def _compare(self, agent: FakeFirewall) -> None:
        forget_flows()
        wanted = judged(self._cells, self.places, agent.cache, default_deny=agent.config.netpol_default_deny)
        self.tally.count(wanted.values())
        seen = self.probes.ask(wanted, _SHORT)
        again = [cell for cell, said in wanted.items() if not _as_said(cell, said, seen[cell])]
        seen |= self.probes.ask(again, _LONG)
        wrong = [
            f"{cell}: {seen[cell]}, judge: {wanted[cell]}"
            for cell in again
            if not _as_said(cell, wanted[cell], seen[cell])
        ]
        assert not wrong, "\n".join([f"{len(wrong)} of {len(wanted)} otherwise than the judge says:", *wrong[:_SHOWN]])

    def run(self, examples: int, number: int, pace: Pace) -> None:
        """number: the seed."""

        @seed(number)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
            verbosity=Verbosity.normal,
        )
        @given(scenes(0, 4), DEFAULT_DENY)
        def holds(scene: Scene, closed: bool) -> None:
            with pace.world(self.tally):
                self.play(*scene, Config(netpol_default_deny=closed))

        with pace.until_over():
            holds()


def _as_said(cell: Cell, said: Said, outcome: Outcome) -> bool:
    """Denied is refused at once; by way of ip_vs it may be silence, for that loses ICMP errors of its own node."""
    if said.allowed:
        return outcome is Outcome.OPEN
    return outcome is Outcome.REFUSED or (outcome is Outcome.SILENT and cell.service)


def make(agent: FakeFirewall, change: Change) -> bool:
    """Whether it was written."""
    if change.put is not None:
        return agent.tell(change.put)
    assert change.gone is not None
    kind, key = change.gone
    held = agent.cache.pod(key) if kind is Pod else agent.cache.policy(key)
    return agent.tell_gone(held) if held is not None else True
