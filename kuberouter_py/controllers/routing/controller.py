"""The routing controller: from rung keys to a written difference, and what it reports of itself.

It leaves deciding to decisions.py, comparing to reconcile.py, timing to runner.py. All calls but those that say
otherwise come from the runner's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any

from kuberouter_py.config import Config
from kuberouter_py.controllers.course import THE_NODE, Course, OnReport
from kuberouter_py.controllers.history import Clocks, busy_status
from kuberouter_py.controllers.outcome import Outcome
from kuberouter_py.controllers.routing.announcements import Told
from kuberouter_py.controllers.routing.decisions import BGP, SPEAKER, Decisions
from kuberouter_py.controllers.routing.rung import HERE, NODE, Rung
from kuberouter_py.controllers.routing.status import status_of
from kuberouter_py.model.bgp import Speaker
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.report import ControllerStatus, Note
from kuberouter_py.ports import Busy, EdgeError, Plan, RoutingFacts, RoutingOfCluster, Table


class RoutingController:
    """on_report, messages: see Course."""

    name = "routing"

    def __init__(
        self,
        config: Config,
        node_name: str,
        cluster: RoutingOfCluster,
        node_facts: RoutingFacts,
        tables: Sequence[Table[Any, Any]],
        clocks: Clocks,
        on_report: OnReport,
        messages: Callable[[], int],
    ) -> None:
        self._own = ObjectKey("", node_name)
        self._cluster = cluster
        self._course = Course(self.name, tables, clocks, on_report, messages, self._news)
        self._decisions = Decisions(config, node_name, cluster, self._course.reconciler, node_facts)
        self._begun = False

    # -- called by the runner --------------------------------------------------------------------------------------

    def first_sync(self) -> bool:
        course = self._course
        started = course.now()
        with course.lock:
            dirty = course.reconciler.read()
            self._look()
            if course.unread:  # who we are decides everything: not a byte before that
                return course.report(started, 0, Outcome(unread=dict(course.unread)), full=False)
            self._begun = True
            self._decisions.all(dirty)
            outcome = self._write(dirty)
        return course.report(started, len(self._cluster.nodes()), outcome, full=True)

    def sync(self, keys: Collection[Hashable]) -> bool:
        if not self._begun:  # what was missing may have come
            return self.first_sync()
        course = self._course
        started = course.now()
        rung = [key for key in keys if isinstance(key, Rung)]
        with course.lock:
            here = any(key.kind == HERE or key == Rung(NODE, self._own) for key in rung)
            moved = self._look() if here else False
            dirty = course.nothing_dirty()
            self._decisions.of(rung, moved, dirty)
            outcome = self._write(dirty)
        return course.report(started, len(rung), outcome, full=False)

    def begin_compare(self, tables: Collection[str]) -> None:
        """Tables that are named have just been changed by somebody: they come before those whose turn it is anyway."""
        self._course.comparison.ask(tables)

    def background(self) -> bool | None:
        return self._course.compare_part(lambda dirty, _last: self._write(dirty)) if self._begun else None

    def due(self) -> float | None:
        return None

    def retry(self) -> bool:
        """What was refused or could not be read."""
        if not self._begun:
            return self.first_sync()
        course = self._course
        started = course.now()
        with course.lock:
            moved = self._look()
            dirty = course.reconciler.read(course.reconciler.suspect_tables())
            self._decisions.of((), moved, dirty)
            outcome = self._write(dirty)
        return course.report(started, 0, outcome, full=False)

    def _look(self) -> bool:
        """Whether the node is another one than it was. One that cannot be looked at is taken as it was."""
        self._course.unread.pop(THE_NODE, None)
        try:
            moved = self._decisions.look()
        except EdgeError as error:
            self._course.unread[THE_NODE] = str(error)
            return False
        if not self._decisions.view.known:
            self._course.unread[THE_NODE] = f"there is no Node {self._own.name} yet"
        return moved

    def _write(self, dirty: Mapping[str, Collection[Any]]) -> Outcome:
        outcome = self._course.reconciler.write(dirty)
        outcome.unread.update(self._course.unread)
        return outcome

    def _news(self, _outcome: Outcome) -> Sequence[Note]:
        return self._decisions.notes.news()

    # -- called from any thread ------------------------------------------------------------------------------------

    def status(self, more_facts: Mapping[str, str]) -> ControllerStatus:
        """more_facts: what the caller knows of the edges."""
        course = self._course
        try:
            with course.asked():
                wanted = course.reconciler.wanted
                return status_of(course.history, self._decisions, wanted, course.standing(), more_facts)
        except Busy:
            return busy_status(self.name, course.history, more_facts)

    def speaker(self) -> Speaker | None:
        """What BGP shall be, as decided last. One look into a mapping: no sync is waited for."""
        found: Speaker | None = self._course.reconciler.wanted(BGP).get(SPEAKER)
        return found

    def notes(self) -> Sequence[Note]:
        """What is not as asked; nothing while a sync takes long."""
        try:
            with self._course.asked():
                return tuple(self._decisions.notes)
        except Busy:
            return ()

    def why(self, service: ObjectKey) -> Sequence[Told] | None:
        """Of each address of a Service, why it is not announced; None: there is no such Service. Raises Busy."""
        with self._course.asked():
            return self._decisions.announcements.why(service)

    # -- called once, without a runner -----------------------------------------------------------------------------

    def plan(self) -> dict[str, Plan[Any, Any]]:
        """What a first sync would write; writes nothing. Raises EdgeError."""
        reconciler = self._course.reconciler
        dirty = reconciler.read()
        self._decisions.look()
        if self._decisions.view.known:
            self._decisions.all(dirty)
            return reconciler.plans(dirty)
        self._course.unread[THE_NODE] = f"there is no Node {self._own.name}"
        return {}

    def cleanup(self) -> Outcome:
        """Sync to nothing: the same path with nothing wanted."""
        reconciler = self._course.reconciler
        return reconciler.write(reconciler.read())
