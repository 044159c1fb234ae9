"""Half of the agents are late for a change, others each time, and the same ones in each run."""

from __future__ import annotations

from pathlib import Path

from tests.labkit.late import made_late
from tests.labkit.scenario import parse
from tests.unit.labkit.fakes import FakeClock, FakeCluster, FakeWorld

SCENARIO = parse("steps: [run: {at: node/n1, command: 'true'}]\n", Path("f.yaml"))


def held_up(file: str, seconds: float) -> tuple[list[tuple[str, float]], FakeCluster]:
    world, cluster = FakeWorld(FakeClock()), FakeCluster()
    late = made_late(cluster, seconds, Path(file))
    late.start(SCENARIO, world)
    late.apply([{}])
    late.patch("node/n1", {})
    late.delete(["pod/x/a"])
    late.settle(1.0)
    return [(call[1], call[2]) for call in world.calls if call[0] == "hold_up"], cluster


def test_some_agents_are_held_up_before_each_change_and_the_change_is_made() -> None:
    held, cluster = held_up("f.yaml", 2.0)
    assert 0 < len(held) < 9
    assert {seconds for _, seconds in held} == {2.0}
    assert [call[0] for call in cluster.calls] == ["start", "apply", "patch", "delete", "settle"]


def test_the_same_file_is_late_in_the_same_way() -> None:
    assert held_up("f.yaml", 2.0)[0] == held_up("f.yaml", 2.0)[0]
    assert [node for node, _ in held_up("f.yaml", 2.0)[0]] != [node for node, _ in held_up("f.yaml", 2.5)[0]]


def test_nobody_is_late_by_nothing() -> None:
    assert held_up("f.yaml", 0.0)[0] == []
