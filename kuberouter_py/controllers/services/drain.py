"""DECIDE: what becomes of destinations that nobody wants any more while connections to them go on. Pure.

A pass over a share that was just decided. A TCP destination that leaves a virtual server stays in it at weight 0, which
takes no new connection and keeps those that are open, until they are gone or its time is over; a server that a Service
gives up stays as long, with everything that hangs on it. UDP and SCTP go at once: ip_vs gives their next packet to
another destination (expire_nodest_conn). Rules S9.05, S9.06; docs/decisions/003-draining.md says why.

What drains, since when and how long is kept here. Connections are counted, and the clock read, by who calls.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from math import inf
from typing import Any, NamedTuple

from kuberouter_py.controllers.claims import Item, Owner, Share, Unit
from kuberouter_py.controllers.services.desired import MEMBERS, SERVERS
from kuberouter_py.controllers.services.scheduling import FALLBACK
from kuberouter_py.model.cluster import EndpointSlice, PodMetadata
from kuberouter_py.model.kernel import (
    Destination,
    DestinationKey,
    MarkServerKey,
    Protocol,
    ServerKey,
    VirtualServer,
    VirtualServerKey,
)

# Seconds between two looks at the connections of what drains, and how much longer where a look itself takes long: a
# hundredth of one CPU at most goes into looking. A thousand servers are a thousand dumps, some 0.2 s.
EVERY, PATIENCE = 1.0, 100
# Seconds from a destination's beginning to drain to the first look at it. The look waits: what comes at the same time,
# other changes of a rolling update, is written first, and then one look and one write are for all of them.
SOON = 0.1
NEVER_DRAINS = "dh"  # see FALLBACK

NO_DESTINATIONS: Mapping[DestinationKey, Destination] = {}

Servers = Mapping[ServerKey, VirtualServer]


class Leaving(NamedTuple):
    """since: when it began, in the clock of `now`. period: seconds; 0: it is over."""

    since: float
    period: float

    @property
    def end(self) -> float:
        return self.since + self.period


class Drains:
    """What drains on this node. period: seconds for a destination of which nobody knows better."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._leaving: dict[ServerKey, dict[DestinationKey, Leaving]] = {}
        self._over: dict[ServerKey, frozenset[DestinationKey]] = {}  # given up, and perhaps not written yet
        self._owners: dict[ServerKey, Owner] = {}
        self._fresh: set[ServerKey] = set()
        self._since = 0.0  # when the first of those began
        self._looked = 0.0  # when a look at all of it was over
        self._whole = False  # whether the present look is one
        self._pause = EVERY
        self._soonest = inf  # end, of all that drain

    # -- deciding ----------------------------------------------------------------------------------------------------

    def share(
        self,
        owner: Owner,
        decided: Share,
        before: Share,
        held: Servers,
        now: float,
        *,
        gone: bool,
        in_force: Callable[[Hashable], bool],
        period: Callable[[DestinationKey], float | None] = lambda _destination: None,
    ) -> Share:
        """The share with what leaves it.

        before: the owner's share until now. held: what the kernel has. gone: the object itself is, so that its
        addresses are nobody else's yet. in_force: whether a claim is this owner's, or nobody's so far. period: seconds
        that a destination's own pod grants it, where that is known.
        """
        leave = _Pass(self._leaving, self._over, held, now, period, self._period)
        drains = _Lasting(decided, before, gone)
        units: dict[Hashable, Unit] = {}
        for claim, unit in decided.units.items():
            units[claim] = leave.unit(unit, drains(claim)) if in_force(claim) else unit
        draining = set()
        for claim, unit in before.units.items():
            if claim not in units and in_force(claim) and (kept := leave.given_up(unit, drains(claim))):
                units[claim] = kept
                draining.add(claim)
        if self._leaving or self._over or leave.leaving:
            self._note(owner, leave, now)
        if not leave.leaving:
            return decided
        return Share(decided.seniority or before.seniority, units, frozenset(draining))

    def _note(self, owner: Owner, leave: _Pass, now: float) -> None:
        for server in leave.seen:
            self._over.pop(server, None)
        self._over.update(leave.over)
        for server in leave.seen - leave.leaving.keys():
            self._forget(server)
        for server, destinations in leave.leaving.items():
            if destinations.keys() - self._leaving.get(server, {}).keys():
                if not self._fresh:
                    self._since = now
                self._fresh.add(server)
            self._leaving[server] = destinations
            self._owners[server] = owner
            self._soonest = min(self._soonest, *(one.end for one in destinations.values()))

    def _forget(self, server: ServerKey) -> None:
        self._leaving.pop(server, None)
        self._owners.pop(server, None)
        self._fresh.discard(server)

    # -- looking -----------------------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """When to look at the connections of what drains; None: nothing does."""
        if self._fresh:
            return max(self._looked, self._since + SOON)
        if not self._leaving:
            return None
        return max(self._looked, min(self._looked + self._pause, self._soonest))

    def to_look_at(self) -> list[ServerKey]:
        """The servers whose counters to read now: those where something has just begun to drain, else all."""
        self._whole = not self._fresh
        found = list(self._fresh or self._leaving)
        self._fresh.clear()
        return found

    def looked(self, now: float, cost: float) -> None:
        """A look is over, that took so many seconds."""
        if self._whole:
            self._looked, self._pause = now, max(EVERY, cost * PATIENCE)
        self._soonest = min((one.end for each in self._leaving.values() for one in each.values()), default=inf)

    def over(
        self, servers: Iterable[ServerKey], connections: Mapping[ServerKey, Mapping[DestinationKey, int]], now: float
    ) -> set[Owner]:
        """Owners to decide again: of these servers a destination has no connection left, or its time is over.

        connections: as counted after the weight became 0; what is not named has not been counted.
        """
        owners = set()
        for server in servers:
            counted = connections.get(server, {})
            leaving = self._leaving.get(server, {})
            for destination, one in leaving.items():
                if counted.get(destination) == 0:
                    leaving[destination] = Leaving(one.since, 0.0)
                elif one.end > now:
                    continue
                owners.add(self._owners[server])  # its pod may have said meanwhile that it has longer
        return owners

    def left(self, server: ServerKey, now: float) -> dict[DestinationKey, float]:
        """Seconds that each destination which drains in this server has at most."""
        return {where: max(0.0, one.end - now) for where, one in self._leaving.get(server, {}).items()}

    def count(self) -> int:
        """Destinations that drain, each once for each virtual server."""
        return sum(map(len, self._leaving.values()))


