"""Looks at the flows after a change, cuts those that it forbids, and lets go of what keeps out nothing any more.

What is forbidden, and what is over, is decided in cutting.py. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from kuberouter_py.config import Config
from kuberouter_py.controllers.firewall.cutting import (
    CUT_SETS,
    Cuts,
    cluster_of,
    concern,
    cut_member,
    forbidden,
    needless,
)
from kuberouter_py.controllers.firewall.decisions import Decisions, Dirty
from kuberouter_py.controllers.firewall.view import View
from kuberouter_py.controllers.outcome import Outcome, merged
from kuberouter_py.model.kernel import Flow, SetMember
from kuberouter_py.ports import EdgeError, TrackedFlows

FLOWS = "flows"
Write = Callable[[Mapping[str, Collection[Any]]], Outcome]


class CutFlows:
    """write: what is dirty. unread: see Course."""

    def __init__(
        self, config: Config, decisions: Decisions, tracked: TrackedFlows, write: Write, unread: dict[str, str]
    ) -> None:
        self._config = config
        self._decisions = decisions
        self._tracked = tracked
        self._write = write
        self._unread = unread
        self._cuts = Cuts()
        self._judged_in: View | None = None  # the node as it was when the cuts were judged
        self._unlooked: set[bytes] = set()  # whose flows are still to be looked at, after a failure

    def stay_cut(self, members: Iterable[SetMember], now: float, dirty: Dirty) -> None:
        """Those of them that are cut flows."""
        cut = [member for member in members if member.set in CUT_SETS]
        self._cuts.add(cut, now, self._decisions.world)
        self._decisions.cut(cut, dirty)

    def due(self) -> float | None:
        return self._cuts.due()

    def look_again(self) -> None:
        self._decisions.concerned.allowed_less(self._unlooked)

    def step(self, now: float, nothing_dirty: Callable[[], Dirty]) -> Outcome | None:
        """None: there was nothing to do."""
        if self._config.netpol_cut_established and self._decisions.concerned.has_suspects():
            return self._look(now, nothing_dirty)
        if over := {*self._cuts.over(now), *self._needless()}:
            return self._end(over, nothing_dirty())
        return None

    def _look(self, now: float, nothing_dirty: Callable[[], Dirty]) -> Outcome:
        """Forget those that are forbidden now, when none of their packets can bring them back."""
        outcome = Outcome()
        suspects = self._decisions.concerned.suspects() | self._unlooked
        self._unlooked = set()
        self._unread.pop(FLOWS, None)
        try:
            for family in self._decisions.view.families:
                dirty = nothing_dirty()
                forbidden = self._forbidden(concern(self._tracked.flows(family), suspects))
                self.stay_cut(map(cut_member, forbidden), now, dirty)
                outcome = merged(outcome, self._write(dirty))
                self._tracked.forget(forbidden)
        except EdgeError as error:
            self._unread[FLOWS] = outcome.unread[FLOWS] = str(error)
            self._unlooked |= suspects
        return outcome

    def _forbidden(self, flows: Iterable[Flow]) -> list[Flow]:
        concerned = [*flows]
        world, own = self._decisions.world, self._decisions.view.own
        cluster = cluster_of(concerned, world)
        return [flow for flow in concerned if forbidden(flow, cluster, world, own)]

    def _needless(self) -> list[SetMember]:
        """Only those at addresses that a change was about are judged; all of them when the node is another than before,
        and those that an earlier process left.
        """
        view, eased = self._decisions.view, self._decisions.concerned.eased()
        cut = self._cuts.at(eased if view is self._judged_in else None)
        self._judged_in = view
        return needless(cut, self._decisions.world, view.own) if cut else []

    def _end(self, members: Collection[SetMember], dirty: Dirty) -> Outcome:
        self._cuts.end(members)
        self._decisions.end_cut(members, dirty)
        return self._write(dirty)
