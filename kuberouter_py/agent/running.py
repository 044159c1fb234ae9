"""The running agent: a thread for each watched kind and for each controller, two for the kernel's news, one for HTTP.

Stopping is not cleaning: SIGTERM ends the threads and leaves the node forwarding. A loop that dies ends the process
with a clear last line, and the supervisor restarts it.
"""

from __future__ import annotations

import gc
import resource
import signal
import threading
import time
from collections.abc import Callable, Collection, Sequence

import structlog

from kuberouter_py import __version__
from kuberouter_py.agent.beside import Beside
from kuberouter_py.agent.carrying import Carrying, carry_over, remember, remembered
from kuberouter_py.agent.edges import Node, ServicesEdges
from kuberouter_py.agent.explaining import Explaining
from kuberouter_py.agent.once import log_cleanup, looking_controller
from kuberouter_py.agent.others import Found, Others
from kuberouter_py.agent.source import KINDS_OF_SERVICES, Source, node_name
from kuberouter_py.agent.telling import FIRST_SYNC, Telling
from kuberouter_py.config import Config
from kuberouter_py.controllers.history import Clocks
from kuberouter_py.controllers.runner import RETRY_FIRST, RETRY_LAST, Runner
from kuberouter_py.controllers.services.controller import ServicesController
from kuberouter_py.controllers.services.sight import NODE
from kuberouter_py.controllers.takeover.differences import Compared
from kuberouter_py.kernel.monitor import DIVERSION_NEWS, PORT_NEWS, VIP_LINK_NEWS, Monitor
from kuberouter_py.kernel.rule_news import RuleNews
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.report import ControllerStatus, Note, SyncReport
from kuberouter_py.observe.log import configure
from kuberouter_py.ports import EdgeError

log = structlog.get_logger(__name__)

# What kernel news may have touched. A port that comes may bear the name of one that went, without hairpin mode.
NEWS_OF = {
    VIP_LINK_NEWS: ("links", "addresses", "routes"),
    PORT_NEWS: ("bridge ports",),
    DIVERSION_NEWS: ("diversions",),
}

# Not an exit status: another proxy was waited for, whose ports and configuration can be had only now.
ANEW = -1


# Each health check port is one; the usual soft limit of 1,024 is for programs that wait with select().
OPEN_FILES = 65536


def run_agent(config: Config) -> int:
    """Run until SIGTERM or SIGINT; the process's exit status."""
    # Nothing that is made before the first sync is garbage; 100,000 endpoints would be walked again and again.
    gc.disable()
    configure(config.log_format, config.v)
    _allow_files(OPEN_FILES)
    others = Others(config)
    agent = Agent(config, others)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    while (status := agent.run()) == ANEW:
        log.info("nothing stands in the way any more; agent begins anew")
        agent = Agent(config, others)
    return status


