"""Policy Local: who hears nothing, whom a short circuit leads elsewhere (table 1.4 of the rules, S3.09, S4.*)."""

from __future__ import annotations

import msgspec
import pytest

from kuberouter_py.config import Config
from kuberouter_py.model import notation_servers, notation_sets
from kuberouter_py.model.cluster import Endpoint, Service
from kuberouter_py.model.kernel import MarkServerKey, VirtualServer, VirtualServerKey
from kuberouter_py.model.names import balancing_mark
from tests.fakes.agent import FakeAgent
from tests.fakes.objects import DRAINING, NODE_NAME, endpoint, endpoint_slice, node, port, service

HERE, THERE = endpoint("10.244.1.2", NODE_NAME), endpoint("10.244.2.3", "n2")
LEAVING = endpoint("10.244.1.4", NODE_NAME, DRAINING)
MARK = balancing_mark(0)
INSIDE, OUTSIDE = "10.96.0.10,tcp:80", "192.168.0.1,tcp:30080"


def exposed(**fields: bool | int) -> Service:
    return service(kind="NodePort", ports=[port(80, 30080)], **fields)  # type: ignore[arg-type]


def started(one: Service, *endpoints: Endpoint, config: Config | None = None) -> FakeAgent:
    agent = FakeAgent(node("192.168.0.1"), one, endpoint_slice("web", *endpoints), config=config)
    assert agent.start()
    return agent


def members(agent: FakeAgent, role: str) -> dict[str, object]:
    return {
        notation_sets.entry_text(member.entry): mark
        for member, mark in agent.kernel.members.items()
        if member.set == f"krpy-svc-{role}-4"
    }


def silent(agent: FakeAgent) -> tuple[set[str], set[str]]:
    return set(members(agent, "silent")), set(members(agent, "silentoutside"))


def marked(agent: FakeAgent) -> VirtualServer:
    return agent.kernel.servers[MarkServerKey(MARK, 4)]


def destinations(server: VirtualServer) -> set[str]:
    return {notation_servers.endpoint_text(*key) for key in server.destinations}


@pytest.mark.parametrize(
    ("policies", "endpoints", "expected"),
    [
        ({"internal_local": True}, [THERE], ({INSIDE}, set())),
        ({"external_local": True}, [THERE], (set(), {OUTSIDE})),
        ({"internal_local": True, "external_local": True}, [THERE], ({INSIDE}, {OUTSIDE})),
        ({}, [THERE], (set(), set())),
        ({"internal_local": True, "external_local": True}, [THERE, HERE], (set(), set())),
        ({"internal_local": True, "external_local": True}, [THERE, LEAVING], (set(), set())),
        # With no endpoint anywhere the answer is a refusal.
        ({"internal_local": True, "external_local": True}, [], (set(), set())),
        ({"internal_local": True, "external_local": True}, [endpoint("10.244.2.3", "n2", 0)], (set(), set())),
    ],
)
def test_silence(policies: dict[str, bool], endpoints: list[Endpoint], expected: tuple[set[str], set[str]]) -> None:
    assert silent(started(exposed(**policies), *endpoints)) == expected


def test_silence_follows_the_endpoints_in_one_sync() -> None:
    agent = started(exposed(internal_local=True, external_local=True))
    for endpoints, expected in (
        ([THERE], ({INSIDE}, {OUTSIDE})),
        ([THERE, HERE], (set(), set())),
        ([THERE], ({INSIDE}, {OUTSIDE})),
        ([], (set(), set())),
    ):
        agent.tell(endpoint_slice("web", *endpoints))
        assert silent(agent) == expected


def test_silence_begins_before_the_last_endpoint_leaves_the_server_and_ends_after_one_came() -> None:
    """Never refused on the way."""
    agent = started(exposed(internal_local=True), THERE, HERE)
    agent.writes()
    agent.tell(endpoint_slice("web", THERE))
    agent.tell(endpoint_slice("web", THERE, HERE))
    told = [table for table, _, key in agent.writes() if getattr(key, "port", 0) == 80 or "silent" in str(key)]
    # Between the two: at weight 0, gone, and back.
    assert told == ["set members", *["virtual servers"] * 3, "set members"]


