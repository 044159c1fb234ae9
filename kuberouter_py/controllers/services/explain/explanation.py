"""The answer to one question: decided and, where it is asked for, actual, side by side, and where they differ. Pure.

It is begun at one moment between two syncs; to finish it and to compare it may then take their time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from kuberouter_py.controllers.services.explain.case import Case, case_of
from kuberouter_py.controllers.services.explain.known import Known
from kuberouter_py.controllers.services.explain.question import NODE, Origin, Target, Unanswerable, frontends
from kuberouter_py.controllers.services.explain.source import Arrival, source_of
from kuberouter_py.controllers.services.explain.states import Actual, Decided
from kuberouter_py.controllers.services.explain.verdict import Verdict, verdict
from kuberouter_py.controllers.services.explain.way import Way, legs, walk
from kuberouter_py.controllers.services.nodestate import CHAINS
from kuberouter_py.model.kernel import PERSISTENT, Chain, DestinationKey, Rules, SetMember, family_of
from kuberouter_py.model.notation import key_text
from kuberouter_py.model.notation_servers import destination_option, endpoint_text, scheduling_options, server_text
from kuberouter_py.model.notation_sets import entry_text
from kuberouter_py.ports import Affinity, Lookups


class Begun(NamedTuple):
    """A path as far as ip_vs. state: as it was decided; what it says of single sets stays true without a lock."""

    case: Case
    state: Decided
    way: Way
    draining: Mapping[DestinationKey, float]
    wanted_chains: Mapping[Chain, Rules]


@dataclass(frozen=True)
class Told:
    """One state's answer. asked: what sets were asked on the way."""

    way: Way
    arrivals: Sequence[Arrival]
    verdict: Verdict
    asked: Mapping[SetMember, bool]


@dataclass(frozen=True)
class Path:
    """draining: seconds that are left to each destination which drains. affinity: what ip_vs remembers of this client;
    None where it was not asked or has no such thing.
    """

    case: Case
    decided: Told
    draining: Mapping[DestinationKey, float]
    affinity: Affinity | None
    wanted_chains: Mapping[Chain, Rules]
    actual: Told | None = None
    differences: tuple[str, ...] = ()


def begin(origin: Origin, target: Target, known: Known, lookups: Lookups) -> list[Begun]:
    """What needs the controller to stand still. Raises Unanswerable; EdgeError where the routes cannot be asked."""
    families = [family for family in known.view.families if origin.kind == NODE or _has(origin, family)]
    if target.address and family_of(target.address) not in families:
        raise Unanswerable(_other_family(origin, family_of(target.address), known))
    chains = dict(known.wanted(CHAINS))
    begun = []
    for frontend in frontends(target, families, known):
        case, state = case_of(frontend, origin, known, lookups), Decided(known)
        way = walk(state, case.packet, from_node=case.from_node)
        draining = known.draining(way.key) if way.key else {}
        begun.append(Begun(case, state, way, draining, chains))
    return begun


def finish(begun: Begun, lookups: Lookups) -> Path:
    """To every destination: five thousand of them take a second. Raises EdgeError."""
    told = _told(begun.case, begun.state, begun.way, lookups)
    return Path(begun.case, told, begun.draining, _affinity(told.way, lookups), begun.wanted_chains)


def compared(path: Path, lookups: Lookups, chains: Mapping[Chain, Rules]) -> Path:
    """With what the kernel has now. chains: `lookups.chains()`, one for all paths. Raises EdgeError."""
    state = Actual(lookups, chains, path.wanted_chains)
    case = path.case
    told = _told(case, state, walk(state, case.packet, from_node=case.from_node), lookups)
    differences = [f"{key_text(CHAINS, chain)} is not as written" for chain in state.changed_chains(case.packet.family)]
    differences += _differences(path.decided, told)
    return replace(path, actual=told, differences=tuple(differences))


def _has(origin: Origin, family: int) -> bool:
    return any(family_of(each) == family for each in origin.addresses)


def _other_family(origin: Origin, family: int, known: Known) -> str:
    if family not in known.view.families:
        return f"IPv{family} is off on this node"
    return f"{origin.kind} {origin.name} has no IPv{family} address: it cannot send there"


def _told(case: Case, state: Decided | Actual, way: Way, lookups: Lookups) -> Told:
    arrivals = [Arrival(leg, source_of(case, way, leg)) for leg in legs(state, way, lookups.toward)]
    held = [member for member, found in state.asked.items() if found]
    return Told(way, arrivals, verdict(case, way, arrivals, held), state.asked)


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
