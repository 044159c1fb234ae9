"""Which sessions came up or went down, and what is said of it."""

from __future__ import annotations

import pytest

from kuberouter_py.config import Config
from kuberouter_py.controllers.routing.sessions import Change, Sessions, facts, note_of, problems
from kuberouter_py.model.bgp import BgpPeer, PeerState, Speaker
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.observe.events import event_body

NOW = 1_800_000_000.0  # 2027-01-15 08:00 UTC
OWN = ObjectKey("", "n1")


def peer(
    number: int, state: str = "Established", node: str = "", since: float = NOW - 60, reason: str = ""
) -> PeerState:
    return PeerState(bytes((10, 0, 0, number)), 64999, node, state, since, reason, (), {}, {}, {})


def test_only_changes_are_news() -> None:
    sessions = Sessions()
    assert sessions.update([peer(1), peer(2, "Active")]) == []  # as the agent found them
    assert sessions.update([peer(1), peer(2, "Connect")]) == []
    assert sessions.update([peer(1, "Idle"), peer(2)]) == [Change(peer(1, "Idle"), False), Change(peer(2), True)]
    assert sessions.update([peer(2), peer(3, "Idle")]) == []  # 1 is not wanted any more, 3 is new
    assert sessions.update([peer(2), peer(3)]) == [Change(peer(3), True)]


def test_flaps_are_counted_until_the_peer_goes() -> None:
    sessions = Sessions()
    for state in ("Established", "Idle", "Established", "Active", "Idle"):
        sessions.update([peer(1, state)])
    assert sessions.flaps(peer(1).address) == 2
    sessions.update([])
    assert sessions.flaps(peer(1).address) == 0


@pytest.mark.parametrize(
    ("change", "event_type", "message"),
    [
        (Change(peer(1), True), "Normal", "BGP session with 10.0.0.1 (AS 64999) is up since 2027-01-15 07:59Z"),
        (
            Change(peer(1, "Idle", reason="BGP Error: Hold timer expired"), False),
            "Warning",
            "BGP session with 10.0.0.1 (AS 64999) is down since 2027-01-15 07:59Z: BGP Error: Hold timer expired",
        ),
        (
            Change(peer(1, "Idle"), False),
            "Warning",
            "BGP session with 10.0.0.1 (AS 64999) is down since 2027-01-15 07:59Z: no reason is known",
        ),
    ],
)
def test_events_of_external_peers(change: Change, event_type: str, message: str) -> None:
    note = note_of(change, OWN)
    assert (note.event, note.message) == (True, message)
    assert event_body(note, "uid", NOW)["type"] == event_type


def test_no_event_of_a_session_with_a_node() -> None:
    note = note_of(Change(peer(2, "Idle", "n2"), False), OWN)
    assert not note.event
    assert note.message.startswith("BGP session with Node n2 (10.0.0.2) is down")


def test_problems_are_external_sessions_that_stay_down() -> None:
    states = [
        peer(1, "Active"),
        peer(2, "Active", since=NOW - 10),
        peer(3),
        peer(4, "Idle", node="n4"),
        peer(5, "Idle", reason="Socket: No route to host"),
    ]
    assert list(problems(states, NOW)) == [
        "no BGP session with 10.0.0.1 (AS 64999): Active",
        "no BGP session with 10.0.0.5 (AS 64999): Socket: No route to host",
    ]


def test_facts() -> None:
    nodes = tuple(BgpPeer(bytes((10, 0, 1, number)), 64512, f"n{number}") for number in range(100))
    speaker = Speaker(64512, bytes((10, 0, 0, 1)), (4,), {}, peers=(BgpPeer(peer(1).address, 64999), *nodes[:99]))
    told = "AS 64512, router ID 10.0.0.1, 1 of 100 sessions up"
    assert facts(Config(), speaker, [peer(1), peer(2, "Idle")]) == {"BGP": told}
    many = facts(Config(), speaker._replace(peers=nodes), [])["BGP"]
    assert many.endswith("; for 100 sessions with Nodes --enable-ibgp=false does as well (docs/routing.md)")
    assert facts(Config(), None, []) == {"BGP": "off, there are no peers"}
