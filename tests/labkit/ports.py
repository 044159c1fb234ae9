"""What the lab's parts promise each other: world.py, cluster.py and controlplane.py implement these, steps.py uses
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.labkit.model import Attempt, PodNetwork, Scenario


class LabError(Exception):
    """Something the lab was asked for cannot be done; the message says what and why."""


class World(Protocol):
    """The namespaces of one scenario: nodes, outside hosts, pods, and what may be asked of them.

    A place is written as in the file: "node/n1", "outside/client", "pod/NAMESPACE/NAME".
    """

    def build(self) -> None: ...
    def close(self) -> None: ...

    # pods, called by the kubelet role
    def add_pod(self, pod: PodNetwork) -> tuple[str, ...]:
        """Namespace (or the node's own), veth to the bridge, addresses, a process in a cgroup of its UID, servers. The
        pod's addresses: those asked for, or the ones that CNI gave it.
        """

    def pod_terminating(self, namespace: str, name: str) -> None:
        """From now on its HTTP answers carry Connection: close; everything else goes on."""

    def stop_pod_servers(self, namespace: str, name: str) -> None:
        """Phase Succeeded or Failed: servers stop, open connections are reset, addresses go; may be reused."""

    def remove_pod(self, namespace: str, name: str) -> None:
        """The grace period is over: reset what is open, remove the namespace."""

    # traffic
    def attempt(self, place: str, url: str, *, timeout: float, sport: int | None = None) -> Attempt:
        """One new connection (tcp, http, sctp) or one datagram exchange (udp) to `url`, e.g. "tcp://10.96.0.10:80"."""

    def attempts(
        self, place: str, url: str, count: int, *, timeout: float, sport: int | None = None, size: int | None = None
    ) -> list[Attempt]:
        """The same `count` times, one after the other. size: bytes of payload each way."""

    def matrix(self, cells: Sequence[tuple[str, str]], *, timeout: float) -> list[Attempt]:
        """All (place, url) cells at once, answers in the same order."""

    def hold(
        self, name: str, place: str, url: str, *, sport: int | None = None, timeout: float, pushed: bool = False
    ) -> Attempt:
        """pushed: after the first question the server goes on talking unasked, and nobody asks it again."""

    def held(self, name: str, *, timeout: float) -> Attempt:
        """Does the held connection still carry data (UDP: three datagrams)? outcome "open" when it does."""

    def stream(self, name: str, place: str, url: str, *, every: float, timeout: float, kept: int = 0) -> None:
        """kept: over so many connections that stay open; 0: a new one each time."""

    def streamed(self, name: str) -> dict[str, float]:
        """Ends the stream: {"attempts", "failed", "longest_gap"} (gap: seconds between two successes' starts), and
        "failed reset" and the like with their numbers.
        """

    # the machine itself
    def run(self, place: str, command: str, *, timeout: float) -> tuple[int, str]:
        """A shell runs `command` there; (exit status, output of both streams). TimeoutError when it takes longer."""

    def link(self, node: str, change: Mapping[str, Any]) -> None: ...
    def agent(
        self,
        node: str,
        do: str,
        *,
        flags: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        refused: bool = False,
    ) -> None:
        """do: stop | kill | start | restart | cleanup | upgrade | kill-bird. `flags` and `env` replace the scenario's
        from now on; what set_agent_arguments gave always comes first."""

    def set_agent_arguments(self, node: str, arguments: Sequence[str], env: Mapping[str, str]) -> None:
        """How that node's agent finds the cluster (Cluster.agent_arguments); call it before the first start."""

    def agent_alive(self, node: str) -> bool: ...
    def hold_up(self, node: str, seconds: float) -> None:
        """That node's agent, where one runs, does nothing for so long (SIGSTOP, SIGCONT). Returns at once."""

    def node_dir(self, node: str) -> Path:
        """The directory that the node sees as /run/lab (agent.log, manifests/)."""

    def logs(self) -> Mapping[str, Path]:
        """What is worth showing when a step failed, by its heading; a file may be missing."""


class Cluster(Protocol):
    """The objects of a world, whoever keeps them; plays kubelet (and, for manifests, the EndpointSlice controller)."""

    def start(self, scenario: Scenario, world: World) -> None:
        """An empty cluster with the world's Node objects (labels, annotations, addresses, podCIDRs)."""

    def agent_arguments(self, node: str) -> tuple[Sequence[str], Mapping[str, str]]:
        """Flags and environment by which that node's agent finds the cluster (--manifests, or --kubeconfig)."""

    def apply(self, documents: Sequence[dict[str, Any]]) -> None: ...
    def patch(self, reference: str, merge: Any) -> None:
        """reference: "service/default/web", "node/n1"; merge: a JSON merge patch, status included."""

    def delete(self, references: Sequence[str]) -> None: ...
    def get(self, reference: str) -> dict[str, Any] | None: ...
    def list(self, kind: str, namespace: str | None = None) -> list[dict[str, Any]]: ...
    def settle(self, timeout: float) -> None:
        """Returns once applied pods run and are Ready as asked; raises LabError when they do not in time."""

    def api(self, command: Mapping[str, Any]) -> None:
        """The `api:` step: {"do": "stop"|"start"|"cut"|"expire"} or {"slow": seconds}."""

    def stop(self) -> None: ...
