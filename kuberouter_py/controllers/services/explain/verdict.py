"""A packet's way in words: one line that says what its sender sees, and why. Pure.

The reasons are those of the rule that decided: what a set means stands here once, beside the names that chains.py gives
the sets.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import NamedTuple

from kuberouter_py.controllers.admission import inside
from kuberouter_py.controllers.reading import Met
from kuberouter_py.controllers.services.explain.case import Case
from kuberouter_py.controllers.services.explain.question import port_text, ports_text
from kuberouter_py.controllers.services.explain.source import Arrival, is_direct, roles_of
from kuberouter_py.controllers.services.explain.way import End, Way
from kuberouter_py.controllers.services.policies import SHORT_CIRCUIT
from kuberouter_py.model.healthcheck import HealthCheck
from kuberouter_py.model.kernel import MarkServerKey, SetMember, VirtualServer, address_text
from kuberouter_py.model.names import SERVICES_SETS, services_set
from kuberouter_py.model.notation_servers import endpoint_text, protocol_text, scheduling_options
from kuberouter_py.model.values import cidr_text


class Outcome(StrEnum):
    """What the sender sees of this node's doing."""

    OPEN = "open"
    REFUSED = "refused"  # at once
    SILENT = "silent"
    NOT_OURS = "not ours"  # nothing of ours answers or forbids it
    TAKEN = "taken"  # the Service that was asked about is not the one that answers


class Verdict(NamedTuple):
    outcome: Outcome
    reason: str

    def __str__(self) -> str:
        return f"{self.outcome}: {self.reason}"


_NAME = re.compile(rf"{SERVICES_SETS}([a-z]+)-")
_SILENT = {"silent", "silentoutside"}


def verdict(case: Case, way: Way, arrivals: Sequence[Arrival], held: Collection[SetMember]) -> Verdict:
    """arrivals: at each destination. held: members of sets that the packet met on its way."""
    if case.taken:
        where = endpoint_text(case.frontend.key.address, case.frontend.key.port)
        return Verdict(Outcome.TAKEN, f"{where} is served for {case.taken}, which came first")
    if _sends_to_itself(way, arrivals):
        address = address_text(case.frontend.key.address)
        return Verdict(Outcome.NOT_OURS, f"with direct server return that pod has {address} itself, and answers itself")
    if way.end is End.SERVED:
        return _served(case, way, arrivals)
    if way.end is End.DROPPED:
        return Verdict(Outcome.SILENT, _why_dropped(case, way.last, held))
    if way.end is End.REJECTED:
        return Verdict(Outcome.REFUSED, _why_rejected(case, way.last))
    if way.end is End.LOCAL and case.health_check:
        return Verdict(Outcome.OPEN, _health_check(case.health_check))
    return Verdict(Outcome.NOT_OURS, _why_not_ours(case, way))


def _served(case: Case, way: Way, arrivals: Sequence[Arrival]) -> Verdict:
    open_to = [each for each in arrivals if each.leg.value.weight]
    if case.foreign:
        where = endpoint_text(case.frontend.key.address, case.frontend.key.port)
        why = f"{case.unserved}; " if case.unserved else ""
        return Verdict(Outcome.NOT_OURS, f"{why}a virtual server of somebody else has {where}")
    if not arrivals:
        return Verdict(Outcome.REFUSED, _why_empty(case))
    if case.gone:
        return Verdict(Outcome.REFUSED, f"Service {case.gone} is gone, connections to {_counted(len(arrivals))} go on")
    if not open_to:
        return Verdict(Outcome.REFUSED, f"{_counted(len(arrivals))}, drained (weight 0), and no other")
    assert way.server is not None
    parts = [_counted(len(open_to)), _how(way.server), _seen_as(open_to)]
    if len(open_to) < len(arrivals):
        parts.insert(1, f"{len(arrivals) - len(open_to)} more drained (weight 0)")
    if short_circuit(way):
        parts.append(f"past {case.policy} Local, as a client on this node")
    return Verdict(Outcome.OPEN, ", ".join(parts))


def _sends_to_itself(way: Way, arrivals: Sequence[Arrival]) -> bool:
    return any(is_direct(leg) and leg.where.address == way.packet.source for leg, _ in arrivals)


def short_circuit(way: Way) -> bool:
    """Whether it is led past its policy Local, by a mark, to the destinations of the whole cluster."""
    marking = [met.rule for met in way.met if "--map-set" in met.rule]
    name = services_set(SHORT_CIRCUIT, way.packet.family)
    return isinstance(way.key, MarkServerKey) and bool(marking) and f"--map-set {name} " in marking[-1]


