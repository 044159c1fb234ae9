"""Every way out of the process, as Protocols, and the errors they raise. Implemented in kernel/, watchers/ and
observe/.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from kuberouter_py.model.cluster import Cidr, EndpointSlice, Namespace, Node, ObjectKey, Pod, PodMetadata, Service
from kuberouter_py.model.kernel import (
    Chain,
    DestinationKey,
    Flow,
    LinkState,
    Rules,
    ServerKey,
    SetMember,
    VirtualServer,
)
from kuberouter_py.model.podnet import CniSeen
from kuberouter_py.model.policies import NetworkPolicy

K = TypeVar("K")
V = TypeVar("V")


class EdgeError(Exception):
    """Something outside said no; the message says what was asked, of whom, and the answer."""


class Unavailable(EdgeError):
    """This node cannot do it at all: a module, a program or a permission is missing."""


class Busy(EdgeError):
    """Not now: a lock is held or a dump was interrupted; the same call may succeed in a moment."""


class Refused(NamedTuple):
    """Why one key was not written. missing: what the node lacks (Unavailable), so that a fall-back may be chosen."""

    reason: str
    missing: bool = False


@dataclass(frozen=True)
class Actual(Generic[K, V]):
    """What a table holds. ours: what carries our mark, complete; foreign: the rest, where the edge can see it."""

    ours: dict[K, V]
    foreign: dict[K, V] = field(default_factory=dict)


@dataclass(frozen=True)
class Part(Generic[K, V]):
    """A piece of a table. gone: of the keys that were asked for, those that are not there."""

    ours: Mapping[K, V] = field(default_factory=dict)
    foreign: Mapping[K, V] = field(default_factory=dict)
    gone: Collection[K] = ()


@dataclass(frozen=True)
class Plan(Generic[K, V]):
    """The difference to write. change holds (value in the kernel, value wanted)."""

    add: Mapping[K, V] = field(default_factory=dict)
    change: Mapping[K, tuple[V, V]] = field(default_factory=dict)
    remove: Mapping[K, V] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.add or self.change or self.remove)


class Table(Protocol[K, V]):
    """One kernel table. What every implementation owes is tested in tests/kernel/ against the real kernel.

    `apply` is idempotent: adding what is there as wanted, and removing what is gone, succeed. What was refused comes
    back by key with its reason; everything else is done. Only `read` raises EdgeError.
    """

    name: str

    def read(self) -> Actual[K, V]: ...

    def apply(self, plan: Plan[K, V]) -> dict[K, Refused]: ...


@runtime_checkable
class SlicedTable(Protocol):
    """What a table that can hold a hundred thousand keys offers besides: to be read while changes are written to it.

    Together the parts tell what `read` would: everything there is, and which of the `known` keys are gone. Each step
    takes some 10 ms; `apply` may be called between two of them. So a part tells nothing of use about a key that was
    applied since parts() began; and a key that others change meanwhile may be missed until the next time, or be said
    to be gone by mistake, which is harmless: to add what is there succeeds. Steps raise EdgeError.
    """

    def parts(self, known: Sequence[Any]) -> Iterator[Part[Any, Any]]: ...


class ServicesOfCluster(Protocol):
    """What the services controller asks of the cache. Every answer is the newest object, never a copy in the making."""

    def service_keys(self) -> Collection[ObjectKey]:
        """Every Service there is, and every Service that a slice names."""

    def service(self, key: ObjectKey) -> Service | None: ...

    def slices_of(self, service: ObjectKey) -> Sequence[EndpointSlice]: ...

    def pods(self) -> Mapping[str, PodMetadata]:
        """By UID; of those that have a weight or are being deleted, as far as they are known yet."""

    def node(self, name: str) -> Node | None: ...

    def nodes(self) -> Collection[Node]: ...

    def service_cidrs(self) -> Sequence[Cidr]: ...


class PoliciesOfCluster(Protocol):
    """What the firewall asks of the cache. Every answer is the newest object, never a copy in the making."""

    def pod(self, key: ObjectKey) -> Pod | None: ...

    def pods_in_full(self) -> Sequence[Pod]: ...

    def namespace(self, key: ObjectKey) -> Namespace | None: ...

    def namespaces(self) -> Sequence[Namespace]: ...

    def policy(self, key: ObjectKey) -> NetworkPolicy | None: ...

    def policies(self) -> Sequence[NetworkPolicy]: ...

    def node(self, name: str) -> Node | None: ...


class RoutingOfCluster(Protocol):
    """What the routing controller asks of the cache. Every answer is the newest object, never a copy in the making."""

    def service_keys(self) -> Collection[ObjectKey]:
        """Every Service there is, and every Service that a slice names."""

    def service(self, key: ObjectKey) -> Service | None: ...

    def slices_of(self, service: ObjectKey) -> Sequence[EndpointSlice]: ...

    def node(self, name: str) -> Node | None: ...

    def nodes(self) -> Collection[Node]: ...

    def service_cidrs(self) -> Sequence[Cidr]: ...


class RoutingFacts(Protocol):
    """What the routing controller asks of the node besides its tables. Raises EdgeError."""

    def links(self) -> Sequence[LinkState]: ...

    def sysctl_before_us(self, key: str) -> str | None:
        """A sysctl's value as it was before we first wrote it; None where the kernel has none."""

    def password_file(self) -> str:
        """What --peer-router-passwords-file holds; "" without such a flag."""

    def cni(self) -> CniSeen:
        """The CNI configuration at --cni-conf-file."""


