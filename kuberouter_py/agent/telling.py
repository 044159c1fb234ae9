"""What the running agent tells: health, metrics, log lines, Events, `status`. Owns the HTTP server and the Event
writer.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kuberouter_py import __version__
from kuberouter_py.agent.edges import ServicesEdges
from kuberouter_py.agent.source import Source
from kuberouter_py.config import Config
from kuberouter_py.model.cluster import Node, ObjectKey
from kuberouter_py.model.kernel import MarkServerKey, ServerKey, address_text
from kuberouter_py.model.notation import protocol_text
from kuberouter_py.model.report import ControllerStatus, Note, SyncReport
from kuberouter_py.observe.endpoints import http_server
from kuberouter_py.observe.events import EventWriter
from kuberouter_py.observe.health import Health, ProxyHealth
from kuberouter_py.observe.http import Question
from kuberouter_py.observe.log import log_notes, log_sync
from kuberouter_py.observe.metrics import Metrics, ServiceCounters
from kuberouter_py.observe.programming import Programming
from kuberouter_py.observe.status import status_document
from kuberouter_py.ports import EdgeError

FIRST_SYNC = "services' first sync"


class Telling:
    """controllers: every running controller's status now. beside: what another Service proxy of this node hinders.
    questions: what else the local socket answers, by path.
    """

    def __init__(
        self,
        config: Config,
        node: str,
        source: Source,
        edges: ServicesEdges,
        controllers: Callable[[], Sequence[ControllerStatus]],
        owner_of: Callable[[Any], ObjectKey | None],
        beside: Callable[[], Sequence[str]],
        questions: Mapping[str, Question],
    ) -> None:
        self._node = node
        self._source = source
        self._edges = edges
        self._controllers = controllers
        self._owner_of = owner_of
        self._beside = beside
        self._started = time.time()
        self.health = Health(time.monotonic)
        self.health.wait_for(FIRST_SYNC)
        self._proxy = ProxyHealth(config.ipvs_sync_period, time.time)
        self._metrics = Metrics(__version__, self._counters, controllers)
        documents = {"/status": self.status}
        self._server = http_server(config, self.health, self._proxy, self._metrics, documents, questions)
        self._events: EventWriter | None = source.event_writer()
        self._programming = Programming(self._started)

    def start(self) -> None:
        self._server.start()
        if self._events:
            self._events.start()

    def stop(self) -> None:
        self._server.stop()
        if self._events:
            self._events.stop()

    # -- news, from any thread ---------------------------------------------------------------------------------------

    def queued(self, keys: Collection[ObjectKey]) -> None:
        """Services that a change concerns were rung."""
        now = time.time()
        self._proxy.queued()
        self._metrics.queued("services")
        for key in keys:
            self._programming.heard(key, self._source.cache.last_trigger_time(key), now)

    def node(self, node: Node | None) -> None:
        if node is not None:
            self._proxy.node(deleting=node.deleting, taints=node.taints)

    def reported(self, report: SyncReport, notes: Sequence[Note]) -> None:
        """A sync is done; notes: what is newly not as asked."""
        self._metrics.synced(report)
        self._metrics.programmed(self._programming.arrived(report.started))
        self._proxy.synced(report.started)
        if report.full:
            self.health.reached(FIRST_SYNC)
        log_sync(report, bool(notes))
        log_notes(report.controller, notes)
        if self._events:
            self._events.write(notes)

    def tell(self, notes: Sequence[Note]) -> None:
        """Notes from beside the syncs, which log them."""
        if self._events:
            self._events.write(notes)

    def proxy_healthy(self) -> bool:
        return self._proxy.healthy()

    # -- questions ---------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The answer to /status. Looks at the IPVS table now, so that foreign servers are those of this moment."""
        with contextlib.suppress(EdgeError):  # a table that cannot be read is among the controller's failures
            self._edges.servers.look_for_foreign()
        return status_document(
            version=__version__,
            node=self._node,
            started=self._started,
            now=time.time(),
            caches=self._source.status(),
            controllers=self._controllers(),
            problems=self._problems(),
            events=self._events.counts() if self._events else None,
        )

    def _problems(self) -> Iterator[str]:
        yield from self.health.stalled()
        yield from self._beside()
        for where, reason in self._server.unbound().items():
            yield f"cannot listen on {where}: {reason}"
        if self._edges.chains.rules_in_both:
            yield "both flavours of iptables hold rules of other programs; both apply"

    def _counters(self) -> Iterable[ServiceCounters]:
        rates = self._edges.estimates_rates()
        for key, counted in self._edges.servers.statistics().items():
            owner = self._owner_of(key)
            if owner is None:
                continue
            vip, protocol, port = _labels(key)
            yield ServiceCounters(
                namespace=owner.namespace,
                service=owner.name,
                vip=vip,
                protocol=protocol,
                port=port,
                connections=counted.connections,
                packets_in=counted.packets_in,
                packets_out=counted.packets_out,
                bytes_in=counted.bytes_in,
                bytes_out=counted.bytes_out,
                connection_rate=counted.connections_rate if rates else None,
                packet_rate_in=counted.packets_in_rate if rates else None,
                packet_rate_out=counted.packets_out_rate if rates else None,
                byte_rate_in=counted.bytes_in_rate if rates else None,
                byte_rate_out=counted.bytes_out_rate if rates else None,
            )


def _labels(key: ServerKey) -> tuple[str, str, int]:
    """Address, protocol and port in metrics. Of a server on a mark, as `ipvsadm -L` has it: the mark, "fwm" and 0."""
    if isinstance(key, MarkServerKey):
        return str(key.mark), "fwm", 0
    return address_text(key.address), protocol_text(key.protocol), key.port
