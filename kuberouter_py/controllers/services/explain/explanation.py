"""The answer to one question: decided and, where it is asked for, actual, side by side, and where they differ. Pure.

`decided` is made at one moment between two syncs; `compared` may then take its time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kuberouter_py.controllers.services.explain.case import Case, case_of
from kuberouter_py.controllers.services.explain.known import Known
from kuberouter_py.controllers.services.explain.question import Origin, Target, Unanswerable, frontends
from kuberouter_py.controllers.services.explain.rules import Met
from kuberouter_py.controllers.services.explain.states import Actual, Decided
from kuberouter_py.controllers.services.explain.verdict import Source, Verdict, short_circuit, source_of, title, verdict
from kuberouter_py.controllers.services.explain.way import Way, walk
from kuberouter_py.controllers.services.nodestate import CHAINS
from kuberouter_py.model.kernel import PERSISTENT, Chain, DestinationKey, Rules, SetMember, address_text, family_of
from kuberouter_py.model.notation import (
    destination_option,
    endpoint_text,
    entry_text,
    key_text,
    protocol_text,
    scheduling_options,
    server_text,
)
from kuberouter_py.ports import Affinity, Lookups


@dataclass(frozen=True)
class Told:
    """One state's answer. asked: what sets were asked on the way."""

    way: Way
    sources: Sequence[Source]
    verdict: Verdict
    asked: Mapping[SetMember, bool]


@dataclass(frozen=True)
class Path:
    """affinity: what ip_vs remembers of this client; "" where it was not asked or has no such thing."""

    case: Case
    decided: Told
    affinity: Affinity | None
    wanted_chains: Mapping[Chain, Rules]
    actual: Told | None = None
    differences: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return self.decided.verdict


def decided(origin: Origin, target: Target, known: Known, lookups: Lookups) -> list[Path]:
    """Raises Unanswerable; EdgeError where the node's routes cannot be asked."""
    families = [family for family in known.view.families if origin.kind == "node" or _has(origin, family)]
    if target.address and family_of(target.address) not in families:
        raise Unanswerable(_other_family(origin, family_of(target.address), known))
    paths = []
    for frontend in frontends(target, families, known):
        case = case_of(frontend, origin, known, lookups)
        told = _told(case, Decided(known), lookups)
        chains = dict(known.wanted(CHAINS))
        paths.append(Path(case, told, _affinity(told.way, lookups), chains))
    return paths


def compared(path: Path, lookups: Lookups, chains: Mapping[Chain, Rules]) -> Path:
    """With what the kernel has now. chains: `lookups.chains()`, one for all paths. Raises EdgeError."""
    state = Actual(lookups, chains, path.wanted_chains)
    told = _told(path.case, state, lookups)
    family = path.case.packet.family
    differences = [f"{key_text(CHAINS, chain)} is not as written" for chain in state.changed_chains(family)]
    differences += _differences(path.decided, told)
    return Path(path.case, path.decided, path.affinity, path.wanted_chains, told, tuple(differences))


def _has(origin: Origin, family: int) -> bool:
    return any(family_of(each) == family for each in origin.addresses)


def _other_family(origin: Origin, family: int, known: Known) -> str:
    if family not in known.view.families:
        return f"IPv{family} is off on this node"
    return f"{origin.kind} {origin.name} has no IPv{family} address: it cannot send there"


def _told(case: Case, state: Decided | Actual, lookups: Lookups) -> Told:
    way = walk(state, case.packet, lookups.toward, from_node=case.from_node)
    sources = [source_of(case, way, leg) for leg in way.legs]
    held = [member for member, found in state.asked.items() if found]
    return Told(way, sources, verdict(case, way, sources, held), state.asked)


def _affinity(way: Way, lookups: Lookups) -> Affinity | None:
    if way.key is None or way.server is None or not way.server.flags & PERSISTENT:
        return None
    return lookups.affinity(way.key, way.packet.source)


