"""The services controller: from rung keys to a written difference, and what it has to report of itself.

It leaves deciding to desired.py and nodestate.py, comparing to reconcile.py, timing to runner.py. All calls but
`status` come from the runner's thread.
"""

from __future__ import annotations

import threading
from collections import ChainMap
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from kuberouter_py.config import Config
from kuberouter_py.controllers.reconcile import NOTHING, Outcome, Reconciler, Share
from kuberouter_py.controllers.services.addressbook import AddressBook
from kuberouter_py.controllers.services.concern import concern
from kuberouter_py.controllers.services.desired import ADDRESSES, MEMBERS, ROUTES, SERVERS, decide
from kuberouter_py.controllers.services.drain import Drains, left_behind, pod_periods
from kuberouter_py.controllers.services.dsr import DIVERSIONS, return_directly
from kuberouter_py.controllers.services.explain.known import Known
from kuberouter_py.controllers.services.flows import UdpFlows, stale, udp_serving
from kuberouter_py.controllers.services.healthchecks import HEALTH_CHECKS
from kuberouter_py.controllers.services.marks import Marks
from kuberouter_py.controllers.services.nodestate import CHAINS, LINKS, SYSCTLS, Kernel, node_share
from kuberouter_py.controllers.services.refusals import Refusals, failures, first_failure
from kuberouter_py.controllers.services.scale import Scale
from kuberouter_py.controllers.services.scheduling import DEFAULT, schedulers_needed
from kuberouter_py.controllers.services.status import History, busy_status, facts, status_of, table_counts
from kuberouter_py.controllers.services.view import NodeView, node_view
from kuberouter_py.controllers.services.weights import weighted
from kuberouter_py.model.cluster import EndpointSlice, ObjectKey, Service
from kuberouter_py.model.healthcheck import HealthCheckPort
from kuberouter_py.model.kernel import (
    DestinationKey,
    LinkState,
    ServerKey,
    VirtualServerKey,
    address_text,
    family_of,
)
from kuberouter_py.model.names import services_set
from kuberouter_py.model.notation import key_text
from kuberouter_py.model.report import ControllerStatus, Note, SyncReport, TableCounts
from kuberouter_py.ports import Busy, EdgeError, Flows, NodeFacts, Plan, Refused, ServicesOfCluster, Table, Unavailable

T = TypeVar("T")
NODE = ObjectKey("", "")  # the key that stands for the node itself
# Whose share it is what an earlier process left of Services that have gone since; no object has such a name.
LEFT_BEHIND = ObjectKey("", "(left behind)")
UDP_FLOWS = "UDP flows"
ADDRESS_TAKEN, NOT_DECIDED = "AddressTaken", "NotDecided"
PATIENCE = 2.0  # seconds that a question may wait for a sync: the first one of a big cluster takes longer
A_LOOK = 50  # servers whose counters are read at a time: some 10 ms
SLICE = 200  # keys decided at a time in the background: about 20 ms, so that a rung key need not wait longer


@dataclass(frozen=True)
class Clocks:
    """wall: seconds since 1970; monotonic: for durations."""

    wall: Callable[[], float]
    monotonic: Callable[[], float]


