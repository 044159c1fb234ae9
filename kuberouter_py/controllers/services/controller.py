"""The services controller: from rung keys to a written difference, and what it has to report of itself.

It leaves deciding to decisions.py, what the node is to sight.py, comparing to reconcile.py, timing to runner.py. All
calls but those that say otherwise come from the runner's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from kuberouter_py.config import Config
from kuberouter_py.controllers.course import THE_NODE, Course, OnReport
from kuberouter_py.controllers.history import Clocks, busy_status
from kuberouter_py.controllers.outcome import Outcome, merged
from kuberouter_py.controllers.services.concern import Concern
from kuberouter_py.controllers.services.decisions import Decisions
from kuberouter_py.controllers.services.desired import ADDRESSES, MEMBERS, ROUTES, SERVERS
from kuberouter_py.controllers.services.explain.known import Known
from kuberouter_py.controllers.services.flows import stale
from kuberouter_py.controllers.services.healthchecks import HEALTH_CHECKS
from kuberouter_py.controllers.services.nodestate import CHAINS, LINKS, SYSCTLS
from kuberouter_py.controllers.services.refusals import Refusals, is_failure
from kuberouter_py.controllers.services.sight import NODE, Sight
from kuberouter_py.controllers.services.status import facts, status_of, table_counts
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import DestinationKey, ServerKey, VirtualServerKey, family_of
from kuberouter_py.model.names import services_set
from kuberouter_py.model.notation import key_text
from kuberouter_py.model.report import ControllerStatus, Note, TableCounts
from kuberouter_py.ports import Busy, EdgeError, Flows, NodeFacts, Plan, ServicesOfCluster, Table, Unavailable

T = TypeVar("T")
UDP_FLOWS = "UDP flows"
A_LOOK = 50  # servers whose counters are read at a time: some 10 ms
SLICE = 200  # keys decided at a time in the background: about 20 ms, so that a rung key need not wait longer


class ServicesController:
    """on_report, messages: see Course."""

    name = "services"

    def __init__(
        self,
        config: Config,
        node_name: str,
        cluster: ServicesOfCluster,
        node_facts: NodeFacts,
        tables: Sequence[Table[Any, Any]],
        flows: Flows,
        clocks: Clocks,
        on_report: OnReport,
        messages: Callable[[], int],
    ) -> None:
        self._config = config
        self._node_name = node_name
        self._cluster = cluster
        self._node_facts = node_facts
        # S10.11: no VIP before port filter, masquerade and ip_vs: it would swallow its packets, or a process of the
        # node would answer them.
        leaning = (CHAINS, SERVERS)
        leans = {ADDRESSES: leaning, ROUTES: leaning}
        self._course = Course(self.name, tables, clocks, on_report, messages, self._judge, leans)
        self._reconciler = self._course.reconciler
        self._sight = Sight(config, node_name, cluster, node_facts)
        self._decisions = Decisions(config, cluster, self._sight, self._reconciler, clocks.monotonic)
        self._refusals = Refusals(self.owner_of, self._decisions.addresses.holders, node_name)
        self._flows = flows
        self._looking: list[Any] = []  # servers whose counters are still to be read
        self._look_seconds = 0.0  # that this look has taken so far
        self._backlog: set[ObjectKey] = set()
        self._begun = False  # the first sync came as far as to decide
        self._aside = False

    # -- called by the runner ----------------------------------------------------------------------------------------

    def first_sync(self) -> bool:
        started = self._course.now()
        with self._course.lock:
            dirty = self._reconciler.read()
            try:
                self._sight.look()
            except EdgeError as error:  # who we are decides everything: not a byte before that
                self._course.unread[THE_NODE] = str(error)
                return self._course.report(started, 0, Outcome(unread={THE_NODE: str(error)}), full=False)
            self._course.unread.pop(THE_NODE, None)
            self._begun = True
            self._sight.told(aside=self._aside)
            news = self._decisions.all(dirty)
            self._leave_links(dirty)
            outcome = self._write(dirty)
            self._sight.told(aside=False)
            # The link exists now, and with it sysctls of its own; and routes may have gone with an address (where
            # --vip-binding changed) or a link (where --vip-link did).
            removed = any(outcome.tables.get(name, TableCounts()).removed for name in (LINKS, ADDRESSES))
            dirty = self._reconciler.read((ADDRESSES, ROUTES)) if removed else self._course.nothing_dirty()
            self._decisions.node(dirty)
            outcome = merged(outcome, self._reconciler.write(dirty))
        return self._course.report(started, self._decisions.services(), outcome, news, full=True)

    def _leave_links(self, dirty: dict[str, set[Any]]) -> None:
        """What is still bound on a link that goes goes with it, after all else: one by one, the kernel would walk the
        link's list for each.
        """
        wanted = self._reconciler.wanted(LINKS)
        gone = {name for name in dirty[LINKS] if name not in wanted}
        dirty[ADDRESSES] = {key for key in dirty[ADDRESSES] if key.link not in gone}

    def sync(self, keys: Collection[Hashable]) -> bool:
        if not self._begun:  # the first sync looks at every key
            return False
        started = self._course.now()
        wanted = {key for key in keys if isinstance(key, ObjectKey)}
        with self._course.lock:
            if NODE in wanted:
                now, later = self._look_again()
                wanted |= now
                self._backlog |= later
            self._backlog -= wanted
            dirty = self._course.nothing_dirty()
            news = self._decisions.of(wanted, dirty)
            outcome = self._write(dirty)
            if unseen := self._course.unread.get(THE_NODE):
                outcome.unread[THE_NODE] = unseen
        return self._course.report(started, len(wanted), outcome, news, full=False)

    def _look_again(self) -> Concern:
        """A node that cannot be looked at is taken as it was."""
        try:
            concern = self._sight.changed(self._decisions.addresses)
        except EdgeError as error:
            self._course.unread[THE_NODE] = str(error)
            return Concern(set(), set())
        self._course.unread.pop(THE_NODE, None)
        return concern

    def begin_compare(self, tables: Collection[str]) -> None:
        """Tables that are named have just been changed by somebody: they come before those whose turn it is anyway."""
        self._course.comparison.ask(tables)
        if not tables:
            self._sight.probe_again()
            self._backlog.add(NODE)  # news of it may have been lost as well

    def background(self) -> bool | None:
        if not self._begun:
            return None
        due = self.due()
        if due is not None and due <= self._course.now():
            return self._look_at_connections()
        if (good := self._course.compare_part(lambda dirty, _last: self._reconciler.write(dirty))) is not None:
            return good
        if self._backlog:
            part = {self._backlog.pop() for _ in range(min(SLICE, len(self._backlog)))}
            return self.sync(part)
        return None

    def due(self) -> float | None:
        """When to look at the connections of what drains."""
        if self._looking:
            return self._course.now()
        return self._decisions.drains.due() if self._decisions.drains else None

    def retry(self) -> bool:
        if not self._begun:
            return self.first_sync()
        names = self._reconciler.suspect_tables()
        started = self._course.now()
        with self._course.lock:
            dirty = self._reconciler.read(names)
            outcome = self._write(dirty)
        good = self._course.report(started, 0, outcome, full=False)
        return (self.sync({NODE}) and good) if THE_NODE in self._course.unread else good

    # -- called from any thread ---------------------------------------------------------------------------------------

    def status(self, more_facts: Mapping[str, str], foreign_servers: Sequence[str]) -> ControllerStatus:
        """more_facts: what the caller knows of the edges (iptables flavour)."""
        try:
            with self._course.asked():
                return self._status(more_facts, foreign_servers)
        except Busy:
            return busy_status(self.name, self._course.history, more_facts)

    def _status(self, more_facts: Mapping[str, str], foreign_servers: Sequence[str]) -> ControllerStatus:
        course, deciding = self._course, self._decisions
        draining = deciding.drains.count() if deciding.drains else 0
        numbers = table_counts(self._reconciler, deciding.services(), draining)
        scale = deciding.scale.facts(len(deciding.addresses), self._node_facts.sysctl_before_us)
        said = {**facts(self._config, self._sight.view), **scale, **more_facts}
        refused = [(*where, reason, self._refusals.owners(*where)) for where, reason in course.standing().items()]
        return status_of(self.name, course.history, refused, numbers, said, deciding.notes, tuple(foreign_servers))

    def inquire(self, ask: Callable[[Known], T]) -> T:
        """Let `ask` look at what is known and decided, between two syncs. Raises Busy, Unavailable."""
        if not self._config.run_service_proxy:
            raise Unavailable("--run-service-proxy=false: this agent does nothing for Services")
        with self._course.asked():
            if not self._begun:
                raise Busy("the agent has not done its first sync yet (`kuberouter-py status` says what it waits for)")
            return ask(
                Known(
                    config=self._config,
                    view=self._sight.view,
                    cluster=self._cluster,
                    wanted=self._reconciler.wanted,
                    foreign=self._reconciler.foreign,
                    claimants=self._claimants,
                    holders=self._decisions.addresses.holders,
                    refused=self._course.standing(),
                    notes=self._decisions.notes.of,
                    draining=self._draining,
                )
            )

    def _draining(self, server: ServerKey) -> Mapping[DestinationKey, float]:
        drains = self._decisions.drains
        return drains.left(server, self._course.now()) if drains else {}

    def _claimants(self, key: VirtualServerKey) -> list[ObjectKey]:
        return [owner for owner in self._reconciler.claims.claimants(key) if isinstance(owner, ObjectKey)]

    def owner_of(self, key: Hashable) -> ObjectKey | None:
        """The Service that a virtual server or a port is for. One look into a mapping: no sync is waited for."""
        return self._decisions.in_force(key)

    def frontends(self) -> frozenset[ServerKey]:
        """Every address and port that we answer on, and every virtual server, as decided last."""
        with self._course.lock:
            answering = {services_set("frontends", family) for family in (4, 6)}
            members = [key.entry for key in self._reconciler.wanted(MEMBERS) if key.set in answering]
            return frozenset(
                [*self._reconciler.wanted(SERVERS), *(VirtualServerKey(e.protocol, e.address, e.port) for e in members)]
            )

    def missing(self) -> list[str]:
        """What of ours could not be put in place, and why. Without sysctls: some only the first namespace may write."""
        with self._course.lock:
            return [
                f"{key_text(table, key) if key is not None else table}: {refused.reason}"
                for (table, key), refused in self._course.standing().items()
                if table != SYSCTLS
            ]

    @property
    def begun(self) -> bool:
        """Everything has been decided once."""
        return self._begun

    def families(self) -> tuple[int, ...]:
        return self._sight.view.families

    def stand_aside_first(self) -> None:
        """Before the first sync: another proxy's rules still translate. Until all of ours stands, ours do not keep new
        connections from them.
        """
        self._aside = True

    # -- called once, without a runner -------------------------------------------------------------------------------

    def plan(self) -> dict[str, Plan[Any, Any]]:
        """What a first sync would write; writes nothing. What this node cannot do at all is left to `status`.

        Listeners are the running agent's own, and no part of it.
        """
        dirty = self._reconciler.read()
        self._sight.look()
        self._decisions.all(dirty)
        self._leave_links(dirty)
        dirty[SYSCTLS] = {key for key in dirty[SYSCTLS] if self._node_facts.can_set_sysctl(key)}
        dirty[HEALTH_CHECKS] = set()
        return self._reconciler.plans(dirty)

    def cleanup(self) -> Outcome:
        """Sync to nothing: the same path with nothing wanted.

        The link goes first and takes its addresses and routes along: one by one, 10,000 IPv6 addresses cost the kernel
        43 s (it walks the list for each). What else there is was read before, while the VIPs still told whose it is.
        """
        dirty = self._reconciler.read()
        outcome = self._reconciler.write({LINKS: dirty[LINKS]})
        gone = (LINKS, ADDRESSES, ROUTES)
        again = self._reconciler.read(gone)
        dirty |= {name: again[name] for name in gone}
        return merged(outcome, self._reconciler.write(dirty))

    # -- what drains --------------------------------------------------------------------------------------------------

    def _look_at_connections(self) -> bool:
        """One part of a look at what drains: where that is done, decide again."""
        drains = self._decisions.drains
        assert drains is not None
        started = self._course.now()
        self._looking = self._looking or drains.to_look_at()
        part, self._looking = self._looking[:A_LOOK], self._looking[A_LOOK:]
        news: list[Note] = []
        with self._course.lock:
            try:
                connections = self._node_facts.connections(part)
            except EdgeError:  # the time ends it then
                connections = {}
            dirty = self._course.nothing_dirty()
            keys = {key for key in drains.over(part, connections, started) if isinstance(key, ObjectKey)}
            if keys:
                news = self._decisions.of(keys, dirty)
            outcome = self._reconciler.write(dirty)
        ended = self._course.now()
        self._look_seconds += ended - started
        if not self._looking:
            drains.looked(ended, self._look_seconds)
            self._look_seconds = 0.0
        return self._course.report(started, len(keys), outcome, news, full=False) if keys else True

    # -- writing ------------------------------------------------------------------------------------------------------

    def _write(self, dirty: Mapping[str, Collection[Any]]) -> Outcome:
        """And then forget the UDP flows that nobody answers any more: one look for all that have changed."""
        outcome = self._reconciler.write(dirty)
        udp = self._decisions.udp
        if changed := udp.changed():
            self._course.unread.pop(UDP_FLOWS, None)
            try:
                for family in sorted({family_of(key.address) for key in changed}):
                    self._flows.forget([*stale(self._flows.udp_flows(family), changed)])
                udp.done()
            except EdgeError as error:
                self._course.unread[UDP_FLOWS] = outcome.unread[UDP_FLOWS] = str(error)
        return outcome

    def _judge(self, outcome: Outcome) -> Sequence[Note]:
        """What this node lacks, and can do without, is no failure."""
        outcome.refused = {
            (table, key): refused for (table, key), refused in outcome.refused.items() if is_failure(table, refused)
        }
        return self._refusals.news(self._course.standing())