def _health_check(told: HealthCheck) -> str:
    count = f"{told.local_endpoints} local endpoint{'' if told.local_endpoints == 1 else 's'}"
    return f"the agent answers, it is the health check port of {told.service} ({count})"


def _counted(number: int) -> str:
    return f"{number} destination{'' if number == 1 else 's'}"


def _how(server: VirtualServer) -> str:
    """ "rr", "sh -b sh-port", "rr with affinity 10800 s"."""
    words = scheduling_options(server.scheduler, server.flags, server.timeout).removeprefix("-s ")
    return re.sub(r" -p (\d+)", r" with affinity for \1 s", words)


def _seen_as(arrivals: Sequence[Arrival]) -> str:
    masqueraded = [each.source.address for each in arrivals if each.source.masqueraded]
    kept = [each.source.address for each in arrivals if not each.source.masqueraded]
    if not masqueraded:
        how = "direct server return" if all(is_direct(each.leg) for each in arrivals) else "not masqueraded"
        return f"seen as {address_text(kept[0])} ({how})"
    addresses = " or ".join(dict.fromkeys(address_text(each) for each in masqueraded if each)) or "an unknown address"
    if not kept:
        return f"masqueraded as {addresses}"
    to_itself = all(each.leg.where.address in kept for each in arrivals if each.source.masqueraded)
    where = "where it is sent to itself" if to_itself else f"towards {len(masqueraded)} of them"
    return f"masqueraded as {addresses} only {where}, else not"


def _why_empty(case: Case) -> str:
    if case.nodes:
        return "no endpoint is ready"
    others = {each.reason for each in case.left_out[case.local]}
    return f"no endpoint at all ({'; '.join(sorted(others))})" if others else "the Service has no endpoints"


def _why_dropped(case: Case, rule: Met | None, held: Collection[SetMember]) -> str:
    """By the sets that the rule names, or those that led to it."""
    roles = roles_of(rule) or {name for member in held for name in _NAME.findall(member.set)}
    if _SILENT & set(roles):
        return f"{case.policy} Local, no local endpoint"
    if "ranged" in roles:
        ranges = case.frontend.service.source_ranges if case.frontend.service else ()
        return f"outside loadBalancerSourceRanges ({', '.join(ranges)})"
    address = case.frontend.key.address
    if case.frontend.service is None and (allocated := inside(address, case.view.allocated_cidrs)):
        return f"no Service has {address_text(address)} of the Service CIDR {cidr_text(allocated)}"
    return f"dropped by {rule.chain.chain}: {rule.rule}" if rule else "dropped"


def _why_rejected(case: Case, rule: Met | None) -> str:
    key, service, port = case.frontend
    asked = f"{key.port}/{protocol_text(key.protocol)}"
    if port is not None and "dsrvips" in roles_of(rule):
        return f"{_why_empty(case)} (direct server return)"
    if service is None:
        return f"rejected by the port filter: no Service has port {asked} of {address_text(key.address)}"
    return f"rejected by the port filter: Service {service.key} has no port {asked}, but {ports_text(service)}"


def _why_not_ours(case: Case, way: Way) -> str:
    key, service, port = case.frontend
    address = address_text(key.address)
    if case.unserved:
        return case.unserved
    if case.refused:
        return f"the kernel refuses it: {case.refused[0]}"
    if way.end is End.LOCAL:
        link = case.view.local.get(key.address)
        where = f"{address} is this node's own (on {link})" if link else f"{address} is taken in by this node"
        if service and any(each.node_port == key.port for each in service.ports):
            others = ", ".join(map(address_text, case.view.nodeport_addresses)) or "none"
            return f"{where}, and NodePort {key.port} of {service.key} answers on others ({others})"
        return (
            f"{where}, and no Service has its port {key.port}/{protocol_text(key.protocol)}: a process answers, or none"
        )
    if key.address in case.view.elsewhere:
        return f"{address} is another node's own address, packets to it leave this node as they are"
    if service is not None and port is not None:
        return f"{endpoint_text(key.address, key.port)} of Service {service.key} is not served by this node"
    return f"no Service has the address {address}: packets to it leave this node as they are"


def title(case: Case) -> str:
    """ "ClusterIP 10.96.0.10:80/tcp of default/web, port http 80/tcp"."""
    key, service, port = case.frontend
    where = f"{endpoint_text(key.address, key.port)}/{protocol_text(key.protocol)}"
    if service is None:
        return where
    named = f", port {port_text(port)}" if port else ""
    return f"{where}, {case.role} of {service.key}{named}" if port else f"{where}, of {service.key}"
