"""What becomes of BGP sessions: which came up or went down since they were last looked at, how often, and in words.

Pure. A session that was there when the agent began is no news, nor is one that is no longer wanted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import NamedTuple

from kuberouter_py.config import Config
from kuberouter_py.model.bgp import ESTABLISHED, PeerState, Speaker
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import address_text
from kuberouter_py.model.report import PEER_UP, Note

PEER_DOWN = "BgpPeerDown"

PATIENCE = 30.0  # seconds that a session may be down before `status` calls an external one a problem, and it is told
# Sessions that every Node has in a mesh; from about here on they cost more than they bring (docs/routing.md).
MANY_NODES = 100


class Change(NamedTuple):
    peer: PeerState
    up: bool


class Sessions:
    def __init__(self) -> None:
        self._up: dict[bytes, bool] | None = None  # None: never looked at
        self._flaps: Counter[bytes] = Counter()
        self._lasting: set[bytes] = set()  # told of by lasting()

    def update(self, states: Sequence[PeerState]) -> list[Change]:
        """Take in how they are now; returns what is news. A session that has never been up is none."""
        now = {peer.address: peer.state == ESTABLISHED for peer in states}
        before, self._up = self._up, now
        if before is None:
            return []
        changes = [
            Change(peer, now[peer.address]) for peer in states if now[peer.address] != before.get(peer.address, False)
        ]
        self._flaps.update(change.peer.address for change in changes if not change.up)
        for address in self._flaps.keys() - now.keys():
            del self._flaps[address]
        return changes

    @property
    def up(self) -> int:
        """How many are up, as last taken in."""
        return sum(self._up.values()) if self._up else 0

    def lasting(self, states: Iterable[PeerState], now: float) -> list[Change]:
        """Those that have been down for longer than PATIENCE: each once until it is up again."""
        down = {peer.address: peer for peer in states if peer.state != ESTABLISHED and now - peer.since > PATIENCE}
        new = [Change(peer, False) for address, peer in down.items() if address not in self._lasting]
        self._lasting = set(down)
        return new

    def flaps(self, address: bytes) -> int:
        """How often it went down since the agent began, or since it has been wanted."""
        return self._flaps[address]


def who(peer: PeerState) -> str:
    """ "Node n2 (10.0.0.2)", "10.0.0.254 (AS 64999)"."""
    address = address_text(peer.address)
    return f"Node {peer.node} ({address})" if peer.node else f"{address} (AS {peer.asn})"


def note_of(change: Change, own: ObjectKey) -> Note:
    """On this node's own Node. An Event only of external peers: where a Node goes down, all others would write one.

    The minute is part of it, because two Events of the same words are one.
    """
    minute = datetime.fromtimestamp(change.peer.since, UTC).strftime("%Y-%m-%d %H:%MZ")
    told = f"BGP session with {who(change.peer)} is {'up' if change.up else 'down'} since {minute}"
    if not change.up:
        told += f": {change.peer.reason or 'no reason is known'}"
    return Note("Node", own, PEER_UP if change.up else PEER_DOWN, told, event=not change.peer.node)


def problems(states: Iterable[PeerState], now: float) -> Iterator[str]:
    """External sessions that are down; of sessions with Nodes the kernel's routes do not depend."""
    for peer in states:
        if not peer.node and peer.state != ESTABLISHED and now - peer.since > PATIENCE:
            yield f"no BGP session with {who(peer)}: {peer.reason or peer.state}"


def facts(config: Config, speaker: Speaker | None, states: Sequence[PeerState]) -> Mapping[str, str]:
    """For `status`."""
    if speaker is None:
        return {"BGP": "off, there are no peers"}
    nodes = sum(1 for peer in speaker.peers if peer.node)
    up = sum(1 for peer in states if peer.state == ESTABLISHED)
    told = f"AS {speaker.asn}, router ID {IPv4Address(speaker.router_id)}, {up} of {len(speaker.peers)} sessions up"
    if nodes >= MANY_NODES and config.enable_ibgp and config.nodes_full_mesh:
        told += f"; for {nodes} sessions with Nodes --enable-ibgp=false does as well (docs/routing.md)"
    return {"BGP": told}