def _allow_files(number: int) -> None:
    """That many at once, as far as the hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Agent:
    """The parts of one agent process."""

    def __init__(self, config: Config, others: Others) -> None:
        self._carrying = _carried(config, others)
        self._config = config = self._carrying.config
        self._node = node_name(config)
        self._ended = threading.Event()
        self._died = ""
        self._others = others
        self._timeouts: Sequence[float] = (  # still to be set
            config.service_tcp_timeout,
            config.service_tcpfin_timeout,
            config.service_udp_timeout,
        )
        self._threads: list[threading.Thread] = []
        self._elsewhere: dict[ObjectKey, tuple[bytes, ...]] = {}  # other nodes'; the Node watcher's thread only
        self._source = Source(config, KINDS_OF_SERVICES if config.run_service_proxy else ())
        self._edges = ServicesEdges(config, load_modules=config.run_service_proxy, proxy_healthy=self._proxy_healthy)
        self._controller = ServicesController(
            config,
            self._node,
            self._source.cache,
            Node(self._edges),
            self._edges.tables,
            self._edges.conntrack,
            Clocks(time.time, time.monotonic),
            self._reported,
            self._edges.messages,
        )
        explaining = Explaining(self._node, self._controller, self._source, self._edges.looking)
        self._telling = Telling(
            config,
            self._node,
            self._source,
            self._edges,
            self._controllers,
            self._controller.owner_of,
            self._hindered,
            {"/explain": explaining.answer},
        )
        self._beside = Beside(
            config,
            self._node,
            others,
            self._compare_with,
            self._controller,
            lambda: self._source.kubelet_version(self._node),
            self._telling.tell,
            lambda: self._kernel_news(frozenset({VIP_LINK_NEWS})),
        )
        self._beat = self._telling.health.expect("services")
        self._runner = Runner(
            self._controller,
            period=config.ipvs_sync_period,
            min_interval=config.ipvs_min_sync_period,
            clock=time.monotonic,
            beat=self._beat,
        )
        self._monitor = Monitor(
            self._edges.vip_links, self._kernel_news, self._edges.port_ids, self._edges.addresses.holds
        )
        self._rule_news = RuleNews(lambda: self._runner.ask_compare(["iptables"]))

    # -- from start to end -------------------------------------------------------------------------------------------

    def run(self) -> int:
        log.info("agent starts", version=__version__, node=self._node, source=self._source.name)
        for flag, on in (("--run-router", self._config.run_router), ("--run-firewall", self._config.run_firewall)):
            if on:
                log.warning("this version has no such controller; nothing is done for it", flag=flag)
        self._telling.start()
        try:
            status = self._serve() if self._config.run_service_proxy else self._stand_by()
        except EdgeError as error:
            log.error("agent ends", reason=str(error))
            status = 1
        finally:
            self._stop_parts()
        if self._died:
            log.error("agent ends", reason=self._died)
            return 1
        if status == 0:
            log.info("agent ends; the node goes on forwarding")
        return status

    def stop(self) -> None:
        self._ended.set()

    def _serve(self) -> int:
        self._source.subscribe("Service", self._ring_services)
        self._source.subscribe("EndpointSlice", self._ring_services)
        self._source.subscribe("PodMetadata", self._runner.ring)
        self._source.subscribe("Node", self._ring_node)
        self._source.subscribe("ServiceCIDR", lambda _keys: self._runner.ring([NODE]))
        self._source.start()
        if not self._wait_for_caches():
            return 0 if self._ended.is_set() else 1
        if not self._beside.wait(self._ended, self._beat):
            return 0
        if self._beside.waited:
            return ANEW
        if self._beside.translating:
            self._controller.stand_aside_first()
        self._carry()
        self._monitor.open()  # before the first look at the node, so that nothing changes unseen
        self._start("kernel news", self._monitor.run)
        self._start("rule news", self._rule_news.run)
        self._start("services", self._runner.run)
        self._start("other proxies", self._beside.run)
        self._ended.wait()
        return 0

    def _stand_by(self) -> int:
        """A controller that is switched off is a sync to nothing at start, until nothing is left."""
        gc.enable()
        self._telling.health.dismiss("services")  # no such loop turns
        delay = RETRY_FIRST
        while (outcome := self._controller.cleanup()).left_over:
            log_cleanup(outcome)
            if self._ended.wait(delay):
                return 0
            delay = min(RETRY_LAST, delay * 2)
        log_cleanup(outcome)
        log.info("service proxy is off; nothing of it is left on the node")
        self._telling.health.reached(FIRST_SYNC)
        self._ended.wait()
        return 0

    def _wait_for_caches(self) -> bool:
        """Not a byte before the first lists are whole (S1.08)."""
        deadline = time.monotonic() + self._config.cache_sync_timeout
        while not self._source.wait_synced(0.2):
            self._beat()  # that it waits is told by /readyz
            if self._ended.is_set():
                return False
            if time.monotonic() > deadline:
                log.error(
                    "agent ends",
                    reason=f"no first list within --cache-sync-timeout of: {', '.join(self._source.unsynced())}",
                    errors=self._source.errors(),
                )
                return False
        return True

    def _set_timeouts(self) -> None:
        """S10.03: once, after the first sync that finds an ip_vs."""
        try:
            self._edges.servers.set_timeouts(*map(int, self._timeouts))
        except EdgeError as error:
            log.warning("IPVS timeouts not set yet", reason=str(error))
        else:
            self._timeouts = ()

    def _start(self, name: str, loop: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                loop()
            except Exception as error:
                log.exception("a loop died", loop=name)
                self._died = f"the loop {name} died: {type(error).__name__}: {error}"
                self._ended.set()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _stop_parts(self) -> None:
        self._runner.stop()
        self._beside.stop()
        self._monitor.stop()
        self._rule_news.stop()
        self._source.stop()
        for thread in self._threads:
            thread.join(timeout=5.0)
        self._edges.health_checks.stop()
        self._telling.stop()

    # -- bells -------------------------------------------------------------------------------------------------------

    def _ring_services(self, keys: Collection[ObjectKey]) -> None:
        self._telling.queued(keys)
        self._runner.ring(keys)

    def _ring_node(self, keys: Collection[ObjectKey]) -> None:
        """Of other nodes only the addresses concern us: labels and taints of thousands change all the time."""
        concerned = False
        for key in keys:
            node = self._source.cache.node(key.name)
            if key.name == self._node:
                self._telling.node(node)
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
            self._runner.ask_compare(tables)
        self._runner.ring([NODE])

    def _reported(self, report: SyncReport, notes: Sequence[Note]) -> None:
        if report.full and not gc.isenabled():
            gc.freeze()
            gc.enable()
        if any(self._timeouts):
            self._set_timeouts()
        self._telling.reported(report, notes)
        if report.full:
            self._beside.synced()

    # -- what may be asked -------------------------------------------------------------------------------------------

    def _proxy_healthy(self) -> bool:
        return self._telling.proxy_healthy()

    def _controllers(self) -> Sequence[ControllerStatus]:
        if not self._config.run_service_proxy:
            return ()
        carried = {f"carried over from {self._carrying.whose}": " ".join(self._carrying.flags)}
        facts = {**self._edges.facts(), **self._beside.facts(), **(carried if self._carrying.flags else {})}
        return (self._controller.status(facts, self._edges.servers.foreign_lines()),)

    def _hindered(self) -> Sequence[str]:
        return self._beside.problems()

    def _compare_with(self, found: Found) -> Compared:
        controller = self._controller
        if not controller.begun:
            controller = looking_controller(self._config, self._edges, self._source.cache)
            controller.plan()
        return self._others.compare(found, controller, self._source.cache)

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


def _carried(config: Config, others: Others) -> Carrying:
    """With --takeover from what is there now; else what an earlier takeover on this node remembered."""
    if not (config.takeover and config.run_service_proxy):
        return remembered(config)
    try:
        return carry_over(config, others.look())
    except EdgeError as error:
        log.warning("what another proxy left cannot be seen", reason=str(error))
        return remembered(config)