class _Lasting:
    """What has connections that somebody would miss, and may be had here for as long as they go on.

    gone: see Drains.share.
    """

    def __init__(self, decided: Share, before: Share, gone: bool) -> None:
        self._decided, self._before, self._gone = decided, before, gone
        self._addresses = {claim.address for claim in decided.units if isinstance(claim, VirtualServerKey)}

    def __call__(self, claim: Hashable) -> bool:
        if isinstance(claim, MarkServerKey):
            return claim.mark not in self._of_packets
        if isinstance(claim, VirtualServerKey):
            return claim.protocol == Protocol.TCP and (self._gone or claim.address in self._addresses)
        return False

    @cached_property
    def _of_packets(self) -> frozenset[int]:
        """The marks of frontends whose protocol does not drain: a server on a mark does not say what it is for."""
        return frozenset(
            item.value
            for unit in (*self._decided.units.values(), *self._before.units.values())
            for item in unit
            if item.table == MEMBERS and item.value and item.key.entry.protocol != Protocol.TCP
        )


class _Pass:
    """One pass over one share; servers that are the same in their destinations go on sharing them."""

    def __init__(
        self,
        known: Mapping[ServerKey, Mapping[DestinationKey, Leaving]],
        over: Mapping[ServerKey, frozenset[DestinationKey]],
        held: Servers,
        now: float,
        period: Callable[[DestinationKey], float | None],
        default: float,
    ) -> None:
        self._known, self._known_over, self._held, self._now = known, over, held, now
        self._period, self._default = period, default
        self._shared: dict[tuple[int, frozenset[Any]], Mapping[DestinationKey, Destination]] = {}
        self.seen: set[ServerKey] = set()  # servers that were looked at
        self.leaving: dict[ServerKey, dict[DestinationKey, Leaving]] = {}  # those of which something drains
        self.over: dict[ServerKey, frozenset[DestinationKey]] = {}  # and what does no longer

    def unit(self, unit: Unit, drains: bool) -> Unit:
        """A unit that is wanted, with what leaves its servers."""
        changed = {}
        for place, item in enumerate(unit):
            if item.table == SERVERS:
                server = self._with_leaving(item.key, item.value, drains)
                if server is not item.value:
                    changed[place] = Item(SERVERS, item.key, server)
        return tuple(changed.get(place, item) for place, item in enumerate(unit)) if changed else unit

    def given_up(self, unit: Unit, drains: bool) -> Unit:
        """A unit that nobody wants any more, for as long as something in it drains; else nothing."""
        items = []
        kept = False
        for item in unit:
            if item.table == SERVERS:
                empty = item.value._replace(destinations=NO_DESTINATIONS)
                server = self._with_leaving(item.key, empty, drains)
                kept = kept or server is not empty
                item = Item(SERVERS, item.key, server)
            items.append(item)
        return tuple(items) if kept else ()

    def _with_leaving(self, key: ServerKey, wanted: VirtualServer, drains: bool) -> VirtualServer:
        self.seen.add(key)
        held = self._held.get(key)
        if not drains or held is None or held.destinations is wanted.destinations:
            return wanted
        gone = held.destinations.keys() - wanted.destinations.keys()
        if not gone or (wanted.scheduler == NEVER_DRAINS and wanted.destinations):
            return wanted
        known, over = self._known.get(key, {}), self._known_over.get(key, frozenset())
        leaving = {}
        for destination in gone - over:
            one = self._leaving(destination, known.get(destination))
            if one.end > self._now:
                leaving[destination] = one
        if len(leaving) < len(gone):
            self.over[key] = frozenset(gone - leaving.keys())
        if not leaving:
            return wanted
        self.leaving[key] = leaving
        flags = wanted.flags | FALLBACK.get(wanted.scheduler, 0)
        return wanted._replace(flags=flags, destinations=self._together(wanted, leaving, held))

    def _leaving(self, destination: DestinationKey, known: Leaving | None) -> Leaving:
        """A pod may say late how long it has; what is over stays so."""
        if known is not None and known.period == 0:
            return known
        period = self._period(destination)
        if period is None:
            period = known.period if known is not None else self._default
        return Leaving(known.since if known is not None else self._now, period)

    def _together(
        self, wanted: VirtualServer, leaving: Mapping[DestinationKey, Leaving], held: VirtualServer
    ) -> Mapping[DestinationKey, Destination]:
        zero = {each: Destination(0, held.destinations[each].forwarding) for each in leaving}
        shared = (id(wanted.destinations), frozenset(zero.items()))
        if shared not in self._shared:
            self._shared[shared] = {**wanted.destinations, **zero}
        return self._shared[shared]


def pod_periods(
    slices: Sequence[EndpointSlice], pods: Mapping[str, PodMetadata]
) -> Callable[[DestinationKey], float | None]:
    """How long a destination's own pod grants it. pods: by UID, those that are being deleted among them."""
    found: dict[bytes, float] | None = None

    def period(destination: DestinationKey) -> float | None:
        nonlocal found
        if found is None:  # nearly always nothing leaves
            graces = ((each.address, pods.get(each.pod)) for piece in slices for each in piece.endpoints)
            found = {address: float(pod.grace) for address, pod in graces if pod and pod.grace is not None}
        return found.get(destination.address)

    return period
