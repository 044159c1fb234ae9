"""What was rung is taken in: World has what the cluster says of it now, and what has to be decided anew is known.

Nothing is decided here, and nothing claimed: decisions.py does that, stage by stage.
"""

from __future__ import annotations

from collections.abc import Iterable

from kuberouter_py.controllers.firewall.concerned import Concerned
from kuberouter_py.controllers.firewall.guards import Guard, Guards
from kuberouter_py.controllers.firewall.notes import Notes, policy_notes
from kuberouter_py.controllers.firewall.peers import Peers
from kuberouter_py.controllers.firewall.population import Population
from kuberouter_py.controllers.firewall.rung import NAMESPACE, POD, POLICY, Rung
from kuberouter_py.controllers.firewall.world import World
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.ports import PoliciesOfCluster


class Intake:
    """targets: local pods that may want other guards, or have other addresses. recompile: guards whose rules may be
    others. Who decides of them empties both.
    """

    def __init__(
        self,
        cluster: PoliciesOfCluster,
        world: World,
        peers: Peers,
        guards: Guards,
        population: Population,
        concerned: Concerned,
        notes: Notes,
    ) -> None:
        self._cluster = cluster
        self._world = world
        self._peers = peers
        self._guards = guards
        self._population = population
        self._concerned = concerned
        self._notes = notes
        self.targets: set[ObjectKey] = set()
        self.recompile: set[Guard] = set()

    def take_all(self) -> None:
        """Everything there is."""
        cluster = self._cluster
        namespaces = (Rung(NAMESPACE, each.key) for each in cluster.namespaces())
        policies = (Rung(POLICY, each.key) for each in cluster.policies())
        self.take([*namespaces, *policies, *(Rung(POD, each.key) for each in cluster.pods_in_full())])

    def take(self, rung: Iterable[Rung]) -> None:
        """Namespaces and policies before pods: a pod is asked about once."""
        keys: dict[str, set[ObjectKey]] = {NAMESPACE: set(), POLICY: set(), POD: set()}
        for kind, key in rung:
            if kind in keys:
                keys[kind].add(key)
        for key in keys[NAMESPACE]:
            self._take_namespace(key)
        for key in keys[POLICY]:
            self._take_policy(key)
        for key in keys[POD]:
            self._take_pod(key)

    def _take_namespace(self, key: ObjectKey) -> None:
        namespace = self._cluster.namespace(key)
        news = self._world.take_namespace(key.name, namespace.labels if namespace else None)
        for peers, pods in self._peers.namespace_changed(key.name) if news else ():
            self._population.look_at_in(pods, peers)

    def _take_policy(self, key: ObjectKey) -> None:
        policy = self._cluster.policy(key)
        if policy == self._world.policy(key):
            return
        self.targets |= self._world.take_policy(key, policy)
        self.recompile |= self._guards.of_policy(key)
        self._notes.about(POLICY, key, policy_notes(policy))

    def _take_pod(self, key: ObjectKey) -> None:
        before = self._world.pods.get(key)
        for touched in self._world.take_pod(key, self._cluster.pod(key)):
            holders = (before, self._world.pods.get(touched))
            self._concerned.allowed_more(address for pod in holders if pod is not None for address in pod.ips)
            self._population.look_at((touched,))
            if any(pod is not None and self._world.is_local(pod) for pod in holders):
                self.targets.add(touched)
