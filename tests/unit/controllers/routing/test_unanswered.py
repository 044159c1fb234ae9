"""What is said of sessions that are not up and of which the engine has nothing to say."""

from __future__ import annotations

import pytest

from kuberouter_py.controllers.routing.unanswered import Unanswered
from kuberouter_py.model.bgp import BgpPeer, Digests, Password, PeerState, Speaker

NOW = 1_800_000_000.0  # 2027-01-15 08:00 UTC
SECRET, OTHER = Password("secret"), Password("other")
NONE = Digests()
SILENT = "no answer to TCP connections to its port 179"
REFUSED = "since 2027-01-15 08:00Z this node refused TCP segments of it: "


def address(number: int) -> bytes:
    return bytes((10, 0, 0, number))


def speaker(*peers: BgpPeer) -> Speaker:
    return Speaker(64512, address(9), (4,), {}, peers=peers)


def state(number: int = 1, state: str = "Connect", reason: str = "", bfd: str = "", since: float = NOW) -> PeerState:
    return PeerState(address(number), 64999, "", state, since, reason, (), {}, {}, {}, bfd)


@pytest.mark.parametrize(
    ("peer", "seen", "digests", "reason"),
    [
        (BgpPeer(address(1), 64999), state(), NONE, SILENT),
        (
            BgpPeer(address(1), 64999, port=1790),
            state(bfd="Down"),
            NONE,
            "no answer to TCP connections to its port 1790",
        ),
        (
            BgpPeer(address(1), 64999, password=SECRET),
            state(bfd="Up"),
            NONE,
            f"{SILENT} although BFD is up: a packet filter drops them, or its password is another one than here",
        ),
        (
            BgpPeer(address(1), 64999, password=SECRET),
            state(bfd="Up"),
            Digests(wrong=7, missing=0, unexpected=3),
            f"{SILENT}; {REFUSED}7 with the digest of another password",
        ),
        (
            BgpPeer(address(1), 64999, password=SECRET),
            state(state="Active", reason="BGP Error: Hold timer expired"),
            Digests(missing=2),
            f"BGP Error: Hold timer expired; {REFUSED}2 without a digest, although there is a password here",
        ),
        (
            BgpPeer(address(1), 64999),
            state(),
            Digests(wrong=7, missing=1, unexpected=3),
            f"{SILENT}; {REFUSED}3 with a digest, although there is no password here",
        ),
        (
            BgpPeer(address(1), 64999, passive=True),
            state(state="Active"),
            NONE,
            "it has not connected to this node, which waits for that",
        ),
        (BgpPeer(address(1), 64999), state(reason="Socket: Connection refused"), NONE, "Socket: Connection refused"),
        (BgpPeer(address(1), 64999), state(state="Established"), Digests(unexpected=3), ""),
        (BgpPeer(address(1), 64999), state(since=NOW + 55), NONE, ""),  # it has only begun
    ],
)
def test_reasons(peer: BgpPeer, seen: PeerState, digests: Digests, reason: str) -> None:
    unanswered = Unanswered()
    before = Digests(1000, 1000, 1000)
    unanswered.explain(speaker(peer), [seen], before, NOW)
    now = Digests(*(one + other for one, other in zip(before, digests, strict=True)))
    [told] = unanswered.explain(speaker(peer), [seen], now, NOW + 60)
    assert told == seen._replace(reason=reason)


def test_a_count_that_may_be_of_another_peer_says_so() -> None:
    unanswered = Unanswered()
    peers = (BgpPeer(address(1), 1, password=SECRET), BgpPeer(address(2), 2, password=OTHER), BgpPeer(address(3), 3))
    both = [state(1), state(2), state(3)]
    unanswered.explain(speaker(*peers), both, NONE, NOW)
    one, other, without = unanswered.explain(speaker(*peers), both, Digests(wrong=4), NOW + 60)
    for told in (one, other):
        assert "refused TCP segments of it or another peer that is not up: 4 with" in told.reason
    assert without.reason == SILENT
    up = [state(1), state(2, "Established"), state(3)]
    assert "segments of it: 4 with" in unanswered.explain(speaker(*peers), up, Digests(wrong=4), NOW + 61)[0].reason


def test_only_what_came_while_it_was_down_with_this_password_counts() -> None:
    unanswered = Unanswered()

    def told(password: Password, seen: str, wrong: int, after: float) -> str:
        peer = BgpPeer(address(1), 64999, password=password)
        [found] = unanswered.explain(speaker(peer), [state(1, seen)], Digests(wrong), NOW + after)
        return found.reason

    assert told(SECRET, "Connect", 3, 0) == ""  # of an earlier process
    assert f"{REFUSED}2 with" in told(SECRET, "Connect", 5, 60)
    assert "refused" not in told(OTHER, "Connect", 5, 120)
    assert "since 2027-01-15 08:01Z this node refused TCP segments of it: 1 with" in told(OTHER, "Connect", 6, 180)
    assert told(OTHER, "Established", 6, 240) == ""
    assert "refused" not in told(OTHER, "Connect", 6, 300)


def test_a_session_of_another_configuration_is_left_alone() -> None:
    assert Unanswered().explain(speaker(), [state(7)], NONE, NOW + 60) == (state(7),)
