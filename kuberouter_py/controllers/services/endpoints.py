"""Which endpoints of a Service port may receive new connections. Pure; rules S3.01-S3.05, S3.09, M4.03-M4.08."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kuberouter_py.model.cluster import READY, SERVING, TERMINATING, Endpoint, EndpointSlice, ServicePort
from kuberouter_py.model.kernel import DestinationKey

_DRAINING = SERVING | TERMINATING

Candidates = Mapping[DestinationKey, Endpoint]


class Chosen(NamedTuple):
    """cluster: for policy Cluster (S3.02); local: for policy Local (S3.03); anywhere: hasAnyEndpoints (S3.09)."""

    cluster: Candidates
    local: Candidates
    anywhere: bool


def candidates(slices: Iterable[EndpointSlice], port: ServicePort, family: int, node: str) -> Candidates:
    """The union over all slices, one entry for each address and port; of duplicates the local one counts (M4.04)."""
    found: dict[DestinationKey, Endpoint] = {}
    for part in slices:
        if part.family != family:
            continue
        for slice_port in part.ports:
            if slice_port.name != port.name or slice_port.protocol != port.protocol:
                continue
            number = slice_port.port
            for endpoint in part.endpoints:
                key = DestinationKey(endpoint.address, number)
                # setdefault looks once; a second entry counts only where it is local and the first is not.
                first = found.setdefault(key, endpoint)
                if first is not endpoint and endpoint.node == node != first.node:
                    found[key] = endpoint
    return found


def choose(found: Candidates, node: str) -> Chosen:
    """Ready ones; if there is none, those that are serving while they terminate; never the others (S3.04)."""
    local = {key: one for key, one in found.items() if one.node == node} if node else {}
    cluster_set = _usable(found)
    return Chosen(cluster=cluster_set, local=_usable(local), anywhere=bool(cluster_set))


def _usable(found: Candidates) -> Candidates:
    ready = {key: one for key, one in found.items() if one.conditions & READY}
    if ready:
        return ready
    return {key: one for key, one in found.items() if one.conditions & _DRAINING == _DRAINING}
