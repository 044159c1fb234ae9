"""One scenario while it is played: its world and cluster, the clock, what steps remember for those after them.

`until` is the one place where the lab waits: for a condition, with a deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.labkit.model import Scenario
from tests.labkit.ports import Cluster, World

Args = dict[str, Any]

POLL = 0.05
POLL_LASTING = 0.2  # while something goes on holding


class StepFailed(Exception):
    """A step did not hold; the message says what was seen and what was expected."""


class Clock(Protocol):
    def now(self) -> float: ...
    def pause(self, seconds: float) -> None: ...


class MonotonicClock:
    def now(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass
class Play:
    scenario: Scenario
    world: World
    cluster: Cluster
    clock: Clock
    running: set[str] = field(default_factory=set)  # nodes whose agent ought to be alive
    foreign: list[tuple[str, str, str]] = field(default_factory=list)  # place, check, its output at first
    flags: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of agents that a step gave others
    api_stopped: bool = False

    @property
    def agent_nodes(self) -> tuple[str, ...]:
        named = self.scenario.agents.nodes
        return tuple(self.scenario.nodes) if named is None else named

    def flags_of(self, node: str) -> tuple[str, ...]:
        return self.flags.get(node, self.scenario.agents.flags)


def dead_agents(play: Play) -> str:
    """Which agents ended by themselves since this was last asked, as a sentence; "" for none."""
    gone = sorted(node for node in play.running if not play.world.agent_alive(node))
    play.running.difference_update(gone)
    return f"the agent of {', '.join(gone)} ended by itself" if gone else ""


def until(
    play: Play, look: Callable[[], str | None], within: float, lasting: float = 0.0,
    again: Callable[[], bool] = lambda: False,
) -> None:  # fmt: skip
    """Looks until `look` says None (it holds), at least once; then it must go on holding for `lasting` seconds.

    Otherwise StepFailed with what it said last. `again`: whether what has just ended the holding lets it begin anew
    while there is time. Nothing is waited for that a dead agent would have to do.
    """
    clock = play.clock
    deadline = clock.now() + within
    while True:
        began = clock.now()
        wrong = look()
        if wrong is None:
            wrong = _ended(play, look, began + lasting)
            if wrong is None:
                return
            wrong = f"held, but after {clock.now() - began:.2f} s no more: {wrong}"
            if not again():
                raise StepFailed(wrong)
        if dead := dead_agents(play):
            raise StepFailed(f"{dead}; {wrong}")
        if clock.now() >= deadline:
            raise StepFailed(wrong)
        clock.pause(POLL)


def _ended(play: Play, look: Callable[[], str | None], end: float) -> str | None:
    """What `look` finds wrong until then."""
    while play.clock.now() < end:
        play.clock.pause(POLL_LASTING)
        if (wrong := look()) is not None:
            return wrong
    return None
