"""A packet's way in words: one line that says what its sender sees, and why. Pure.

The reasons are those of the rule that decided: what a set means stands here once, beside the names that chains.py gives
the sets.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from enum import StrEnum
from ipaddress import ip_address
from typing import NamedTuple

from kuberouter_py.controllers.services.admission import cidr_text, inside
from kuberouter_py.controllers.services.explain.case import CLUSTER_IP, Case
from kuberouter_py.controllers.services.explain.question import port_text, ports_text
from kuberouter_py.controllers.services.explain.rules import Met
from kuberouter_py.controllers.services.explain.way import End, Leg, Way
from kuberouter_py.controllers.services.policies import SHORT_CIRCUIT
from kuberouter_py.model.healthcheck import HealthCheck
from kuberouter_py.model.kernel import Forwarding, MarkServerKey, SetMember, VirtualServer, address_text
from kuberouter_py.model.names import CONNMARK_MASQUERADE, SERVICES_SETS, services_set
from kuberouter_py.model.notation import endpoint_text, protocol_text, scheduling_options


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


class Source(NamedTuple):
    """The address that a destination sees, whether it stands for the sender's own, and why."""

    address: bytes
    masqueraded: bool
    reason: str


class Arrival(NamedTuple):
    """At one destination."""

    leg: Leg
    source: Source


_SET = re.compile(rf"(! )?--match-set {SERVICES_SETS}([a-z-]+)-[46] (\S+)")
_NAME = re.compile(rf"{SERVICES_SETS}([a-z]+)-")
_SILENT = {"silent", "silentoutside"}
_GIVEN = re.compile(r"--to-source (\S+)")
_MARKS_FOR_MASQUERADE = f"--set-xmark 0x{CONNMARK_MASQUERADE:x}/"


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
    return any(_is_direct(leg) and leg.where.address == way.packet.source for leg, _ in arrivals)


def _is_direct(leg: Leg) -> bool:
    return leg.value.forwarding is not Forwarding.MASQUERADE


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
        how = "direct server return" if all(_is_direct(each.leg) for each in arrivals) else "not masqueraded"
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
    roles = _roles(rule) or {name for member in held for name in _NAME.findall(member.set)}
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
    if port is not None and "dsrvips" in _roles(rule):
        return f"{_why_empty(case)} (direct server return)"
    if service is None:
        return f"rejected by the guard: no Service has port {asked} of {address_text(key.address)}"
    return f"rejected by the guard: Service {service.key} has no port {asked}, but {ports_text(service)}"


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


def _roles(rule: Met | None) -> list[str]:
    return [role for _, role, _ in _SET.findall(rule.rule)] if rule else []


# -- the address that a destination sees -----------------------------------------------------------------------------


def source_of(case: Case, way: Way, leg: Leg) -> Source:
    if _is_direct(leg):
        return Source(way.packet.source, False, "direct server return: the endpoint answers by itself")
    if leg.masquerade is None:
        return Source(way.packet.source, False, _why_kept(case, way))
    given = _GIVEN.search(leg.masquerade.rule)
    of_link = leg.hop.source if leg.hop else b""
    source = ip_address(given[1]).packed if given else of_link
    return Source(source, True, _why_masqueraded(case, way, leg.masquerade))


def _why_masqueraded(case: Case, way: Way, rule: Met) -> str:
    roles = _roles(rule)
    if "hairpin" in roles:
        return "a pod that is sent to itself would never see its answer rewritten"
    if "vips" in roles:
        return "it took a Service's address as its source"
    if "--src-type LOCAL" in rule.rule:
        return "the node's own, it leaves with the address of its link"
    marking = next((met for met in reversed(way.met) if _MARKS_FOR_MASQUERADE in met.rule), None)
    roles = _roles(marking)
    if "external" in roles:
        return f"{case.policy} Cluster: it may go to another node, whose answer must come back here"
    if "clusterips" in roles and case.config.masquerade_all:
        return "--masquerade-all"
    if "clusterips" in roles:
        return f"its source is no pod of this node ({_detector(case)})"
    return f"by {rule.chain.chain}: {rule.rule}"


def _why_kept(case: Case, way: Way) -> str:
    if case.role != CLUSTER_IP:
        return f"{case.policy} Local keeps it" if case.local else "no rule masquerades it"
    accepted = next((met for met in way.met if met.rule.startswith("-s ") and met.rule.endswith("-j ACCEPT")), None)
    if accepted:
        return f"a pod of this node ({_detector(case)})"
    return "it is this node's own address" if case.from_node else f"no rule masquerades it ({_detector(case)})"


def _detector(case: Case) -> str:
    view = case.view
    what = ", ".join(map(cidr_text, view.detector_cidrs)) or view.detector_interface
    return f"{view.detector} {what}".strip() if view.detector != "none" else "local traffic is not told apart"


def title(case: Case) -> str:
    """ "ClusterIP 10.96.0.10:80/tcp of default/web, port http 80/tcp"."""
    key, service, port = case.frontend
    where = f"{endpoint_text(key.address, key.port)}/{protocol_text(key.protocol)}"
    if service is None:
        return where
    named = f", port {port_text(port)}" if port else ""
    return f"{where}, {case.role} of {service.key}{named}" if port else f"{where}, of {service.key}"
