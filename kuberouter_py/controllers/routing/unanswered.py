"""Why a session is not up of which the engine has nothing to say: nobody answers its TCP connections.

A peer with another password drops our segments without a word, and this node drops the peer's. The kernel counts what
it drops, but not whose it was: a count tells of one peer only where no other one could be meant, and says so. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from kuberouter_py.model.bgp import ESTABLISHED, BgpPeer, Digests, Password, PeerState, Speaker

# Seconds. The engine tries for ten before it tries anew (bgp/sessions.py); an answer comes within the first.
TRIED: Final = 10.0
_CONNECT = "Connect"
_SOCKET = "Socket: "  # how the engine's reasons begin that are an answer: refused, no route


class Sample(NamedTuple):
    """at: seconds since 1970."""

    at: float
    digests: Digests


class Unanswered:
    """Remembers how the kernel's counts were before each session that is not up was seen so."""

    def __init__(self) -> None:
        self._last: Sample | None = None
        self._before: dict[tuple[bytes, Password | None], Sample] = {}

    def explain(
        self, speaker: Speaker, states: Sequence[PeerState], digests: Digests, now: float
    ) -> tuple[PeerState, ...]:
        """The states, with what can be known of those that are not up. digests: the kernel's counts now."""
        sample = Sample(now, digests)
        peers = {peer.address: peer for peer in speaker.peers}
        down = [peers[state.address] for state in states if state.state != ESTABLISHED and state.address in peers]
        first = self._last or sample
        self._before = {_key(peer): self._before.get(_key(peer), first) for peer in down}
        self._last = sample
        return tuple(
            _explained(state, peer, self._before[_key(peer)], sample, _others(peer, down))
            if (peer := peers.get(state.address)) and _key(peer) in self._before
            else state
            for state in states
        )


def _key(peer: BgpPeer) -> tuple[bytes, Password | None]:
    """Another password begins anew."""
    return peer.address, peer.password


def _others(peer: BgpPeer, down: Sequence[BgpPeer]) -> bool:
    """Whether what the kernel counted could be another peer's as well."""
    return any(each != peer and bool(each.password) == bool(peer.password) for each in down)


def _explained(state: PeerState, peer: BgpPeer, before: Sample, now: Sample, others: bool) -> PeerState:
    refused = _refused(peer, before.digests, now.digests)
    if refused:
        whose = "it or another peer that is not up" if others else "it"
        told = f"since {_minute(before.at)} this node refused TCP segments of {whose}: {refused}"
    else:
        told = ""
    parts = [state.reason, *_silence(state, peer, now.at, bool(refused)), told]
    return state._replace(reason="; ".join(part for part in parts if part))


def _silence(state: PeerState, peer: BgpPeer, now: float, refused: bool) -> Iterator[str]:
    """What becomes of connections. Where nothing listens, there is an answer: refused."""
    if now - state.since < TRIED or state.reason.startswith(_SOCKET):
        return
    if peer.passive:
        yield "it has not connected to this node, which waits for that"
    elif state.state == _CONNECT:
        told = f"no answer to TCP connections to its port {peer.port}"
        if state.bfd == "Up" and not refused:
            told += " although BFD is up: a packet filter drops them, or its password is another one than here"
        yield told


def _refused(peer: BgpPeer, before: Digests, now: Digests) -> str:
    counts: Mapping[str, int] = {
        "with the digest of another password": now.wrong - before.wrong if peer.password else 0,
        "without a digest, although there is a password here": now.missing - before.missing if peer.password else 0,
        "with a digest, although there is no password here": 0 if peer.password else now.unexpected - before.unexpected,
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count > 0)


def _minute(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%MZ")
