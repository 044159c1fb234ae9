"""Which remembered UDP flows are forgotten, and when they are looked at. S9.01-S9.04."""

from __future__ import annotations

import pytest

from kuberouter_py.model.cluster import READY, SERVING, TERMINATING, EndpointSlice, Service, SlicePort
from kuberouter_py.model.kernel import Flow, Protocol
from tests.fakes.agent import FakeAgent
from tests.fakes.objects import endpoint, endpoint_slice, node, packed, port, service

N1 = node("192.168.0.1")
ONE, TWO = "10.244.2.1", "10.244.2.2"
VIP = "10.96.0.53"


def dns(*, local: bool = False, protocol: Protocol = Protocol.UDP) -> Service:
    return service("dns", VIP, ports=[port(53, 30053, protocol=protocol)], kind="NodePort", external_local=local)


def pods(
    *addresses: str, number: int = 5353, protocol: Protocol = Protocol.UDP, conditions: int = READY | SERVING
) -> EndpointSlice:
    ports = [SlicePort("", protocol, number)]
    return endpoint_slice("dns", *(endpoint(each, conditions=conditions) for each in addresses), ports=ports)


def flow(
    answers: str, to: str = VIP, number: int = 53, answers_port: int = 5353, protocol: Protocol = Protocol.UDP
) -> Flow:
    return Flow(protocol, packed("10.244.1.9"), 40000, packed(to), number, packed(answers), answers_port)


def left(agent: FakeAgent) -> list[Flow]:
    return agent.kernel.flows


def started(*objects: object) -> FakeAgent:
    agent = FakeAgent(N1, *(objects or (dns(), pods(ONE, TWO))))  # type: ignore[arg-type]
    agent.start()
    return agent


@pytest.mark.parametrize("to", [(VIP, 53), ("192.168.0.1", 30053)], ids=["ClusterIP", "NodePort"])
def test_a_flow_to_an_endpoint_that_is_gone_is_forgotten(to: tuple[str, int]) -> None:
    agent = started()
    stays = flow(TWO, *to)
    agent.kernel.flows = [flow(ONE, *to), stays]
    agent.tell(pods(TWO))
    assert left(agent) == [stays]


def test_one_that_nobody_answered_before_the_service_had_endpoints_is_forgotten() -> None:
    agent = started(dns(), pods())
    agent.kernel.flows = [flow(VIP, answers_port=53)]
    agent.tell(pods(ONE))
    assert left(agent) == []


def test_one_to_a_port_that_the_endpoint_no_longer_has_is_forgotten() -> None:
    """S9.04"""
    agent = started(dns(), pods(ONE))
    agent.kernel.flows = [flow(ONE)]
    agent.tell(pods(ONE, number=5354))
    assert left(agent) == []


def test_without_any_serving_endpoint_nothing_is() -> None:
    """S9.02"""
    agent = started()
    agent.kernel.flows = [flow(ONE)]
    agent.tell(pods())
    assert left(agent) == [flow(ONE)]


def test_nor_one_to_an_endpoint_that_serves_though_it_terminates() -> None:
    agent = started()
    agent.kernel.flows = [flow(ONE)]
    agent.tell(
        endpoint_slice(
            "dns",
            endpoint(ONE, conditions=SERVING | TERMINATING),
            endpoint(TWO),
            ports=[SlicePort("", Protocol.UDP, 5353)],
        )
    )
    assert left(agent) == [flow(ONE)]


def test_a_policy_cuts_no_flow() -> None:
    agent = started()
    agent.kernel.flows = [flow(ONE, "192.168.0.1", 30053)]
    agent.tell(dns(local=True))
    assert left(agent) == [flow(ONE, "192.168.0.1", 30053)]
    assert agent.kernel.flow_looks == 1  # the first sync's


def test_nor_does_the_end_of_the_service() -> None:
    """S9.03"""
    agent = started()
    agent.kernel.flows = [flow(ONE)]
    agent.tell_gone(dns(), pods(ONE, TWO))
    assert left(agent) == [flow(ONE)]


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.SCTP])
def test_tcp_and_sctp_are_never_looked_at(protocol: Protocol) -> None:
    agent = started(dns(protocol=protocol), pods(ONE, TWO, protocol=protocol))
    agent.kernel.flows = [flow(ONE, protocol=protocol)]
    agent.tell(pods(TWO, protocol=protocol))
    assert left(agent) == [flow(ONE, protocol=protocol)]
    assert agent.kernel.flow_looks == 0


