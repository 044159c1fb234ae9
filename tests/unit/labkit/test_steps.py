"""What each step waits for, when it holds, when it fails and with which words. Time is a number here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.labkit import steps
from tests.labkit.model import Attempt, Scenario
from tests.labkit.play import Play, StepFailed
from tests.labkit.ports import LabError
from tests.labkit.readiness import health_port
from tests.labkit.scenario import parse
from tests.unit.labkit.fakes import OPEN, REFUSED, SILENT, FakeClock, FakeCluster, FakeWorld, a_play

PODS = """\
- apply: |
    {apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x}}
    ---
    {apiVersion: v1, kind: Pod, metadata: {name: b, namespace: x}}
"""


def scenario_of(*lines: str) -> Scenario:
    text = "agents: {source: apiserver}\nsteps:\n" + PODS + "".join(f"- {line}\n" for line in lines)
    return parse(text, Path("f.yaml"))


def a_world() -> FakeWorld:
    return FakeWorld(FakeClock())


def perform(world: FakeWorld, *lines: str, cluster: FakeCluster | None = None) -> str:
    """Plays the steps; what the last one saw."""
    scenario = scenario_of(*lines)
    play = a_play(scenario, world, cluster)
    said = ""
    for step in scenario.steps:
        said = steps.perform(play, step)
    return said


def until_then(change: float, before: Attempt, after: Attempt) -> Callable[[float], Attempt]:
    return lambda now: before if now < change else after


PROBE = "probe: {from: node/n1, to: 'tcp://10.96.0.10:80'%s}"


def test_a_probe_is_repeated_until_it_holds() -> None:
    world = a_world()
    world.answer = until_then(3.0, REFUSED, OPEN)
    assert perform(world, PROBE % "") == "open [web-1]"
    assert 3.0 <= world.clock.now() < 3.2


def test_a_probe_gives_up_after_within() -> None:
    world = a_world()
    world.answer = until_then(3.0, REFUSED, OPEN)
    with pytest.raises(StepFailed, match="expected open; seen 1 × refused"):
        perform(world, PROBE % ", within: 2s")
    assert 2.0 <= world.clock.now() < 2.2


def test_a_probe_without_time_is_tried_once() -> None:
    world = a_world()
    perform(world, PROBE % ", within: 0s")
    assert world.tries == 1


@pytest.mark.parametrize(("expect", "attempt"), [("silent", SILENT), ("refused", REFUSED), ("closed", REFUSED)])
def test_what_must_not_answer_goes_on_not_answering(expect: str, attempt: Attempt) -> None:
    world = a_world()
    world.answer = lambda now: attempt
    perform(world, PROBE % f", expect: {expect}, for: 3s")
    assert 3.0 <= world.clock.now() < 4.2
    world = a_world()
    world.answer = until_then(2.0, attempt, OPEN)
    with pytest.raises(StepFailed, match=f"held, but after 2.* no more: expected {expect}; seen 1 × open by web-1"):
        perform(world, PROBE % f", expect: {expect}, for: 3s")


def test_between_refusal_and_silence_holding_begins_anew_while_there_is_time() -> None:
    def silent_from_1_to_3(now: float) -> Attempt:
        return SILENT if 1.0 <= now < 3.0 else REFUSED

    world = a_world()
    world.answer = silent_from_1_to_3
    perform(world, PROBE % ", expect: refused, for: 2s, within: 6s")
    assert 5.0 <= world.clock.now() < 6.2
    world = a_world()
    world.answer = silent_from_1_to_3
    with pytest.raises(StepFailed, match="expected refused; seen 1 × silent"):
        perform(world, PROBE % ", expect: refused, for: 2s, within: 2s")


def test_silence_is_not_refusal() -> None:
    for expect, attempt in (("silent", REFUSED), ("refused", SILENT), ("closed", OPEN), ("open", SILENT)):
        world = a_world()
        world.answer = lambda now, attempt=attempt: attempt  # type: ignore[misc]
        with pytest.raises(StepFailed, match=f"expected {expect}"):
            perform(world, PROBE % f", expect: {expect}, within: 1s")


def alternating(*names: str) -> Callable[[float], Attempt]:
    turn = iter(range(10**6))
    return lambda now: Attempt("open", backend=names[next(turn) % len(names)], source="10.244.1.7")


def test_backends_are_the_exact_set() -> None:
    world = a_world()
    world.answer = alternating("web-1", "web-2")
    assert perform(world, PROBE % ", backends: [web-2, web-1], count: 20") == "open [web-1 web-2]"
    assert world.tries == 20
    for wanted in ("[web-1]", "[web-1, web-2, web-3]"):
        with pytest.raises(StepFailed, match="expected answers from exactly"):
            perform(world, PROBE % f", backends: {wanted}, count: 20, within: 0s")


def test_distinct_counts_backends() -> None:
    world = a_world()
    world.answer = alternating("web-1", "web-2")
    perform(world, PROBE % ", distinct: 2, count: 4")
    with pytest.raises(StepFailed, match="expected answers from 1 backends"):
        perform(world, PROBE % ", distinct: 1, count: 4, within: 0s")


def test_source_is_compared_as_an_address() -> None:
    world = a_world()
    world.answer = lambda now: Attempt("open", backend="w", source="fd00:10:244:1::7")
    step = "probe: {from: node/n1, to: 'tcp://[fd00::1]:80', source: '%s', within: 0s}"
    perform(world, step % "fd00:10:244:1:0:0:0:7")
    with pytest.raises(StepFailed, match="expected source fd00::8; seen 1 × open by w that saw fd00:10:244:1::7"):
        perform(world, step % "fd00::8")


def test_many_tries_stop_at_the_first_that_is_wrong() -> None:
    world = a_world()
    world.answer = lambda now: SILENT
    with pytest.raises(StepFailed):
        perform(world, PROBE % ", count: 1000, within: 1s")
    assert world.tries <= 2


def test_http_status_and_body() -> None:
    world = a_world()
    world.answer = lambda now: Attempt("open", status=503, body='{"localEndpoints": 0}', close=True)
    step = "probe: {from: node/n1, to: 'http://10.96.0.10:80/healthz', within: 0s%s}"
    assert perform(world, step % ", status: 503, contains: [localEndpoints, 'Connection: close']") == "open 503"
    with pytest.raises(StepFailed, match="expected HTTP status 200"):
        perform(world, step % ", status: 200")
    with pytest.raises(StepFailed, match="expected an answer with 'x y'"):
        perform(world, step % ", contains: [x y]")


HOLD = "hold: {name: c, from: node/n1, to: '%s://10.96.0.10:80'}"


def test_hold_fails_unanswered_unless_udp() -> None:
    world = a_world()
    world.answer = lambda now: SILENT
    perform(world, HOLD % "udp")
    for protocol in ("tcp", "sctp"):
        with pytest.raises(StepFailed, match="expected an answer; seen silent"):
            perform(world, HOLD % protocol)


def test_held_asks_once_unless_within_is_given() -> None:
    world = a_world()
    world.answer = until_then(2.0, OPEN, Attempt("reset"))
    held = "held: {name: c, alive: false%s}"
    with pytest.raises(StepFailed, match="expected it dead; seen 1 × open by web-1"):
        perform(world, HOLD % "tcp", held % "")
    assert perform(world, HOLD % "tcp", held % ", within: 3s") == "dead (reset)"
    world = a_world()
    assert perform(world, HOLD % "tcp", "held: {name: c, backend: web-1}") == "alive [web-1]"
    with pytest.raises(StepFailed, match="expected backend web-2; seen web-1"):
        perform(world, HOLD % "tcp", "held: {name: c, backend: web-2}")


def test_a_hold_may_ask_to_be_talked_to() -> None:
    world = a_world()
    perform(world, HOLD % "tcp", "hold: {name: d, from: node/n1, to: 'tcp://10.96.0.10:80', pushed: true}")
    assert [call for call in world.calls if call[0] == "hold"] == [("hold", "c", False), ("hold", "d", True)]


def test_streamed() -> None:
    stream = "stream: {name: s, from: node/n1, to: 'tcp://10.96.0.10:80'}"
    world = a_world()
    said = perform(world, stream, "streamed: {name: s, failed: 0, longest_gap: 50ms}")
    assert said == "9 attempts, 0 failed, longest gap 0.020 s"
    assert ("stream", "s", 0.01, 1.0, 0) in world.calls
    with pytest.raises(StepFailed, match=r"expected no gap over 0.01 s; seen 9 attempts"):
        perform(world, stream, "streamed: {name: s, longest_gap: 10ms}")
    world.counts = {"attempts": 9, "failed": 2, "longest_gap": 0.02}
    with pytest.raises(StepFailed, match="expected at most 0 failed"):
        perform(world, stream, "streamed: {name: s, failed: 0}")
    perform(world, stream, "streamed: {name: s, answered: 7}")
    with pytest.raises(StepFailed, match="expected at most 6 answered; seen 9 attempts, 2 failed"):
        perform(world, stream, "streamed: {name: s, answered: 6}")
    world.counts = {"attempts": 0, "failed": 0, "longest_gap": 0}
    with pytest.raises(StepFailed, match="there was no attempt"):
        perform(world, stream, "streamed: {name: s}")


def test_run_without_expectation_is_executed_once_and_must_exit_0() -> None:
    world = a_world()
    world.shell = lambda place, command, now: (0, "\nhello\nworld\n")
    assert perform(world, "run: {at: node/n1, command: x}") == "hello"
    world.shell = lambda place, command, now: (1, "no\n")
    with pytest.raises(StepFailed, match="exit status 1, expected 0"):
        perform(world, "run: {at: node/n1, command: x, within: 5s}")
    assert len([call for call in world.calls if call[0] == "run"]) == 2


def test_run_with_an_expectation_is_repeated() -> None:
    world = a_world()
    world.shell = lambda place, command, now: (3, "old") if now < 2 else (3, "new")
    perform(world, "run: {at: pod/x/a, command: x, contains: [new], lacks: [old], within: 5s}")
    assert world.calls[-1] == ("run", "pod/x/a", "x", 5.0)
    with pytest.raises(StepFailed, match="exit status 3, expected 0"):
        perform(world, "run: {at: node/n1, command: x, contains: [new], status: 0}")
    with pytest.raises(StepFailed, match="lacks 'newer'; contains 'new'"):
        perform(world, "run: {at: node/n1, command: x, contains: [newer], lacks: [new]}")


def test_a_command_that_outlives_its_time_has_failed() -> None:
    def slow(place: str, command: str, now: float) -> tuple[int, str]:
        raise TimeoutError("took longer than 1 s")

    world = a_world()
    world.shell = slow
    with pytest.raises(StepFailed, match="exit status 124"):
        perform(world, "run: {at: node/n1, command: x, status: 0, within: 1s}")


def test_foreign_state_is_compared_after_cleanup() -> None:
    world = a_world()
    world.shell = lambda place, command, now: (0, "one\n" if now == 0 or command != "check" else "two\n")
    scenario = scenario_of("foreign: {at: node/n1, command: make, check: check}")
    play = a_play(scenario, world)
    for step in scenario.steps:
        steps.perform(play, step)
    assert steps.finish(play) == "1 foreign checks unchanged after cleanup"
    assert [call[1:3] for call in world.calls if call[0] == "agent"] == [
        ("n1", "cleanup"), ("n2", "cleanup"), ("n3", "cleanup"),
    ]  # fmt: skip
    world.clock.pause(1)
    with pytest.raises(StepFailed, match=r"(?s)node/n1: check.*before:.*one.*after:.*two"):
        steps.finish(play)


def test_without_foreign_steps_nothing_is_cleaned() -> None:
    world = a_world()
    steps.finish(a_play(scenario_of(), world))
    assert world.calls == []


def test_status_is_asked_until_it_is_as_expected() -> None:
    world = a_world()

    def status(place: str, command: str, now: float) -> tuple[int, str]:
        assert (place, command) == ("node/n2", "kuberouter-py status -o json")
        if now < 1:
            return 1, "no agent\n"
        controller = {"failures": 2 if now < 2 else 0, "services": 3}
        return 0, json.dumps({"version": "1", "controllers": {"services": controller}})

    world.shell = status
    perform(world, "expectStatus: {node: n2, controller: services, failures: 0, services: 3}")
    with pytest.raises(StepFailed, match=r"services is 3, expected 4\. The controller:"):
        perform(world, "expectStatus: {node: n2, controller: services, services: 4, within: 1s}")
    with pytest.raises(StepFailed, match='thing is "missing", expected null'):
        perform(world, "expectStatus: {node: n2, controller: services, thing: null, within: 1s}")
    with pytest.raises(StepFailed, match="status knows no controller 'routing'"):
        perform(world, "expectStatus: {node: n2, controller: routing, failures: 0, within: 1s}")


def test_objects_are_settled_before_the_next_step() -> None:
    cluster = FakeCluster()
    perform(a_world(), "patch: {service/default/web: {spec: null}}", "delete: [pod/x/a]", cluster=cluster)
    assert cluster.calls == [
        ("apply", 2), ("settle",), ("patch", "service/default/web", {"spec": None}), ("settle",),
        ("delete", "pod/x/a"), ("settle",),
    ]  # fmt: skip


def test_orders_reach_world_and_cluster() -> None:
    world, cluster = a_world(), FakeCluster()
    perform(
        world, "agent: {node: all, do: restart, flags: [--run-router=false]}", "api: {slow: 500ms}",
        "link: {node: n1, loss: 30%}", "agent: {node: n1, do: start, refused: true, env: {A: b}}", cluster=cluster,
    )  # fmt: skip
    restarted = [("agent", node, "restart", ("--run-router=false",), None, False) for node in ("n1", "n2", "n3")]
    assert world.calls == [
        *restarted, ("link", "n1", {"loss": "30%"}), ("agent", "n1", "start", None, {"A": "b"}, True),
    ]  # fmt: skip
    assert ("api", {"slow": 0.5}) in cluster.calls


def test_an_agent_that_ends_by_itself_fails_the_step() -> None:
    world = a_world()
    scenario = scenario_of("agent: {node: n1, do: start}", PROBE % "")
    play = a_play(scenario, world)
    for step in scenario.steps[:2]:
        steps.perform(play, step)
    world.alive.clear()
    with pytest.raises(StepFailed, match="the agent of n1 ended by itself"):
        steps.perform(play, scenario.steps[2])


MATRIX = """matrix:
    pods: [x/a, x/b]
    to: {ports: [tcp/80, udp/80]%s}
    within: 4s
    for: 3s
    expect: |
      x/a: - X
      x/b: . -
