"""The way of a connection's first packet through this node's hooks, over one state of its tables. Pure.

Hook after hook as docs/kernel.md draws them; what happens at each is reading.py's reading of our rules. The same walk
is made over what was decided and over what the kernel has, so that the two answers can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple, Protocol

from kuberouter_py.controllers.matches import Packet, Tables
from kuberouter_py.controllers.reading import Met, Passage, pass_hook
from kuberouter_py.model.kernel import (
    Destination,
    DestinationKey,
    Forwarding,
    MarkServerKey,
    ServerKey,
    VirtualServer,
    VirtualServerKey,
)
from kuberouter_py.ports import Hop


class State(Tables, Protocol):
    """One state of the node: decided, or the kernel's."""

    def server(self, key: ServerKey) -> VirtualServer | None: ...

    def takes_in(self, packet: Packet) -> bool:
        """Whether routing keeps it on the node: the address is local, or a policy rule leads its mark in."""


class End(StrEnum):
    SERVED = "served"  # a virtual server takes it, whether or not it has destinations
    DROPPED = "dropped"
    REJECTED = "rejected"
    LOCAL = "local"  # no virtual server, and the address is the node's: a process answers, or nobody
    AWAY = "away"  # the node routes it on


class Leg(NamedTuple):
    """Towards one destination. hop: where the node's routes lead. masquerade: the rule that gives another source."""

    where: DestinationKey
    value: Destination
    hop: Hop | None
    masquerade: Met | None


class Way(NamedTuple):
    """last: the rule that ended it. packet: as it came to its end."""

    end: End
    packet: Packet
    met: tuple[Met, ...] = ()
    unread: tuple[Met, ...] = ()
    last: Met | None = None
    key: ServerKey | None = None
    server: VirtualServer | None = None


# ip_vs sees the node's own packets in LOCAL_OUT before filter OUTPUT; one that it does not take comes in over `lo`,
# where nat is not passed again.
_OUT, _AROUND = (("OUTPUT", ("raw", "mangle", "nat")),), (("PREROUTING", ("raw", "mangle")),)
_IN = (("PREROUTING", ("raw", "mangle", "nat")),)
_ARRIVING = (("INPUT", ("mangle", "filter")),)
_SENT_AWAY, _PASSED_ON = (("OUTPUT", ("filter",)),), (("FORWARD", ("mangle", "filter")),)
_LEAVING = ("POSTROUTING", ("mangle", "nat"))
Toward = Callable[[bytes], Hop | None]
_Hooks = Sequence[tuple[str, Sequence[str]]]


def walk(state: State, packet: Packet, *, from_node: bool) -> Way:
    """As far as ip_vs. from_node: a process of the node sends it."""
    whole = Passage(packet)
    if from_node:
        if _pass(state, whole, _OUT):
            return _lost(whole)
        if way := _balanced(state, whole):
            return way
        if state.takes_in(whole.packet) and _pass(state, whole, _AROUND):
            return _lost(whole)
    elif _pass(state, whole, _IN):
        return _lost(whole)
    if not state.takes_in(whole.packet):
        if _pass(state, whole, _SENT_AWAY if from_node else _PASSED_ON):
            return _lost(whole)
        return Way(End.AWAY, whole.packet, tuple(whole.met), tuple(whole.unread))
    if _pass(state, whole, _ARRIVING):
        return _lost(whole)
    return _balanced(state, whole) or Way(End.LOCAL, whole.packet, tuple(whole.met), tuple(whole.unread))


def _pass(state: State, whole: Passage, hooks: _Hooks) -> bool:
    """Whether it is lost there."""
    for hook, of_tables in hooks:
        passage = pass_hook(state, whole.packet, hook, of_tables)
        whole.packet = passage.packet
        whole.met += passage.met
        whole.unread += passage.unread
        whole.ended = passage.ended
        if passage.lost:
            return True
    return False


def _lost(whole: Passage) -> Way:
    end = End.DROPPED if whole.ended == "DROP" else End.REJECTED
    return Way(end, whole.packet, tuple(whole.met), tuple(whole.unread), whole.met[-1])


def _balanced(state: State, whole: Passage) -> Way | None:
    """ip_vs: by the whole mark first, then by address and port."""
    packet = whole.packet
    keys: list[ServerKey] = [MarkServerKey(packet.mark, packet.family)] if packet.mark else []
    for key in [*keys, VirtualServerKey(packet.protocol, packet.destination, packet.port)]:
        server = state.server(key)
        if server is not None:
            return Way(End.SERVED, packet, tuple(whole.met), tuple(whole.unread), None, key, server)
    return None


def legs(state: State, way: Way, toward: Toward) -> list[Leg]:
    """From ip_vs on, to each destination. toward: the node's routes."""
    destinations = way.server.destinations if way.server else {}
    return [_leg(state, way.packet, toward, *each) for each in sorted(destinations.items())]


def _leg(state: State, packet: Packet, toward: Toward, where: DestinationKey, value: Destination) -> Leg:
    """Leaving, it has the endpoint as its destination already; in a tunnel it is nothing to POSTROUTING any more."""
    hop = toward(where.address)
    if value.forwarding is not Forwarding.MASQUERADE:
        return Leg(where, value, hop, None)
    outgoing = hop.link if hop else ""
    leaving = replace(packet, destination=where.address, port=where.port, incoming="", outgoing=outgoing)
    hook, of_tables = _LEAVING
    passage = pass_hook(state, leaving, hook, of_tables)
    masqueraded = passage.ended in ("MASQUERADE", "SNAT")
    return Leg(where, value, hop, passage.met[-1] if masqueraded else None)
