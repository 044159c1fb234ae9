"""What NetworkPolicy says of connections: asked of the firewall and of the kernel, on the thread of whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from kuberouter_py.controllers.firewall.controller import FirewallController
from kuberouter_py.controllers.firewall.explain.document import path_document
from kuberouter_py.controllers.firewall.explain.explanation import (
    FORWARD,
    INPUT,
    OUTPUT,
    Connection,
    Frontend,
    Moment,
    Path,
    actual_state,
    compared,
    explain,
    moment,
)
from kuberouter_py.controllers.firewall.judge import Attempt
from kuberouter_py.model.cluster import Pod
from kuberouter_py.ports import EdgeError, FirewallLookups, PoliciesOfCluster

ATTEMPTS = 3  # to see decided and actual of one moment
FOLLOWED = 500  # of one answer through this node's rules, a millisecond each; the rest is judged by the policies alone
COMPARED = 20  # connections of one answer that the kernel is asked about: each is some dozens of questions


class Asked(NamedTuple):
    """A connection as its destination sees it. own: a process of this node sends it. frontend: of the Service by which
    ip_vs leads it there. at_node: the destination is this node's own address.
    """

    source: bytes
    destination: bytes
    protocol: int
    port: int
    own: bool = False
    frontend: Frontend | None = None
    at_node: bool = False

    @property
    def hook(self) -> str:
        """Where the firewall's rules meet its first packet (chains.py)."""
        if self.own or self.frontend:
            return OUTPUT
        return INPUT if self.at_node else FORWARD


class PolicyExplaining:
    """node: our name."""

    def __init__(
        self, node: str, controller: FirewallController, cluster: PoliciesOfCluster, lookups: FirewallLookups
    ) -> None:
        self._node = node
        self._controller = controller
        self._cluster = cluster
        self._lookups = lookups

    def has_pod(self, address: bytes) -> bool:
        """Whether it is a Pod's own, as far as Pods are watched."""
        return any(address in pod.ips and not pod.host_network for pod in self._cluster.pods_in_full())

    def tell(self, asked: Sequence[Asked], *, actual: bool) -> dict[str, Any]:
        """connections: one for each that is asked about. enforced False: the reason why there are none."""
        try:
            at = self._controller.inquire(moment)
        except EdgeError as error:
            return {"enforced": False, "reason": str(error), "connections": []}
        paths = self._paths(asked, at)
        if actual:
            at, paths = self._compared(asked, at, paths)
        policies = {policy.key: policy for policy in at.policies}
        return {"enforced": True, "reason": "", "connections": [path_document(path, policies) for path in paths]}

    def _paths(self, asked: Sequence[Asked], at: Moment) -> list[Path]:
        return [explain(self._connection(each, at), at, follow=number < FOLLOWED) for number, each in enumerate(asked)]

    def _compared(self, asked: Sequence[Asked], at: Moment, paths: list[Path]) -> tuple[Moment, list[Path]]:
        """Raises EdgeError."""
        for _ in range(ATTEMPTS):
            state = actual_state(self._lookups, at)
            both = [compared(path, state, at.decided.chains) for path in paths[:COMPARED]]
            now = self._controller.inquire(moment)
            again = self._paths(asked, now)
            seen = at, [*both, *paths[COMPARED:]]
            if [path.decided for path in again] == [path.decided for path in paths]:
                break
            at, paths = now, again  # a sync came between
        return seen

    def _connection(self, asked: Asked, at: Moment) -> Connection:
        pod = at.cluster.end(asked.destination).pod
        from_node = pod is not None and (
            (asked.own and pod.node == self._node) or self._has(pod, asked.source)
        )  # P4.02: the node on which it runs, whichever that is
        attempt = Attempt(asked.source, asked.destination, asked.protocol, asked.port, from_node)
        return Connection(attempt, asked.hook, asked.own, asked.frontend)

    def _has(self, pod: Pod, address: bytes) -> bool:
        """Whether the pod's node has it, where that node is known."""
        node = self._cluster.node(pod.node)
        return node is not None and address in (*node.internal_ips, *node.external_ips)
