"""A cluster whose agents hear of changes late, half of them each time: `lab run --late SECONDS`.

Agents hear at different moments anyway, by milliseconds on a quiet machine and by seconds on a busy one. A scenario
that only holds where all of them are quick is wrong, and shows here without having to wait for a busy machine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.labkit.model import Scenario
from tests.labkit.ports import Cluster, World


class LateCluster:
    """As the cluster it is made of; half of the agents that run, others each time, are stopped before a change."""

    def __init__(self, cluster: Cluster, seconds: float, seed: str) -> None:
        self._cluster = cluster
        self._seconds = seconds
        self._random = random.Random(seed)
        self._world: World | None = None
        self._nodes: tuple[str, ...] = ()

    def start(self, scenario: Scenario, world: World) -> None:
        self._world, self._nodes = world, tuple(scenario.nodes)
        self._cluster.start(scenario, world)

    def agent_arguments(self, node: str) -> tuple[Sequence[str], Mapping[str, str]]:
        return self._cluster.agent_arguments(node)

    def apply(self, documents: Sequence[dict[str, Any]]) -> None:
        self._late(lambda: self._cluster.apply(documents))

    def patch(self, reference: str, merge: Any) -> None:
        self._late(lambda: self._cluster.patch(reference, merge))

    def delete(self, references: Sequence[str]) -> None:
        self._late(lambda: self._cluster.delete(references))

    def get(self, reference: str) -> dict[str, Any] | None:
        return self._cluster.get(reference)

    def list(self, kind: str, namespace: str | None = None) -> list[dict[str, Any]]:
        return self._cluster.list(kind, namespace)

    def settle(self, timeout: float) -> None:
        self._cluster.settle(timeout)

    def api(self, command: Mapping[str, Any]) -> None:
        self._cluster.api(command)

    def stop(self) -> None:
        self._cluster.stop()

    def _late(self, change: Callable[[], None]) -> None:
        assert self._world is not None, "start() comes first"
        for node in self._nodes:
            if self._random.random() < 0.5:  # a change that one agent knows and another does not shows most
                self._world.hold_up(node, self._seconds)
        change()


def made_late(cluster: Cluster, seconds: float, file: Path) -> Cluster:
    """The cluster itself where seconds is 0. Who is late when follows from the file's name and the seconds."""
    return LateCluster(cluster, seconds, f"{file.name} {seconds:g}") if seconds else cluster
