"""BGP sessions, as the engine has them, told to whoever asks: `bgp`, `status`, metrics, the log, Events.

The engine is asked when somebody asks, and when it says that a session has changed (heard). One that never comes up is
no change: while any is down, the engine is asked now and then (turned).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import structlog

from kuberouter_py.config import Config
from kuberouter_py.controllers.routing.sessions import PATIENCE, Change, Sessions, facts, note_of, problems, who
from kuberouter_py.controllers.routing.unanswered import Unanswered
from kuberouter_py.model.bgp import Digests, PeerRoute, PeerState, Speaker
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import address_text
from kuberouter_py.model.report import Note
from kuberouter_py.model.values_bgp import parse_address
from kuberouter_py.observe.bgp import bgp_document, routes_document
from kuberouter_py.observe.bgp_metrics import SessionCounters
from kuberouter_py.observe.http import Question, Response, json_response, text_response
from kuberouter_py.ports import EdgeError

# Seconds for the engine to answer. Who asks us waits 10 s and no longer (observe/socket.py, Prometheus), and shall hear
# that it does not, and everything else: for sessions; then for routes, of which there may be many.
GLANCE: Final = 3.0
ROUTES: Final = 5.0
# When it was the engine that called. One that takes in a full table answers late.
CALLED: Final = 10.0


class Engine(Protocol):
    """within: seconds."""

    def peers(self, within: float) -> Sequence[PeerState]:
        """Raises EdgeError."""

    def routes(self, address: bytes, within: float) -> tuple[Sequence[PeerRoute], Sequence[PeerRoute]]:
        """In and out. Raises EdgeError."""


class BgpSessions:
    """speaker: what BGP shall be, None: off. notes: what of BGP is not as asked. tell: takes notes as Events. digests:
    what the kernel has refused; raises EdgeError.
    """

    def __init__(
        self,
        config: Config,
        node: str,
        engine: Engine,
        speaker: Callable[[], Speaker | None],
        notes: Callable[[], Iterable[Note]],
        tell: Callable[[Sequence[Note]], None],
        digests: Callable[[], Digests],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._node = node
        self._engine = engine
        self._speaker = speaker
        self._notes = notes
        self._tell = tell
        self._wall = wall
        self._lock = threading.Lock()
        self._sessions = Sessions()
        self._digests = digests
        self._unanswered = Unanswered()
        self._looked = 0.0
        self._seen: tuple[Sequence[PeerState], str] = ((), "")

    def heard(self) -> None:
        """The engine says that a session has changed. Any thread; also once at the start, before any has."""
        states, problem = self._states(CALLED)
        if problem:
            return  # BIRD is gone: what becomes of its sessions is told when one is there again
        with self._lock:
            changes = self._sessions.update(states)
        self._news(changes)

    def turned(self) -> None:
        """A loop turns, at whatever pace: tells of sessions that stay down."""
        speaker, now = self._speaker(), self._wall()
        if speaker is None or abs(now - self._looked) < PATIENCE:
            return
        self._looked = now
        with self._lock:
            if self._sessions.up == len(speaker.peers):
                return
        states, problem = self._states(CALLED)
        if problem:
            return  # what was told stays told
        with self._lock:
            changes = self._sessions.lasting(states, now)
        self._news(changes)

    def _news(self, changes: Sequence[Change]) -> None:
        log = structlog.get_logger()
        for change in changes:
            if change.up:
                log.info("BGP session is up", peer=who(change.peer))
            else:
                log.warning("BGP session is down", peer=who(change.peer), reason=change.peer.reason)
        if changes:
            self._tell([note_of(change, ObjectKey("", self._node)) for change in changes])

    # -- what may be asked, from any thread ------------------------------------------------------------------------

    def counters(self) -> list[SessionCounters]:
        """For metrics; none where the engine does not answer."""
        states, _ = self._states(GLANCE)
        with self._lock:
            return [SessionCounters(peer, self._sessions.flaps(peer.address)) for peer in states]

    def look(self) -> None:
        """The engine is asked once for facts() and problems()."""
        self._seen = self._states(GLANCE)

    def facts(self) -> Mapping[str, str]:
        """For `status`, as of the last look()."""
        states, problem = self._seen
        return {**facts(self._config, self._speaker(), states), **({"BGP sessions": problem} if problem else {})}

    def problems(self) -> list[str]:
        """As of the last look()."""
        states, problem = self._seen
        return [f"BGP: {problem}"] if problem else list(problems(states, self._wall()))

    def questions(self) -> Mapping[str, Question]:
        return {"/bgp": self._all, "/bgp/routes": self._routes}

    def _all(self, _parameters: Mapping[str, str]) -> Response:
        states, problem = self._states(GLANCE)
        document = bgp_document(
            node=self._node,
            now=self._wall(),
            speaker=self._speaker(),
            states=states,
            notes=self._notes(),
            problem=problem,
        )
        return json_response(document)

    def _routes(self, parameters: Mapping[str, str]) -> Response:
        """peers: addresses or names of Nodes, with commas; "": all."""
        states, problem = self._states(GLANCE)
        if problem:
            return text_response(422, f"{problem}\n")
        wanted = [_spelled(part.strip()) for part in parameters.get("peers", "").split(",") if part.strip()]
        known = {name: peer for peer in states for name in (address_text(peer.address), peer.node) if name}
        unknown = next((name for name in wanted if name not in known), "")
        if unknown:
            return text_response(422, f"{unknown} is no peer of this node; `kuberouter-py bgp` lists them\n")
        told: list[dict[str, Any]] = []
        until = time.monotonic() + ROUTES
        try:
            for peer in [known[name] for name in wanted] or states:
                found = self._engine.routes(peer.address, max(until - time.monotonic(), 0.0))
                told.append(routes_document(peer, *found))
        except EdgeError as error:
            return text_response(422, f"{error}\n")
        return json_response(told)

    def _states(self, within: float) -> tuple[Sequence[PeerState], str]:
        """And why they are not known. BGP that is off has none."""
        speaker = self._speaker()
        if speaker is None:
            return (), ""
        try:
            states = self._engine.peers(within)
        except EdgeError as error:
            return (), str(error)
        with contextlib.suppress(EdgeError), self._lock:
            states = self._unanswered.explain(speaker, states, self._digests(), self._wall())
        return states, ""


def _spelled(peer: str) -> str:
    """An address as we write it; a Node's name as it is."""
    try:
        return address_text(parse_address(peer))
    except ValueError:
        return peer
