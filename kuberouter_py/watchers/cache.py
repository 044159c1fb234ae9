"""What the cluster said last: the newest object of every key, with the indexes that decisions ask for.

Owns the objects and what changed between the old and the new one; says which keys a change concerns and leaves the
ringing to its caller. Keeps no resource versions: those belong to the watch that they came from. Thread-safe; the
objects themselves never change, so what is handed out stays whole.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar, cast

from kuberouter_py.model.cluster import (
    Cidr,
    EndpointSlice,
    Namespace,
    Node,
    ObjectKey,
    Pod,
    PodMetadata,
    Service,
    ServiceCidr,
)
from kuberouter_py.model.policies import NetworkPolicy
from kuberouter_py.watchers.decode import ClusterObject
from kuberouter_py.watchers.decode_workloads import as_said_before

T = TypeVar("T")
_NAMES: Mapping[type, str] = {ServiceCidr: "ServiceCIDR"}  # every other class has its kind's name


def kind_of(kind: type) -> str:
    """ "EndpointSlice" for the class EndpointSlice."""
    return _NAMES.get(kind, kind.__name__)


class Cache:
    """Writers (one watcher a kind) use put, delete, replace, undecodable and mark_synced; each of the first three
    returns the keys to ring: for an EndpointSlice the Services that its old and its new label name, for a Pod whose
    weight changed those whose slices name it (for its grace period none: who needs that asks in time), otherwise the
    object's own. An object equal to the one before rings nothing. Of a Node whose annotation for pod
    CIDRs makes no sense, those that it said before stay.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._objects: dict[str, dict[ObjectKey, ClusterObject]] = {}
        self._slices: dict[ObjectKey, tuple[EndpointSlice, ...]] = {}  # by Service, in the order of slice names
        self._pods: dict[str, PodMetadata] = {}  # by UID
        self._undecodable: dict[str, dict[ObjectKey, str]] = {}
        self._synced: set[str] = set()

    # Reading

    def get(self, kind: type[T], key: ObjectKey) -> T | None:
        """cache.get(Pod, key). One look-up takes no lock, here and below: 10,000 Services are asked for in a row."""
        return cast("T | None", self._objects.get(kind_of(kind), {}).get(key))

    def list(self, kind: type[T]) -> Sequence[T]:
        """Every object of a kind, in no order worth relying on."""
        with self._changed:
            return cast("list[T]", [*self._objects.get(kind_of(kind), {}).values()])

    def service_keys(self) -> Collection[ObjectKey]:
        """Every Service there is, and every Service that a slice names."""
        with self._changed:
            return {*self._objects.get("Service", {}), *self._slices}

    def service(self, key: ObjectKey) -> Service | None:
        return self.get(Service, key)

    def slices_of(self, service: ObjectKey) -> Sequence[EndpointSlice]:
        """In the order of their names, so that a decision does not depend on the order of events."""
        return self._slices.get(service, ())

    def pods(self) -> Mapping[str, PodMetadata]:
        """By UID; only those that have something to say."""
        return self._pods

    def last_trigger_time(self, service: ObjectKey) -> float:
        """When what its slices now say came about (M4.16), seconds since 1970; 0.0: nobody wrote it down."""
        return max((piece.trigger_time for piece in self.slices_of(service)), default=0.0)

    def node(self, name: str) -> Node | None:
        return self.get(Node, ObjectKey("", name))

    def nodes(self) -> Sequence[Node]:
        return self.list(Node)

    def service_cidrs(self) -> Sequence[Cidr]:
        """Of all ServiceCIDR objects, each once; none where the server does not know the kind."""
        return [*dict.fromkeys(cidr for object in self.list(ServiceCidr) for cidr in object.cidrs)]

    def pod(self, key: ObjectKey) -> Pod | None:
        return self.get(Pod, key)

    def pods_in_full(self) -> Sequence[Pod]:
        """Where whole Pods are watched, not their metadata alone."""
        return self.list(Pod)

    def namespace(self, key: ObjectKey) -> Namespace | None:
        return self.get(Namespace, key)

    def namespaces(self) -> Sequence[Namespace]:
        return self.list(Namespace)

    def policy(self, key: ObjectKey) -> NetworkPolicy | None:
        return self.get(NetworkPolicy, key)

    def policies(self) -> Sequence[NetworkPolicy]:
        return self.list(NetworkPolicy)

    def count(self, kind: str) -> int:
        return len(self._objects.get(kind, {}))

    def failures(self, kind: str) -> Mapping[ObjectKey, str]:
        """Objects whose newest content does not decode, with the reason. What they said before is still in force."""
        with self._changed:
            return dict(self._undecodable.get(kind, {}))

    def synced(self, kind: str) -> bool:
        """Whether the first list of that kind is complete (S1.08)."""
        return kind in self._synced

    def wait_synced(self, kinds: Collection[str], timeout: float | None = None) -> bool:
        """Wait until every one of them is synced, at most that many seconds. Whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: self._synced.issuperset(kinds), timeout)

    # Writing

    def put(self, kind: str, key: ObjectKey, new: ClusterObject) -> set[ObjectKey]:
        with self._changed:
            self._undecodable.get(kind, {}).pop(key, None)
            return self._bells(kind, self._put(kind, key, new))

    def delete(self, kind: str, key: ObjectKey) -> set[ObjectKey]:
        """One that was never seen rings nothing."""
        with self._changed:
            self._undecodable.get(kind, {}).pop(key, None)
            return self._bells(kind, self._put(kind, key, None))

    def replace(
        self,
        kind: str,
        objects: Mapping[ObjectKey, ClusterObject],
        failures: Mapping[ObjectKey, str],
        nameless: int = 0,
    ) -> set[ObjectKey]:
        """A whole list (M1.10). What it lacks is gone, except objects that are listed as undecodable.

        nameless: how many listed objects did not even show their names; any missing one may be among them, so with
        such a list nothing goes.
        """
        with self._changed:
            held = self._objects.setdefault(kind, {})
            gone = [] if nameless else [key for key in held if key not in objects and key not in failures]
            self._undecodable[kind] = dict(failures)
            rung: set[ObjectKey] = set()
            for key in gone:
                rung |= self._put(kind, key, None)
            for key, new in objects.items():
                if held.get(key) is not new:
                    rung |= self._put(kind, key, new)
            return self._bells(kind, rung)

    def undecodable(self, kind: str, key: ObjectKey, reason: str) -> None:
        """Its last good content, if there is one, stays in force."""
        with self._changed:
            self._undecodable.setdefault(kind, {})[key] = reason

    def mark_synced(self, kind: str) -> bool:
        """Whether this was the first time."""
        with self._changed:
            first = kind not in self._synced
            self._synced.add(kind)
            self._changed.notify_all()
            return first

    def _put(self, kind: str, key: ObjectKey, new: ClusterObject | None) -> set[ObjectKey]:
        held = self._objects.setdefault(kind, {})
        old = held.get(key)
        if isinstance(new, Node):
            new = as_said_before(new, cast("Node | None", old))
        if old == new:
            return set()
        if new is None:
            del held[key]
        else:
            held[key] = new
        if kind == "PodMetadata":
            return self._index_pod(cast("PodMetadata | None", old), cast("PodMetadata | None", new))
        if kind != "EndpointSlice":
            return {key}
        return self._index(cast("EndpointSlice | None", old), cast("EndpointSlice | None", new))

    def _index_pod(self, old: PodMetadata | None, new: PodMetadata | None) -> set[ObjectKey]:
        """The UIDs of those whose weight is another one, each as a name in the Pod's namespace."""
        if old is not None:
            self._pods.pop(old.uid, None)
        if new is not None:
            self._pods[new.uid] = new
        weights = {pod.uid: pod.weight for pod in (old, new) if pod is not None and pod.weight}
        if old is not None and new is not None and old.uid == new.uid and old.weight == new.weight:
            return set()
        namespace = (new or cast(PodMetadata, old)).key.namespace
        return {ObjectKey(namespace, uid) for uid in weights}

    def _bells(self, kind: str, rung: set[ObjectKey]) -> set[ObjectKey]:
        """One walk over the slices of the namespaces for all Pods: an index would cost what every endpoint costs, for
        the few that are annotated.
        """
        if kind != "PodMetadata" or not rung:
            return rung
        uids, namespaces = {key.name for key in rung}, {key.namespace for key in rung}
        return {
            service
            for service, pieces in self._slices.items()
            if service.namespace in namespaces
            and any(endpoint.pod in uids for piece in pieces for endpoint in piece.endpoints)
        }

    def _index(self, old: EndpointSlice | None, new: EndpointSlice | None) -> set[ObjectKey]:
        """Slices that name no Service are in no index and ring nobody (S1.09).

        A Service's slices change in one step, because who reads them takes no lock.
        """
        rung = set()
        if new is not None and new.service.name:
            rung.add(new.service)
            pieces = _without(self._slices.get(new.service, ()), new.key)
            at = bisect_left(pieces, new.key.name, key=lambda piece: piece.key.name)
            self._slices[new.service] = (*pieces[:at], new, *pieces[at:])
        if old is not None and old.service.name and (new is None or new.service != old.service):
            rung.add(old.service)
            rest = _without(self._slices.get(old.service, ()), old.key)
            if rest:
                self._slices[old.service] = rest
            else:
                self._slices.pop(old.service, None)
        return rung


def _without(pieces: Iterable[EndpointSlice], key: ObjectKey) -> tuple[EndpointSlice, ...]:
    return tuple(piece for piece in pieces if piece.key != key)
