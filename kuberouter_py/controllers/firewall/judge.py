"""The judge: whether NetworkPolicy allows an attempt, by P1.01 to P4.09, and because of which policies and rules. Pure.

It reads as the rules do and knows nothing of sets or chains: what is written into the kernel is compiled elsewhere and
compared with it. `explain` asks it as well, and so does whoever wants to know which flows a new policy forbids. Replies
are not attempts: they belong to the flow that was allowed (P5.05).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from kuberouter_py.model.cluster import ContainerPort, Namespace, ObjectKey, Pod
from kuberouter_py.model.policies import IpBlock, NetworkPolicy, Peer, PodPeer, PolicyPort, PolicyRule

FINISHED = frozenset({"Succeeded", "Failed"})


class Direction(StrEnum):
    EGRESS = "egress"
    INGRESS = "ingress"


class Attempt(NamedTuple):
    """What opens a flow, with the addresses that the pods see: the client's own, and behind a Service the pod's
    (P2.04, P3.04). port: 0 for a protocol without. from_node: made by the node on which the destination runs.
    """

    source: bytes
    destination: bytes
    protocol: int
    port: int = 0
    from_node: bool = False


RuleKey: TypeAlias = tuple[ObjectKey, int]  # of a policy, and the rule's position among those of one direction


class Side(NamedTuple):
    """pod: None where that side is no pod. policies: those that isolate it. by: rules of them that allow the attempt.

    One that is isolated and allowed by no rule is a pod's way to itself, or its own node's way to it.
    """

    pod: ObjectKey | None
    isolated: bool
    allowed: bool
    by: tuple[RuleKey, ...] = ()
    policies: tuple[ObjectKey, ...] = ()


class Verdict(NamedTuple):
    allowed: bool
    egress: Side
    ingress: Side

    @property
    def to_itself(self) -> bool:
        return self.egress.pod is not None and self.egress.pod == self.ingress.pod


class End(NamedTuple):
    """One end of an attempt. namespace: labels of the pod's; None where there is no pod, or its namespace is not known,
    which no selector selects then.
    """

    address: bytes
    pod: Pod | None = None
    namespace: Mapping[str, str] | None = None


class Case(NamedTuple):
    """An attempt between the ends that it is made by and to."""

    attempt: Attempt
    source: End
    destination: End

    def near(self, direction: Direction) -> End:
        """The end whose policies are asked."""
        return self.destination if direction is Direction.INGRESS else self.source

    def far(self, direction: Direction) -> End:
        """The end that their peers are about."""
        return self.source if direction is Direction.INGRESS else self.destination


def is_party(pod: Pod) -> bool:
    """Whether policies are about it. Not on the host's network, for its address is the node's (P4.01), and not when
    finished, for its address may be another pod's (P4.04). One that is being deleted is (P4.05).
    """
    return not pod.host_network and pod.phase not in FINISHED


def _later(pod: Pod) -> tuple[bool, float, ObjectKey]:
    """Of two parties with one address the smaller one has it (P4.04): the one that stays, then the younger one, for
    the address was given to it last; the name decides between two of the same second.
    """
    return pod.deleting, -pod.created, pod.key


class Cluster:
    """What there is, arranged for thousands of verdicts; it does not change."""

    def __init__(self, policies: Iterable[NetworkPolicy], pods: Iterable[Pod], namespaces: Iterable[Namespace]) -> None:
        self._namespaces = {namespace.key.name: namespace.labels for namespace in namespaces}
        self._policies: dict[str, list[NetworkPolicy]] = {}
        for policy in sorted(policies, key=lambda policy: policy.key):
            self._policies.setdefault(policy.key.namespace, []).append(policy)
        self._pods: dict[bytes, Pod] = {}
        for pod in sorted(filter(is_party, pods), key=_later):
            for address in pod.ips:  # P4.07
                self._pods.setdefault(address, pod)
        self._selecting: dict[ObjectKey, Sequence[NetworkPolicy]] = {}

    def end(self, address: bytes) -> End:
        pod = self._pods.get(address)
        return End(address, pod, self._namespaces.get(pod.key.namespace) if pod else None)

    def isolating(self, pod: Pod, direction: Direction) -> Sequence[NetworkPolicy]:
        """P1.03, P1.04: of its own namespace, by its labels, and only those that speak of the direction."""
        selecting = self._selecting.get(pod.key)
        if selecting is None:
            there = self._policies.get(pod.key.namespace, ())
            selecting = self._selecting[pod.key] = [policy for policy in there if policy.pods.selects(pod.labels)]
        return [policy for policy in selecting if rules_of(policy, direction) is not None]


def verdict(attempt: Attempt, cluster: Cluster) -> Verdict:
    """P1.01: both sides must allow it."""
    case = case_of(attempt, cluster)
    source, destination = case.source, case.destination
    to_itself = source.pod is not None and source.pod is destination.pod  # P4.08
    egress = _side(Direction.EGRESS, case, cluster, exempt=to_itself)
    ingress = _side(Direction.INGRESS, case, cluster, exempt=to_itself or attempt.from_node)  # P4.02
    return Verdict(egress.allowed and ingress.allowed, egress, ingress)


def case_of(attempt: Attempt, cluster: Cluster) -> Case:
    """A node is no pod, whatever claims its address."""
    source = End(attempt.source) if attempt.from_node else cluster.end(attempt.source)
    return Case(attempt, source, cluster.end(attempt.destination))


def _side(direction: Direction, case: Case, cluster: Cluster, exempt: bool) -> Side:
    pod = case.near(direction).pod
    if pod is None:
        return Side(None, isolated=False, allowed=True)
    policies = cluster.isolating(pod, direction)
    by = tuple(
        (policy.key, position)
        for policy in policies
        for position, rule in enumerate(rules_of(policy, direction) or ())
        if peers_match(rule, policy, case.far(direction)) and ports_match(rule, case)  # P1.05
    )
    return Side(
        pod=pod.key,
        isolated=bool(policies),
        allowed=not policies or bool(by) or exempt,  # P1.02: any rule of any of them is enough
        by=by,
        policies=tuple(policy.key for policy in policies),
    )


def rules_of(policy: NetworkPolicy, direction: Direction) -> Sequence[PolicyRule] | None:
    """None: the policy does not isolate that direction."""
    return policy.ingress if direction is Direction.INGRESS else policy.egress


def peers_match(rule: PolicyRule, policy: NetworkPolicy, far: End) -> bool:
    """P1.05, P1.06."""
    return rule.peers is None or any(is_peer(peer, policy.key.namespace, far) for peer in rule.peers)


def ports_match(rule: PolicyRule, case: Case) -> bool:
    """P1.06; without a list every protocol there is (P2.02). In both directions the receiver's ports (P2.04, P2.05)."""
    return rule.ports is None or any(is_port(port, case.attempt, case.destination.pod) for port in rule.ports)


