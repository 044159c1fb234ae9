"""What the firewall's part makes of bells, and whom it counts denied packets for."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import msgspec
import pytest

from kuberouter_py.agent.firewall_part import FirewallPart
from kuberouter_py.controllers.firewall.rung import NAMESPACE, POD, POLICY, THIS_NODE, Rung
from kuberouter_py.kernel.monitor import DIVERSION_NEWS, EVERYTHING, NODE_ADDRESS_NEWS, PORT_NEWS, VIP_LINK_NEWS
from kuberouter_py.model.cluster import Namespace, ObjectKey, Pod
from kuberouter_py.model.kernel import SetEntry, SetMember
from kuberouter_py.observe.denied import DeniedCounters, DeniedTotals
from kuberouter_py.ports import Busy
from kuberouter_py.watchers.broadcaster import Broadcaster
from kuberouter_py.watchers.cache import Cache
from tests.fakes.parts import FakeRunner, bare

NODE = ObjectKey("", "n1")
ADDRESS = bytes([10, 244, 1, 5])


def test_each_kind_rings_with_its_own_keys_and_of_nodes_only_ours() -> None:
    runner, broadcaster = FakeRunner(), Broadcaster()
    bare(FirewallPart, runner=runner, node=NODE, source=broadcaster).subscribe()
    same = ObjectKey("", "x")
    for kind in (POD, NAMESPACE, POLICY, "Node"):
        broadcaster.ring(kind, {same})
    assert runner.rung == [Rung(POD, same), Rung(NAMESPACE, same), Rung(POLICY, same)]
    runner.rung.clear()
    broadcaster.ring("Node", {same, NODE})
    assert runner.rung == [THIS_NODE]


@pytest.mark.parametrize(
    ("news", "rung"),
    [
        ({VIP_LINK_NEWS, DIVERSION_NEWS}, []),
        ({PORT_NEWS}, [THIS_NODE]),
        ({NODE_ADDRESS_NEWS}, [THIS_NODE]),
        (EVERYTHING, [THIS_NODE]),
    ],
)
def test_links_that_may_be_bridges_make_it_look_at_the_node(news: set[str], rung: list[Rung]) -> None:
    runner = FakeRunner()
    bare(FirewallPart, runner=runner)._kernel_news(frozenset(news))
    assert runner.rung == rung


def test_denied_packets_are_told_of_the_nodes_pods_also_when_they_cannot_be_read() -> None:
    cache = Cache()
    pod = Pod(ObjectKey("x", "a"), "u1", ips=(ADDRESS,), node="n1")
    for one in (
        pod,
        msgspec.structs.replace(pod, key=ObjectKey("x", "going"), deleting=True),
        msgspec.structs.replace(pod, key=ObjectKey("x", "elsewhere"), node="n2"),
        msgspec.structs.replace(pod, key=ObjectKey("x", "host"), host_network=True),
    ):
        cache.put("Pod", one.key, one)
    cache.put("Namespace", ObjectKey("", "x"), Namespace(ObjectKey("", "x")))
    counted = {SetMember("krpy-fw-ingress-4", SetEntry(ADDRESS)): (3, 180)}
    answers: list[object] = [counted, Busy("a dump was interrupted"), counted]

    def denied() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    part = bare(
        FirewallPart,
        node=NODE,
        source=SimpleNamespace(cache=cache),
        edges=SimpleNamespace(denied=denied),
        denied=DeniedTotals(),
        denied_lock=threading.Lock(),
    )
    for _ in range(3):
        assert part.denied() == [DeniedCounters("x", "a", "ingress", 3, 180)]


@pytest.mark.parametrize(
    ("synced", "counts", "failures", "reason"),
    [
        (False, {"guards": 0}, 0, "the firewall has not done its first sync yet"),
        (True, {}, 0, "the firewall is in the middle of a sync"),
        (True, {"guards": 3}, 2, "2 entries of the firewall are refused or unreadable"),
        (True, {"guards": 3}, 0, ""),
    ],
)
def test_policies_are_enforced_when_everything_stands(
    synced: bool, counts: dict[str, int], failures: int, reason: str
) -> None:
    status = SimpleNamespace(synced=synced, counts=counts, failures=failures)
    part = bare(
        FirewallPart, edges=SimpleNamespace(facts=dict), controller=SimpleNamespace(status=lambda _facts: status)
    )
    assert part.unenforced() == reason
