"""A file is played from an empty world to nothing left, whatever happens in between; the report tells what did."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.labkit.model import Attempt, Scenario
from tests.labkit.play import Play
from tests.labkit.ports import Cluster, World
from tests.labkit.report import FileResult, Report
from tests.labkit.runner import play_scenario
from tests.labkit.scenario import parse
from tests.unit.labkit.fakes import FakeClock, FakeCluster, FakeWorld

TEXT = """\
steps:
- name: the first
  probe: {from: node/n1, to: "tcp://10.96.0.10:80", within: 0s}
- run: {at: node/n1, command: "ipvsadm -Ln"}
"""


class Stage:
    def __init__(self, tmp_path: Path) -> None:
        self.lines: list[str] = []
        self.world = FakeWorld(FakeClock(), directory=tmp_path)
        self.cluster = FakeCluster()
        self.kept: list[Play] = []

    def parts(self, scenario: Scenario) -> tuple[World, Cluster]:
        return self.world, self.cluster

    def play(self, text: str = TEXT) -> FileResult:
        scenario = parse(text, Path("f.yaml"))
        return play_scenario(scenario, self.parts, Report(self.lines.append), self.world.clock, self.kept.append)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_a_file_that_holds(stage: Stage) -> None:
    result = stage.play()
    assert result.outcome == "passed"
    assert stage.lines == [
        "f.yaml",
        "  ok       0.00s  world of n1 n2 n3 with 3 agents (manifests)",
        "  ok       0.00s  the first: probe node/n1 → tcp://10.96.0.10:80 open [web-1]",
        "  ok       0.00s  run at node/n1: ipvsadm -Ln",
        "  passed in 0.0 s",
        "",
    ]
    assert [call[0] for call in stage.world.calls] == ["build", "agent", "agent", "agent", "run", "close"]
    assert [call[0] for call in stage.cluster.calls] == ["start", "stop"]
    assert len(stage.kept) == 1


def test_a_failure_ends_the_file_and_is_explained(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "agent.log").write_text("".join(f"line {number}\n" for number in range(100)))
    stage.world.answer = lambda now: Attempt("refused")
    stage.world.shell = lambda place, command, now: (0, f"{command} at {place}\n")
    result = stage.play()
    assert result.outcome == "failed"
    assert [(step.line, step.outcome) for step in result.steps] == [(0, "ok"), (3, "failed")]
    assert "         expected open; seen 1 × refused" in stage.lines
    assert "         f.yaml:3:" in stage.lines
    assert result.details["agent.log of n1"].splitlines()[-1] == "line 99"
    assert result.details["ipvsadm -Ln on n1"] == "ipvsadm -Ln at node/n1\n"
    assert stage.world.calls[-1] == ("close",)
    assert stage.cluster.calls[-1] == ("stop",)
    assert result.as_json()["steps"][1]["detail"] == "expected open; seen 1 × refused"


def test_a_world_that_cannot_be_built(stage: Stage) -> None:
    stage.world.broken = "no such address"
    result = stage.play()
    assert [(step.kind, step.detail) for step in result.steps] == [("world", "no such address")]
    assert stage.world.calls[-1] == ("close",)


def test_a_defect_of_the_lab_fails_the_file_only(stage: Stage) -> None:
    def broken(place: str, command: str, now: float) -> tuple[int, str]:
        raise ZeroDivisionError

    stage.world.shell = broken
    result = stage.play()
    assert result.outcome == "failed"
    assert "the lab itself failed" in result.steps[-1].detail
    assert stage.world.calls[-1] == ("close",)


def test_foreign_state_is_judged_after_the_last_step(stage: Stage) -> None:
    answers = iter(["", "mine", "gone"])
    stage.world.shell = lambda place, command, now: (0, next(answers, ""))
    result = stage.play("steps: [foreign: {at: node/n2, command: make, check: show}]\n")
    assert [(step.kind, step.outcome) for step in result.steps] == [
        ("world", "ok"), ("foreign", "ok"), ("cleanup", "failed"),
    ]  # fmt: skip
    assert "foreign state changed" in result.steps[-1].detail