def test_somebody_elses_flow_to_the_same_endpoint_is_not_ours() -> None:
    agent = started()
    agent.kernel.flows = [flow(ONE, "8.8.8.8"), flow(ONE, VIP, 54)]
    agent.tell(pods(TWO))
    assert left(agent) == [flow(ONE, "8.8.8.8"), flow(ONE, VIP, 54)]


def test_one_look_a_sync_and_none_where_no_udp_endpoint_changed() -> None:
    web, more = service("web", "10.96.0.10"), service("more", "10.96.0.54", ports=[port(53, protocol=Protocol.UDP)])
    agent = started(dns(), pods(ONE, TWO), web, more)
    assert agent.kernel.flow_looks == 1
    agent.tell(endpoint_slice("web", endpoint(ONE)))
    assert agent.kernel.flow_looks == 1
    agent.tell(pods(TWO), endpoint_slice("more", endpoint(ONE), ports=[SlicePort("", Protocol.UDP, 5353)]))
    assert agent.kernel.flow_looks == 2


def test_a_kernel_that_does_not_tell_is_a_failure_and_asked_again() -> None:
    agent = started()
    agent.kernel.flows = [flow(ONE)]
    agent.kernel.no_flows = "no nf_conntrack_netlink"
    assert not agent.controller.sync(agent.put(pods(TWO)))
    assert ("UDP flows", "no nf_conntrack_netlink") in agent.controller.status({}, ()).refused
    assert not agent.controller.retry()
    agent.kernel.no_flows = ""
    assert agent.controller.retry()
    assert left(agent) == []
    assert agent.controller.status({}, ()).refused == ()


def test_a_new_process_forgets_what_became_stale_while_there_was_none() -> None:
    agent = started()
    stays = flow(TWO)
    agent.kernel.flows = [flow(ONE), stays]
    agent.put(pods(TWO))
    agent.restarted().start()
    assert left(agent) == [stays]


def rival(created: float = 2000.0) -> tuple[Service, EndpointSlice]:
    """Wants the same address, and has other endpoints."""
    ports = [SlicePort("", Protocol.UDP, 5353)]
    return (
        service("rival", VIP, ports=[port(53, protocol=Protocol.UDP)], created=created),
        endpoint_slice("rival", endpoint(TWO), ports=ports),
    )


def contested(*, created: float = 2000.0) -> tuple[FakeAgent, Flow, Flow]:
    """A flow that an endpoint of "dns" answers, one that an endpoint of "rival" does; both Services are there."""
    agent = started(dns(), pods(ONE))
    agent.tell(*rival(created))
    first, second = flow(ONE), flow(TWO)
    agent.kernel.flows = [first, second]
    return agent, first, second


def test_endpoints_of_a_service_that_has_not_got_the_frontend_do_not_count() -> None:
    agent, first, second = contested()
    ports = [SlicePort("", Protocol.UDP, 5353)]
    agent.tell(endpoint_slice("rival", endpoint(TWO), endpoint("10.244.2.9"), ports=ports))
    assert left(agent) == [first, second]
    agent.tell(pods(ONE, "10.244.2.8"))
    assert left(agent) == [first]


def test_whoever_takes_over_a_frontend_keeps_no_flows_of_the_owner_before() -> None:
    agent, _, second = contested()
    agent.tell_gone(dns(), pods(ONE))
    assert left(agent) == [second]


def test_nor_does_one_that_prevails_without_other_endpoints_than_before() -> None:
    agent, _, second = contested()
    agent.tell(rival(created=500.0)[0])
    assert left(agent) == [second]


def test_nobody_is_looked_at_where_the_heir_has_the_same_endpoints() -> None:
    agent = started(dns(), pods(TWO))
    agent.tell(*rival())
    looks = agent.kernel.flow_looks
    agent.tell(rival(created=500.0)[0])
    assert agent.kernel.flow_looks == looks


def test_endpoints_that_came_and_went_before_a_look_was_possible_are_looked_after() -> None:
    agent = started(dns(), pods(ONE))
    agent.kernel.no_flows = "no nf_conntrack_netlink"
    assert not agent.controller.sync(agent.put(pods(TWO)))
    agent.kernel.flows = [flow(TWO)]
    agent.kernel.no_flows = ""
    agent.tell(pods(ONE))
    assert left(agent) == []
