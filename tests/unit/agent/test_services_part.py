"""What the Service proxy's part makes of bells; its controller and edges are tested elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import msgspec

from kuberouter_py.agent.services_part import ServicesPart
from kuberouter_py.controllers.services.sight import NODE
from kuberouter_py.model.cluster import Node, ObjectKey
from kuberouter_py.model.report import SyncReport
from kuberouter_py.observe.health import ProxyHealth
from kuberouter_py.observe.metrics import Metrics
from kuberouter_py.observe.programming import Programming
from kuberouter_py.ports import EdgeError
from kuberouter_py.watchers.cache import Cache
from tests.fakes.objects import NODE_NAME, node
from tests.fakes.parts import FakeRunner, bare


def test_of_other_nodes_only_addresses_ring() -> None:
    cache, runner = Cache(), FakeRunner()
    told: list[tuple[str, ...]] = []
    proxy = SimpleNamespace(node=lambda *, deleting, taints: told.append(taints))
    part = bare(
        ServicesPart,
        node=NODE_NAME,
        elsewhere={},
        source=SimpleNamespace(cache=cache),
        runner=runner,
        telling=SimpleNamespace(proxy=proxy),
    )
    other = msgspec.structs.replace(node("192.168.0.2"), key=ObjectKey("", "n2"))

    def hear(one: Node) -> int:
        runner.rung.clear()
        part._ring_node(cache.put("Node", one.key, one))
        return runner.rung.count(NODE)

    assert hear(node("192.168.0.1")) == 1
    assert hear(other) == 1
    assert hear(msgspec.structs.replace(other, taints=("node.kubernetes.io/not-ready",))) == 0
    assert hear(msgspec.structs.replace(other, internal_ips=())) == 1
    assert hear(msgspec.structs.replace(node("192.168.0.1"), taints=("x",))) == 1
    runner.rung.clear()
    part._ring_node(cache.delete("Node", other.key))
    assert runner.rung == []
    assert told == [(), ("x",)]


def test_timeouts_are_set_once_after_the_first_sync_that_finds_an_ip_vs() -> None:
    answers: list[Exception | None] = [EdgeError("no ip_vs"), None]
    asked: list[tuple[int, ...]] = []
    whole: list[bool] = []

    def set_timeouts(*seconds: int) -> None:
        asked.append(seconds)
        if (answer := answers.pop(0)) is not None:
            raise answer

    reported: list[tuple[SyncReport, Sequence[object]]] = []
    now = [100.0]
    proxy = ProxyHealth(10.0, lambda: now[0])
    part = bare(
        ServicesPart,
        timeouts=(900.0, 0.0, 300.0),
        edges=SimpleNamespace(servers=SimpleNamespace(set_timeouts=set_timeouts)),
        programming=Programming(0.0),
        telling=SimpleNamespace(proxy=proxy, metrics=Metrics("1", lambda: (), lambda: ())),
        on_report=lambda report, notes: reported.append((report, notes)),
        beside=SimpleNamespace(synced=lambda: whole.append(True)),
    )
    proxy.queued()
    now[0] = 150.0
    assert not proxy.healthy()
    for full in (False, True, False):
        part._reported(SyncReport("services", 140.0, 0.1, full, 1), ())
    assert asked == [(900, 0, 300)] * 2
    assert whole == [True]
    assert proxy.healthy()
    assert [report.full for report, _ in reported] == [False, True, False]


def test_while_another_proxy_is_waited_for_who_asked_to_be_is_called() -> None:
    """The agent's main thread turns nowhere else meanwhile."""
    turns: list[str] = []

    def wait(_ended: object, beat: Callable[[], None]) -> bool:
        beat()
        beat()
        return False

    part = bare(
        ServicesPart,
        health=SimpleNamespace(expect=lambda _name: lambda: turns.append("beat")),
        beside=SimpleNamespace(wait=wait),
        ended=None,
        waiting=lambda: turns.append("waiting"),
    )
    assert part.serve(None)
    assert turns == ["beat", "waiting"] * 2
