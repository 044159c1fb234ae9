"""Which pods are in which of the sets that rules speak of, found through what a pod says of itself. Pure.

A set is live while a guard speaks of it. For one pod only those sets are looked at that its namespace and one of its
labels lead to; for one set only the pods that its first plain label, its namespace or its port's name leads to; for a
namespace whose labels change only the sets of the selectors that it comes to or leaves.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping

from kuberouter_py.controllers.firewall.sets import NamedPort, Need, PodsOf, set_name
from kuberouter_py.controllers.firewall.world import Label, World
from kuberouter_py.model.cluster import ObjectKey, Pod
from kuberouter_py.model.kernel import SetEntry, SetMember, family_of
from kuberouter_py.model.policies import Operator, Selector

Where = str | Selector  # a namespace's name, or which namespaces


class PeerSet:
    """A set while it is live: what it is for, its names by family, and who speaks of it (nobody: not live any more)."""

    __slots__ = ("names", "need", "users")

    def __init__(self, need: Need) -> None:
        self.need = need
        self.names: Mapping[int, str] = {family: set_name(need, family) for family in (4, 6)}
        self.users: set[Hashable] = set()


class Peers:
    def __init__(self, world: World) -> None:
        self._world = world
        self._live: dict[Need, PeerSet] = {}
        self._used: dict[Hashable, frozenset[Need]] = {}
        self._sets: dict[Where, dict[Label | None, set[PeerSet]]] = {}  # None: no plain label leads there
        self._selectors: dict[str, set[Selector]] = {}  # of those that sets have: which select a namespace

    def count(self) -> int:
        """Of live sets, both families as one."""
        return len(self._live)

    def used(self, user: Hashable) -> frozenset[Need]:
        """What this user speaks of."""
        return self._used.get(user, frozenset())

    def use(self, user: Hashable, needs: Collection[Need]) -> tuple[list[PeerSet], list[PeerSet]]:
        """What this user speaks of from now on; returns what becomes live and what ceases to be."""
        before, now = self._used.get(user, frozenset()), frozenset(needs)
        come, gone = [], []
        for need in now - before:
            live = self._live.get(need)
            if live is None:
                live = self._live[need] = PeerSet(need)
                come.append(live)
                self._index(live)
            live.users.add(user)
        for need in before - now:
            live = self._live[need]
            live.users.discard(user)
            if not live.users:
                del self._live[need]
                gone.append(live)
                self._unindex(live)
        if now:
            self._used[user] = now
        else:
            self._used.pop(user, None)
        return come, gone

    # -- of one pod ------------------------------------------------------------------------------------------------

    def members(self, key: ObjectKey, families: Collection[int]) -> Iterator[SetMember]:
        """Of all live sets, what is there of this pod."""
        pod = self._world.pods.get(key)
        if pod is not None:
            yield from self._members(pod, self._of(pod), families)

    def members_of(self, key: ObjectKey, sets: Iterable[PeerSet], families: Collection[int]) -> Iterator[SetMember]:
        """Of these sets, as far as they are live."""
        pod = self._world.pods.get(key)
        if pod is not None:
            yield from self._members(
                pod, (each for each in sets if each.users and self._holds(each.need, pod)), families
            )

    def _members(self, pod: Pod, sets: Iterable[PeerSet], families: Collection[int]) -> Iterator[SetMember]:
        entries = [
            (family, SetEntry(address))
            for address in self._world.addresses(pod.key)
            if (family := family_of(address)) in families
        ]
        for each in sets if entries else ():
            need = each.need
            if not isinstance(need, NamedPort):
                for family, entry in entries:
                    yield SetMember(each.names[family], entry)
                continue
            for number in {port.port for port in pod.ports if (port.name, port.protocol) == need}:
                for family, (address, *_) in entries:
                    yield SetMember(each.names[family], SetEntry(address, need.protocol, number))

    def _of(self, pod: Pod) -> Iterator[PeerSet]:
        wheres: list[Where] = [pod.key.namespace, *self._selectors.get(pod.key.namespace, ())]
        for where in wheres:
            by_label = self._sets.get(where)
            if by_label:
                for label in (None, *pod.labels.items()):
                    for each in by_label.get(label, ()):
                        if each.need.pods.selects(pod.labels):  # type: ignore[union-attr]  # the index has no other
                            yield each
        for named in {NamedPort(port.name, port.protocol) for port in pod.ports}:
            live = self._live.get(named)
            if live is not None:
                yield live

    def _holds(self, need: Need, pod: Pod) -> bool:
        if isinstance(need, NamedPort):
            return any((port.name, port.protocol) == need for port in pod.ports)
        if not isinstance(need, PodsOf) or not need.pods.selects(pod.labels):
            return False
        if need.namespaces is None:
            return need.namespace == pod.key.namespace
        return need.namespaces in self._selectors.get(pod.key.namespace, ())

    # -- of one set ------------------------------------------------------------------------------------------------

    def in_set(self, need: Need) -> set[ObjectKey]:
        """The pods in it, whether it is live or not."""
        world = self._world
        if isinstance(need, NamedPort):
            return set(world.declaring(need.name, need.protocol))
        if not isinstance(need, PodsOf):
            return set()
        return {key for key in self._candidates(need) if need.pods.selects(world.pods[key].labels)}

    def all_members(self, peers: PeerSet, families: Collection[int]) -> Iterator[tuple[ObjectKey, SetMember]]:
        """Of this set, and whose they are."""
        for key in self.in_set(peers.need):
            for member in self._members(self._world.pods[key], (peers,), families):
                yield key, member

    def _candidates(self, need: PodsOf) -> Iterator[ObjectKey]:
        world, label = self._world, _lead(need.pods)
        if need.namespaces is None:
            selected: Collection[str] = (need.namespace,)
        else:
            selected = {name for name, labels in world.namespaces.items() if need.namespaces.selects(labels)}
        groups = [world.in_namespace(name) for name in selected]
        if label is not None and len(labelled := world.labelled(label)) < sum(map(len, groups)):
            return (key for key in labelled if key.namespace in selected)
        return (key for group in groups for key in group)

    # -- of one namespace ------------------------------------------------------------------------------------------

    def namespace_changed(self, name: str) -> list[tuple[PeerSet, Collection[ObjectKey]]]:
        """The sets that some of its pods may have come to or left, and which pods."""
        labels = self._world.namespaces.get(name)
        selectors = [where for where in self._sets if isinstance(where, Selector)]
        now = {each for each in selectors if labels is not None and each.selects(labels)}
        before = self._selectors.get(name, set())
        if now:
            self._selectors[name] = now
        else:
            self._selectors.pop(name, None)
        pods = self._world.in_namespace(name)
        groups = [group for where in now ^ before for group in self._sets[where].items()]
        return [
            (each, pods if label is None else pods & self._world.labelled(label))
            for label, group in groups
            for each in group
        ]

    # -- the index -------------------------------------------------------------------------------------------------

    def _index(self, live: PeerSet) -> None:
        need = live.need
        if not isinstance(need, PodsOf):
            return
        where: Where = need.namespace if need.namespaces is None else need.namespaces
        if where not in self._sets and isinstance(where, Selector):
            for name, labels in self._world.namespaces.items():
                if where.selects(labels):
                    self._selectors.setdefault(name, set()).add(where)
        self._sets.setdefault(where, {}).setdefault(_lead(need.pods), set()).add(live)

    def _unindex(self, live: PeerSet) -> None:
        need = live.need
        if not isinstance(need, PodsOf):
            return
        where: Where = need.namespace if need.namespaces is None else need.namespaces
        by_label, label = self._sets[where], _lead(need.pods)
        by_label[label].discard(live)
        if not by_label[label]:
            del by_label[label]
        if not by_label:
            del self._sets[where]
            if isinstance(where, Selector):
                for name, selectors in list(self._selectors.items()):
                    selectors.discard(where)
                    if not selectors:
                        del self._selectors[name]


def _lead(selector: Selector) -> Label | None:
    """A label that everything it selects has."""
    for requirement in selector.requirements:
        if requirement.operator is Operator.IN and len(requirement.values) == 1:
            return requirement.key, requirement.values[0]
    return None
