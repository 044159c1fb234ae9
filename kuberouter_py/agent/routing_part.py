"""Routing as a part of the running agent: its loop, and the kernel's news for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import structlog

from kuberouter_py.agent.bgp_sessions import BgpSessions
from kuberouter_py.agent.controllers import routing_controller
from kuberouter_py.agent.part import Part, Start
from kuberouter_py.agent.routing_edges import RoutingEdges
from kuberouter_py.agent.source import Source, node_name
from kuberouter_py.agent.telling import Telling
from kuberouter_py.config import Config
from kuberouter_py.controllers.course import OnReport
from kuberouter_py.controllers.outcome import Outcome
from kuberouter_py.controllers.routing.rung import NODE, SERVICE, THIS_NODE, Rung
from kuberouter_py.kernel.file_news import FileNews
from kuberouter_py.kernel.router_news import LINK_NEWS, RouterNews
from kuberouter_py.kernel.tcp_digests import refused_digests
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.names import POD_BRIDGE, VIP_LINK
from kuberouter_py.model.report import ControllerStatus
from kuberouter_py.observe.bgp import service_document
from kuberouter_py.observe.http import Question, Response, json_response, text_response
from kuberouter_py.ports import Busy

log = structlog.get_logger(__name__)


class RoutingPart(Part):
    """See part.Part."""

    name = "routing"

    def __init__(self, config: Config, source: Source, telling: Telling, on_report: OnReport) -> None:
        self._source = source
        self._edges = RoutingEdges(config, load_modules=config.run_router)
        self._controller = routing_controller(config, self._edges, source.cache, on_report)
        self._bgp_news = self._edges.engine.news(lambda _news: self.sessions.heard(), self._bird)
        self.sessions = BgpSessions(
            config,
            node_name(config),
            self._edges.engine,
            self._controller.speaker,
            self._controller.notes,
            telling.tell,
            refused_digests,
        )
        self._password_news = _password_news(config, lambda: self._runner.ring([THIS_NODE]))
        super().__init__(
            config.run_router,
            self._controller,
            RouterNews(
                (config.vip_link, VIP_LINK),
                (POD_BRIDGE,),
                self._kernel_news,
                self._edges.port_ids,
                self._edges.tunnels.holds,
            ),
            telling.health,
            period=config.routes_sync_period,
        )

    # -- from start to end -------------------------------------------------------------------------------------------

    def stand_by(self) -> Outcome:
        return self._controller.cleanup()

    def subscribe(self) -> None:
        self._source.subscribe("Node", self._bell(NODE))
        for kind in ("Service", "EndpointSlice"):
            self._source.subscribe(kind, self._bell(SERVICE))
        self._source.subscribe("ServiceCIDR", lambda _keys: self._runner.ring([THIS_NODE]))

    def serve(self, start: Start) -> bool:
        self._bgp_news.open()
        self.sessions.heard()  # what is up already is no news
        start("BGP sessions", self._bgp_news.run)
        return super().serve(start)

    def _start_loops(self, start: Start, beat: Callable[[], None]) -> None:
        def turn() -> None:
            beat()
            self.sessions.turned()

        if self._password_news:
            self._password_news.open()  # before it is read for the first time
            start("password file for routing", self._password_news.run)
        super()._start_loops(start, turn)

    def stop(self) -> None:
        super().stop()
        if self._password_news:
            self._password_news.stop()
        self._bgp_news.stop()

    # -- bells -------------------------------------------------------------------------------------------------------

    def _bell(self, kind: str) -> Callable[[Collection[ObjectKey]], None]:
        return lambda keys: self._runner.ring(Rung(kind, key) for key in keys)

    def _kernel_news(self, what: frozenset[str]) -> None:
        """All but the first are names of tables."""
        if LINK_NEWS in what:
            self._runner.ring([THIS_NODE])
        if tables := what - {LINK_NEWS}:
            self.compare(tables)

    def _bird(self, answers: bool) -> None:
        """It answers, or it has ended and was started again, if it is ours to start."""
        if not answers:
            log.warning("BIRD has ended")
        self.compare(["bgp"])
        self.sessions.heard()

    # -- what may be asked, from any thread ---------------------------------------------------------------------------

    def status(self) -> ControllerStatus:
        return self._controller.status({**self._edges.facts(), **self.sessions.facts()})

    def look(self) -> None:
        """BIRD's sessions are those of this moment."""
        if self.wanted:
            self.sessions.look()

    def problems(self) -> Iterable[str]:
        return self.sessions.problems() if self.wanted else ()

    def questions(self) -> Mapping[str, Question]:
        return {**self.sessions.questions(), "/bgp/service": self._service}

    def _service(self, parameters: Mapping[str, str]) -> Response:
        """service: namespace/name; a name alone is in "default"."""
        namespace, _, name = parameters.get("service", "").rpartition("/")
        key = ObjectKey(namespace or "default", name)
        try:
            told = self._controller.why(key)
        except Busy as error:
            return text_response(422, f"{error}\n")
        if told is None:
            return text_response(422, f"there is no Service {key}\n")
        return json_response(service_document(str(key), told))


def _password_news(config: Config, on_news: Callable[[], None]) -> FileNews | None:
    """None: no file is read."""
    if config.peer_router_passwords or not config.peer_router_passwords_file:
        return None
    return FileNews(Path(config.peer_router_passwords_file), on_news, config.routes_sync_period)
