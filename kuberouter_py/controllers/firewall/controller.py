"""The firewall controller: from rung keys to a written difference in safe stages, and what it reports of itself.

It leaves deciding to decisions.py, comparing to reconcile.py, timing to runner.py. All calls but those that say
otherwise come from the runner's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from kuberouter_py.config import Config
from kuberouter_py.controllers.course import THE_NODE, Course, OnReport
from kuberouter_py.controllers.firewall import chains as fixed
from kuberouter_py.controllers.firewall.decisions import Decisions, Dirty
from kuberouter_py.controllers.firewall.explain.known import KnownPolicies
from kuberouter_py.controllers.firewall.flows import CutFlows
from kuberouter_py.controllers.firewall.rung import NODE, Rung
from kuberouter_py.controllers.firewall.sets import holds_peers
from kuberouter_py.controllers.firewall.standing import CHAINS, MEMBERS, SETS, SYSCTLS
from kuberouter_py.controllers.firewall.status import status_of
from kuberouter_py.controllers.firewall.view import View, node_view
from kuberouter_py.controllers.history import Clocks, busy_status
from kuberouter_py.controllers.outcome import Outcome, merged
from kuberouter_py.model.names import firewall_set
from kuberouter_py.model.report import ControllerStatus, Note
from kuberouter_py.ports import (
    Busy,
    EdgeError,
    FirewallFacts,
    Plan,
    PoliciesOfCluster,
    Table,
    TrackedFlows,
    Unavailable,
)

T = TypeVar("T")

ISOLATION = {firewall_set(role, family) for role in (*fixed.ISOLATED, *fixed.CLOSED) for family in (4, 6)}


class FirewallController:
    """on_report, messages: see Course."""

    name = "firewall"

    def __init__(
        self,
        config: Config,
        node_name: str,
        cluster: PoliciesOfCluster,
        node_facts: FirewallFacts,
        tables: Sequence[Table[Any, Any]],
        flows: TrackedFlows,
        clocks: Clocks,
        on_report: OnReport,
        messages: Callable[[], int],
    ) -> None:
        self._config = config
        self._node_name = node_name
        self._cluster = cluster
        self._node_facts = node_facts
        self._course = Course(self.name, tables, clocks, on_report, messages, self._judge)
        self._reconciler = self._course.reconciler
        self._decisions = Decisions(config, node_name, cluster, self._reconciler)
        self._cut_flows = CutFlows(config, self._decisions, flows, self._write, self._course.unread)
        self._begun = False

    # -- called by the runner --------------------------------------------------------------------------------------

    def first_sync(self) -> bool:
        started = self._course.now()
        with self._course.lock:
            found = self._reconciler.read()
            if not self._look():
                return self._course.report(started, 0, Outcome(unread=self._unseen()), full=False)
            self._begun = True
            decisions = self._decisions
            decisions.membership.found(self._reconciler.held(MEMBERS))
            decisions.take_all()
            self._cut_flows.stay_cut(found[MEMBERS], self._course.now(), found)  # what an earlier process cut stays so
            outcome = self._stages(found)
            decisions.membership.forget_found()
            outcome = merged(outcome, self._remove_left_over(found))
        return self._course.report(started, len(decisions.world.pods), outcome, full=True)

    def sync(self, keys: Collection[Hashable]) -> bool:
        if not self._begun:  # the first sync looks at every key
            return False
        started = self._course.now()
        rung = [key for key in keys if isinstance(key, Rung)]
        with self._course.lock:
            if any(key.kind == NODE for key in rung):
                self._look()
            self._decisions.take(rung)
            outcome = self._stages()
            outcome.unread.update(self._unseen())
        return self._course.report(started, len(rung), outcome, full=False)

    def begin_compare(self, tables: Collection[str]) -> None:
        """Tables that are named have just been changed by somebody: they come before those whose turn it is anyway."""
        self._course.comparison.ask(tables)

    def background(self) -> bool | None:
        if not self._begun:
            return None
        if self._decisions.has_to_tidy():
            return self._tidy()
        if (went_well := self._look_at_flows()) is not None:
            return went_well
        return self._course.compare_part(self._put_right)

    def due(self) -> float | None:
        return self._cut_flows.due()

    def retry(self) -> bool:
        """What was refused, and then whoever waits for it."""
        if not self._begun:
            return self.first_sync()
        started = self._course.now()
        with self._course.lock:
            self._look()
            dirty = self._reconciler.read(self._reconciler.suspect_tables())
            dirty = self._but_left_behind(dirty)
            self._decisions.hold_back(dirty)
            outcome = self._reconciler.write(dirty)
            outcome = merged(outcome, self._stages())
            self._cut_flows.look_again()
            self._decisions.tidy_again()
            outcome.unread.update(self._unseen())
        return self._course.report(started, 0, outcome, full=False)

    # -- called from any thread ------------------------------------------------------------------------------------

    def status(self, more_facts: Mapping[str, str]) -> ControllerStatus:
        """more_facts: what the caller knows of the edges (iptables flavour)."""
        course = self._course
        try:
            with course.asked():
                return status_of(self.name, course.history, self._decisions, course.standing(), more_facts)
        except Busy:
            return busy_status(self.name, course.history, more_facts)

    def inquire(self, ask: Callable[[KnownPolicies], T]) -> T:
        """Let `ask` look at what is known and decided, between two syncs. Raises Busy, Unavailable."""
        if not self._config.run_firewall:
            raise Unavailable("--run-firewall=false: this agent enforces no NetworkPolicy, and hears of none")
        with self._course.asked():
            if not self._begun:
                raise Busy(
                    "the firewall has not done its first sync yet (`kuberouter-py status` says what it waits for)"
                )
            return ask(
                KnownPolicies(
                    node=self._node_name,
                    cluster=self._cluster,
                    wanted=self._reconciler.wanted,
                    refused=self._course.standing(),
                    notes=tuple(self._decisions.notes),
                )
            )

    @property
    def begun(self) -> bool:
        """Everything has been decided once."""
        return self._begun

    # -- called once, without a runner -----------------------------------------------------------------------------

    def plan(self) -> dict[str, Plan[Any, Any]]:
        """What a first sync would write; writes nothing. Raises EdgeError."""
        found = self._reconciler.read()
        self._decisions.look(self._seen())
        self._decisions.take_all()
        self._cut_flows.stay_cut(found[MEMBERS], self._course.now(), found)
        self._decisions.grow(found)
        self._decisions.as_if_written(found)
        return self._reconciler.plans(found)

    def cleanup(self) -> Outcome:
        """Sync to nothing: the chains first, so that no rule speaks of a set that goes."""
        found = self._reconciler.read()
        outcome = self._reconciler.write({CHAINS: found[CHAINS]})
        return merged(outcome, self._reconciler.write(found))

    # -- the stages ------------------------------------------------------------------------------------------------

    def _stages(self, found: Mapping[str, Collection[Any]] | None = None) -> Outcome:
        """See decisions.py. found: what a first sync has read; nothing of that goes before the new is complete."""
        decisions = self._decisions
        dirty = self._course.nothing_dirty()
        decisions.grow(dirty)
        if found is not None:
            dirty = {name: {*dirty[name], *found[name]} & self._reconciler.wanted(name).keys() for name in dirty}
        decisions.hold_back(dirty)
        outcome = self._write(dirty)
        if lacking := self._lacks_comparing(outcome):
            decisions.look(replace(decisions.view, compares_addresses=False))
        if lacking or decisions.leads_astray():
            dirty = self._course.nothing_dirty()
            decisions.lead(dirty)
            outcome = merged(outcome, self._write(dirty))
        dirty = self._course.nothing_dirty()
        pods = decisions.enter(dirty)
        if found is not None:
            dirty[MEMBERS] &= self._reconciler.wanted(MEMBERS).keys()
        outcome = merged(outcome, self._write(dirty))
        for stage in (decisions.isolate, decisions.replace, decisions.move, decisions.release, decisions.leave):
            dirty = self._course.nothing_dirty()
            stage(pods, dirty)
            if found is not None and stage == decisions.release:
                # A pod that went is nobody's peer any more before it is isolated no more.
                wanted = self._reconciler.wanted(SETS)
                peers = {key for key in found[MEMBERS] if key.set in wanted and holds_peers(key.set)}
                outcome = merged(outcome, self._write({MEMBERS: peers}))
                # Who is not isolated any more leaves the guards that an earlier process put it in, but not before.
                dirty[MEMBERS] |= {key for key in found[MEMBERS] if key.set in ISOLATION}
            outcome = merged(outcome, self._write(dirty))
        return outcome

    def _lacks_comparing(self, outcome: Outcome) -> bool:
        """Whether the one match that not every kernel has is why the chain with it was refused."""
        return self._decisions.view.compares_addresses and any(
            table == CHAINS and key.chain == fixed.PODS and (refused.missing or "bpf" in refused.reason)
            for (table, key), refused in outcome.refused.items()
        )

    def _remove_left_over(self, found: Mapping[str, Collection[Any]]) -> Outcome:
        """What an earlier process left: rules before the sets that they speak of."""
        wanted = self._reconciler.wanted(SETS)
        rest = {MEMBERS: {key for key in found[MEMBERS] if key.set in wanted}, SYSCTLS: found[SYSCTLS]}
        return merged(self._reconciler.write(rest), self._remove_left_behind())

    def _remove_left_behind(self) -> Outcome:
        outcome = self._write(self._decisions.chains_left_behind())
        return merged(outcome, self._write(self._decisions.sets_left_behind()))

    def _tidy(self) -> bool:
        started = self._course.now()
        with self._course.lock:
            dirty = self._course.nothing_dirty()
            self._decisions.tidy(dirty)
            outcome = self._write(dirty)
            outcome = merged(outcome, self._remove_left_behind())
        return self._course.report(started, 0, outcome, full=False) if outcome.tables or outcome.failures else True

    def _look_at_flows(self) -> bool | None:
        """None: none had to be looked at."""
        started = self._course.now()
        with self._course.lock:
            outcome = self._cut_flows.step(started, self._course.nothing_dirty)
        if outcome is None:
            return None
        news = outcome.tables or outcome.failures
        return self._course.report(started, 0, outcome, full=False) if news else True

    def _but_left_behind(self, dirty: Mapping[str, Collection[Any]]) -> Dirty:
        """Unwanted chains and sets go when nothing speaks of them, see above."""
        kept = {name: set(keys) for name, keys in dirty.items()}
        for name in (SETS, CHAINS):
            kept[name] &= self._reconciler.wanted(name).keys()
        sets = self._reconciler.wanted(SETS)
        kept[MEMBERS] = {key for key in kept[MEMBERS] if key.set in sets}
        return kept

    def _write(self, dirty: Mapping[str, Collection[Any]]) -> Outcome:
        return self._reconciler.write(dirty) if any(dirty.values()) else Outcome()

    # -- this node -------------------------------------------------------------------------------------------------

    def _look(self) -> bool:
        """A node that cannot be looked at is taken as it was."""
        try:
            self._decisions.look(self._seen())
        except EdgeError as error:
            self._course.unread[THE_NODE] = str(error)
            return False
        self._course.unread.pop(THE_NODE, None)
        return True

    def _unseen(self) -> dict[str, str]:
        """Of what could not be read, the node itself: with the reason."""
        return {what: reason for what, reason in self._course.unread.items() if what == THE_NODE}

    def _seen(self) -> View:
        node = self._cluster.node(self._node_name)
        return node_view(self._config, node, self._node_facts.links(), self._decisions.view)

    # -- comparing and reporting -----------------------------------------------------------------------------------

    def _put_right(self, dirty: Dirty, last: bool) -> Outcome:
        """What comparing has found. last: in this table there is no more to find."""
        outcome = self._write(self._but_left_behind({**self._course.nothing_dirty(), **dirty}))
        return merged(outcome, self._remove_left_behind()) if last else outcome

    def _judge(self, outcome: Outcome) -> Sequence[Note]:
        """What a later stage has mended was no failure."""
        standing = self._reconciler.standing()
        self._decisions.note_bridges({key: why for (table, key), why in standing.items() if table == SYSCTLS and key})
        outcome.refused = {where: refused for where, refused in outcome.refused.items() if where in standing}
        return self._decisions.notes.news()
