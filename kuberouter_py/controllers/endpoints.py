"""Which endpoints of a Service port may receive new connections. Pure; rules S3.01-S3.09, M4.03-M4.08, M4.14."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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


def choose(found: Candidates, node: str, zone: str) -> Chosen:
    """Ready ones; if there is none, those that are serving while they terminate; never the others (S3.04).

    zone: this node's, "" where it has none. Hints count for the cluster set alone (S3.08).
    """
    local = {key: one for key, one in found.items() if one.node == node} if node else {}
    ready = _ready(found)
    cluster_set = _nearby(ready, node, zone) if ready else _serving_while_terminating(found)
    local_set = _ready(local) or _serving_while_terminating(local)
    return Chosen(cluster=cluster_set, local=local_set, anywhere=bool(cluster_set))


def in_use(found: Candidates) -> Candidates:
    """Those that receive new connections if the cluster is seen as a whole, without hints (S3.02)."""
    return _ready(found) or _serving_while_terminating(found)


def _ready(found: Candidates) -> Candidates:
    return {key: one for key, one in found.items() if one.conditions & READY}


def _serving_while_terminating(found: Candidates) -> Candidates:
    return {key: one for key, one in found.items() if is_draining(one)}


def is_draining(one: Endpoint) -> bool:
    """Serving while it terminates."""
    return one.conditions & _DRAINING == _DRAINING


def _nearby(ready: Candidates, node: str, zone: str) -> Candidates:
    """What the hints keep for this node: those for it, else those for its zone, else all (S3.06)."""
    counting = _counting_hints(ready.values(), node, zone)
    if counting == "node":
        return {key: one for key, one in ready.items() if node in one.hint_nodes}
    if counting == "zone":
        return {key: one for key, one in ready.items() if zone in one.hint_zones}
    return ready


def _counting_hints(ready: Collection[Endpoint], node: str, zone: str) -> str:
    """ "node", "zone", or "" where hints say nothing: one endpoint without a hint, or no hint that names us."""
    if node and all(one.hint_nodes for one in ready) and any(node in one.hint_nodes for one in ready):
        return "node"
    if zone and all(one.hint_zones for one in ready) and any(zone in one.hint_zones for one in ready):
        return "zone"
    return ""


def left_out(found: Candidates, node: str, zone: str, *, local: bool) -> dict[DestinationKey, str]:
    """Why `choose` leaves which candidates out of the cluster set, or of the local one. People ask, no sync does."""
    ready = [one for one in found.values() if one.conditions & READY and (not local or (node and one.node == node))]
    counting = "" if local else _counting_hints(ready, node, zone)
    reasons: dict[DestinationKey, str] = {}
    for key, one in found.items():
        if local and not (node and one.node == node):
            where = f"on node {one.node}" if one.node else "on no node that is known"
            reasons[key] = where if one.conditions & READY else f"{where}, and not ready"
        elif one.conditions & READY:
            reasons[key] = _hinted_away(one, counting, node, zone)
        elif is_draining(one):
            reasons[key] = "terminating, and others are ready" if ready else ""
        else:
            reasons[key] = "terminating, and no longer serving" if one.conditions & TERMINATING else "not ready"
    return {key: reason for key, reason in reasons.items() if reason}


def _hinted_away(one: Endpoint, counting: str, node: str, zone: str) -> str:
    if counting == "node" and node not in one.hint_nodes:
        return f"hinted to node {', '.join(one.hint_nodes)}, not to this one"
    if counting == "zone" and zone not in one.hint_zones:
        return f"hinted to zone {', '.join(one.hint_zones)}, and this node is in {zone}"
    return ""
