"""Which endpoints of a Service port may receive new connections. Pure; rules S3.01-S3.05, S3.09, M4.03-M4.08."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kuberouter_py.model.cluster import READY, SERVING, TERMINATING, Endpoint, EndpointSlice, ServicePort

_DRAINING = SERVING | TERMINATING


class Candidate(NamedTuple):
    endpoint: Endpoint
    port: int


class Chosen(NamedTuple):
    """cluster: for policy Cluster (S3.02); local: for policy Local (S3.03); anywhere: hasAnyEndpoints (S3.09)."""

    cluster: tuple[Candidate, ...]
    local: tuple[Candidate, ...]
    anywhere: bool


def candidates(slices: Iterable[EndpointSlice], port: ServicePort, family: int, node: str) -> list[Candidate]:
    """The union over all slices, one entry for each address and port; of duplicates the local one counts (M4.04)."""
    found: dict[tuple[bytes, int], Candidate] = {}
    for part in slices:
        if part.family != family:
            continue
        for slice_port in part.ports:
            if slice_port.name != port.name or slice_port.protocol != port.protocol:
                continue
            for endpoint in part.endpoints:
                key = (endpoint.address, slice_port.port)
                if key not in found or (endpoint.node == node and found[key].endpoint.node != node):
                    found[key] = Candidate(endpoint, slice_port.port)
    return list(found.values())


def choose(found: Sequence[Candidate], node: str) -> Chosen:
    """Ready ones; if there is none, those that are serving while they terminate; never the others (S3.04)."""
    local = [one for one in found if node and one.endpoint.node == node]
    cluster_set = _usable(found)
    return Chosen(cluster=cluster_set, local=_usable(local), anywhere=bool(cluster_set))


def _usable(found: Sequence[Candidate]) -> tuple[Candidate, ...]:
    ready = tuple(one for one in found if one.endpoint.conditions & READY)
    return ready or tuple(one for one in found if one.endpoint.conditions & _DRAINING == _DRAINING)
