"""The kubelets of a world: Pods get addresses, a namespace and a status; deleted ones end when their grace is over.

Whoever keeps the objects (cluster.py) tells what it sees with `observe` and `gone`, from any thread, and is told what
to write through `Writer`. What nodes are made of is the world's.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tests.labkit.addresses import AddressBook, primary
from tests.labkit.model import HostPort, NodeSpec, PodNetwork
from tests.labkit.ports import LabError, World

Pod = dict[str, Any]
FINISHED: Final = ("Succeeded", "Failed")
ANNOTATIONS: Final[Mapping[str, tuple[str, ...]]] = {"ip": (), "ready": ("true", "false"), "phase": FINISHED}


class Writer(Protocol):
    def write_status(self, pod: Pod, status: dict[str, Any]) -> None: ...
    def remove(self, pod: Pod) -> None:
        """The grace period is over: the object may go."""


@dataclass
class Running:
    """What a node knows of one Pod."""

    namespace: str
    name: str
    node: str
    addresses: tuple[str, ...]
    host_network: bool
    reported: tuple[str, bool] | None = None  # phase, ready
    finished: bool = False
    ending: threading.Timer | None = None


class Kubelets:
    def __init__(self, nodes: Mapping[str, NodeSpec], world: World, writer: Writer) -> None:
        self._nodes = nodes
        self._world = world
        self._writer = writer
        self._book = AddressBook(nodes)
        self._pods: dict[str, Running] = {}  # by UID
        self._lock = threading.RLock()
        self._closed = False

    def observe(self, pod: Pod) -> None:
        """A Pod as it is now; called again for every change of it."""
        with self._lock:
            if self._closed or (pod.get("spec") or {}).get("nodeName") not in self._nodes:
                return
            running = self._pods.get(pod["metadata"]["uid"])
            ending = bool(pod["metadata"].get("deletionTimestamp"))
            if running is not None or not ending:
                running = running or self._begin(pod)
                self._report(pod, running)
                if ending and running.ending is None:
                    self._terminate(pod, running)
                return
        self._writer.remove(pod)  # deleted before it ever ran

    def gone(self, uid: str) -> None:
        """The object is no more, whoever removed it."""
        with self._lock:
            running = self._pods.pop(uid, None)
            if running is not None:
                if running.ending is not None:
                    running.ending.cancel()
                self._world.remove_pod(running.namespace, running.name)

    def known(self) -> set[str]:
        with self._lock:
            return set(self._pods)

    def unsettled(self, pods: Iterable[Pod]) -> str | None:
        """What is still to do until these are all the Pods there are, each as it should be; None when nothing is."""
        with self._lock:
            left = set(self._pods)
            for pod in pods:
                metadata = pod["metadata"]
                left.discard(metadata["uid"])
                if (pod.get("spec") or {}).get("nodeName") not in self._nodes:
                    continue
                running = self._pods.get(metadata["uid"])
                if running is None or (running.reported != wanted_state(pod) and not running.finished):
                    return f"pod/{metadata['namespace']}/{metadata['name']} is not up"
                if metadata.get("deletionTimestamp") and running.ending is None:
                    return f"pod/{metadata['namespace']}/{metadata['name']} is not terminating"
            for uid in left:
                return f"pod/{self._pods[uid].namespace}/{self._pods[uid].name} is still there"
            return None

    def close(self) -> None:
        """No more timers. The namespaces are the world's to remove."""
        with self._lock:
            self._closed = True
            for running in self._pods.values():
                if running.ending is not None:
                    running.ending.cancel()

    def _begin(self, pod: Pod) -> Running:
        metadata, spec = pod["metadata"], pod["spec"]
        node, host_network = str(spec["nodeName"]), bool(spec.get("hostNetwork"))
        namesake = [uid for uid, each in self._pods.items() if (each.namespace, each.name) == _key(pod)]
        for uid in namesake:  # its end was not seen
            self.gone(uid)
        if host_network:
            addresses = primary(self._nodes[node])
        elif self._nodes[node].pods == "cni":
            if annotation(pod, "ip") is not None:
                raise LabError(f"lab/ip: the pods of {node} get their addresses from CNI")
            addresses = ()
        else:
            in_use = {
                address
                for each in self._pods.values()
                if not each.finished and not each.host_network
                for address in each.addresses
            }
            addresses = self._book.choose(node, annotation(pod, "ip"), in_use)
        namespace, name = _key(pod)
        addresses = self._world.add_pod(
            PodNetwork(namespace, name, metadata["uid"], node, addresses, _ports(spec), host_network, _host_ports(spec))
        )
        self._pods[metadata["uid"]] = Running(namespace, name, node, addresses, host_network)
        return self._pods[metadata["uid"]]

    def _report(self, pod: Pod, running: Running) -> None:
        wanted = wanted_state(pod)
        if running.reported == wanted or (running.finished and running.reported is not None):  # what has ended stays so
            return
        if wanted[0] in FINISHED and not running.finished:
            running.finished = True
            self._world.stop_pod_servers(running.namespace, running.name)
        host = primary(self._nodes[running.node])
        self._writer.write_status(pod, pod_status(pod, running.addresses, host, *wanted))
        running.reported = wanted

    def _terminate(self, pod: Pod, running: Running) -> None:
        grace = pod["metadata"].get("deletionGracePeriodSeconds")
        if running.finished:  # nothing of it runs that could want the time
            grace = 0
        else:
            self._world.pod_terminating(running.namespace, running.name)
        running.ending = threading.Timer(30 if grace is None else grace, self._end, [pod])
        running.ending.daemon = True
        running.ending.start()

    def _end(self, pod: Pod) -> None:
        with self._lock:
            if self._closed or pod["metadata"]["uid"] not in self._pods:
                return
            self.gone(pod["metadata"]["uid"])
        self._writer.remove(pod)