class ServicesController:
    """on_report: called after every sync, with the notes that are new. messages: what the edges have sent so far."""

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
        on_report: Callable[[SyncReport, Sequence[Note]], None],
        messages: Callable[[], int],
    ) -> None:
        self._config = config
        self._node_name = node_name
        self._cluster = cluster
        self._node_facts = node_facts
        # S10.11: no VIP before guard, masquerade and ip_vs: it would swallow its packets, or a process of the node
        # would answer them.
        leaning = (CHAINS, SERVERS)
        self._reconciler = Reconciler(tables, {ADDRESSES: leaning, ROUTES: leaning})
        self._table_names = [table.name for table in tables]
        self._clocks = clocks
        self._on_report = on_report
        self._messages = messages
        self._messages_before = 0
        held, wanted = self._reconciler.held, self._reconciler.wanted
        self._marks = Marks(lambda: held(MEMBERS), lambda: (held(SERVERS), wanted(SERVERS)))
        self._view = NodeView(node_name, families=())
        self._addresses = AddressBook()
        self._scale = Scale(config, self._reconciler.wanted, self._reconciler.held)
        self._refusals = Refusals(self.owner_of, self._addresses.holders, node_name)
        self._schedulers: dict[str, bool] = {DEFAULT: True}
        self._drains = Drains(config.ipvs_graceful_period) if config.ipvs_graceful_termination else None
        self._flows = flows
        self._udp = UdpFlows()
        self._unforgotten = ""  # why UDP flows that lead to nobody could not be deleted
        self._looking: list[Any] = []  # servers whose counters are still to be read
        self._look_seconds = 0.0  # that this look has taken so far
        self._notes: dict[ObjectKey, tuple[Note, ...]] = {}
        self._losers: set[ObjectKey] = set()
        self._backlog: set[ObjectKey] = set()
        self._compare: list[str] = []  # tables to compare with the kernel; the first one is being read
        self._compare_again: set[str] = set()  # asked for while a part of them was read already
        self._compare_seconds = 0.0  # that the slices have taken so far
        self._whole_compare = False  # what is being compared is everything
        self._unseen = ""  # why the node could not be looked at
        self._begun = False  # the first sync came as far as to decide
        self._aside = False
        self._history = History()
        self._lock = threading.Lock()  # held while state changes: `status` is asked from other threads

    # -- called by the runner ----------------------------------------------------------------------------------------

    def first_sync(self) -> bool:
        started = self._clocks.monotonic()
        with self._lock:
            dirty = self._reconciler.read()
            keys = set(self._cluster.service_keys())
            try:
                self._look_at_node()
            except EdgeError as error:  # who we are decides everything: not a byte before that
                self._unseen = str(error)
                return self._report(started, 0, Outcome(unread={"node": self._unseen}), (), full=False)
            self._unseen = ""
            self._begun = True
            self._view = replace(self._view, aside=self._aside)
            news = self._decide_all(keys, dirty)
            self._leave_links(dirty)
            outcome = self._write(dirty)
            self._view = replace(self._view, aside=False)
            # The link exists now, and with it sysctls of its own; and routes may have gone with an address (where
            # --vip-binding changed) or a link (where --vip-link did).
            removed = any(outcome.tables.get(name, TableCounts()).removed for name in (LINKS, ADDRESSES))
            dirty = self._reconciler.read((ADDRESSES, ROUTES)) if removed else self._nothing_dirty()
            for name, found in self._reconciler.claim({NODE: self._node_share()}).items():
                dirty[name] |= found
            outcome = _merged(outcome, self._reconciler.write(dirty))
        return self._report(started, len(keys), outcome, news, full=True)

    def _leave_links(self, dirty: dict[str, set[Any]]) -> None:
        """What is still bound on a link that goes goes with it, after all else: one by one, the kernel would walk the
        link's list for each.
        """
        wanted = self._reconciler.wanted(LINKS)
        gone = {name for name in dirty[LINKS] if name not in wanted}
        dirty[ADDRESSES] = {key for key in dirty[ADDRESSES] if key.link not in gone}

    def _nothing_dirty(self) -> dict[str, set[Any]]:
        return {name: set() for name in self._table_names}

    def sync(self, keys: Collection[Hashable]) -> bool:
        if not self._begun:  # the first sync looks at every key
            return False
        started = self._clocks.monotonic()
        wanted = {key for key in keys if isinstance(key, ObjectKey)}
        with self._lock:
            if NODE in wanted:
                wanted |= self._node_changed()
            self._backlog -= wanted
            dirty = self._nothing_dirty()
            news = self._decide(wanted, dirty)
            outcome = self._write(dirty)
            if self._unseen:
                outcome.unread["node"] = self._unseen
        return self._report(started, len(wanted), outcome, news, full=False)

    def begin_compare(self, tables: Collection[str]) -> None:
        """Tables that are named have just been changed by somebody: they come before those whose turn it is anyway."""
        asked = [name for name in self._table_names if not tables or name in tables]
        if tables:
            self._compare_again.update(name for name in asked if self._reconciler.is_reading(name))
            self._compare = asked + [name for name in self._compare if name not in tables]
            return
        self._compare += [name for name in asked if name not in self._compare]
        self._whole_compare = True
        for name in self._view.missing_schedulers:  # a module may have come since
            self._probe(name)
        self._backlog.add(NODE)  # news of it may have been lost as well

    def background(self) -> bool | None:
        if not self._begun:
            return None
        due = self.due()
        if due is not None and due <= self._clocks.monotonic():
            return self._look_at_connections()
        if self._compare:
            return self._compare_part(self._compare[0])
        if self._backlog:
            part = {self._backlog.pop() for _ in range(min(SLICE, len(self._backlog)))}
            return self.sync(part)
        return None

    def due(self) -> float | None:
        """When to look at the connections of what drains."""
        if self._looking:
            return self._clocks.monotonic()
        return self._drains.due() if self._drains else None

    def retry(self) -> bool:
        if not self._begun:
            return self.first_sync()
        names = self._reconciler.suspect_tables()
        started = self._clocks.monotonic()
        with self._lock:
            dirty = self._reconciler.read(names)
            outcome = self._write(dirty)
        good = self._report(started, 0, outcome, (), full=False)
        return (self.sync({NODE}) and good) if self._unseen else good

    # -- called from any thread ---------------------------------------------------------------------------------------

    def status(self, more_facts: Mapping[str, str], foreign_servers: Sequence[str]) -> ControllerStatus:
        """more_facts: what the caller knows of the edges (iptables flavour)."""
        if not self._lock.acquire(timeout=PATIENCE):
            return busy_status(self.name, self._history, more_facts)
        try:
            draining = self._drains.count() if self._drains else 0
            numbers = table_counts(self._reconciler, self._services(), draining)
            scale = self._scale.facts(len(self._addresses), self._node_facts.sysctl_before_us)
            said = {**facts(self._config, self._view), **scale, **more_facts}
            notes = [note for notes in self._notes.values() for note in notes]
            refused = [(*where, reason, self._refusals.owners(*where)) for where, reason in self._standing().items()]
            return status_of(self.name, self._history, refused, numbers, said, notes, tuple(foreign_servers))
        finally:
            self._lock.release()

    def inquire(self, ask: Callable[[Known], T]) -> T:
        """Let `ask` look at what is known and decided, between two syncs. Raises Busy, Unavailable."""
        if not self._config.run_service_proxy:
            raise Unavailable("--run-service-proxy=false: this agent does nothing for Services")
        if not self._lock.acquire(timeout=PATIENCE):
            raise Busy("the agent is in the middle of a sync that takes long; ask again")
        try:
            if not self._begun:
                raise Busy("the agent has not done its first sync yet (`kuberouter-py status` says what it waits for)")
            return ask(
                Known(
                    config=self._config,
                    view=self._view,
                    cluster=self._cluster,
                    wanted=self._reconciler.wanted,
                    foreign=self._reconciler.foreign,
                    claimants=self._claimants,
                    holders=self._addresses.holders,
                    refused=self._standing(),
                    notes=lambda key: self._notes.get(key, ()),
                    draining=self._draining,
                )
            )
        finally:
            self._lock.release()

    def _draining(self, server: ServerKey) -> Mapping[DestinationKey, float]:
        return self._drains.left(server, self._clocks.monotonic()) if self._drains else {}

    def _claimants(self, key: VirtualServerKey) -> list[ObjectKey]:
        return [owner for owner in self._reconciler.claimants(key) if isinstance(owner, ObjectKey)]

    def owner_of(self, key: Hashable) -> ObjectKey | None:
        """The Service that a virtual server or a port is for. One look into a mapping: no sync is waited for."""
        owner = self._reconciler.owner_of(key)
        return owner if isinstance(owner, ObjectKey) else None

    def frontends(self) -> frozenset[ServerKey]:
        """Every address and port that we answer on, and every virtual server, as decided last."""
        with self._lock:
            answering = {services_set("frontends", family) for family in (4, 6)}
            members = [key.entry for key in self._reconciler.wanted(MEMBERS) if key.set in answering]
            return frozenset(
                [*self._reconciler.wanted(SERVERS), *(VirtualServerKey(e.protocol, e.address, e.port) for e in members)]
            )

    def missing(self) -> list[str]:
        """What of ours could not be put in place, and why. Without sysctls: some only the first namespace may write."""
        with self._lock:
            return [
                f"{key_text(table, key) if key is not None else table}: {refused.reason}"
                for (table, key), refused in self._standing().items()
                if table != SYSCTLS
            ]

    def families(self) -> tuple[int, ...]:
        return self._view.families

    def stand_aside_first(self) -> None:
        """Before the first sync: another proxy's rules still translate. Until all of ours stands, ours do not keep new
        connections from them.
        """
        self._aside = True

    def _services(self) -> int:
        """Those that are there; what only drains is none."""
        shares = [self._reconciler.share(owner) for owner in self._reconciler.owners() if owner != NODE]
        return sum(len(share.draining) < len(share.units) for share in shares)

    # -- called once, without a runner -------------------------------------------------------------------------------

    def plan(self) -> dict[str, Plan[Any, Any]]:
        """What a first sync would write; writes nothing. What this node cannot do at all is left to `status`.

        Listeners are the running agent's own, and no part of it.
        """
        dirty = self._reconciler.read()
        self._look_at_node()
        self._decide_all(self._cluster.service_keys(), dirty)
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
        return _merged(outcome, self._reconciler.write(dirty))

    # -- the node ----------------------------------------------------------------------------------------------------

    def _look_at_node(self) -> NodeView:
        """Replace the view; returns the one before."""
        before = self._view
        self._links: Sequence[LinkState] = self._node_facts.links()
        missing = frozenset(name for name, there in self._schedulers.items() if not there)
        self._view = node_view(
            self._config,
            self._node_name,
            self._cluster.node(self._node_name),
            self._links,
            tuple(self._cluster.service_cidrs()),
            missing,
            [other for other in self._cluster.nodes() if other.key.name != self._node_name],
            before,
        )
        return before

    def _node_changed(self) -> set[ObjectKey]:
        """The Services to decide again at once; the rest of those that the change concerns go to the background.

        A node that cannot be looked at is taken as it was, and looked at again at the next retry.
        """
        try:
            before = self._look_at_node()
        except EdgeError as error:
            self._unseen = str(error)
            return set()
        self._unseen = ""
        if before == self._view:
            return set()
        services = filter(None, map(self._cluster.service, self._cluster.service_keys()))
        now, later = concern(before, self._view, services, self._addresses.holders, self._addresses.direct())
        self._backlog |= later
        return now

    def _node_share(self) -> Share:
        kernel = Kernel(
            self._node_facts.kernel_version(),
            self._node_facts.processors(),
            self._node_facts.sysctl_before_us,
            self._scale.estimates(),
        )
        return node_share(self._config, self._view, self._links, kernel)

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _decide_all(self, keys: Collection[ObjectKey], dirty: dict[str, set[Any]]) -> list[Note]:
        """Every Service and the node; and what an earlier process left of Services that are gone drains."""
        news = self._decide({*keys, NODE}, dirty)
        held, wanted = self._reconciler.held, self._reconciler.wanted(SERVERS)
        link = self._config.vip_link
        bound = {address: route for address, route in held(ROUTES).items() if route.link == link}

        def given_up(address: bytes) -> bool:
            gone = address in bound and not self._addresses.holders(address)
            return not gone and address not in self._view.nodeport_addresses

        behind = left_behind(held(SERVERS), wanted, held(MEMBERS), held(ADDRESSES), bound, given_up)
        self._claim({LEFT_BEHIND: self._drained(LEFT_BEHIND, NOTHING, behind, gone=True)}, dirty)
        return news

    def _decide(self, keys: set[ObjectKey], dirty: dict[str, set[Any]]) -> list[Note]:
        """Decide the keys anew, claim the result; adds what may differ to `dirty`, returns the notes that are new."""
        services = {key: self._cluster.service(key) for key in keys if key != NODE}
        for key in self._addresses.update(services) - services.keys():  # those whose addresses changed hands
            services[key] = self._cluster.service(key)
        self._probe_schedulers(service for service in services.values() if service is not None)
        shares: dict[Hashable, Share] = {}
        notes: dict[ObjectKey, tuple[Note, ...]] = {}
        if NODE in keys:
            shares[NODE] = self._node_share()
        for key, service in services.items():
            share, notes[key] = self._share(key, service)
            if share is not None:
                shares[key] = share
            if len(shares) >= SLICE:  # piecemeal: each claim frees the copy of it that a first sync has read
                self._claim(shares, dirty)
                shares.clear()
        self._claim(shares, dirty)
        # Who takes over a server takes over what drains in it as well.
        for heir in self._reconciler.heirs():
            assert isinstance(heir, ObjectKey)
            share, notes[heir] = self._share(heir, self._cluster.service(heir))
            if share is not None:
                self._claim({heir: share}, dirty)
        direct = bool(self._reconciler.wanted(DIVERSIONS))
        if direct != self._view.direct_return:  # what it takes stands on the node for as long as anything is led in
            self._view = replace(self._view, direct_return=direct)
            self._claim({NODE: self._node_share()}, dirty)
        return self._new_notes(notes)

    def _claim(self, shares: Mapping[Hashable, Share], dirty: dict[str, set[Any]]) -> None:
        for name, found in self._reconciler.claim(shares).items():
            dirty[name] |= found

    def _share(self, key: ObjectKey, service: Service | None) -> tuple[Share | None, tuple[Note, ...]]:
        """None: as it was."""
        before = self._reconciler.share(key)
        if service is None:
            self._marks.keep(key, ())
            self._udp.update(key, {})
            return self._drained(key, NOTHING, before, gone=True), ()
        slices = self._cluster.slices_of(key)
        config = self._scale.config_for(service, len(self._addresses))
        try:
            with self._marks.deciding(key) as mark_of:
                book, view = self._addresses, self._view
                decided = decide(service, slices, view, config, book.is_cluster_ip, mark_of)
                decided = return_directly(decided, service, slices, view, book.is_direct, mark_of)
            self._udp.update(key, udp_serving(service, slices, decided.share))
            share, notes = weighted(service, slices, decided.share, self._cluster.pods())
            return self._drained(key, share, before, slices, gone=False), (*decided.notes, *notes)
        except Exception as error:  # our fault, whatever it is: one Service stays as it was, the others go on
            message = f"left as it was, it could not be decided: {type(error).__name__}: {error}"
            return None, (Note("Service", key, NOT_DECIDED, message),)

    def _drained(
        self, owner: ObjectKey, decided: Share, before: Share, slices: Sequence[EndpointSlice] = (), *, gone: bool
    ) -> Share:
        if self._drains is None:
            return decided
        return self._drains.share(
            owner,
            decided,
            before,
            ChainMap(self._reconciler.held(SERVERS), self._reconciler.foreign(SERVERS)),
            self._clocks.monotonic(),
            gone=gone,
            in_force=lambda claim: self._reconciler.owner_of(claim) in (None, owner),
            period=pod_periods(slices, self._cluster.pods()),
        )

    def _probe_schedulers(self, services: Iterable[Service]) -> None:
        for name in set().union(*map(schedulers_needed, services)) - self._schedulers.keys():
            self._probe(name)
        missing = frozenset(name for name, there in self._schedulers.items() if not there)
        if missing != self._view.missing_schedulers:
            self._view = replace(self._view, missing_schedulers=missing)

    def _probe(self, name: str) -> None:
        try:
            self._schedulers[name] = self._node_facts.has_scheduler(name)
        except EdgeError:  # no answer is not a no; what is wrong shows where virtual servers are written
            self._schedulers.pop(name, None)

    def _new_notes(self, notes: Mapping[ObjectKey, tuple[Note, ...]]) -> list[Note]:
        news: list[Note] = []
        lost = self._lost_claims()
        for key in notes.keys() | lost.keys() | self._losers:
            before = self._notes.get(key, ())
            own = notes.get(key, tuple(note for note in before if note.reason != ADDRESS_TAKEN))
            after = own + lost.get(key, ())
            news += [note for note in after if note not in before]
            if after:
                self._notes[key] = after
            else:
                self._notes.pop(key, None)
        self._losers = set(lost)
        return news

    def _lost_claims(self) -> dict[ObjectKey, tuple[Note, ...]]:
        """Two Services want one address and port: the older has it, the younger says why not."""
        lost: dict[ObjectKey, tuple[Note, ...]] = {}
        for claim, (winner, *losers) in self._reconciler.contested().items():
            assert isinstance(claim, VirtualServerKey | HealthCheckPort)  # the node and a mark have one claimant
            where = address_text(claim.address) if claim.address else "every address"
            message = f"{where} port {claim.port} is served for {winner}, which came first"
            for loser in losers:
                assert isinstance(loser, ObjectKey)
                note = Note("Service", loser, ADDRESS_TAKEN, message, event=True)
                lost[loser] = (*lost.get(loser, ()), note)
        return lost

    def _look_at_connections(self) -> bool:
        """One part of a look at what drains: where that is done, decide again."""
        assert self._drains is not None
        started = self._clocks.monotonic()
        self._looking = self._looking or self._drains.to_look_at()
        part, self._looking = self._looking[:A_LOOK], self._looking[A_LOOK:]
        news: list[Note] = []
        with self._lock:
            try:
                connections = self._node_facts.connections(part)
            except EdgeError:  # the time ends it then
                connections = {}
            dirty: dict[str, set[Any]] = {name: set() for name in self._table_names}
            keys = {key for key in self._drains.over(part, connections, started) if isinstance(key, ObjectKey)}
            if keys:
                news = self._decide(keys, dirty)
            outcome = self._reconciler.write(dirty)
        ended = self._clocks.monotonic()
        self._look_seconds += ended - started
        if not self._looking:
            self._drains.looked(ended, self._look_seconds)
            self._look_seconds = 0.0
        return self._report(started, len(keys), outcome, news, full=False) if keys else True

    # -- writing ------------------------------------------------------------------------------------------------------

    def _write(self, dirty: Mapping[str, Collection[Any]]) -> Outcome:
        """And then forget the UDP flows that nobody answers any more: one look for all that have changed."""
        outcome = self._reconciler.write(dirty)
        if changed := self._udp.changed():
            self._unforgotten = ""
            try:
                for family in sorted({family_of(key.address) for key in changed}):
                    self._flows.forget([*stale(self._flows.udp_flows(family), changed)])
                self._udp.done()
            except EdgeError as error:
                self._unforgotten = outcome.unread[UDP_FLOWS] = str(error)
        return outcome

    # -- comparing and reporting -------------------------------------------------------------------------------------

    def _compare_part(self, name: str) -> bool:
        """One piece of a table. Only what had to be written or could not be read is reported, and the end of it all."""
        started = self._clocks.monotonic()
        with self._lock:
            dirty, last = self._reconciler.read_part(name)
            outcome = self._reconciler.write(dirty)
        if last and name in self._compare_again:
            self._compare_again.discard(name)
        elif last:
            self._compare.remove(name)
        self._compare_seconds += self._clocks.monotonic() - started
        if self._compare:
            news = outcome.tables or name in outcome.unread
            return self._report(started, 0, outcome, (), full=False) if news else True
        started = self._clocks.monotonic() - self._compare_seconds
        whole, self._whole_compare, self._compare_seconds = self._whole_compare, False, 0.0
        return self._report(started, 0, outcome, (), full=whole)

    def _report(self, started: float, keys: int, outcome: Outcome, news: Sequence[Note], *, full: bool) -> bool:
        duration = self._clocks.monotonic() - started
        failed = failures(outcome)
        messages = self._messages()
        report = SyncReport(
            controller=self.name,
            started=self._clocks.wall() - duration,
            duration=duration,
            full=full,
            keys=keys,
            tables=outcome.tables,
            messages=messages - self._messages_before,
            failures=failed,
        )
        self._messages_before = messages
        self._history.add(report, first_failure(outcome))
        self._on_report(report, [*news, *self._refusals.news(self._standing())])
        return failed == 0

    def _standing(self) -> dict[tuple[str, Any], Refused]:
        standing = self._reconciler.standing()
        for what, reason in (("node", self._unseen), (UDP_FLOWS, self._unforgotten)):
            if reason:
                standing[what, None] = Refused(reason)
        return standing


def _merged(first: Outcome, second: Outcome) -> Outcome:
    tables = dict(first.tables)
    for name, counts in second.tables.items():
        tables[name] = TableCounts(*(a + b for a, b in zip(tables.get(name, TableCounts()), counts, strict=True)))
    return Outcome(tables, first.refused | second.refused, second.unread, second.lacking)
