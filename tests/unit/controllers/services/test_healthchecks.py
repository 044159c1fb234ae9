"""Who listens for load balancers, and what they are told (S12.01-S12.07, S6.05)."""

from __future__ import annotations

import msgspec
import pytest

from kuberouter_py.config import Config
from kuberouter_py.controllers.services.healthchecks import health_check_units
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model import notation
from kuberouter_py.model.cluster import EndpointSlice, Service, SlicePort
from kuberouter_py.model.healthcheck import HealthCheck, HealthCheckPort
from kuberouter_py.model.kernel import Protocol, SetEntry, SetMember
from kuberouter_py.ports import Refused
from tests.fakes.agent import FakeAgent
from tests.fakes.objects import DRAINING, NODE_NAME, endpoint, endpoint_slice, key_of, node, packed, service

VIEW = NodeView(NODE_NAME, families=(4, 6), nodeport_addresses=(packed("192.168.0.1"), packed("2001:db8::1")))
BALANCED = msgspec.structs.replace(service(kind="LoadBalancer", external_local=True), health_check_node_port=32000)
HERE = endpoint("10.244.1.2", NODE_NAME)
EVERYWHERE = HealthCheckPort(b"", 32000)


def listeners(one: Service, *slices: EndpointSlice, config: Config | None = None) -> dict[str, int]:
    items = [item for _, unit in health_check_units(one, slices, VIEW, config or Config()) for item in unit]
    return {
        notation.key_text(item.table, item.key): item.value.local_endpoints
        for item in items
        if item.table == "health checks"
    }


def test_what_counts_is_ready_and_local() -> None:
    leaving, elsewhere = endpoint("10.244.1.3", NODE_NAME, DRAINING), endpoint("10.244.2.4", "n2")
    assert listeners(BALANCED, endpoint_slice("web", HERE, leaving, elsewhere)) == {"*:32000": 1}
    assert listeners(BALANCED, endpoint_slice("web", leaving, elsewhere)) == {"*:32000": 0}
    assert listeners(BALANCED) == {"*:32000": 0}


def test_an_endpoint_counts_once_whatever_its_ports_slices_and_families() -> None:
    other_port = (SlicePort("metrics", Protocol.TCP, 9090),)
    slices = [
        endpoint_slice("web", HERE),
        endpoint_slice("web", HERE, ports=other_port, suffix="b"),
        endpoint_slice("web", endpoint("fd00:244:1::2", NODE_NAME), suffix="six", family=6),
    ]
    assert listeners(BALANCED, *slices) == {"*:32000": 1}


@pytest.mark.parametrize(
    "change", [{"type": "NodePort"}, {"external_local": False}, {"health_check_node_port": 0}], ids=str
)
def test_nobody_listens_for_other_services(change: dict[str, object]) -> None:
    assert listeners(msgspec.structs.replace(BALANCED, **change), endpoint_slice("web", HERE)) == {}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("192.168.0.0/24,2001:db8::/64", {"192.168.0.1:32000": 0, "[2001:db8::1]:32000": 0}),
        ("primary", {"192.168.0.1:32000": 0, "[2001:db8::1]:32000": 0}),
        ("primary,all", {"*:32000": 0}),
        ("0.0.0.0/0,::/0", {"*:32000": 0}),
    ],
)
def test_listens_where_the_operator_said_that_nodeports_answer(asked: str, expected: dict[str, int]) -> None:
    assert listeners(BALANCED, config=Config.from_texts({"nodeport-addresses": [asked]})) == expected


def test_a_host_firewall_lets_who_asks_through_without_any_nodeport() -> None:
    agent = FakeAgent(node("192.168.0.1"), BALANCED)
    agent.start()
    assert SetMember("krpy-svc-healthchecks-4", SetEntry(packed("192.168.0.1"), Protocol.TCP, 32000)) in (
        agent.kernel.members
    )


def test_follows_endpoints_and_the_service() -> None:
    agent = FakeAgent(node("192.168.0.1"), BALANCED)
    agent.start()
    assert agent.kernel.health_checks == {EVERYWHERE: HealthCheck(BALANCED.key, 0)}
    agent.tell(endpoint_slice("web", HERE))
    assert agent.kernel.health_checks == {EVERYWHERE: HealthCheck(BALANCED.key, 1)}
    agent.tell(msgspec.structs.replace(BALANCED, health_check_node_port=32001))
    assert [key.port for key in agent.kernel.health_checks] == [32001]
    agent.tell(msgspec.structs.replace(BALANCED, external_local=False))
    assert agent.kernel.health_checks == {}


def test_a_port_that_is_taken_is_told_to_its_service_and_tried_again() -> None:
    agent = FakeAgent(node("192.168.0.1"), BALANCED, service("other", "10.96.0.11"))
    agent.kernel.table("health checks").refuse[EVERYWHERE] = Refused("cannot listen: Address already in use")
    assert not agent.start()
    (note,) = (note for note in agent.news if note.owner == BALANCED.key)
    assert (note.reason, note.event) == ("FailedToStartServiceHealthcheck", True)
    assert note.message == "node n1: health checks: *:32000: cannot listen: Address already in use"
    assert len(agent.kernel.servers) == 2, "the rest is served"
    agent.kernel.table("health checks").refuse.clear()
    assert agent.controller.retry()
    assert EVERYWHERE in agent.kernel.health_checks


def test_of_two_services_with_one_port_the_older_has_it() -> None:
    younger = msgspec.structs.replace(BALANCED, key=key_of("young"), created=2000.0, cluster_ips=(packed("10.96.0.9"),))
    agent = FakeAgent(node("192.168.0.1"), younger, BALANCED)
    agent.start()
    assert agent.kernel.health_checks == {EVERYWHERE: HealthCheck(BALANCED.key, 0)}
    assert [note.message for note in agent.notes()] == [
        "every address port 32000 is served for default/web, which came first"
    ]
    agent.tell_gone(BALANCED)
    assert agent.kernel.health_checks == {EVERYWHERE: HealthCheck(younger.key, 0)}
