"""The running agent beside another proxy: what it waits for, when it removes, what it says."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

from kuberouter_py.agent import beside
from kuberouter_py.agent.beside import Beside
from kuberouter_py.agent.others import Found
from kuberouter_py.config import Config
from kuberouter_py.controllers.takeover.differences import Compared, Difference
from kuberouter_py.controllers.takeover.served import owners
from kuberouter_py.model.others import PROXY, ROUTER_POLICIES, Gone, Owner, Remains, Sign
from kuberouter_py.model.report import Note
from kuberouter_py.ports import EdgeError
from tests.unit.controllers.takeover.remains import iptables_mode, ipvs_mode, kube_router

NOTHING = Compared((), ())
EXTERNAL = Difference("externalIP lies in no range", "--service-external-ip-range", ("-t 198.51.100.7:80",))


class Node:
    """Stands in for Others and for the controller: each look gives the next answer, the last one again and again."""

    def __init__(self, *looks: tuple[Remains, Sequence[Owner]] | EdgeError) -> None:
        self.looks = list(looks)
        self.removals: list[Found] = []
        self.refused: list[str] = []
        self.failed: list[str] = []
        self.notes: list[Note] = []
        self.told_gone = 0
        self.unenforced = ""  # by our firewall, and why

    def look(self) -> Found:
        answer = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(answer, EdgeError):
            raise answer
        remains, alive = answer
        return Found(remains, owners(remains), tuple(Sign(owner, "process 812 (x)") for owner in alive))

    def glance(self) -> tuple[Sign, ...]:
        return self.look().signs

    def blind(self) -> str:
        return ""

    def remove(self, found: Found, wanted: object, kubelet: str) -> Gone:
        self.removals.append(found)
        self.looks[:] = [(Remains(), ())]
        return Gone({"chains": 3}, ["nat KUBE-MARK-MASQ: kubelet v1.27 keeps it too"], list(self.failed))

    def missing(self) -> list[str]:
        return self.refused

    def frontends(self) -> frozenset[object]:
        return frozenset()

    def gone(self) -> None:
        self.told_gone += 1


def beside_of(node: Node, compared: Compared = NOTHING, **options: Any) -> Beside:
    return Beside(
        Config(**options), "n1", cast(Any, node), lambda found: compared, cast(Any, node), lambda: "v1.27.1",
        node.notes.extend, node.gone, lambda: node.unenforced,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "WAITING", 0.001)
    monkeypatch.setattr(beside, "LOOKING_OUT", 0.001)


def wait(one: Beside, looks: int = 1000) -> bool:
    """looks: after so many the agent is told to end."""
    ended = threading.Event()
    beats: list[None] = []

    def beat() -> None:
        beats.append(None)
        if len(beats) >= looks:
            ended.set()

    return one.wait(ended, beat)


def run_until(one: Beside, node: Node, done: Any) -> None:
    thread = threading.Thread(target=one.run, daemon=True)
    one.synced()
    thread.start()
    deadline = threading.Event()
    for _ in range(5000):
        if done():
            break
        deadline.wait(0.001)
    one.stop()
    thread.join(5)
    assert done()


def test_without_another_proxy_nothing_is_waited_for() -> None:
    one = beside_of(Node((Remains(), ())))
    assert wait(one)
    assert (one.waited, list(one.problems())) == (False, [])


def test_nothing_is_written_beside_a_living_one_and_that_is_told_once() -> None:
    node = Node((ipvs_mode(), [PROXY]))
    one = beside_of(node)
    assert not wait(one, looks=3)
    (problem,) = one.problems()
    assert problem == "kube-proxy is alive: process 812 (x); nothing is written beside it"
    assert [(note.kind, note.reason, note.event) for note in node.notes] == [("Node", "OtherProxyAlive", True)]


def test_when_it_has_ended_the_wait_is_over() -> None:
    one = beside_of(Node((ipvs_mode(), [PROXY]), (ipvs_mode(), [PROXY]), (ipvs_mode(), ())), takeover=True)
    assert wait(one)
    assert one.waited


def test_policies_may_live_beside_an_agent_but_not_a_takeover() -> None:
    looks = (ipvs_mode(), [ROUTER_POLICIES])
    assert wait(beside_of(Node(looks)))
    assert not wait(beside_of(Node(looks), takeover=True), looks=2)


@pytest.mark.parametrize(("accept", "goes_on"), [(False, False), (True, True)])
def test_differences_stop_a_takeover_unless_accepted(accept: bool, goes_on: bool) -> None:
    one = beside_of(Node((ipvs_mode(), ())), Compared((EXTERNAL,), ()), takeover=True, accept_differences=accept)
    assert wait(one, looks=2) == goes_on
    assert any("--service-external-ip-range" in problem for problem in one.problems()) != goes_on


def test_what_cannot_be_looked_at_is_not_written_beside() -> None:
    one = beside_of(Node(EdgeError("no netlink")))
    assert not wait(one, looks=2)
    assert "no netlink" in one.problems()[0]


@pytest.mark.parametrize(("remains", "translating"), [(ipvs_mode(), False), (iptables_mode(), True)])
def test_rules_that_translate_are_made_way_for(remains: Remains, translating: bool) -> None:
    one = beside_of(Node((remains, ())), takeover=True)
    assert wait(one)
    assert one.translating == translating


def test_theirs_goes_once_ours_is_in_place() -> None:
    node = Node((ipvs_mode(), ()))
    one = beside_of(node, takeover=True)
    assert wait(one)
    run_until(one, node, lambda: node.told_gone)
    assert len(node.removals) == 1
    assert one.facts() == {"chains of another proxy that stay": "nat KUBE-MARK-MASQ: kubelet v1.27 keeps it too"}
    assert list(one.problems()) == []


def test_nothing_goes_while_something_of_ours_is_refused() -> None:
    node = Node((ipvs_mode(), ()))
    node.refused = ["iptables: the lock is held"]
    one = beside_of(node, takeover=True)
    assert wait(one)
    run_until(one, node, lambda: any("the lock is held" in problem for problem in one.problems()))
    assert node.removals == []


@pytest.mark.parametrize("run_firewall", [True, False])
def test_chains_that_enforce_policies_stay_until_our_firewall_does(run_firewall: bool) -> None:
    """Where it does not run, that they end is a difference, which was accepted."""
    node = Node((kube_router(), ()))
    node.unenforced = "the firewall has not done its first sync yet"
    one = beside_of(node, takeover=True, run_firewall=run_firewall)
    assert wait(one)
    if run_firewall:
        run_until(one, node, lambda: any(node.unenforced in problem for problem in one.problems()))
        assert node.removals == []
        node.unenforced = ""
        one = beside_of(node, takeover=True)
        assert wait(one)
    run_until(one, node, lambda: node.told_gone)
    assert len(node.removals) == 1


def test_without_the_flag_theirs_stays_and_is_told() -> None:
    node = Node((ipvs_mode(), ()))
    one = beside_of(node)
    assert wait(one)
    run_until(one, node, one.facts)
    assert one.facts() == {"left by another proxy": "kube-proxy (ipvs mode); `kuberouter-py takeover` removes it"}
    assert node.removals == []


def test_one_that_comes_back_is_an_event_and_a_problem_until_it_ends() -> None:
    node = Node((Remains(), ()))
    one = beside_of(node, takeover=True)
    assert wait(one)
    node.looks[:] = [(ipvs_mode(), [PROXY])]
    run_until(one, node, lambda: node.notes)
    assert "it writes what this agent writes" in node.notes[0].message
    assert "it writes what this agent writes" in one.problems()[0]


def test_what_one_that_came_back_served_is_compared_before_it_goes() -> None:
    node = Node((Remains(), ()))
    one = beside_of(node, Compared((EXTERNAL,), ()), takeover=True)
    assert wait(one)
    node.looks[:] = [(ipvs_mode(), [PROXY]), (ipvs_mode(), ())]
    run_until(one, node, lambda: any("--service-external-ip-range" in problem for problem in one.problems()))
    assert node.removals == []