def is_peer(peer: Peer, own_namespace: str, far: End) -> bool:
    """own_namespace: the policy's."""
    if isinstance(peer, IpBlock):
        return _is_in_block(peer, far.address)
    return far.pod is not None and _is_pod_peer(peer, own_namespace, far.pod, far.namespace)


def _is_pod_peer(peer: PodPeer, own_namespace: str, pod: Pod, namespace: Mapping[str, str] | None) -> bool:
    """P1.07, P1.10."""
    if peer.namespaces is None:
        namespace_matches = pod.key.namespace == own_namespace
    else:
        namespace_matches = namespace is not None and peer.namespaces.selects(namespace)
    return namespace_matches and peer.pods.selects(pod.labels)


def _is_in_block(block: IpBlock, address: bytes) -> bool:
    """P3.01, P3.03; of its own family only (P3.02)."""
    return address in block.cidr and not any(address in taken for taken in block.excepts)


def is_port(port: PolicyPort, attempt: Attempt, receiver: Pod | None) -> bool:
    if port.protocol != attempt.protocol:
        return False
    if port.port is None:
        return True  # P2.01
    if isinstance(port.port, int):
        return port.port <= attempt.port <= port.end  # P2.08
    declared = receiver.ports if receiver is not None else ()
    return ContainerPort(port.port, attempt.protocol, attempt.port) in declared  # P2.05, P2.06