def _differences(decided: Told, actual: Told) -> Iterator[str]:
    wanted, found = decided.way.server, actual.way.server
    if decided.way.key and not found:
        yield f"the kernel has no virtual server {server_text(decided.way.key)}"
    elif actual.way.key and not wanted:
        yield f"the kernel has a virtual server {server_text(actual.way.key)} that is not decided"
    elif wanted and found:
        if wanted[:3] != found[:3]:
            yield f"scheduling is {scheduling_options(*found[:3])}, decided is {scheduling_options(*wanted[:3])}"
        for where in sorted(wanted.destinations.keys() | found.destinations.keys()):
            here, there = wanted.destinations.get(where), found.destinations.get(where)
            if there is None:
                yield f"destination {endpoint_text(*where)} is missing"
            elif here is None:
                yield f"destination {endpoint_text(*where)} is there and not decided"
            elif here != there:
                yield f"destination is {destination_option(where, there)}, decided is {destination_option(where, here)}"
    for member in decided.asked.keys() & actual.asked.keys():
        if decided.asked[member] != actual.asked[member]:
            state = "lacks" if decided.asked[member] else "holds, and should not,"
            yield f"ipset {member.set} {state} {entry_text(member.entry)}"
    if decided.verdict.outcome != actual.verdict.outcome:
        yield f"so packets find it {actual.verdict.outcome}, decided is {decided.verdict.outcome}"


# -- as a document ---------------------------------------------------------------------------------------------------


def document(node: str, origin: Origin, paths: Sequence[Path], remarks: Sequence[str]) -> dict[str, Any]:
    """Plain values, ready for JSON. Its form is a promise (docs/operations.md): fields are added, never changed."""
    first = paths[0]
    told = first.actual or first.decided
    return {
        "node": node,
        "from": {
            "kind": origin.kind,
            "name": origin.name,
            "node": origin.node,
            "addresses": [address_text(each) for each in origin.addresses],
        },
        "outcome": str(told.verdict.outcome),
        "verdict": str(told.verdict),
        "remarks": list(remarks),
        "paths": [_path(path) for path in paths],
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
        "decided": _state(case, path.decided),
        "actual": _state(case, path.actual) if path.actual else None,
        "differences": list(path.differences),
        "leftOut": _left_out(path),
        "affinity": _affinity_document(path),
        "notes": list(case.notes),
        "refused": list(case.refused),
    }


def _state(case: Case, told: Told) -> dict[str, Any]:
    way = told.way
    return {
        "outcome": str(told.verdict.outcome),
        "verdict": str(told.verdict),
        "server": _server(way),
        "destinations": [
            {
                "address": address_text(leg.where.address),
                "port": leg.where.port,
                "node": case.nodes.get(leg.where, ""),
                "weight": leg.value.weight,
                "forwarding": leg.value.forwarding.name.lower(),
                "source": address_text(source.address) if source.address else "",
                "masqueraded": source.masqueraded,
                "why": source.reason,
            }
            for leg, source in zip(way.legs, told.sources, strict=True)
        ],
        "rules": [_rule(met) for met in way.met],
        "notUnderstood": [_rule(met) for met in way.unread],
    }


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


def _left_out(path: Path) -> list[dict[str, Any]]:
    """With those that drain: their weight is 0 because they are left out."""
    way = path.decided.way
    there = {leg.where for leg in way.legs if leg.value.weight}
    local = path.case.local and not short_circuit(way)
    return [
        {
            "address": address_text(each.address),
            "port": each.number,
            "node": each.node,
            "reason": each.reason,
        }
        for each in path.case.left_out[local]
        if DestinationKey(each.address, each.number) not in there
    ]


def _affinity_document(path: Path) -> dict[str, Any] | None:
    if path.affinity is None:
        return None
    where = path.affinity.destination
    return {"address": address_text(where.address), "port": where.port, "expires": path.affinity.expires}
