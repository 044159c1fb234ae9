"""The engine's sessions, told to whoever asks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from kuberouter_py.agent.bgp_sessions import BgpSessions
from kuberouter_py.config import Config
from kuberouter_py.model.bgp import Digests, PeerRoute, PeerState, Speaker
from kuberouter_py.model.kernel import address_text
from kuberouter_py.model.report import Note
from kuberouter_py.observe.socket import PATIENCE
from kuberouter_py.ports import EdgeError
from tests.unit.observe.bgp_documents import DEAD, DOCUMENT, IN, NODE, NOTE, NOW, OUT, ROUTER, SPEAKER, STATES


class Engine:
    """Says what it is given; with a reason it fails."""

    def __init__(self) -> None:
        self.states: Sequence[PeerState] = STATES
        self.silent = ""
        self.asked = 0
        self.within = 0.0

    def peers(self, within: float) -> Sequence[PeerState]:
        self.asked += 1
        self.within = within
        if self.silent:
            raise EdgeError(self.silent)
        return self.states

    def routes(self, address: bytes, within: float) -> tuple[Sequence[PeerRoute], Sequence[PeerRoute]]:
        self.within += within
        if address == DEAD.address:
            raise EdgeError(f"BIRD has no session with {address_text(address)}")
        return (IN, OUT) if address == ROUTER.address else ((), OUT)


class World:
    def __init__(self) -> None:
        self.engine = Engine()
        self.speaker: Speaker | None = SPEAKER
        self.told: list[Note] = []
        self.now = NOW
        self.refused = 5
        self.sessions = BgpSessions(
            Config(),
            "n1",
            self.engine,
            lambda: self.speaker,
            lambda: [NOTE],
            self.told.extend,
            self.digests,
            lambda: self.now,
        )

    def digests(self) -> Digests:
        if self.refused < 0:
            raise EdgeError("/proc/net/netstat: no such file")
        return Digests(wrong=self.refused)

    def ask(self, path: str, **parameters: str) -> tuple[int, Any]:
        status, body, content_type, _ = self.sessions.questions()[path](parameters)
        return status, json.loads(body) if content_type == "application/json" else body.decode()


@pytest.fixture
def world() -> World:
    return World()


def test_sessions(world: World) -> None:
    assert world.ask("/bgp") == (200, DOCUMENT)


def test_an_engine_that_is_silent(world: World) -> None:
    world.engine.silent = "nobody answers on bird.ctl"
    status, document = world.ask("/bgp")
    assert (status, document["problem"], document["peers"]) == (200, "nobody answers on bird.ctl", [])
    assert world.ask("/bgp/routes") == (422, "nobody answers on bird.ctl\n")
    world.sessions.look()
    assert world.sessions.problems() == ["BGP: nobody answers on bird.ctl"]
    assert world.sessions.facts()["BGP sessions"] == "nobody answers on bird.ctl"
    assert world.sessions.counters() == []
    world.speaker = None  # nobody asks an engine that need not run
    asked = world.engine.asked
    world.sessions.look()
    assert world.sessions.problems() == []
    assert world.ask("/bgp")[1]["problem"] == ""
    assert world.engine.asked == asked


def test_who_asks_hears_that_the_engine_does_not_answer_before_they_give_up(world: World) -> None:
    patience = min(PATIENCE, 10.0)  # Prometheus' scrape_timeout
    world.sessions.look()
    assert 0 < world.engine.within < patience / 2
    world.engine.within = 0.0
    world.sessions.counters()
    assert 0 < world.engine.within < patience / 2
    world.ask("/bgp")
    assert 0 < world.engine.within < patience / 2
    world.ask("/bgp/routes", peers="10.0.0.254")
    assert 0 < world.engine.within < patience


def names(answer: tuple[int, Any]) -> list[str]:
    return [one["address"] for one in answer[1]]


def test_routes_of_some_peers_or_of_all(world: World) -> None:
    assert names(world.ask("/bgp/routes", peers="n2,10.0.0.254")) == ["10.0.0.2", "10.0.0.254"]
    assert world.ask("/bgp/routes", peers="FD00:0::fe") == (422, "BIRD has no session with fd00::fe\n")
    status, told = world.ask("/bgp/routes", peers="n7")
    assert (status, told) == (422, "n7 is no peer of this node; `kuberouter-py bgp` lists them\n")
    world.engine.states = (NODE, ROUTER)
    assert names(world.ask("/bgp/routes", peers="")) == ["10.0.0.2", "10.0.0.254"]


def test_news(world: World) -> None:
    world.sessions.heard()
    assert world.told == []
    world.engine.states = (DEAD._replace(state="Established"), NODE, ROUTER._replace(state="Idle", reason="it went"))
    world.sessions.heard()
    assert [(note.reason, note.owner and note.owner.name, note.event) for note in world.told] == [
        ("BgpPeerUp", "n1", True),
        ("BgpPeerDown", "n1", True),
    ]
    world.engine.silent = "gone"
    world.sessions.heard()
    assert len(world.told) == 2
    world.engine.silent = ""
    assert {address_text(each.peer.address): each.flaps for each in world.sessions.counters()} == {
        "fd00::fe": 0,
        "10.0.0.2": 0,
        "10.0.0.254": 1,
    }


def test_a_session_that_is_down_is_a_problem(world: World) -> None:
    world.sessions.look()
    assert world.sessions.problems() == ["no BGP session with fd00::fe (AS 65000): Received: Peer de-configured"]


def test_a_session_that_never_comes_up_is_told_once_with_what_the_kernel_refused(world: World) -> None:
    silent = ROUTER._replace(state="Connect", since=NOW, bfd="Up")
    told = (
        "BGP session with 10.0.0.254 (AS 64999) is down since 2027-01-15 08:00Z: no answer to TCP connections to its"
        " port 179; since 2027-01-15 08:00Z this node refused TCP segments of it: 31 with the digest of another"
        " password"
    )
    world.engine.states = (NODE, silent)
    world.sessions.heard()
    for after in (1.0, 20.0, 31.0, 40.0, 75.0, 120.0):
        world.now, world.refused = NOW + after, 5 + int(after)
        world.engine.silent = "nobody answers on bird.ctl" if after == 75 else ""
        world.sessions.turned()
        assert [note.message for note in world.told] == ([] if after < 31 else [told])
    world.sessions.look()
    [problem] = world.sessions.problems()
    assert problem.endswith("120 with the digest of another password")
    assert world.ask("/bgp")[1]["peers"][0]["reason"].endswith("120 with the digest of another password")
    world.engine.states = (NODE, silent._replace(state="Established", since=NOW + 130))
    world.sessions.heard()
    world.engine.states = (NODE, silent._replace(since=NOW + 140))
    world.sessions.heard()
    assert [note.reason for note in world.told] == ["BgpPeerDown", "BgpPeerUp", "BgpPeerDown"]


def test_counts_that_cannot_be_read_leave_what_the_engine_says(world: World) -> None:
    world.refused = -1
    assert world.ask("/bgp") == (200, DOCUMENT)


def test_status_asks_the_engine_once(world: World) -> None:
    for up, expected in ((STATES, "2 of 3"), ((), "0 of 3")):
        world.engine.states, world.engine.asked = up, 0
        world.sessions.look()
        world.sessions.problems()
        assert expected in world.sessions.facts()["BGP"]
        assert world.engine.asked == 1
