"""Flows that were allowed once and are not any more: which they are, and how long none of them may be picked up again.

Conntrack lets what is established pass. So the entry of a flow that is forbidden now is deleted (P5.04). That alone is
not enough: the next packet of either side makes a new one, and what the server sends would be judged as if the server
had begun it. A member of the set of cut flows, which is there before the entry goes, keeps that out. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from kuberouter_py.controllers.firewall.chains import CUT_FLOWS
from kuberouter_py.controllers.firewall.judge import Attempt, Cluster, verdict
from kuberouter_py.controllers.firewall.world import World
from kuberouter_py.model.cluster import Namespace, ObjectKey
from kuberouter_py.model.kernel import Flow, SetEntry, SetMember, family_of
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


class Cuts:
    """Which members of the set there are, and until when (monotonic seconds)."""

    def __init__(self) -> None:
        self._until: dict[SetMember, float] = {}

    def add(self, members: Iterable[SetMember], now: float) -> None:
        self._until.update(dict.fromkeys(members, now + LASTS))

    def over(self, now: float) -> list[SetMember]:
        """Those whose time is over; they are forgotten."""
        done = [member for member, until in self._until.items() if until <= now]
        for member in done:
            del self._until[member]
        return done

    def due(self) -> float | None:
        return min(self._until.values(), default=None)

    def __len__(self) -> int:
        return len(self._until)
