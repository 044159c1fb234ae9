"""Plays scenarios one after the other inside the lab kernel: world, cluster, agents, steps, and nothing left behind.

Started by __main__.py on the host side, which hands over a job file: the scenarios' texts (their files may not be
visible from here), and where the results go. The exit status is 0 only when every step of every file held.
"""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.labkit import readiness, steps
from tests.labkit import scenario as scenarios
from tests.labkit.cluster import cluster_for
from tests.labkit.late import made_late
from tests.labkit.model import Scenario, Step
from tests.labkit.play import Clock, MonotonicClock, Play, StepFailed
from tests.labkit.ports import Cluster, LabError, World
from tests.labkit.report import FileResult, Report, StepResult, describe, node_concerned
from tests.labkit.traffic.exchange import Traffic
from tests.labkit.world import NamespaceWorld

Parts = Callable[[Scenario], tuple[World, Cluster]]
Keep = Callable[[Play], None]


def play_scenario(
    scenario: Scenario,
    parts: Parts,
    report: Report,
    clock: Clock,
    keep: Keep | None = None,
) -> FileResult:
    """One file from its empty world to nothing left; every failure ends in the result, none in an exception."""
    began = clock.now()
    result = report.begin(scenario)
    run = _Run(report, result, clock)
    try:
        world, cluster = parts(scenario)
    except Exception as error:
        run.failed("world", "world", error)
        report.end(result, clock.now() - began)
        return result
    play = Play(scenario, world, cluster, clock)
    try:
        _play(run, play)
        if keep is not None:
            keep(play)
    finally:
        for what, undo in (("cluster", cluster.stop), ("world", world.close)):
            run.quietly(f"taking down the {what}", undo)
        report.end(result, clock.now() - began)
    return result


def _play(run: _Run, play: Play) -> None:
    if not run.timed(0, "world", None, f"world of {' '.join(play.scenario.nodes)}", lambda: _build(play)):
        run.explain(play, next(iter(play.agent_nodes), None))
        return
    for step in play.scenario.steps:
        if not run.step(play, step):
            run.explain(play, node_concerned(play, step))
            return
    if play.foreign and not run.timed(0, "cleanup", None, "cleanup of every agent:", lambda: steps.finish(play)):
        run.explain(play, next(iter(play.agent_nodes), None))


def _build(play: Play) -> str:
    play.world.build()
    play.cluster.start(play.scenario, play.world)
    for node in play.agent_nodes:
        play.world.set_agent_arguments(node, *play.cluster.agent_arguments(node))
        play.world.agent(node, "start")
        play.running.add(node)
    ready = readiness.wait_for_agents(play, play.agent_nodes, readiness.WORLD_WITHIN)
    return f"with {len(play.agent_nodes)} agents ({play.scenario.agents.source}){'' if ready else ', not all ready'}"


class _Run:
    """Times what is done, catches how it fails, and tells the report."""

    def __init__(self, report: Report, result: FileResult, clock: Clock) -> None:
        self.report, self.result, self.clock = report, result, clock

    def step(self, play: Play, step: Step) -> bool:
        return self.timed(step.line, step.kind, step.name, describe(step), lambda: steps.perform(play, step))

    def timed(self, line: int, kind: str, name: str | None, what: str, action: Callable[[], str]) -> bool:
        began = self.clock.now()
        try:
            outcome, detail = "ok", action()
        except Exception as error:
            outcome, detail = "failed", _words(error)
        seconds = self.clock.now() - began
        self.report.step(self.result, StepResult(line, kind, name, what, outcome, seconds, detail))
        return outcome == "ok"

    def failed(self, kind: str, what: str, error: Exception) -> None:
        self.report.step(self.result, StepResult(0, kind, None, what, "failed", 0.0, _words(error)))

    def quietly(self, what: str, action: Callable[[], None]) -> None:
        """A step line only when it fails."""
        try:
            action()
        except Exception as error:
            self.failed("teardown", what, error)

    def explain(self, play: Play, node: str | None) -> None:
        try:
            self.report.explain(self.result, play, node)
        except Exception:
            self.report.line(f"         no more to show: {traceback.format_exc()}")


def _words(error: Exception) -> str:
    """A failed step's own words; anything else is a defect of the lab and shows where."""
    if isinstance(error, (StepFailed, LabError)):
        return str(error)
    return "the lab itself failed:\n" + "".join(traceback.format_exception(error))


def main(arguments: list[str]) -> int:
    job = json.loads(Path(arguments[0]).read_text())
    stream = sys.stderr if job["json"] else sys.stdout
    report = Report(lambda line: print(line, file=stream, flush=True))
    traffic = Traffic.start()

    def parts(scenario: Scenario) -> tuple[World, Cluster]:
        cluster = cluster_for(scenario)  # first: its API server starts while the world is built
        return NamespaceWorld(scenario, traffic), made_late(cluster, job["late"], scenario.file)

    for entry in job["files"]:
        scenario = scenarios.parse(entry["text"], Path(entry["file"]), job["within"])
        play_scenario(scenario, parts, report, MonotonicClock(), shell if job["keep"] else None)
        results = [result.as_json() for result in report.files]
        Path(job["results"]).write_text(json.dumps(results))
    traffic.end()
    return 0 if all(result.outcome == "passed" for result in report.files) else 1


def shell(play: Play) -> None:
    """--keep: a shell in the lab while the world still stands."""
    print("The world is kept until this shell ends. `ip netns` lists its nodes and pods, and", flush=True)
    print("`ip netns exec NAME ipvsadm -Ln` asks one of them; agents log to agent.log in:", flush=True)
    for node in play.scenario.nodes:
        print(f"  {node}: {play.world.node_dir(node)}", flush=True)
    subprocess.run(["/bin/bash", "-i"], check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
