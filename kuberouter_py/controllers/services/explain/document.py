"""An answer as plain values, ready for JSON: a promise (docs/operations.md), fields are added, never changed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

from kuberouter_py.controllers.reading import Met
from kuberouter_py.controllers.services.explain.explanation import Path, Told
from kuberouter_py.controllers.services.explain.question import Origin
from kuberouter_py.controllers.services.explain.verdict import short_circuit, title
from kuberouter_py.controllers.services.explain.way import Way
from kuberouter_py.model.kernel import PERSISTENT, DestinationKey, address_text
from kuberouter_py.model.notation_servers import protocol_text, scheduling_options, server_text


def document(node: str, origin: Origin, paths: Sequence[Path], remarks: Sequence[str]) -> dict[str, Any]:
    """remarks: what is to be said of all paths."""
    first = paths[0]
    told = first.actual or first.decided
    return {
        "node": node,
        "from": origin_document(origin),
        "outcome": str(told.verdict.outcome),
        "verdict": str(told.verdict),
        "remarks": list(remarks),
        "paths": [_path(path) for path in paths],
    }


def origin_document(origin: Origin) -> dict[str, Any]:
    return {
        "kind": origin.kind,
        "name": origin.name,
        "node": origin.node,
        "addresses": [address_text(each) for each in origin.addresses],
    }


def _path(path: Path) -> dict[str, Any]:
    case = path.case
    key, service, port = case.frontend
    return {
        "title": title(case),
        "to": {"address": address_text(key.address), "port": key.port, "protocol": protocol_text(key.protocol)},
        "service": {"namespace": service.key.namespace, "name": service.key.name} if service else None,
        "servicePort": {"name": port.name, "port": port.port} if port else None,
        "role": case.role,
        "source": address_text(case.packet.source),
        "enters": "from a process of this node" if case.from_node else f"by {case.packet.incoming or 'no known link'}",
        "decided": _state(path, path.decided),
        "actual": _state(path, path.actual) if path.actual else None,
        "differences": list(path.differences),
        "leftOut": list(_left_out(path)),
        "affinity": _affinity_document(path),
        "notes": list(case.notes),
        "refused": list(case.refused),
    }


def _state(path: Path, told: Told) -> dict[str, Any]:
    way = told.way
    return {
        "outcome": str(told.verdict.outcome),
        "verdict": str(told.verdict),
        "server": _server(way),
        "destinations": [
            {
                "address": address_text(leg.where.address),
                "port": leg.where.port,
                "node": path.case.nodes.get(leg.where, ""),
                "weight": leg.value.weight,
                "weightAsked": path.case.weights.get(leg.where, ""),
                "drainsFor": _seconds(path.draining.get(leg.where)),
                "forwarding": leg.value.forwarding.name.lower(),
                "source": address_text(source.address) if source.address else "",
                "masqueraded": source.masqueraded,
                "why": source.reason,
            }
            for leg, source in told.arrivals
        ],
        "rules": [_rule(met) for met in way.met],
        "notUnderstood": [_rule(met) for met in way.unread],
    }


def _seconds(left: float | None) -> int | None:
    return None if left is None else ceil(left)


def _server(way: Way) -> dict[str, Any] | None:
    if way.key is None or way.server is None:
        return None
    scheduling = scheduling_options(way.server.scheduler, way.server.flags, way.server.timeout)
    return {
        "name": server_text(way.key),
        "scheduler": way.server.scheduler,
        "options": scheduling,
        "affinitySeconds": way.server.timeout if way.server.flags & PERSISTENT else 0,
    }


def _rule(met: Met) -> str:
    return f"{met.chain.table} {met.chain.chain}: {met.rule}"


def _left_out(path: Path) -> Iterator[dict[str, Any]]:
    """With those that drain: their weight is 0 because they are left out."""
    case, way = path.case, path.decided.way
    there = {leg.where for leg, _ in path.decided.arrivals if leg.value.weight}
    told = case.left_out[case.local and not short_circuit(way)]
    for each in told:
        if DestinationKey(each.address, each.number) not in there:
            yield _left(each.address, each.number, each.node, each.reason)
    if way.server is not None and not case.taken:
        for where in sorted(case.nodes.keys() - way.server.destinations.keys() - {each[:2] for each in told}):
            yield _left(*where, case.nodes[where], "the next sync brings it")


def _left(address: bytes, port: int, node: str, reason: str) -> dict[str, Any]:
    return {"address": address_text(address), "port": port, "node": node, "reason": reason}


def _affinity_document(path: Path) -> dict[str, Any] | None:
    if path.affinity is None:
        return None
    where = path.affinity.destination
    return {"address": address_text(where.address), "port": where.port, "expires": path.affinity.expires}