"""


def two_pods() -> FakeCluster:
    def pod(name: str, number: int) -> dict[str, Any]:
        ports = [{"containerPort": 80, "name": "web"}, {"containerPort": 80, "protocol": "UDP"}]
        return {
            "metadata": {"name": name, "namespace": "x", "labels": {"app": name}},
            "spec": {"containers": [{"ports": ports}]},
            "status": {"podIPs": [{"ip": f"10.244.1.{number}"}, {"ip": f"fd00::{number}"}]},
        }

    return FakeCluster({"pod/x/a": pod("a", 1), "pod/x/b": pod("b", 2)})


def only_b_to_a(place: str, url: str, now: float) -> Attempt:
    return OPEN if place == "pod/x/b" else REFUSED


def test_matrix_by_address() -> None:
    world = a_world()
    world.cell = only_b_to_a
    assert perform(world, MATRIX % "", cluster=two_pods()) == "2 cells"
    first, *_, last = [call[1] for call in world.calls]
    assert first == (
        ("pod/x/a", "tcp://10.244.1.2:80"), ("pod/x/a", "udp://10.244.1.2:80"),
        ("pod/x/b", "tcp://10.244.1.1:80"), ("pod/x/b", "udp://10.244.1.1:80"),
    )  # fmt: skip
    assert {place for place, _ in last} == {"pod/x/a"}
    assert world.clock.now() >= 3.0
    perform(world, MATRIX % ", family: 6", cluster=two_pods())
    assert world.calls[-1][1][0][1] == "tcp://[fd00::2]:80"


def test_matrix_shows_what_was_seen_beside_what_was_expected() -> None:
    world = a_world()
    world.cell = lambda place, url, now: OPEN if url.startswith("tcp") else SILENT
    with pytest.raises(StepFailed) as error:
        perform(world, MATRIX % "", cluster=two_pods())
    assert str(error.value).splitlines() == [
        "2 of 4 cells differ",
        "      seen        expected",
        "      x/a  - [?]  - X",
        "      x/b [?] -   . -",
        "      x/a to x/b: tcp://10.244.1.2:80 open [web-1], udp://10.244.1.2:80 silent",
        "      x/b to x/a: tcp://10.244.1.1:80 open [web-1], udp://10.244.1.1:80 silent",
    ]


def test_matrix_must_go_on_being_closed() -> None:
    world = a_world()
    world.cell = lambda place, url, now: OPEN if now > 2 else only_b_to_a(place, url, now)
    with pytest.raises(StepFailed, match="held, but after 2"):
        perform(world, MATRIX % "", cluster=two_pods())


def a_service(name: str, port: int, target: object, selector: dict[str, str]) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "x"},
        "spec": {
            "selector": selector,
            "clusterIPs": [f"10.96.1.{port - 1000}", f"fd00:96::{port}"],
            "ports": [{"port": port, "targetPort": target}, {"port": port, "targetPort": 80, "protocol": "UDP"}],
        },
    }


def test_matrix_by_service() -> None:
    world, cluster = a_world(), two_pods()
    world.cell = only_b_to_a
    cluster.objects["service/x/a"] = a_service("a", 1001, "web", {"app": "a"})
    cluster.objects["service/x/all"] = a_service("all", 1000, 80, {})
    with pytest.raises(LabError, match="no Service in namespace x that selects pod b alone, with target tcp/80"):
        perform(world, MATRIX % ", via: service", cluster=cluster)
    cluster.objects["service/x/b"] = a_service("b", 1002, 80, {"app": "b"})
    perform(world, MATRIX % ", via: service", cluster=cluster)
    assert world.calls[0][1][:2] == (("pod/x/a", "tcp://10.96.1.2:1002"), ("pod/x/a", "udp://10.96.1.2:1002"))
    cluster.objects["service/x/c"] = a_service("c", 1003, 80, {"app": "b"})
    with pytest.raises(LabError, match=r"two Services .*: b port 1002, c port 1003"):
        perform(world, MATRIX % ", via: service", cluster=cluster)


def test_a_play_knows_its_agents() -> None:
    play: Play = a_play(scenario_of(), a_world())
    assert play.agent_nodes == ("n1", "n2", "n3")


def test_a_started_agent_gets_time_to_become_ready() -> None:
    world = a_world()
    world.ready = lambda place, now: Attempt("open", status=200) if now > 4 else REFUSED
    perform(world, "agent: {node: n1, do: start}")
    assert 4 <= world.clock.now() < 5


def test_an_agent_that_cannot_become_ready_is_not_waited_for() -> None:
    world = a_world()
    world.ready = lambda place, now: REFUSED
    perform(world, "agent: {node: n1, do: start}")
    assert 30 <= world.clock.now() < 31
    for steps_ in (
        ["agent: {node: n1, do: start, flags: [--health-port=0]}"],
        ["api: {do: stop}", "agent: {node: n1, do: start}"],
        ["agent: {node: n1, do: start, refused: true}"],
        ["agent: {node: n1, do: stop}"],
    ):
        world = a_world()
        world.ready = lambda place, now: REFUSED
        perform(world, *steps_)
        assert world.clock.now() == 0


@pytest.mark.parametrize(
    ("flags", "port"),
    [([], 20244), (["--health-port=1"], 1), (["--health-port", "2", "--v=1"], 2), (["--health-addr=::1"], 0)],
)
def test_where_readiness_is_asked(flags: list[str], port: int) -> None:
    assert health_port(flags) == port
