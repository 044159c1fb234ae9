"""Which pods are in which of the sets that rules speak of, found through what a pod says of itself. Pure.

A set is live while a guard speaks of it. For one pod only those sets are looked at that its namespace and one of its
labels lead to; for one set only the pods that its first plain label leads to.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator

from kuberouter_py.controllers.firewall.sets import NamedPort, Need, PodsOf
from kuberouter_py.controllers.firewall.world import Label, World
from kuberouter_py.model.cluster import ObjectKey, Pod
from kuberouter_py.model.policies import Operator, Selector

Where = str | Selector  # a namespace's name, or which namespaces


class Peers:
    def __init__(self, world: World) -> None:
        self._world = world
        self._users: dict[Need, set[Hashable]] = {}
        self._used: dict[Hashable, frozenset[Need]] = {}
        self._sets: dict[Where, dict[Label | None, set[PodsOf]]] = {}  # None: no plain label leads there
        self._selectors: dict[str, set[Selector]] = {}  # of those that sets have: which select a namespace

    def count(self) -> int:
        """Of live sets, both families as one."""
        return len(self._users)

    def used(self, user: Hashable) -> frozenset[Need]:
        """What this user speaks of."""
        return self._used.get(user, frozenset())

    def use(self, user: Hashable, needs: Collection[Need]) -> tuple[set[Need], set[Need]]:
        """What this user speaks of from now on; returns what becomes live and what ceases to be."""
        before, now = self._used.get(user, frozenset()), frozenset(needs)
        come: set[Need] = set()
        gone: set[Need] = set()
        for need in now - before:
            users = self._users.setdefault(need, set())
            if not users:
                come.add(need)
                self._index(need)
            users.add(user)
        for need in before - now:
            users = self._users[need]
            users.discard(user)
            if not users:
                del self._users[need]
                gone.add(need)
                self._unindex(need)
        if now:
            self._used[user] = now
        else:
            self._used.pop(user, None)
        return come, gone

    def of(self, pod: Pod) -> Iterator[Need]:
        """The live sets that it is in."""
        wheres: list[Where] = [pod.key.namespace, *self._selectors.get(pod.key.namespace, ())]
        for where in wheres:
            by_label = self._sets.get(where)
            if by_label:
                for label in (None, *pod.labels.items()):
                    yield from (each for each in by_label.get(label, ()) if each.pods.selects(pod.labels))
        for port in pod.ports:
            named = NamedPort(port.name, port.protocol)
            if port.name and named in self._users:
                yield named

    def in_set(self, need: Need) -> set[ObjectKey]:
        """The pods in it, whether it is live or not."""
        world = self._world
        if isinstance(need, NamedPort):
            return {
                key for key, pod in world.pods.items() if any((port.name, port.protocol) == need for port in pod.ports)
            }
        if not isinstance(need, PodsOf):
            return set()
        return {key for key in self._candidates(need) if need.pods.selects(world.pods[key].labels)}

    def _candidates(self, need: PodsOf) -> Iterator[ObjectKey]:
        world, label = self._world, _lead(need.pods)
        if need.namespaces is None:
            selected: Collection[str] = (need.namespace,)
        else:
            selected = {name for name, labels in world.namespaces.items() if need.namespaces.selects(labels)}
        if label is not None:
            yield from (key for key in world.labelled(label) if key.namespace in selected)
            return
        for name in selected:
            yield from world.in_namespace(name)

    def namespace_changed(self, name: str) -> bool:
        """Whether its pods are in other sets than before."""
        labels = self._world.namespaces.get(name)
        selectors = [where for where in self._sets if isinstance(where, Selector)]
        now = {each for each in selectors if labels is not None and each.selects(labels)}
        before = self._selectors.get(name, set())
        self._selectors[name] = now
        return now != before

    def _index(self, need: Need) -> None:
        if not isinstance(need, PodsOf):
            return
        where: Where = need.namespace if need.namespaces is None else need.namespaces
        if where not in self._sets and isinstance(where, Selector):
            for name, labels in self._world.namespaces.items():
                if where.selects(labels):
                    self._selectors.setdefault(name, set()).add(where)
        self._sets.setdefault(where, {}).setdefault(_lead(need.pods), set()).add(need)

    def _unindex(self, need: Need) -> None:
        if not isinstance(need, PodsOf):
            return
        where: Where = need.namespace if need.namespaces is None else need.namespaces
        by_label = self._sets[where]
        by_label[_lead(need.pods)].discard(need)
        if not by_label[_lead(need.pods)]:
            del by_label[_lead(need.pods)]
        if not by_label:
            del self._sets[where]
            if isinstance(where, Selector):
                for selectors in self._selectors.values():
                    selectors.discard(where)


def _lead(selector: Selector) -> Label | None:
    """A label that everything it selects has."""
    for requirement in selector.requirements:
        if requirement.operator is Operator.IN and len(requirement.values) == 1:
            return requirement.key, requirement.values[0]
    return None
