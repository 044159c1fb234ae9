"""The Service proxy as a part of the running agent: its loop, the kernel's news for it, the other proxy beside it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import structlog

from kuberouter_py.agent.beside import Beside
from kuberouter_py.agent.carrying import Carrying, remember
from kuberouter_py.agent.controllers import services_controller
from kuberouter_py.agent.counting import service_counters
from kuberouter_py.agent.edges import ServicesEdges
from kuberouter_py.agent.explaining import Explaining
from kuberouter_py.agent.explaining_policies import PolicyExplaining
from kuberouter_py.agent.others import Found, Others
from kuberouter_py.agent.part import Part, Start
from kuberouter_py.agent.source import Source, node_name
from kuberouter_py.agent.telling import Telling
from kuberouter_py.controllers.course import OnReport
from kuberouter_py.controllers.outcome import Outcome
from kuberouter_py.controllers.services.sight import NODE
from kuberouter_py.controllers.takeover.differences import Compared
from kuberouter_py.kernel.monitor import DIVERSION_NEWS, PORT_NEWS, VIP_LINK_NEWS, Monitor
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.report import ControllerStatus, Note, SyncReport
from kuberouter_py.observe.http import Question
from kuberouter_py.observe.programming import Programming
from kuberouter_py.observe.service_metrics import ServiceCounters
from kuberouter_py.ports import EdgeError

log = structlog.get_logger(__name__)

# What kernel news may have touched. A port that comes may bear the name of one that went, without hairpin mode.
NEWS_OF = {
    VIP_LINK_NEWS: ("links", "addresses", "routes"),
    PORT_NEWS: ("bridge ports",),
    DIVERSION_NEWS: ("diversions",),
}


class ServicesPart(Part):
    """See part.Part. ended: set when the agent is told to stop. unenforced: see Beside. policies: what the firewall's
    part has to say to `explain`. waiting: called every few seconds while another proxy is waited for.
    """

    name = "services"

    def __init__(
        self,
        carrying: Carrying,
        others: Others,
        source: Source,
        telling: Telling,
        on_report: OnReport,
        ended: threading.Event,
        unenforced: Callable[[], str],
        policies: PolicyExplaining,
        waiting: Callable[[], None],
    ) -> None:
        self._carrying = carrying
        self._config = config = carrying.config
        self._node = node_name(config)
        self._others = others
        self._source = source
        self._telling = telling
        self._on_report = on_report
        self._ended = ended
        self._waiting = waiting
        self._timeouts: Sequence[float] = (  # still to be set
            config.service_tcp_timeout,
            config.service_tcpfin_timeout,
            config.service_udp_timeout,
        )
        self._programming = Programming(time.time())
        self._elsewhere: dict[ObjectKey, tuple[bytes, ...]] = {}  # other nodes'; the Node watcher's thread only
        self._edges = ServicesEdges(config, load_modules=config.run_service_proxy, proxy_healthy=telling.proxy.healthy)
        self._controller = services_controller(config, self._edges, source.cache, self._reported)
        self._explaining = Explaining(config, self._controller, policies, source, self._edges.looking)
        self._beside = self._make_beside(unenforced)
        edges = self._edges
        super().__init__(
            config.run_service_proxy,
            self._controller,
            Monitor(edges.vip_links, self._kernel_news, edges.port_ids, edges.addresses.holds),
            telling.health,
            period=config.ipvs_sync_period,
            min_interval=config.ipvs_min_sync_period,
        )

    def _make_beside(self, unenforced: Callable[[], str]) -> Beside:
        return Beside(
            self._config,
            self._node,
            self._others,
            self._compare_with,
            self._controller,
            lambda: self._source.kubelet_version(self._node),
            self._telling.tell,
            lambda: self._kernel_news(frozenset({VIP_LINK_NEWS})),
            unenforced,
        )

    # -- from start to end -------------------------------------------------------------------------------------------

    def stand_by(self) -> Outcome:
        return self._controller.cleanup()

    def subscribe(self) -> None:
        self._source.subscribe("Service", self._ring_services)
        self._source.subscribe("EndpointSlice", self._ring_services)
        self._source.subscribe("PodMetadata", self._runner.ring)
        self._source.subscribe("Node", self._ring_node)
        self._source.subscribe("ServiceCIDR", lambda _keys: self._runner.ring([NODE]))

    def serve(self, start: Start) -> bool:
        """First it waits until no other proxy is alive; after that its ports and configuration can be had, and the
        agent begins anew.
        """
        beat = self._health.expect(self.name)

        def turn() -> None:
            beat()
            self._waiting()

        if not self._beside.wait(self._ended, turn):
            return True
        if self._beside.waited:
            return False
        if self._beside.translating:
            self._controller.stand_aside_first()
        self._carry()
        self._start_loops(start, beat)
        start("other proxies", self._beside.run)
        return True

    def stop(self) -> None:
        super().stop()
        self._beside.stop()

    def close(self) -> None:
        self._edges.health_checks.stop()

    def _carry(self) -> None:
        """Remembered from now on: the other one's configuration goes with it."""
        for notice in self._carrying.notices:
            log.warning("changes with the takeover", what=notice)
        if not self._carrying.flags:
            return
        log.warning(
            "carried over from the other proxy until the next boot: write them into the agent's flags",
            of=self._carrying.whose,
            flags=self._carrying.flags,
        )
        try:
            remember(self._carrying)
        except EdgeError as error:
            log.error("not remembered for a restart", reason=str(error))

    # -- bells -------------------------------------------------------------------------------------------------------

    def _ring_services(self, keys: Collection[ObjectKey]) -> None:
        now = time.time()
        self._telling.proxy.queued()
        self._telling.metrics.queued(self.name)
        for key in keys:
            self._programming.heard(key, self._source.cache.last_trigger_time(key), now)
        self._runner.ring(keys)

    def _ring_node(self, keys: Collection[ObjectKey]) -> None:
        """Of other nodes only the addresses concern us: labels and taints of thousands change all the time."""
        concerned = False
        for key in keys:
            node = self._source.cache.node(key.name)
            if key.name == self._node:
                if node is not None:
                    self._telling.proxy.node(deleting=node.deleting, taints=node.taints)
                concerned = True
                continue
            addresses = (*node.internal_ips, *node.external_ips) if node else ()
            concerned = concerned or addresses != self._elsewhere.get(key, ())
            if addresses:
                self._elsewhere[key] = addresses
            else:
                self._elsewhere.pop(key, None)
        if concerned:
            self._runner.ring([NODE])

    def _kernel_news(self, what: frozenset[str]) -> None:
        if tables := {table for news in what for table in NEWS_OF.get(news, ())}:
            self.compare(tables)
        self._runner.ring([NODE])

    def _reported(self, report: SyncReport, notes: Sequence[Note]) -> None:
        if any(self._timeouts):
            self._set_timeouts()
        self._telling.metrics.programmed(self._programming.arrived(report.started))
        self._telling.proxy.synced(report.started)
        self._on_report(report, notes)
        if report.full:
            self._beside.synced()

    def _set_timeouts(self) -> None:
        """S10.03: once, after the first sync that finds an ip_vs."""
        try:
            self._edges.servers.set_timeouts(*map(int, self._timeouts))
        except EdgeError as error:
            log.warning("IPVS timeouts not set yet", reason=str(error))
        else:
            self._timeouts = ()

    # -- what may be asked, from any thread ---------------------------------------------------------------------------

    def status(self) -> ControllerStatus:
        carried = {f"carried over from {self._carrying.whose}": " ".join(self._carrying.flags)}
        facts = {**self._edges.facts(), **self._beside.facts(), **(carried if self._carrying.flags else {})}
        return self._controller.status(facts, self._edges.servers.foreign_lines())

    def look(self) -> None:
        """Foreign virtual servers are those of this moment."""
        with contextlib.suppress(EdgeError):  # a table that cannot be read is among the controller's failures
            self._edges.servers.look_for_foreign()

    def problems(self) -> Iterable[str]:
        yield from self._beside.problems()
        yield from self._edges.problems()

    def questions(self) -> Mapping[str, Question]:
        return {"/explain": self._explaining.answer}

    def counters(self) -> Iterable[ServiceCounters]:
        """Read now."""
        return service_counters(self._edges, self._controller.owner_of)

    def _compare_with(self, found: Found) -> Compared:
        controller = self._controller
        if not controller.begun:
            controller = services_controller(self._config, self._edges, self._source.cache, looking_only=True)
            controller.plan()
        goes_on = self._config.run_firewall
        return self._others.compare(found, controller, self._source.cache, policies_go_on=goes_on)
