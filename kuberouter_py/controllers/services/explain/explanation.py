"""The answer to one question: decided and, where it is asked for, actual, side by side, and where they differ. Pure.

`decided` is made at one moment between two syncs; `compared` may then take its time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kuberouter_py.controllers.services.explain.case import Case, case_of
from kuberouter_py.controllers.services.explain.known import Known
from kuberouter_py.controllers.services.explain.question import Origin, Target, Unanswerable, frontends
from kuberouter_py.controllers.services.explain.states import Actual, Decided
from kuberouter_py.controllers.services.explain.verdict import Source, Verdict, source_of, verdict
from kuberouter_py.controllers.services.explain.way import Way, walk
from kuberouter_py.controllers.services.nodestate import CHAINS
from kuberouter_py.model.kernel import PERSISTENT, Chain, Rules, SetMember, family_of
from kuberouter_py.model.notation import (
    destination_option,
    endpoint_text,
    entry_text,
    key_text,
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
