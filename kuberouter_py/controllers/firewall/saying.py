"""A verdict in words: one sentence that says why, and a line for each policy that had a say. Pure.

Owns how selectors, peers, ports and rules are written for people. What is true is the judge's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from kuberouter_py.controllers.firewall.judge import (
    FINISHED,
    Attempt,
    Case,
    Cluster,
    Direction,
    End,
    Side,
    Verdict,
    case_of,
    is_peer,
    is_port,
    peers_match,
    ports_match,
    rules_of,
)
from kuberouter_py.model.cluster import Cidr, Pod
from kuberouter_py.model.kernel import Protocol, address_text
from kuberouter_py.model.notation import protocol_text
from kuberouter_py.model.policies import IpBlock, NetworkPolicy, Operator, Peer, PolicyPort, PolicyRule, Selector

T = TypeVar("T")

LISTED: Final = 4  # of the elements of one list
_OTHER_PROTOCOLS: Final[Mapping[int, str]] = {1: "icmp", 58: "icmpv6"}  # IANA
_WAY: Final = {Direction.EGRESS: "to", Direction.INGRESS: "from"}


def sentence(found: Verdict, attempt: Attempt, cluster: Cluster) -> str:
    """ "denied: ingress of y/b is isolated by y/api and no rule of it allows tcp/80 from x/a (app=web)"."""
    case = case_of(attempt, cluster)
    if found.to_itself:
        return f"allowed: {found.ingress.pod} reaches itself whatever its policies say"
    sides = [(direction, side) for direction, side in _sides(found) if found.allowed or not side.allowed]
    return f"{'allowed' if found.allowed else 'denied'}: " + "; ".join(_why(*each, case) for each in sides)


def reasons(found: Verdict, attempt: Attempt, cluster: Cluster) -> tuple[str, ...]:
    """For each side who it is; then the rules that allow, or, where none does, of every policy that isolates it the
    nearest rule and the parts that are not understood. What is about one policy or one pod more is indented.
    """
    return tuple(_reasons(found, case_of(attempt, cluster), cluster))


def selector_text(selector: Selector) -> str:
    """As kubectl takes it: "app=web,tier in (a,b),!old"; "" for everything."""
    return ",".join(_requirement_text(*requirement) for requirement in selector.requirements)


def peer_text(peer: Peer, own_namespace: str) -> str:
    """ "10.0.0.0/8 except 10.1.0.0/16", "pods app=web of namespaces team=x"."""
    if isinstance(peer, IpBlock):
        excepts = f" except {_some(map(_cidr_text, peer.excepts))}" if peer.excepts else ""
        return f"{_cidr_text(peer.cidr)}{excepts}"
    pods = f"pods {text}" if (text := selector_text(peer.pods)) else "every pod"
    if peer.namespaces is None:
        return f"{pods} of namespace {own_namespace}"
    return f"{pods} of " + (f"namespaces {text}" if (text := selector_text(peer.namespaces)) else "every namespace")


def port_text(port: PolicyPort) -> str:
    """ "tcp/80", "sctp/80-90", "udp/dns"; "tcp" for every port of it."""
    if port.port is None:
        return protocol_text(port.protocol)
    last = f"-{port.end}" if isinstance(port.port, int) and port.end > port.port else ""
    return f"{protocol_text(port.protocol)}/{port.port}{last}"


def asked_text(attempt: Attempt) -> str:
    """ "tcp/80", "icmp", "protocol 50"."""
    if attempt.protocol in Protocol.__members__.values():
        return f"{protocol_text(attempt.protocol)}/{attempt.port}"
    return _OTHER_PROTOCOLS.get(attempt.protocol, f"protocol {attempt.protocol}")


# The sentence


def _sides(found: Verdict) -> Iterable[tuple[Direction, Side]]:
    return (Direction.EGRESS, found.egress), (Direction.INGRESS, found.ingress)


def _why(direction: Direction, side: Side, case: Case) -> str:
    if side.pod is None:
        return f"{_end_text(case, direction)} is no pod that policies are about"
    what = f"{direction} of {side.pod}"
    if not side.isolated:
        return f"no policy isolates {what}"
    if side.by:
        return f"{what} is allowed by {_some(f'{key} {direction}[{position}]' for key, position in side.by)}"
    if side.allowed:
        return f"{what} is isolated, but open to its own node"
    policies, them = _some(map(str, side.policies)), "it" if len(side.policies) == 1 else "them"
    far = _far_text(case, direction)
    return f"{what} is isolated by {policies} and no rule of {them} allows {asked_text(case.attempt)} {far}"


def _far_text(case: Case, direction: Direction) -> str:
    far = case.far(direction)
    labels = f" ({_labels_text(far.pod.labels)})" if far.pod else ""
    return f"{_WAY[direction]} {_far_name(case, direction)}{labels}"


def _far_name(case: Case, direction: Direction) -> str:
    return _end_text(case, Direction.EGRESS if direction is Direction.INGRESS else Direction.INGRESS)


def _end_text(case: Case, direction: Direction) -> str:
    """The end that is near in that direction, by name or address."""
    end = case.near(direction)
    if end.pod is not None:
        return str(end.pod.key)
    node = "the node " if case.attempt.from_node and direction is Direction.EGRESS else ""
    return f"{node}{address_text(end.address)}"


# The reasons


def _reasons(found: Verdict, case: Case, cluster: Cluster) -> Iterator[str]:
    for direction, side in _sides(found):
        end = case.near(direction)
        yield f"{direction}: {_standing(direction, side, case)}"
        if not (direction is Direction.EGRESS and case.attempt.from_node):
            yield from (f"  {_bystander_text(pod, end)}" for pod in cluster.bystanders(end.address))
        if end.pod is None or found.to_itself:
            continue
        for policy in cluster.isolating(end.pod, direction):
            yield from (f"  {line}" for line in _policy_lines(policy, direction, side, case))


def _standing(direction: Direction, side: Side, case: Case) -> str:
    end = case.near(direction)
    if end.pod is None:
        return f"{_end_text(case, direction)} is no pod that policies are about"
    named = f"{end.pod.key} ({_labels_text(end.pod.labels)})"
    if not side.isolated:
        return f"{named} is not isolated"
    unknown = f"; namespace {end.pod.key.namespace} is not known" if end.namespace is None else ""
    return f"{named} is isolated by {_some(map(str, side.policies))}{unknown}"


def _bystander_text(pod: Pod, end: End) -> str:
    address = address_text(end.address)
    if pod.host_network:
        return f"{pod.key} is on the host's network: {address} is its node's"
    if pod.phase in FINISHED:
        return f"{pod.key} had {address}, and is finished"
    assert end.pod is not None, "of all parties with an address one has it"
    return f"{pod.key} claims {address} as well: {_precedence(pod, end.pod)}"


def _precedence(pod: Pod, held: Pod) -> str:
    if pod.deleting and not held.deleting:
        return f"it is being deleted, {held.key} stays"
    if held.created > pod.created:
        return f"{held.key} is younger"
    return f"{held.key} comes first by its name"


def _policy_lines(policy: NetworkPolicy, direction: Direction, side: Side, case: Case) -> Iterator[str]:
    """Where a rule of any policy allows, the others need no excuse (P1.02)."""
    rules = rules_of(policy, direction) or ()
    shown = [position for key, position in side.by if key == policy.key]
    if not side.by and rules:
        shown = [_nearest(rules, policy, direction, case)]
    for position in shown:
        yield f"{policy.key} {direction}[{position}]: {_rule_text(rules[position], policy, direction, case)}"
    if side.by:
        return
    if not rules:
        yield f"{policy.key}: has no {direction} rule, so it allows nothing"
    for text in policy.unusable:
        if text.startswith(f"spec.{direction}"):
            yield f"{policy.key}: matches nothing at {text}"


def _nearest(rules: Sequence[PolicyRule], policy: NetworkPolicy, direction: Direction, case: Case) -> int:
    """The first whose peers match, or else the first whose ports do, or else the first."""
    far = case.far(direction)
    return min(
        range(len(rules)),
        key=lambda at: (not peers_match(rules[at], policy, far), not ports_match(rules[at], case)),
    )


def _rule_text(rule: PolicyRule, policy: NetworkPolicy, direction: Direction, case: Case) -> str:
    """ "peer yes: pods app=web of namespace y; port no: tcp/443, udp/53"."""
    own, far = policy.key.namespace, case.far(direction)
    receiver = case.destination
    peers = _part_text(
        "peer", rule.peers, lambda peer: is_peer(peer, own, far), lambda peer, holds: _peer_line(peer, own, far, holds)
    )
    ports = _part_text(
        "port",
        rule.ports,
        lambda port: is_port(port, case.attempt, receiver.pod),
        lambda port, holds: _port_line(port, receiver),
    )
    return f"{peers}; {ports}"


def _part_text(
    noun: str, elements: Sequence[T] | None, holds: Callable[[T], bool], text: Callable[[T, bool], str]
) -> str:
    if elements is None:
        return f"{noun} yes: any"
    if not elements:
        return f"{noun} no: nothing that is written there is understood"
    matching = next((element for element in elements if holds(element)), None)
    if matching is not None:
        return f"{noun} yes: {text(matching, True)}"
    return f"{noun} no: {_some(text(element, False) for element in elements)}"


def _peer_line(peer: Peer, own_namespace: str, far: End, holds: bool) -> str:
    text = peer_text(peer, own_namespace)
    if isinstance(peer, IpBlock):
        taken = next((each for each in peer.excepts if not holds and far.address in each), None)
        return f"{text} ({address_text(far.address)} is in {_cidr_text(taken)})" if taken else text
    if far.pod is None:
        return f"{text} ({address_text(far.address)} is no pod)"
    if peer.namespaces is None or (far.namespace is not None and peer.namespaces.selects(far.namespace)):
        return text
    has = "is not known" if far.namespace is None else f"has {_labels_text(far.namespace)}"
    return f"{text} (namespace {far.pod.key.namespace} {has})"


def _port_line(port: PolicyPort, receiver: End) -> str:
    """With a name: which number it has there."""
    text = port_text(port)
    if not isinstance(port.port, str):
        return text
    if receiver.pod is None:
        return f"{text} ({address_text(receiver.address)} is no pod, and names no port)"
    numbers = [each.port for each in receiver.pod.ports if (each.name, each.protocol) == (port.port, port.protocol)]
    if not numbers:
        return f"{text} (no port of {receiver.pod.key} has that name)"
    return f"{text} ({_some(map(str, numbers))} at {receiver.pod.key})"


# Words


def _requirement_text(key: str, operator: Operator, values: Sequence[str]) -> str:
    listed = f"({','.join(values)})"
    if operator is Operator.IN:
        return f"{key}={values[0]}" if len(values) == 1 else f"{key} in {listed}"
    if operator is Operator.NOT_IN:
        return f"{key}!={values[0]}" if len(values) == 1 else f"{key} notin {listed}"
    return key if operator is Operator.EXISTS else f"!{key}"


def _labels_text(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "no labels"


def _cidr_text(cidr: Cidr) -> str:
    return f"{address_text(cidr.network)}/{cidr.prefix}"


def _some(texts: Iterable[str]) -> str:
    """The first few, and how many more."""
    listed = [*texts]
    more = len(listed) - LISTED
    return ", ".join(listed if more <= 0 else [*listed[:LISTED], f"{more} more"])
