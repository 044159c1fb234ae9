"""A World, a Cluster and a Clock of which a test says beforehand what they answer. No time passes, nothing is real."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.labkit.model import Attempt, PodNetwork, Scenario
from tests.labkit.play import Play
from tests.labkit.ports import Cluster, LabError, World

OPEN = Attempt("open", backend="web-1", source="10.244.1.7")
SILENT = Attempt("silent")
REFUSED = Attempt("refused")


@dataclass
class FakeClock:
    time: float = 0.0

    def now(self) -> float:
        return self.time

    def pause(self, seconds: float) -> None:
        self.time += seconds


@dataclass
class FakeWorld:
    """Answers from functions of the time; a silent try takes its whole timeout, any other none."""

    clock: FakeClock
    directory: Path = Path("/nonexistent")
    answer: Callable[[float], Attempt] = lambda now: OPEN
    cell: Callable[[str, str, float], Attempt] = lambda place, url, now: OPEN
    shell: Callable[[str, str, float], tuple[int, str]] = lambda place, command, now: (0, "")
    ready: Callable[[str, float], Attempt] = lambda place, now: Attempt("open", status=200)
    counts: dict[str, float] = field(default_factory=lambda: {"attempts": 9, "failed": 0, "longest_gap": 0.02})
    alive: set[str] = field(default_factory=set)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    tries: int = 0
    broken: str = ""  # build() fails with this

    def build(self) -> None:
        self.calls.append(("build",))
        if self.broken:
            raise LabError(self.broken)

    def close(self) -> None:
        self.calls.append(("close",))

    def add_pod(self, pod: PodNetwork) -> tuple[str, ...]:
        return pod.addresses

    def pod_terminating(self, namespace: str, name: str) -> None: ...
    def stop_pod_servers(self, namespace: str, name: str) -> None: ...
    def remove_pod(self, namespace: str, name: str) -> None: ...

    def attempt(self, place: str, url: str, *, timeout: float, sport: int | None = None) -> Attempt:
        if url.endswith("/readyz"):
            return self.ready(place, self.clock.now())
        self.tries += 1
        attempt = self.answer(self.clock.now())
        if attempt.outcome == "silent":
            self.clock.pause(timeout)
        return attempt

    def attempts(
        self, place: str, url: str, count: int, *, timeout: float, sport: int | None = None, size: int | None = None
    ) -> list[Attempt]:
        return [self.attempt(place, url, timeout=timeout, sport=sport) for _ in range(count)]

    def matrix(self, cells: Sequence[tuple[str, str]], *, timeout: float) -> list[Attempt]:
        self.calls.append(("matrix", tuple(cells)))
        return [self.cell(place, url, self.clock.now()) for place, url in cells]

    def hold(
        self, name: str, place: str, url: str, *, sport: int | None = None, timeout: float, pushed: bool = False
    ) -> Attempt:
        self.calls.append(("hold", name, pushed))
        return self.attempt(place, url, timeout=timeout, sport=sport)

    def held(self, name: str, *, timeout: float) -> Attempt:
        return self.attempt("", "", timeout=timeout)

    def stream(self, name: str, place: str, url: str, *, every: float, timeout: float, kept: int = 0) -> None:
        self.calls.append(("stream", name, every, timeout, kept))

    def streamed(self, name: str) -> dict[str, float]:
        return self.counts

    def run(self, place: str, command: str, *, timeout: float) -> tuple[int, str]:
        self.calls.append(("run", place, command, timeout))
        return self.shell(place, command, self.clock.now())

    def link(self, node: str, change: Mapping[str, Any]) -> None:
        self.calls.append(("link", node, dict(change)))

    def agent(
        self, node: str, do: str, *, flags: Sequence[str] | None = None, env: Mapping[str, str] | None = None,
        refused: bool = False,
    ) -> None:  # fmt: skip
        self.calls.append(("agent", node, do, flags, env, refused))
        if do in ("start", "restart") and not refused:
            self.alive.add(node)
        elif do in ("stop", "kill", "cleanup"):
            self.alive.discard(node)

    def set_agent_arguments(self, node: str, arguments: Sequence[str], env: Mapping[str, str]) -> None: ...

    def agent_alive(self, node: str) -> bool:
        return node in self.alive

    def hold_up(self, node: str, seconds: float) -> None:
        self.calls.append(("hold_up", node, seconds))

    def node_dir(self, node: str) -> Path:
        return self.directory

    def logs(self) -> Mapping[str, Path]:
        return {"agent.log of n1": self.directory / "agent.log"}


@dataclass
class FakeCluster:
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def start(self, scenario: Scenario, world: World) -> None:
        self.calls.append(("start",))

    def agent_arguments(self, node: str) -> tuple[Sequence[str], Mapping[str, str]]:
        return (), {}

    def apply(self, documents: Sequence[dict[str, Any]]) -> None:
        self.calls.append(("apply", len(documents)))

    def patch(self, reference: str, merge: Any) -> None:
        self.calls.append(("patch", reference, merge))

    def delete(self, references: Sequence[str]) -> None:
        self.calls.append(("delete", *references))

    def get(self, reference: str) -> dict[str, Any] | None:
        return self.objects.get(reference)

    def list(self, kind: str, namespace: str | None = None) -> list[dict[str, Any]]:
        return [entry for name, entry in self.objects.items() if name.startswith(f"{kind}/{namespace}/")]

    def settle(self, timeout: float) -> None:
        self.calls.append(("settle",))

    def api(self, command: Mapping[str, Any]) -> None:
        self.calls.append(("api", dict(command)))

    def stop(self) -> None:
        self.calls.append(("stop",))


def a_play(scenario: Scenario, world: FakeWorld, cluster: FakeCluster | None = None) -> Play:
    real_world: World = world
    real_cluster: Cluster = cluster or FakeCluster()
    return Play(scenario, real_world, real_cluster, world.clock)
