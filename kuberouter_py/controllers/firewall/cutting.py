"""Flows that were allowed once and are not any more: which they are, and how long none of them may be picked up again.

Conntrack lets what is established pass. So the entry of a flow that is forbidden now is deleted (P5.04). That alone is
not enough: the next packet of either side makes a new one, and what the server sends would be judged as if the server
had begun it. A member of the set of cut flows, which is there before the entry goes, keeps that out, until there is
nothing to keep out any more. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from typing import NamedTuple, TypeAlias

from kuberouter_py.controllers.firewall.chains import CUT_FLOWS
from kuberouter_py.controllers.firewall.judge import Attempt, Cluster, verdict
from kuberouter_py.controllers.firewall.world import World
from kuberouter_py.model.cluster import Namespace, ObjectKey
from kuberouter_py.model.kernel import Flow, Protocol, SetEntry, SetMember, family_of
from kuberouter_py.model.names import firewall_set

# As long as conntrack itself would remember a connection that is silent (nf_conntrack_tcp_timeout_established, as
# kube-proxy sets it): after that no side of it can be alive unheard.
LASTS = 86400.0  # seconds
CUT_SETS = frozenset(firewall_set(CUT_FLOWS, family) for family in (4, 6))


def concern(flows: Iterable[Flow], addresses: Collection[bytes]) -> Iterator[Flow]:
    """Those that one of these takes part in: who asked, and who answers behind any Service."""
    return (flow for flow in flows if flow.source in addresses or flow.answers in addresses)


def forbidden(flow: Flow, cluster: Cluster, world: World, own: Collection[bytes]) -> bool:
    """Whether this node would refuse it now: by who asked first, masqueraded or not, and the pod that answers.

    What the other end's node thinks is its affair. own: this node's addresses.
    """
    attempt = Attempt(flow.source, flow.answers, flow.protocol, flow.answers_port, from_node=flow.source in own)
    found = verdict(attempt, cluster)
    return any(
        not side.allowed
        and side.pod is not None
        and (pod := world.pods.get(side.pod)) is not None
        and world.is_local(pod)
        for side in (found.egress, found.ingress)
    )


def cluster_of(flows: Iterable[Flow], world: World) -> Cluster:
    """As much of what there is as a verdict on these flows looks at: their ends, the policies and labels there."""
    ends = {address for flow in flows for address in (flow.source, flow.answers)}
    pods = {pod.key: pod for address in ends if (pod := world.holder(address)) is not None}
    names = {key.namespace for key in pods}
    namespaces = [Namespace(ObjectKey("", name), world.namespaces[name]) for name in names & world.namespaces.keys()]
    return Cluster((policy for name in names for policy in world.policies(name)), pods.values(), namespaces)


def cut_member(flow: Flow) -> SetMember:
    entry = SetEntry(flow.answers, flow.protocol, flow.answers_port, flow.source)
    return SetMember(firewall_set(CUT_FLOWS, family_of(flow.answers)), entry)


def flow_of(member: SetMember) -> Flow:
    """As much of it as the judge asks about."""
    server, protocol, port, client, _ = member.entry
    return Flow(protocol, client, 0, server, port, server, port)


Holder: TypeAlias = tuple[ObjectKey, str] | None  # the pod and its uid
Holders: TypeAlias = tuple[Holder, Holder]


def holders(member: SetMember, world: World) -> Holders:
    """Which pods its server's and its client's address belong to."""
    pods = world.holder(member.entry.address), world.holder(member.entry.address2)
    server, client = ((pod.key, pod.uid) if pod else None for pod in pods)
    return server, client


def needless(cut: Mapping[SetMember, Holders], world: World, own: Collection[bytes]) -> list[SetMember]:
    """Those that keep out nothing forbidden: the flow is allowed now, or an end of it is another pod's or nobody's.

    cut: with the holders at the time of cutting.

    Of TCP only those with an end that is another pod's. What is left of a connection that was cut would be taken up in
    its middle by conntrack (nf_conntrack_tcp_loose), from the server's side, and so as a connection that the server
    had begun: no later denial would know it again. And the member is in nobody's way: a SYN passes it, and so does what
    belongs to a connection that conntrack knows. Elsewhere the server's first packet may be a flow of its own.
    """
    flows = {member: flow_of(member) for member in cut}
    cluster = cluster_of(flows.values(), world)
    found: list[SetMember] = []
    for member, before in cut.items():
        now = holders(member, world)
        if member.entry.protocol == Protocol.TCP:
            over = any(new not in (None, old) for new, old in zip(now, before, strict=True))
        else:
            over = now != before or not forbidden(flows[member], cluster, world, own)
        if over:
            found.append(member)
    return found


class Cut(NamedTuple):
    """until: monotonic seconds. holders: at the time of cutting."""

    until: float
    holders: Holders


class Cuts:
    """Which members of the set there are."""

    def __init__(self) -> None:
        self._cuts: dict[SetMember, Cut] = {}
        self._at: dict[bytes, set[SetMember]] = {}  # by either end

    def add(self, members: Iterable[SetMember], now: float, world: World) -> None:
        for member in members:
            self._cuts[member] = Cut(now + LASTS, holders(member, world))
            for address in (member.entry.address, member.entry.address2):
                self._at.setdefault(address, set()).add(member)

    def end(self, members: Iterable[SetMember]) -> None:
        for member in members:
            del self._cuts[member]
            for address in {member.entry.address, member.entry.address2}:
                self._at[address].discard(member)
                if not self._at[address]:
                    del self._at[address]

    def over(self, now: float) -> list[SetMember]:
        """Those whose time is over."""
        return [member for member, cut in self._cuts.items() if cut.until <= now]

    def at(self, addresses: Set[bytes] | None) -> dict[SetMember, Holders]:
        """Those with an end there, None: all; with their holders at the time of cutting."""
        if addresses is None:
            return {member: cut.holders for member, cut in self._cuts.items()}
        few = addresses & self._at.keys() if self._at else ()
        return {member: self._cuts[member].holders for address in few for member in self._at[address]}

    def due(self) -> float | None:
        return min((cut.until for cut in self._cuts.values()), default=None)
