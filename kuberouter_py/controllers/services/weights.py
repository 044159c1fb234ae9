"""DECIDE: how much of the traffic an endpoint gets: the weight that its Pod's annotation asks for. Pure.

A pass over a share that was just decided, where every destination has weight 1. Weights are read where the scheduler
reads them; where it does not, the Service's owner is told so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kuberouter_py.controllers.claims import Item, Share, Unit
from kuberouter_py.controllers.services.desired import SERVERS
from kuberouter_py.controllers.services.scheduling import FALLBACK
from kuberouter_py.model.cluster import EndpointSlice, PodMetadata, Service
from kuberouter_py.model.kernel import Destination, DestinationKey, VirtualServer
from kuberouter_py.model.report import Note

ENDPOINT_WEIGHT = "kube-router.io/endpoint.weight"
HEAVIEST = 65535  # IPVS takes more, /proc/net/ip_vs shows five digits
# net/netfilter/ipvs/ip_vs_*.c: the others only tell 0 from the rest.
WEIGHTED = frozenset({"wrr", "wlc", "lblc", "lblcr", "sed", "nq", "sh", "mh"})


class Weighted(NamedTuple):
    share: Share
    notes: tuple[Note, ...]


def weighted(
    service: Service, slices: Sequence[EndpointSlice], decided: Share, pods: Mapping[str, PodMetadata]
) -> Weighted:
    """pods: by UID, those that say something."""
    notes: list[Note] = []
    weights = _weights(slices, pods, notes) if pods else {}
    if not weights:
        return Weighted(decided, tuple(notes))
    told = _Telling(weights)
    units = {claim: told.unit(unit) for claim, unit in decided.units.items()}
    if told.deaf:
        message = (
            f"{ENDPOINT_WEIGHT} of its Pods is not heeded: scheduler {', '.join(sorted(told.deaf))} has no weights "
            f"(with weights: {' '.join(sorted(WEIGHTED))})"
        )
        notes.append(Note("Service", service.key, "WeightIgnored", message, event=True))
    return Weighted(decided._replace(units=units), tuple(notes))


def weight_of(text: str) -> int:
    """Raises ValueError with what is wrong."""
    text = text.strip()
    if not (text.isascii() and text.isdigit()) or int(text) > HEAVIEST:
        raise ValueError(f"{text!r:.40} is not a number from 0 to {HEAVIEST}")
    return int(text)


def _weights(slices: Sequence[EndpointSlice], pods: Mapping[str, PodMetadata], notes: list[Note]) -> dict[bytes, int]:
    """By endpoint address."""
    found: dict[bytes, int] = {}
    for piece in slices:
        for endpoint in piece.endpoints:
            pod = pods.get(endpoint.pod) if endpoint.pod else None
            if pod is None or not pod.weight:
                continue
            try:
                found[endpoint.address] = weight_of(pod.weight)
            except ValueError as error:
                note = Note("Pod", pod.key, "WeightRefused", f"{ENDPOINT_WEIGHT}: {error}; 1 is used", event=True)
                if note not in notes:
                    notes.append(note)
    return found


class _Telling:
    """Servers that share their destinations go on sharing them. deaf: schedulers that have no weights."""

    def __init__(self, weights: Mapping[bytes, int]) -> None:
        self._weights = weights
        self._shared: dict[int, Mapping[DestinationKey, Destination]] = {}
        self.deaf: set[str] = set()

    def unit(self, unit: Unit) -> Unit:
        return tuple(
            Item(SERVERS, item.key, self._server(item.value)) if item.table == SERVERS else item for item in unit
        )

    def _server(self, server: VirtualServer) -> VirtualServer:
        if server.scheduler not in WEIGHTED:
            if any(key.address in self._weights for key in server.destinations):
                self.deaf.add(server.scheduler)
            return server
        known = id(server.destinations)
        if known not in self._shared:
            self._shared[known] = {
                key: one._replace(weight=self._weights.get(key.address, one.weight))
                for key, one in server.destinations.items()
            }
        destinations = self._shared[known]
        drained = any(not one.weight for one in destinations.values())
        flags = server.flags | FALLBACK.get(server.scheduler, 0) if drained else server.flags
        return server._replace(flags=flags, destinations=destinations)