def check_annotations(pod: Pod) -> None:
    """LabError for one of the lab's own that it does not know, or a value that it does not."""
    for key, value in ((pod.get("metadata") or {}).get("annotations") or {}).items():
        if key.startswith("lab/"):
            known = ANNOTATIONS.get(key.removeprefix("lab/"))
            if known is None:
                raise LabError(f"annotation {key}: the lab knows lab/{', lab/'.join(ANNOTATIONS)}")
            if known and value is not None and value not in known:  # null: a patch takes it away
                raise LabError(f"annotation {key}: {value!r}: it must be one of {', '.join(known)}")


def annotation(pod: Pod, name: str) -> str | None:
    value = (pod["metadata"].get("annotations") or {}).get(f"lab/{name}")
    return None if value is None else str(value)


def wanted_state(pod: Pod) -> tuple[str, bool]:
    """Phase and readiness as the annotations ask for them."""
    phase = annotation(pod, "phase") or "Running"
    return phase, phase == "Running" and annotation(pod, "ready") != "false"


def pod_status(pod: Pod, addresses: tuple[str, ...], host: tuple[str, ...], phase: str, ready: bool) -> dict[str, Any]:
    """As a kubelet would write it. Addresses of a Pod that has ended stay in it."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    word = "True" if ready else "False"
    reason = {"reason": "PodCompleted"} if phase in FINISHED else {} if ready else {"reason": "ContainersNotReady"}
    conditions: list[dict[str, Any]] = [
        {"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("PodScheduled", "Initialized")
    ]
    conditions += [
        {"type": kind, "status": word, "lastTransitionTime": now, **reason} for kind in ("ContainersReady", "Ready")
    ]
    started = (pod.get("status") or {}).get("startTime") or now
    return {
        "phase": phase,
        "conditions": conditions,
        "hostIP": host[0],
        "hostIPs": [{"ip": address} for address in host],
        "podIP": addresses[0],
        "podIPs": [{"ip": address} for address in addresses],
        "startTime": started,
    }


def _key(pod: Pod) -> tuple[str, str]:
    return str(pod["metadata"]["namespace"]), str(pod["metadata"]["name"])


def _ports(spec: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """Every declared container port, sidecars' included, each once."""
    wanted = ((_protocol(port), int(port["containerPort"])) for port in _declared(spec))
    return tuple(dict.fromkeys(wanted))


def _host_ports(spec: dict[str, Any]) -> tuple[HostPort, ...]:
    return tuple(
        HostPort(_protocol(port), int(port["containerPort"]), int(port["hostPort"]), str(port.get("hostIP") or ""))
        for port in _declared(spec)
        if port.get("hostPort")
    )


def _declared(spec: dict[str, Any]) -> list[dict[str, Any]]:
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    return [port for container in containers for port in container.get("ports") or [] if "containerPort" in port]


def _protocol(port: dict[str, Any]) -> str:
    return str(port.get("protocol") or "TCP").lower()
