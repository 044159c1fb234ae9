"""Walks every scenario along every path (README.md) and compares what the node holds with the expected text."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.fakes.agent import FakeAgent
from tests.fakes.kernel import FakeKernel
from tests.scenarios.scenario import Scenario

FILES = sorted(Path(__file__).parent.glob("*.yaml"))


def squashed(scenario: Scenario) -> FakeAgent:
    """All objects are there when the agent starts."""
    agent = scenario.agent()
    agent.put(*scenario.objects)
    assert agent.start()
    return agent


def forwards(scenario: Scenario) -> FakeAgent:
    """An empty cluster, then one object after the other."""
    return _one_by_one(scenario, scenario.objects)


def backwards(scenario: Scenario) -> FakeAgent:
    return _one_by_one(scenario, scenario.objects[::-1])


def _one_by_one(scenario: Scenario, objects: Sequence[object]) -> FakeAgent:
    agent = scenario.agent()
    assert agent.start()
    for one in objects:
        assert agent.tell(one)  # type: ignore[arg-type]
        assert all(agent.drain())
    return agent


def each_alone(scenario: Scenario) -> FakeAgent:
    """Each object comes and goes by itself and leaves nothing; then all come at once."""
    agent = scenario.agent()
    assert agent.start()
    empty = set(scenario.text(agent).splitlines())
    for one in scenario.objects:
        assert agent.tell(one)
        assert all(agent.drain())
        assert agent.tell_gone(one)
        assert all(agent.drain())
        left = (
            set(scenario.text(agent).splitlines()) - empty
        )  # a server of somebody else that was taken over may be gone
        assert not left, f"{one.key} left something behind"
    assert agent.tell(*scenario.objects)
    assert all(agent.drain())
    return agent


def adopted(scenario: Scenario) -> FakeAgent:
    """Another scenario's agent ran on this kernel and was killed."""
    before = Scenario(FILES[FILES.index(scenario.path) - 1])
    kernel = squashed(before).kernel
    for key in before.foreign():
        kernel.servers.pop(key, None)
    agent = scenario.agent(kernel)
    agent.put(*scenario.objects)
    assert agent.start()
    return agent


@pytest.mark.parametrize("path", [squashed, forwards, backwards, each_alone, adopted])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_this_cluster_gives_this_node(file: Path, path: Callable[[Scenario], FakeAgent]) -> None:
    scenario = Scenario(file)
    agent = path(scenario)
    expected = file.with_suffix(".txt")
    if path is squashed and os.environ.get("WRITE"):
        expected.write_text(scenario.text(agent))
    assert scenario.text(agent) == expected.read_text()
    agent.writes()
    assert all(agent.compare())
    assert agent.writes() == [], "a comparison right after a sync"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_cleanup_leaves_what_was_there_before(file: Path) -> None:
    scenario = Scenario(file)
    agent = squashed(scenario)
    untouched = scenario.boot(FakeKernel())
    theirs = {key: server for key, server in scenario.foreign().items() if key in agent.kernel.servers}
    assert agent.restarted(scenario.config()).controller.cleanup().failures == 0
    assert not any(agent.kernel.state().values())
    assert agent.kernel.sysctls == untouched.sysctls
    assert agent.kernel.servers.keys() <= theirs.keys()
    assert agent.kernel.routes == {}


def test_every_expected_text_has_its_scenario() -> None:
    assert {file.stem for file in FILES} == {file.stem for file in Path(__file__).parent.glob("*.txt")}
