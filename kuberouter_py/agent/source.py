"""Where the cluster is read from, and what of it a controller needs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from kuberouter_py.config import Config
from kuberouter_py.model.cluster import Node, ObjectKey, Pod, PodMetadata, Service
from kuberouter_py.model.policies import NetworkPolicy
from kuberouter_py.model.report import Note
from kuberouter_py.observe.events import EventWriter
from kuberouter_py.ports import EdgeError
from kuberouter_py.watchers.api import ApiClient
from kuberouter_py.watchers.api_errors import Conflict
from kuberouter_py.watchers.broadcaster import Broadcaster
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.finding import find_pod, pods_of
from kuberouter_py.watchers.kinds import (
    ENDPOINT_SLICES,
    NAMESPACES,
    NETWORK_POLICIES,
    NODES,
    POD_METADATA,
    PODS,
    SERVICE_CIDRS,
    SERVICES,
    Kind,
    own_node,
)
from kuberouter_py.watchers.status import WatchStatus
from kuberouter_py.watchers.watchers import Watchers


class NoCluster(EdgeError):
    """The cluster could not be read; the message says where and why."""


def node_name(config: Config) -> str:
    """--hostname-override (or NODE_NAME), else the host's own name, lower case as Node names are."""
    return config.hostname_override or socket.gethostname().lower()


# All Nodes: an external address that one of them has is not bound.
KINDS_OF_SERVICES: tuple[Kind, ...] = (SERVICES, ENDPOINT_SLICES, NODES, SERVICE_CIDRS, POD_METADATA)
KINDS_OF_ROUTING: tuple[Kind, ...] = (SERVICES, ENDPOINT_SLICES, NODES, SERVICE_CIDRS)


def kinds_of(config: Config) -> tuple[Kind, ...]:
    """Only what a running controller reads is watched, and of Nodes only our own where that will do."""
    kinds = {kind.name: kind for kind in kinds_of_firewall(config)} if config.run_firewall else {}
    if config.run_router:
        kinds.update({kind.name: kind for kind in KINDS_OF_ROUTING})
    if config.run_service_proxy:
        kinds.update({kind.name: kind for kind in KINDS_OF_SERVICES})
    return tuple(kinds.values())


def kinds_of_firewall(config: Config) -> tuple[Kind, ...]:
    return (PODS, NAMESPACES, NETWORK_POLICIES, own_node(node_name(config)))


class Source:
    """The cache and whoever fills it: an API server, or with --manifests a folder. Raises EdgeError."""

    def __init__(self, config: Config, kinds: Sequence[Kind]) -> None:
        self.cache = Cache()
        self._broadcaster = Broadcaster()
        self._api = None if config.manifests else ApiClient(config.kubeconfig, config.master)
        self._origin = self._api or Path(config.manifests)
        self._watchers = Watchers(self._origin, kinds, self._broadcaster, self.cache)
        self.name = self._watchers.source

    def subscribe(self, kind: str, ring: Callable[[Collection[ObjectKey]], None]) -> None:
        self._broadcaster.subscribe(kind, ring)

    def start(self) -> None:
        self._watchers.start()

    def stop(self) -> None:
        self._watchers.stop()

    def wait_synced(self, timeout: float) -> bool:
        return self._watchers.wait_synced(timeout)

    def status(self) -> Sequence[WatchStatus]:
        return self._watchers.status()

    def unsynced(self) -> list[str]:
        return self._watchers.unsynced()

    def errors(self) -> dict[str, str]:
        """The last error by kind."""
        return {each.kind: each.last_error for each in self.status() if each.last_error}

    def find_pod(self, key: ObjectKey) -> Pod | None:
        """Asked for now where of Pods only metadata is watched, or nothing. Raises EdgeError."""
        return self.cache.pod(key) or find_pod(self._origin, key)

    def pods_of(self, namespace: str, most: int) -> list[str]:
        """Names of some Pods there. Raises EdgeError."""
        return pods_of(self._origin, namespace, most)

    def event_writer(self) -> EventWriter | None:
        """None where there is no API server to write to."""
        return EventWriter(self._api.create_event, Conflict, self._uid_of) if self._api else None

    def kubelet_version(self, node: str) -> str:
        """ "" where the Node does not say."""
        held = self.cache.node(node)
        return held.kubelet_version if held else ""

    def _uid_of(self, note: Note) -> str:
        """ "" where the object is not known (any more)."""
        if note.owner is None:
            return ""
        held: Service | Pod | PodMetadata | NetworkPolicy | Node | None
        if note.kind == "Service":
            held = self.cache.service(note.owner)
        elif note.kind == "Pod":
            held = self.cache.pod(note.owner) or self.cache.get(PodMetadata, note.owner)
        elif note.kind == "NetworkPolicy":
            held = self.cache.policy(note.owner)
        else:
            held = self.cache.node(note.owner.name)
        return held.uid if held else ""
