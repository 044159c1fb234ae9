"""What the running agent tells: health, metrics, log lines, Events, `status`. Owns the HTTP server and the Event
writer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from kuberouter_py import __version__
from kuberouter_py.agent.part import Part
from kuberouter_py.agent.source import Source
from kuberouter_py.config import Config
from kuberouter_py.model.report import ControllerStatus, Note, SyncReport
from kuberouter_py.observe.bgp_metrics import SessionCounters
from kuberouter_py.observe.denied import DeniedCounters
from kuberouter_py.observe.endpoints import http_server
from kuberouter_py.observe.events import EventWriter
from kuberouter_py.observe.health import Health, ProxyHealth
from kuberouter_py.observe.http import HttpServer
from kuberouter_py.observe.log import log_notes, log_sync
from kuberouter_py.observe.metrics import Metrics
from kuberouter_py.observe.service_metrics import ServiceCounters
from kuberouter_py.observe.status import status_document


def first_sync(controller: str) -> str:
    """What readiness waits for, in words."""
    return f"{controller}' first sync" if controller.endswith("s") else f"{controller}'s first sync"


class Telling:
    """health, metrics, proxy: reported to by the parts themselves. parts: all of the agent. counters, denied,
    sessions: see Metrics.
    """

    def __init__(
        self,
        config: Config,
        node: str,
        source: Source,
        parts: Callable[[], Sequence[Part]],
        counters: Callable[[], Iterable[ServiceCounters]],
        denied: Callable[[], Iterable[DeniedCounters]],
        sessions: Callable[[], Iterable[SessionCounters]],
    ) -> None:
        self._config = config
        self._node = node
        self._source = source
        self._parts = parts
        self._started = time.time()
        self.health = Health(time.monotonic)
        self.proxy = ProxyHealth(config.ipvs_sync_period, time.time)
        self.metrics = Metrics(__version__, counters, self._controllers, denied=denied, sessions=sessions)
        self._server: HttpServer | None = None
        self._events: EventWriter | None = source.event_writer()

    def start(self) -> None:
        """From now on it answers."""
        for part in self._parts():
            self.health.wait_for(first_sync(part.name))
        questions = {path: answer for part in self._parts() for path, answer in part.questions().items()}
        documents = {"/status": self.status}
        self._server = http_server(self._config, self.health, self.proxy, self.metrics, documents, questions)
        self._server.start()
        if self._events:
            self._events.start()

    def stop(self) -> None:
        if self._server:
            self._server.stop()
        if self._events:
            self._events.stop()

    # -- news, from any thread ---------------------------------------------------------------------------------------

    def reported(self, report: SyncReport, notes: Sequence[Note]) -> None:
        """A sync is done; notes: what is newly not as asked."""
        self.metrics.synced(report)
        if report.full:
            self.health.reached(first_sync(report.controller))
        log_sync(report, bool(notes))
        log_notes(report.controller, notes)
        self.tell(notes)

    def tell(self, notes: Sequence[Note]) -> None:
        """As Events; the log has them already."""
        if self._events:
            self._events.write(notes)

    # -- questions ---------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The answer to /status."""
        for part in self._parts():
            part.look()
        return status_document(
            version=__version__,
            node=self._node,
            started=self._started,
            now=time.time(),
            caches=self._source.status(),
            controllers=self._controllers(),
            problems=dict.fromkeys(self._problems()),
            events=self._events.counts() if self._events else None,
        )

    def _controllers(self) -> list[ControllerStatus]:
        return [part.status() for part in self._parts() if part.wanted]

    def _problems(self) -> Iterator[str]:
        yield from self.health.stalled()
        for part in self._parts():
            yield from part.problems()
        for where, reason in self._server.unbound().items() if self._server else ():
            yield f"cannot listen on {where}: {reason}"