def test_the_short_circuit_has_the_cluster_set() -> None:
    agent = started(exposed(external_local=True), HERE, THERE)
    assert members(agent, "shortcircuit") == {OUTSIDE: MARK}
    assert destinations(marked(agent)) == {"10.244.1.2:8080", "10.244.2.3:8080"}
    ordinary = {
        notation_servers.server_text(key): destinations(server)
        for key, server in agent.kernel.servers.items()
        if isinstance(key, VirtualServerKey)
    }
    assert ordinary == {
        "TCP 10.96.0.10:80": {"10.244.1.2:8080", "10.244.2.3:8080"},
        "TCP 192.168.0.1:30080": {"10.244.1.2:8080"},
    }


def test_the_short_circuit_holds_the_same_mapping_as_the_cluster_ip() -> None:
    agent = started(exposed(external_local=True), HERE, THERE)
    (inside,) = (s for key, s in agent.kernel.servers.items() if isinstance(key, VirtualServerKey) and key.port == 80)
    assert marked(agent).destinations is inside.destinations


def test_internal_policy_does_not_narrow_the_short_circuit() -> None:
    agent = started(exposed(external_local=True, internal_local=True), HERE, THERE)
    assert destinations(marked(agent)) == {"10.244.1.2:8080", "10.244.2.3:8080"}


@pytest.mark.parametrize("one", [exposed(), exposed(internal_local=True), service(external_local=True)], ids=str)
def test_nobody_else_has_a_mark(one: Service) -> None:
    agent = started(one, HERE, THERE)
    assert members(agent, "shortcircuit") == {}
    assert not any(isinstance(key, MarkServerKey) for key in agent.kernel.servers)


def test_affinity_under_a_mark_is_hashing() -> None:
    """A persistent server on a mark would send clients to the frontend's port instead of the endpoint's."""
    agent = started(exposed(external_local=True, affinity=10800), HERE, THERE)
    assert marked(agent)[:3] == ("sh", 0x8, 0)
    asked = {"kube-router.io/service.scheduler": "wlc"}
    plain = started(msgspec.structs.replace(exposed(external_local=True), annotations=asked), HERE)
    assert marked(plain)[:3] == ("wlc", 0, 0)


def test_affinity_where_the_kernel_cannot_hash() -> None:
    agent = FakeAgent(node("192.168.0.1"), exposed(external_local=True, affinity=60), endpoint_slice("web", HERE))
    agent.with_schedulers("rr")
    assert agent.start()
    assert marked(agent)[:3] == ("rr", 0, 0)
    assert [note.message for note in agent.notes()] == [
        "sessionAffinity: not for clients on this node, whose kernel has no ip_vs_sh"
    ]


def test_a_service_that_changes_its_policy_gives_its_mark_back() -> None:
    agent = started(exposed(external_local=True), HERE)
    agent.tell(exposed())
    assert members(agent, "shortcircuit") == {}
    assert not any(isinstance(key, MarkServerKey) for key in agent.kernel.servers)
    agent.tell(exposed(external_local=True))
    assert members(agent, "shortcircuit") == {OUTSIDE: MARK}


def test_marks_survive_a_restart() -> None:
    other = service("api", "10.96.0.11", kind="NodePort", ports=[port(80, 30081)], external_local=True)
    agent = started(exposed(external_local=True), HERE, THERE)
    agent.tell(other)
    agent.tell_gone(exposed(external_local=True))
    before = members(agent, "shortcircuit")
    assert before == {"192.168.0.1,tcp:30081": balancing_mark(1)}
    again = agent.restarted()
    agent.writes()
    assert again.start()
    assert members(again, "shortcircuit") == before
    assert again.writes() == []
    again.tell(exposed(external_local=True))
    assert members(again, "shortcircuit") == {**before, OUTSIDE: MARK}


def test_cleanup_leaves_no_mark() -> None:
    agent = started(exposed(external_local=True, internal_local=True), THERE)
    agent.restarted().controller.cleanup()
    assert (agent.kernel.servers, agent.kernel.members, agent.kernel.sets) == ({}, {}, {})
