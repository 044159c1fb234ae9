"""Which pods, namespaces and policies there are, as the firewall sees them: who has an address, who is where.

Keeps what was decided from last, so that a change shows as a difference. Only objects that count are in it: no pod of
the host's network (P4.01), none that is finished (P4.04). All calls come from the controller's thread; pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Set
from typing import TypeVar

from kuberouter_py.model.cluster import ObjectKey, Pod
from kuberouter_py.model.policies import NetworkPolicy, Selector

FINISHED = frozenset({"Succeeded", "Failed"})
Label = tuple[str, str]
K = TypeVar("K")
_NOBODY: frozenset[ObjectKey] = frozenset()


def counts(pod: Pod | None) -> bool:
    """Whether it has addresses of its own that it may use."""
    return pod is not None and not pod.host_network and pod.phase not in FINISHED and bool(pod.ips)


def prevails(pod: Pod) -> tuple[bool, float, ObjectKey]:
    """Of two pods that claim one address the smaller one has it (P4.04): not the one that goes, then the younger."""
    return pod.deleting, -pod.created, pod.key


class World:
    """node: our name; its pods are the local ones."""

    def __init__(self, node: str) -> None:
        self._node = node
        self.pods: dict[ObjectKey, Pod] = {}
        self._claimants: dict[bytes, tuple[ObjectKey, ...]] = {}  # of an address, the one that has it first
        self._labelled: dict[Label, set[ObjectKey]] = {}
        self._declaring: dict[tuple[str, int], set[ObjectKey]] = {}  # a container port of that name and protocol
        self._in_namespace: dict[str, set[ObjectKey]] = {}
        self._local: dict[str, set[ObjectKey]] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._policies: dict[str, dict[ObjectKey, NetworkPolicy]] = {}

    # -- pods ------------------------------------------------------------------------------------------------------

    def take_pod(self, key: ObjectKey, pod: Pod | None) -> set[ObjectKey]:
        """It is so now; returns whose addresses or labels are others than before: it, and who shared an address."""
        new = pod if counts(pod) else None
        old = self.pods.get(key)
        if old == new:
            return set()
        if old is not None:
            self._forget(old)
        if new is not None:
            self._remember(new)
        addresses = {*(old.ips if old else ()), *(new.ips if new else ())}
        touched = {other for address in addresses for other in self._claimants.get(address, ())}
        for address in addresses:
            self._settle(address)
        return touched | {key}

    def _remember(self, pod: Pod) -> None:
        self.pods[pod.key] = pod
        self._in_namespace.setdefault(pod.key.namespace, set()).add(pod.key)
        if self.is_local(pod):
            self._local.setdefault(pod.key.namespace, set()).add(pod.key)
        for label in pod.labels.items():
            self._labelled.setdefault(label, set()).add(pod.key)
        for port in pod.ports:
            if port.name:
                self._declaring.setdefault((port.name, port.protocol), set()).add(pod.key)
        for address in pod.ips:
            self._claimants[address] = (*self._claimants.get(address, ()), pod.key)

    def _forget(self, pod: Pod) -> None:
        del self.pods[pod.key]
        _discard(self._in_namespace, pod.key.namespace, pod.key)
        _discard(self._local, pod.key.namespace, pod.key)
        for label in pod.labels.items():
            _discard(self._labelled, label, pod.key)
        for port in pod.ports:
            _discard(self._declaring, (port.name, port.protocol), pod.key)
        for address in pod.ips:
            self._claimants[address] = tuple(other for other in self._claimants[address] if other != pod.key)

    def _settle(self, address: bytes) -> None:
        claimants = sorted(self._claimants.get(address, ()), key=lambda key: prevails(self.pods[key]))
        if claimants:
            self._claimants[address] = tuple(claimants)
        else:
            self._claimants.pop(address, None)

    def addresses(self, key: ObjectKey) -> tuple[bytes, ...]:
        """Those that it has, and no other pod with more right to it."""
        pod = self.pods.get(key)
        return tuple(each for each in pod.ips if self._claimants[each][0] == key) if pod else ()

    def holder(self, address: bytes) -> Pod | None:
        claimants = self._claimants.get(address)
        return self.pods[claimants[0]] if claimants else None

    def is_local(self, pod: Pod) -> bool:
        return pod.node == self._node

    def local(self, namespace: str | None = None) -> Iterator[Pod]:
        """Of one namespace, or all."""
        groups = self._local.values() if namespace is None else (self._local.get(namespace, ()),)
        return (self.pods[key] for group in groups for key in group)

    def in_namespace(self, namespace: str) -> Set[ObjectKey]:
        return self._in_namespace.get(namespace, _NOBODY)

    def labelled(self, label: Label) -> Set[ObjectKey]:
        return self._labelled.get(label, _NOBODY)

    def declaring(self, name: str, protocol: int) -> Set[ObjectKey]:
        """Pods with a container port of that name and protocol."""
        return self._declaring.get((name, protocol), _NOBODY)

    # -- namespaces ------------------------------------------------------------------------------------------------

    @property
    def namespaces(self) -> Mapping[str, Mapping[str, str]]:
        """Labels by name."""
        return self._namespaces

    def take_namespace(self, name: str, labels: Mapping[str, str] | None) -> bool:
        """None: there is none (any more). Whether that is news."""
        before = self._namespaces.get(name)
        if labels is None:
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = labels
        return before != labels

    # -- policies --------------------------------------------------------------------------------------------------

    def take_policy(self, key: ObjectKey, policy: NetworkPolicy | None) -> set[ObjectKey]:
        """The local pods that its old or its new selector selects."""
        held = self._policies.setdefault(key.namespace, {})
        old = held.pop(key, None)
        if policy is not None:
            held[key] = policy
        if not held:
            del self._policies[key.namespace]
        selectors = {each.pods for each in (old, policy) if each is not None}
        return {pod.key for pod in self.local(key.namespace) if _any(selectors, pod.labels)}

    def policy(self, key: ObjectKey) -> NetworkPolicy | None:
        return self._policies.get(key.namespace, {}).get(key)

    def policies(self, namespace: str | None = None) -> Iterator[NetworkPolicy]:
        """Of one namespace, or all."""
        groups = self._policies.values() if namespace is None else (self._policies.get(namespace, {}),)
        return (policy for held in groups for policy in held.values())

    def selecting(self, pod: Pod) -> list[NetworkPolicy]:
        """The policies that select it, in the order of their names (P1.02, P1.03)."""
        held = self._policies.get(pod.key.namespace, {})
        return [held[key] for key in sorted(held) if held[key].pods.selects(pod.labels)]


def _any(selectors: Collection[Selector], labels: Mapping[str, str]) -> bool:
    return any(selector.selects(labels) for selector in selectors)


def _discard(index: dict[K, set[ObjectKey]], at: K, key: ObjectKey) -> None:
    group = index.get(at)
    if group is not None:
        group.discard(key)
        if not group:
            del index[at]
