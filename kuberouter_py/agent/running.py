"""The running agent: a thread for each watched kind and for each controller, for the kernel's news, and one for HTTP.

Stopping is not cleaning: SIGTERM ends the threads and leaves the node forwarding. A loop that dies ends the process
with a clear last line, and the supervisor restarts it. What a controller needs of its own is its part (part.py).
"""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from kuberouter_py import __version__
from kuberouter_py.agent.carrying import Carrying, carry_over, remembered
from kuberouter_py.agent.collecting import LOOK, Collecting
from kuberouter_py.agent.firewall_part import FirewallPart
from kuberouter_py.agent.once import log_cleanup
from kuberouter_py.agent.others import Others
from kuberouter_py.agent.part import Part
from kuberouter_py.agent.routing_part import RoutingPart
from kuberouter_py.agent.services_part import ServicesPart
from kuberouter_py.agent.source import Source, kinds_of, node_name
from kuberouter_py.agent.telling import Telling, first_sync
from kuberouter_py.config import Config, unknown_variables, without_effect
from kuberouter_py.controllers.runner import RETRY_FIRST, RETRY_LAST
from kuberouter_py.model.report import Note, SyncReport
from kuberouter_py.observe.log import configure
from kuberouter_py.ports import EdgeError

log = structlog.get_logger(__name__)

# Not an exit status: another proxy was waited for, whose ports and configuration can be had only now.
ANEW = -1


# Each health check port is one; the usual soft limit of 1,024 is for programs that wait with select().
OPEN_FILES = 65536


def run_agent(config: Config) -> int:
    """Run until SIGTERM or SIGINT; the process's exit status."""
    configure(config.log_format, config.v)
    if flags := without_effect(config):
        log.warning("flags without effect, see --help", flags=flags)
    if variables := unknown_variables(os.environ):
        log.warning("environment variables that are no options", variables=variables)
    _allow_files(OPEN_FILES)
    others = Others(config)
    agent = Agent(config, others)
    told: list[int] = []  # signals

    def stop(number: int, _frame: object) -> None:
        told.append(number)
        agent.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    while (status := agent.run()) == ANEW and not told:
        log.info("nothing stands in the way any more; agent begins anew")
        agent = Agent(config, others)
        if told:  # the one before was stopped
            agent.stop()
    return 0 if status == ANEW else status


def _allow_files(number: int) -> None:
    """That many at once, as far as the hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Agent:
    """The parts of one agent process."""

    def __init__(self, config: Config, others: Others) -> None:
        self._collecting = Collecting()
        self._collecting.rest()
        carrying = _carried(config, others)
        self._config = config = carrying.config
        self._node = node_name(config)
        self._ended = threading.Event()
        self._died = ""
        self._threads: list[threading.Thread] = []
        self._outstanding: set[str] = set()  # controllers whose first sync is not done; any of their threads
        self._source = Source(config, kinds_of(config))
        self._telling = Telling(
            config,
            self._node,
            self._source,
            lambda: self._parts,
            lambda: services.counters() if services.wanted else (),
            lambda: firewall.denied() if firewall.wanted else (),
            lambda: routing.sessions.counters() if routing.wanted else (),
        )
        firewall = FirewallPart(config, self._source, self._telling, self._reported)
        services = ServicesPart(
            carrying,
            others,
            self._source,
            self._telling,
            self._reported,
            self._ended,
            firewall.unenforced,
            firewall.explaining,
            self._collecting.look,
        )
        routing = RoutingPart(config, self._source, self._telling, self._reported)
        # The firewall's rules speak of no set of the services', and it waits for no other proxy: it comes first. Nobody
        # is told of a Service's address before the node serves it.
        self._parts: Sequence[Part] = (firewall, services, routing)

    # -- from start to end -------------------------------------------------------------------------------------------

    def run(self) -> int:
        log.info("agent starts", version=__version__, node=self._node, source=self._source.name)
        self._telling.start()
        status = 1
        try:
            status = self._serve()
        except EdgeError as error:
            log.error("agent ends", reason=str(error))
        finally:
            self._stop_parts(patience=None if status == ANEW else 5.0)
        if self._died:
            log.error("agent ends", reason=self._died)
            return 1
        if status == 0:
            log.info("agent ends; the node goes on forwarding")
        return status

    def stop(self) -> None:
        self._ended.set()

    def _serve(self) -> int:
        """What a controller that is off has left goes before the others begin: they may hold the same sysctls."""
        for part in self._parts:
            if not part.wanted and not self._stand_by(part):
                self._start(f"{part.name} clean up", partial(self._clean_up, part))
        if wanted := [part for part in self._parts if part.wanted]:
            for part in wanted:
                part.subscribe()
            self._source.start()
            if not self._wait_for_caches():
                return 0 if self._ended.is_set() else 1
            for part in wanted:
                if not part.serve(self._start):
                    return ANEW
        else:
            self._collecting.go_on()
        while not self._ended.wait(LOOK):
            self._collecting.look()
        return 0

    def _stand_by(self, part: Part) -> bool:
        """Whether nothing of it is left."""
        outcome = part.stand_by()
        log_cleanup(part.name, outcome)
        if outcome.left_over:
            return False
        log.info("controller is off; nothing of it is left on the node", controller=part.name)
        self._telling.health.reached(first_sync(part.name))
        return True

    def _clean_up(self, part: Part) -> None:
        """What could not be removed at start is tried again until it is gone."""
        delay = RETRY_FIRST
        while not self._ended.wait(delay) and not self._stand_by(part):
            delay = min(RETRY_LAST, delay * 2)

    def _wait_for_caches(self) -> bool:
        """Not a byte before the first lists are whole (S1.08)."""
        deadline = time.monotonic() + self._config.cache_sync_timeout
        while not self._source.wait_synced(0.2):  # that it waits is told by /readyz
            if self._ended.is_set():
                return False
            self._collecting.look()
            if time.monotonic() > deadline:
                log.error(
                    "agent ends",
                    reason=f"no first list within --cache-sync-timeout of: {', '.join(self._source.unsynced())}",
                    errors=self._source.errors(),
                )
                return False
        return True

    def _start(self, name: str, loop: Callable[[], None], *, first_sync: bool = False) -> None:
        def guarded() -> None:
            try:
                loop()
            except Exception as error:
                log.exception("a loop died", loop=name)
                self._died = f"the loop {name} died: {type(error).__name__}: {error}"
                self._ended.set()

        if first_sync:
            self._outstanding.add(name)
            self._collecting.rest()
        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _stop_parts(self, patience: float | None) -> None:
        """patience: seconds for each thread. None: as long as it takes, for the next agent writes what they write."""
        self._ended.set()
        for part in self._parts:
            part.stop()
        self._source.stop()
        for thread in self._threads:
            thread.join(timeout=patience)
        for part in self._parts:
            part.close()
        self._telling.stop()

    # -- news --------------------------------------------------------------------------------------------------------

    def _reported(self, report: SyncReport, notes: Sequence[Note]) -> None:
        """Of any controller, on its thread."""
        if report.full and report.controller in self._outstanding:
            self._outstanding.discard(report.controller)
            if not self._outstanding:
                self._collecting.go_on()
        self._telling.reported(report, notes)


def _carried(config: Config, others: Others) -> Carrying:
    """With --takeover from what is there now; else what an earlier takeover on this node remembered."""
    if not (config.takeover and config.run_service_proxy):
        return remembered(config)
    try:
        return carry_over(config, others.look())
    except EdgeError as error:
        log.warning("what another proxy left cannot be seen", reason=str(error))
        return remembered(config)
