"""What depends on how much there is: addresses or routes alone, and whether IPVS estimates rates."""

from __future__ import annotations

import pytest

from kuberouter_py.config import Config
from kuberouter_py.controllers.services import scale
from kuberouter_py.controllers.services.nodestate import ESTIMATION
from kuberouter_py.controllers.services.sight import NODE
from kuberouter_py.model.cluster import Endpoint, Service
from kuberouter_py.model.kernel import address_text
from tests.fakes.agent import LINKS, FakeAgent
from tests.fakes.kernel import FakeKernel
from tests.fakes.objects import endpoint, endpoint_slice, node, service

N1 = node("192.168.0.1")
MANY = [service(f"s{number}", f"10.96.1.{number}") for number in range(6)]


def addresses(agent: FakeAgent) -> set[str]:
    return {address_text(key.address) for key in agent.kernel.addresses}


def vips(*services: Service) -> set[str]:
    return {address_text(each.cluster_ips[0]) for each in services}


def fact(agent: FakeAgent, name: str) -> str:
    return agent.controller.status({}, ()).facts[name]


# -- addresses ---------------------------------------------------------------------------------------------------------


def test_beyond_the_limit_new_vips_get_a_route_and_what_stands_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MOST_ADDRESSES", 4)
    agent = FakeAgent(N1, *MANY[:4])
    agent.start()
    assert addresses(agent) == vips(*MANY[:4])
    assert fact(agent, "vip binding") == "address (auto)"
    agent.tell(*MANY[4:])
    assert addresses(agent) == vips(*MANY[:4])
    assert {address_text(key) for key in agent.kernel.routes} == vips(*MANY)
    assert fact(agent, "vip binding") == "route (auto: more than 4 VIPs); 4 keep their addresses"
    agent.controller.sync({each.key for each in MANY})
    again = agent.restarted()
    again.kernel.journal.clear()
    again.start()
    assert again.writes() == []
    assert addresses(again) == vips(*MANY[:4])


def test_a_node_that_starts_beyond_the_limit_gets_routes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MOST_ADDRESSES", 4)
    agent = FakeAgent(N1, *MANY)
    agent.start()
    assert addresses(agent) == set()
    agent.tell_gone(*MANY[:2])
    assert addresses(agent) == set()  # nothing moves by itself
    agent.tell(service("new", "10.96.2.1"))
    assert addresses(agent) == set()


def test_what_is_asked_for_is_done_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MOST_ADDRESSES", 4)
    for binding, expected in (("address", vips(*MANY)), ("route", set())):
        agent = FakeAgent(N1, *MANY, config=Config(vip_binding=binding))
        agent.start()
        assert addresses(agent) == expected
        assert fact(agent, "vip binding") == binding


# -- estimation --------------------------------------------------------------------------------------------------------


def kernel(value: str = "1") -> FakeKernel:
    return FakeKernel(LINKS, {ESTIMATION: value})


def pods(number: int) -> list[Endpoint]:
    return [endpoint(f"10.244.2.{each}") for each in range(1, number + 1)]


def test_estimation_stops_above_the_limit_and_begins_again_at_half_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MOST_ESTIMATED", 10)
    agent = FakeAgent(N1, MANY[0], endpoint_slice("s0", *pods(9)), kernel=kernel())
    agent.start()
    assert agent.kernel.sysctls[ESTIMATION] == "1"  # 1 server, 9 destinations
    for number, expected in ((10, "0"), (8, "0"), (4, "1"), (9, "1")):
        agent.tell(endpoint_slice("s0", *pods(number)))
        agent.controller.sync({NODE})
        assert agent.kernel.sysctls[ESTIMATION] == expected, number
    assert fact(agent, "rate estimation") == "on"


def test_a_restart_leaves_stopped_estimation_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MOST_ESTIMATED", 10)
    agent = FakeAgent(N1, MANY[0], endpoint_slice("s0", *pods(20)), kernel=kernel())
    agent.start()
    again = agent.restarted()
    again.kernel.journal.clear()
    again.start()
    assert again.writes() == []
    assert fact(again, "rate estimation") == (
        "off (auto: more than 10 servers and destinations); the metrics have no rates"
    )


def test_estimation_as_asked_or_as_it_was() -> None:
    for asked, before, after in (("on", "0", "1"), ("off", "1", "0"), ("auto", "0", "0"), ("auto", "1", "1")):
        agent = FakeAgent(N1, MANY[0], config=Config(ipvs_estimation=asked), kernel=kernel(before))
        agent.start()
        assert agent.kernel.sysctls[ESTIMATION] == after
    assert fact(agent, "rate estimation") == "on"


def test_a_kernel_without_the_switch_is_asked_nothing() -> None:
    agent = FakeAgent(N1, MANY[0], config=Config(ipvs_estimation="off"), kernel=FakeKernel(LINKS))
    assert agent.start()
    assert fact(agent, "rate estimation") == "on; this kernel cannot stop it"
