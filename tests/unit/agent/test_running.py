"""What the agent makes of bells and of a controller that is switched off; its parts are tested elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from kuberouter_py.agent import running
from kuberouter_py.agent.running import Agent
from kuberouter_py.agent.telling import FIRST_SYNC
from kuberouter_py.controllers.reconcile import Outcome
from kuberouter_py.controllers.services.sight import NODE
from kuberouter_py.model.cluster import Node, ObjectKey
from kuberouter_py.observe.health import TURN, Health
from kuberouter_py.watchers.cache import Cache
from tests.fakes.objects import NODE_NAME, node


def bare(**parts: Any) -> Any:
    """An Agent with just these of its parts."""
    agent: Any = object.__new__(Agent)
    vars(agent).update({f"_{name}": part for name, part in parts.items()})
    return agent


class FakeRunner:
    def __init__(self) -> None:
        self.rung: list[object] = []

    def ring(self, keys: Iterable[object]) -> None:
        self.rung += keys


def test_of_other_nodes_only_addresses_ring() -> None:
    cache, runner, told = Cache(), FakeRunner(), list[Node | None]()
    agent = bare(
        node=NODE_NAME,
        elsewhere={},
        source=SimpleNamespace(cache=cache),
        runner=runner,
        telling=SimpleNamespace(node=told.append),
    )
    other = msgspec.structs.replace(node("192.168.0.2"), key=ObjectKey("", "n2"))

    def hear(one: Node) -> int:
        runner.rung.clear()
        agent._ring_node(cache.put("Node", one.key, one))
        return runner.rung.count(NODE)

    assert hear(node("192.168.0.1")) == 1
    assert hear(other) == 1
    assert hear(msgspec.structs.replace(other, taints=("node.kubernetes.io/not-ready",))) == 0
    assert hear(msgspec.structs.replace(other, internal_ips=())) == 1
    assert hear(msgspec.structs.replace(node("192.168.0.1"), taints=("x",))) == 1
    runner.rung.clear()
    agent._ring_node(cache.delete("Node", other.key))
    assert runner.rung == []
    assert [one.key.name for one in told if one] == [NODE_NAME, NODE_NAME]


def test_a_proxy_that_is_switched_off_cleans_until_nothing_is_left_and_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "RETRY_FIRST", 0.0)
    now = [0.0]
    health = Health(lambda: now[0])
    health.expect("services")
    health.wait_for(FIRST_SYNC)
    outcomes = [Outcome(unread={"iptables": "lock"}), Outcome(unread={"x": "no"}, lacking=frozenset({"x"}))]
    ended = threading.Event()
    agent = bare(ended=ended, telling=SimpleNamespace(health=health))

    def cleanup() -> Outcome:
        if len(outcomes) == 1:
            ended.set()  # so that it does not wait for the end for ever
        return outcomes.pop(0)

    agent._controller = SimpleNamespace(cleanup=cleanup)
    assert agent._stand_by() == 0
    assert outcomes == []
    now[0] = 10 * TURN
    assert (health.livez().status, health.readyz().status) == (200, 200)
