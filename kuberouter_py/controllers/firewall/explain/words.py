"""The judge's verdict in sentences, and what a policy's rule allows in an operator's words. Pure.

A rule is called by its place in the object, from 1: "y/web ingress rule 2".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kuberouter_py.controllers.firewall.judge import (
    Case,
    Direction,
    Side,
    Verdict,
    peers_match,
    ports_match,
)
from kuberouter_py.model.cluster import ObjectKey, Pod
from kuberouter_py.model.kernel import address_text
from kuberouter_py.model.notation_servers import protocol_text
from kuberouter_py.model.policies import IpBlock, NetworkPolicy, Operator, Peer, PolicyPort, PolicyRule, Selector
from kuberouter_py.model.values import cidr_text

NAMED = 3  # policies that a sentence names; a list has them all


def reason(verdict: Verdict, case: Case) -> str:
    """Of the whole verdict: of one that denies what denies, else of both sides."""
    sides = {Direction.EGRESS: verdict.egress, Direction.INGRESS: verdict.ingress}
    if verdict.to_itself:
        return f"{verdict.egress.pod} always reaches itself"
    told = {which: side for which, side in sides.items() if not side.allowed}
    told = told or {which: side for which, side in sides.items() if side.isolated}
    if not told:
        return "no policy isolates either end"
    return "; ".join(f"{which} of {side.pod}: {side_reason(which, side, case)}" for which, side in told.items())


def side_reason(direction: Direction, side: Side, case: Case) -> str:
    """Why that side allows or denies."""
    if side.pod is None:
        address = address_text(case.near(direction).address)
        return f"{address} is no pod's own address: no policy is about it"
    if case.source.pod is not None and case.source.pod is case.destination.pod:
        return "a pod always reaches itself"
    if not side.isolated:
        return "no policy isolates it"
    if side.by:
        return f"{rule_name(direction, *side.by[0])} allows it{_more(len(side.by) - 1)}"
    if side.allowed:
        return "its own node always reaches it"
    isolating = _named(side.policies)
    return f"isolated by {isolating}, {'which does not allow it' if len(side.policies) == 1 else 'none allows it'}"


def rule_name(direction: Direction, policy: ObjectKey, position: int) -> str:
    return f"{policy} {direction} rule {position + 1}"


def _more(count: int) -> str:
    return f", and {count} more" if count else ""


def _named(policies: Sequence[ObjectKey]) -> str:
    """ "y/a", "y/a and y/b", "y/a, y/b, y/c and 4 more"."""
    names = list(map(str, policies[:NAMED]))
    if len(policies) > NAMED:
        names.append(f"{len(policies) - NAMED} more")
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def why_not(rule: PolicyRule, policy: NetworkPolicy, direction: Direction, case: Case) -> str:
    """Which part of a rule that does not allow the attempt keeps it out; "" where it allows it."""
    kept = []
    if not peers_match(rule, policy, case.far(direction)):
        kept.append(f"{end_text(case, direction)} is not among its peers ({peers_text(rule, policy, direction)})")
    if not ports_match(rule, case):
        asked = protocol_text(case.attempt.protocol)
        asked = f"{case.attempt.port}/{asked}" if case.attempt.port else f"protocol {asked}"
        kept.append(f"{asked} is not among its ports ({ports_text(rule, case.destination.pod)})")
    return "; ".join(kept)


def end_text(case: Case, direction: Direction) -> str:
    """Who is at the far end: "x/a", "203.0.113.9"."""
    far = case.far(direction)
    return str(far.pod.key) if far.pod else address_text(far.address)


def rule_text(rule: PolicyRule, policy: NetworkPolicy, direction: Direction, receiver: Pod | None) -> str:
    """ "from pods app=client of y, 80/tcp"."""
    preposition = "from" if direction is Direction.INGRESS else "to"
    ports = "" if rule.ports is None else f", {ports_text(rule, receiver)}"
    return f"{preposition} {peers_text(rule, policy, direction)}{ports}"


def peers_text(rule: PolicyRule, policy: NetworkPolicy, direction: Direction) -> str:
    if rule.peers is None:
        return "anybody" if direction is Direction.INGRESS else "anywhere"
    if not rule.peers:
        return "nobody: what is written there is not understood"
    return " or ".join(_peer_text(peer, policy.key.namespace) for peer in rule.peers)


def _peer_text(peer: Peer, namespace: str) -> str:
    if isinstance(peer, IpBlock):
        excepts = f" except {', '.join(map(cidr_text, peer.excepts))}" if peer.excepts else ""
        return f"{cidr_text(peer.cidr)}{excepts}"
    pods = f"pods {selector_text(peer.pods)}" if peer.pods.requirements else "every pod"
    if peer.namespaces is None:
        return f"{pods} of {namespace}"
    if not peer.namespaces.requirements:
        return f"{pods} of every namespace"
    return f"{pods} of namespaces {selector_text(peer.namespaces)}"


def selector_text(selector: Selector) -> str:
    """As `kubectl get -l` has it: "app=web,tier in (a,b),!old"."""
    return ",".join(_requirements(selector)) or "all"


def _requirements(selector: Selector) -> Iterator[str]:
    for key, operator, values in selector.requirements:
        if operator is Operator.EXISTS:
            yield key
        elif operator is Operator.DOES_NOT_EXIST:
            yield f"!{key}"
        elif len(values) == 1:
            yield f"{key}{'=' if operator is Operator.IN else '!='}{values[0]}"
        else:
            yield f"{key} {'in' if operator is Operator.IN else 'notin'} ({','.join(values)})"


def ports_text(rule: PolicyRule, receiver: Pod | None) -> str:
    if rule.ports is None:
        return "every port"
    return ", ".join(_port_texts(rule.ports, receiver)) or "no port: what is written there is not understood"


def _port_texts(ports: Iterable[PolicyPort], receiver: Pod | None) -> Iterator[str]:
    """A name is what the receiving pod makes of it (P2.05)."""
    for port in ports:
        protocol = protocol_text(port.protocol)
        if port.port is None:
            yield f"every {protocol} port"
        elif isinstance(port.port, int):
            yield f"{port.port}-{port.end}/{protocol}" if port.end > port.port else f"{port.port}/{protocol}"
        else:
            yield f"{port.port}/{protocol} = {_declared(port, receiver)}"


def _declared(port: PolicyPort, receiver: Pod | None) -> str:
    if receiver is None:
        return "nothing outside a pod"
    declared = [each.port for each in receiver.ports if (each.name, each.protocol) == (port.port, port.protocol)]
    return f"{' and '.join(map(str, declared)) or 'nothing'} at {receiver.key}"