class FirewallFacts(Protocol):
    """What the firewall asks of the node besides its tables. Raises EdgeError."""

    def links(self) -> Sequence[LinkState]: ...


class NodeFacts(Protocol):
    """What the services controller asks of the node besides its tables. Raises EdgeError."""

    def links(self) -> Sequence[LinkState]: ...

    def sysctl_before_us(self, key: str) -> str | None:
        """A sysctl's value as it was before we first wrote it; None where the kernel has none."""

    def can_set_sysctl(self, key: str) -> bool:
        """Whether this process may write it; some keys only the first namespace may (nf_conntrack_max)."""

    def has_scheduler(self, name: str) -> bool: ...

    def connections(self, servers: Sequence[Any]) -> Mapping[Any, Mapping[DestinationKey, int]]:
        """Connections of each destination of these virtual servers, those that are about to end included."""

    def kernel_version(self) -> tuple[int, int]: ...

    def processors(self) -> int: ...


class Hop(NamedTuple):
    """Where the node's routes lead to an address: the link, and the source that the kernel would give a packet."""

    link: str
    source: bytes


class Affinity(NamedTuple):
    """A persistence template: where ip_vs keeps a client, and the seconds until it forgets that."""

    destination: DestinationKey
    expires: int


class Lookups(Protocol):
    """What `explain` asks of the kernel, one question at a time, from any thread. Raises EdgeError."""

    def toward(self, address: bytes) -> Hop | None:
        """None: no route leads there."""

    def is_local(self, address: bytes, mark: int = 0) -> bool:
        """Whether a packet to it, with that mark, is taken in by this node."""

    def server(self, key: ServerKey) -> VirtualServer | None: ...

    def affinity(self, key: ServerKey, client: bytes) -> Affinity | None: ...

    def holds(self, member: SetMember) -> bool:
        """Of a set of networks: whether one of them holds the address."""

    def mark(self, member: SetMember) -> int:
        """The packet mark that a member carries; 0: none, or no such member."""

    def chains(self) -> Mapping[Chain, Rules]:
        """All of ours; each equals what was written to it for as long as nobody changed it."""


class FirewallLookups(Protocol):
    """What `explain` asks of the kernel about the firewall, from any thread. Raises EdgeError."""

    def holds(self, member: SetMember) -> bool:
        """Of a set of networks: whether the smallest of them that the address is in is no exception."""

    def chains(self) -> Mapping[Chain, Rules]:
        """All of ours; each equals what was written to it for as long as nobody changed it."""


class NetworkNamespace(NamedTuple):
    """path: by which it can be entered, as long as the process (or the mount) that holds it is there; inode: what tells
    whether it is still the same one.
    """

    inode: int
    path: str


class PodNamespaces(Protocol):
    """How this node's pods' network namespaces are found; a container runtime could be asked as well."""

    def find(self, pods: Collection[tuple[str, bytes]]) -> Mapping[tuple[str, bytes], NetworkNamespace | Refused]:
        """pods: UID and one of the pod's addresses. An answer for each; Refused says why it was not found."""

    def everywhere(self) -> Iterator[NetworkNamespace]:
        """Every other one that this process sees."""


class Flows(Protocol):
    """The connections that the kernel remembers. Raises EdgeError."""

    def udp_flows(self, family: int) -> Iterable[Flow]: ...

    def forget(self, flows: Iterable[Flow]) -> None:
        """Just these, if they are still there."""


class TrackedFlows(Protocol):
    """Every TCP, UDP and SCTP connection that the kernel remembers. Raises EdgeError."""

    def flows(self, family: int) -> Iterable[Flow]: ...

    def forget(self, flows: Iterable[Flow]) -> None:
        """Just these, if they are still there."""
