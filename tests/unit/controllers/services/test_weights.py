"""What a Pod's annotation makes of its endpoint's weight."""

from __future__ import annotations

import pytest

from kuberouter_py.controllers.services.scheduling import KNOWN
from kuberouter_py.controllers.services.weights import ENDPOINT_WEIGHT, HEAVIEST, WEIGHTED, weight_of
from kuberouter_py.model.cluster import PodMetadata, Service
from kuberouter_py.model.kernel import SCHED_FLAG_1, SCHED_FLAG_2, Protocol, VirtualServerKey, address_text
from tests.fakes.agent import FakeAgent
from tests.fakes.objects import endpoint, endpoint_slice, key_of, node, packed, port, service

N1 = node("192.168.0.1")
ONE, TWO = "10.244.2.1", "10.244.2.2"
SLICE = endpoint_slice("web", endpoint(ONE, pod="uid-one"), endpoint(TWO, pod="uid-two"))
KEY = VirtualServerKey(Protocol.TCP, packed("10.96.0.10"), 80)


def web(scheduler: str = "wrr", flags: str = "", node_port: int = 0) -> Service:
    annotations = {"kube-router.io/service.scheduler": scheduler, "kube-router.io/service.schedflags": flags}
    return service("web", "10.96.0.10", ports=[port(80, node_port)], annotations=annotations)


def pod(name: str, weight: str = "", grace: int | None = None) -> PodMetadata:
    return PodMetadata(key_of(name), f"uid-{name}", weight, grace)


def weights(agent: FakeAgent) -> dict[str, int]:
    return {address_text(to.address): one.weight for to, one in agent.kernel.servers[KEY].destinations.items()}


def started(*objects: object) -> FakeAgent:
    agent = FakeAgent(N1, *objects)  # type: ignore[arg-type]
    agent.start()
    return agent


def told(agent: FakeAgent) -> list[tuple[str, str, str]]:
    return [(note.kind, note.reason, note.message) for note in agent.notes()]


def test_the_annotation_is_the_weight_and_1_the_default() -> None:
    agent = started(web(), SLICE, pod("one", "50"))
    assert weights(agent) == {ONE: 50, TWO: 1}
    assert agent.notes() == []


def test_it_is_followed_as_it_comes_changes_and_goes() -> None:
    agent = started(web(), SLICE)
    agent.tell(pod("one", "50"))
    assert weights(agent) == {ONE: 50, TWO: 1}
    agent.tell(pod("one", "0"))
    assert weights(agent) == {ONE: 0, TWO: 1}
    agent.tell_gone(pod("one", "0"))
    assert weights(agent) == {ONE: 1, TWO: 1}


def test_a_pod_rings_the_services_that_name_it_and_only_for_its_weight() -> None:
    other = service("other", "10.96.0.11")
    agent = started(web(), SLICE, other, endpoint_slice("other", endpoint("10.244.2.9", pod="uid-nine")))
    assert agent.put(pod("one", "50")) == {key_of("web")}
    assert agent.put(pod("one", "50", grace=30)) == set()
    assert agent.put(pod("three", "50")) == set()
    assert agent.put(PodMetadata(key_of("one"), "uid-another", "7")) == {key_of("web")}


def test_an_endpoint_at_weight_0_by_annotation_stays_at_it() -> None:
    agent = started(web(), SLICE, pod("one", "0"))
    agent.now += 3600
    agent.look()
    assert weights(agent) == {ONE: 0, TWO: 1}
    assert agent.controller.due() is None


@pytest.mark.parametrize("scheduler", sorted(KNOWN - WEIGHTED))
def test_a_scheduler_without_weights_is_a_reason(scheduler: str) -> None:
    agent = started(web(scheduler), SLICE, pod("one", "50"))
    assert weights(agent) == {ONE: 1, TWO: 1}
    ((kind, reason, message),) = told(agent)
    assert (kind, reason) == ("Service", "WeightIgnored")
    assert f"scheduler {scheduler} has no weights" in message


@pytest.mark.parametrize("scheduler", sorted(WEIGHTED))
def test_every_other_has_them(scheduler: str) -> None:
    agent = started(web(scheduler), SLICE, pod("one", "50"))
    assert (weights(agent), told(agent)) == ({ONE: 50, TWO: 1}, [])


@pytest.mark.parametrize("scheduler", ["sh", "mh"])
def test_a_hashing_server_goes_past_a_weight_of_0(scheduler: str) -> None:
    agent = started(web(scheduler, f"{scheduler}-port"), SLICE, pod("one", "50"))
    assert agent.kernel.servers[KEY].flags == SCHED_FLAG_2
    agent.tell(pod("one", "0"))
    assert agent.kernel.servers[KEY].flags == SCHED_FLAG_1 | SCHED_FLAG_2


@pytest.mark.parametrize("text", ["-1", "65536", "ten", "1.5", "٣", "1 2"])
def test_what_is_no_weight_is_told_to_the_pod(text: str) -> None:
    agent = started(web(), SLICE, pod("one", text), pod("two", "3"))
    assert weights(agent) == {ONE: 1, TWO: 3}
    ((kind, reason, message),) = told(agent)
    assert (kind, reason) == ("Pod", "WeightRefused")
    assert message.startswith(f"{ENDPOINT_WEIGHT}: {text!r} is not a number from 0 to 65535")


@pytest.mark.parametrize(("text", "weight"), [("0", 0), (" 7 ", 7), (str(HEAVIEST), HEAVIEST)])
def test_what_is_one(text: str, weight: int) -> None:
    assert weight_of(text) == weight


def test_frontends_go_on_sharing_their_destinations() -> None:
    agent = started(web(node_port=30080), SLICE, pod("one", "50"))
    first, second = (found.destinations for found in agent.kernel.servers.values())
    assert first is second


# -- and the time that a pod grants ----------------------------------------------------------------------------------


def drains(*pods: PodMetadata) -> FakeAgent:
    """An endpoint that terminates and is connected to."""
    agent = started(web(), SLICE, *pods)
    agent.kernel.connections[KEY, next(iter(SLICE_KEYS))] = 1
    agent.tell(TERMINATING)
    return agent


SLICE_KEYS = [key for key in started(web(), SLICE).kernel.servers[KEY].destinations if key.address == packed(ONE)]
TERMINATING = endpoint_slice("web", endpoint(ONE, conditions=6, pod="uid-one"), endpoint(TWO, pod="uid-two"))


@pytest.mark.parametrize(("grace", "seconds"), [(None, 30), (5, 5), (300, 300)])
def test_a_pod_grants_its_own_time(grace: int | None, seconds: int) -> None:
    agent = drains(*([pod("one", grace=grace)] if grace is not None else []))
    agent.now += seconds - 0.5
    agent.look()
    assert weights(agent) == {ONE: 0, TWO: 1}
    agent.now += 0.5
    agent.look()
    assert weights(agent) == {TWO: 1}


def test_also_where_it_is_heard_of_late() -> None:
    agent = drains()
    assert agent.put(pod("one", grace=60)) == set()
    agent.now += 30
    agent.look()
    assert weights(agent) == {ONE: 0, TWO: 1}
    agent.now += 30
    agent.look()
    assert weights(agent) == {TWO: 1}


def test_and_where_the_endpoint_is_not_listed_any_more() -> None:
    agent = drains(pod("one", grace=60))
    agent.tell(endpoint_slice("web", endpoint(TWO, pod="uid-two")))
    agent.now += 59
    agent.look()
    assert weights(agent) == {ONE: 0, TWO: 1}
