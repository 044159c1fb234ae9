"""What becomes of connections to endpoints that go: over the fakes, whose connections a test opens and ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberouter_py.config import Config
from kuberouter_py.controllers.claims import NOTHING, Item, Share
from kuberouter_py.controllers.services.desired import SERVERS
from kuberouter_py.controllers.services.drain import EVERY, PATIENCE, SOON, Drains
from kuberouter_py.model.cluster import SlicePort
from kuberouter_py.model.kernel import (
    SCHED_FLAG_1,
    Destination,
    DestinationKey,
    MarkServerKey,
    Protocol,
    ServerKey,
    VirtualServer,
    VirtualServerKey,
    address_text,
)
from tests.fakes.agent import FakeAgent
from tests.fakes.objects import endpoint, endpoint_slice, node, packed, port, service

N1 = node("192.168.0.1")
WEB = service("web", "10.96.0.10")
ONE, TWO, THREE = "10.244.2.1", "10.244.2.2", "10.244.2.3"
PERIOD = 30.0


def pods(name: str, *addresses: str) -> object:
    return endpoint_slice(name, *map(endpoint, addresses))


def server(address: str = "10.96.0.10", number: int = 80, protocol: Protocol = Protocol.TCP) -> ServerKey:
    return VirtualServerKey(protocol, packed(address), number)


def weights(agent: FakeAgent, key: ServerKey | None = None) -> dict[str, int]:
    found = agent.kernel.servers[key or server()]
    return {address_text(to.address): destination.weight for to, destination in found.destinations.items()}


def connect(agent: FakeAgent, address: str, count: int = 1, key: ServerKey | None = None) -> None:
    agent.kernel.connections[key or server(), DestinationKey(packed(address), 8080)] = count


def later(agent: FakeAgent, seconds: float) -> None:
    agent.now += seconds
    agent.look()


def draining(agent: FakeAgent) -> int:
    return agent.controller.status({}, ()).counts["draining"]


def started(*objects: object, config: Config | None = None) -> FakeAgent:
    agent = FakeAgent(N1, *(objects or (WEB, pods("web", ONE, TWO))), config=config)  # type: ignore[arg-type]
    agent.start()
    return agent


def test_an_endpoint_without_connections_is_gone_soon() -> None:
    agent = started()
    agent.tell(pods("web", TWO))  # type: ignore[arg-type]
    assert weights(agent) == {TWO: 1}
    assert draining(agent) == 0
    assert agent.controller.due() is None


def test_connections_keep_it_at_weight_0_until_they_are_gone() -> None:
    agent = started()
    connect(agent, ONE)
    agent.tell(pods("web", TWO))  # type: ignore[arg-type]
    assert weights(agent) == {ONE: 0, TWO: 1}
    assert draining(agent) == 1
    later(agent, 10 * EVERY)
    assert weights(agent) == {ONE: 0, TWO: 1}
    connect(agent, ONE, 0)
    later(agent, EVERY)
    assert weights(agent) == {TWO: 1}
    assert agent.controller.due() is None


def test_or_until_their_time_is_over() -> None:
    agent = started()
    connect(agent, ONE)
    agent.tell(pods("web", TWO))  # type: ignore[arg-type]
    later(agent, PERIOD - 0.5)
    assert weights(agent) == {ONE: 0, TWO: 1}
    later(agent, 0.5)
    assert weights(agent) == {TWO: 1}


def test_the_time_counts_from_the_first_decision_and_ends_it_where_nothing_can_be_counted() -> None:
    agent = started()
    agent.node.broken = "no answer"
    agent.tell(pods("web", TWO))  # type: ignore[arg-type]
    assert weights(agent) == {ONE: 0, TWO: 1}
    agent.now += PERIOD / 2
    agent.tell(pods("web", TWO, THREE))  # type: ignore[arg-type]
    assert weights(agent) == {ONE: 0, TWO: 1, THREE: 1}
    later(agent, PERIOD / 2)
    assert weights(agent) == {TWO: 1, THREE: 1}


def test_one_that_comes_back_has_its_weight_again_and_is_never_removed() -> None:
    agent = started()
    connect(agent, ONE)
    agent.tell(pods("web", TWO))  # type: ignore[arg-type]
    agent.writes()
    agent.tell(pods("web", ONE, TWO))  # type: ignore[arg-type]
    assert weights(agent) == {ONE: 1, TWO: 1}
    assert agent.writes() == [("virtual servers", "write", server())]
    assert agent.controller.due() is None
    later(agent, 2 * PERIOD)
    assert weights(agent) == {ONE: 1, TWO: 1}


def test_the_same_endpoint_gone_again_has_its_whole_time_again() -> None:
    agent = started()
    connect(agent, ONE)
    agent.tell(pods("web", TWO))  # type: ignore[arg-type]
    agent.now += PERIOD - 1
    agent.tell(pods("web", ONE, TWO))  # type: ignore[arg-type]
    agent.tell(pods("web", TWO))  # type: ignore[arg-type]
    later(agent, PERIOD - 1)
    assert weights(agent) == {ONE: 0, TWO: 1}


@pytest.mark.parametrize("protocol", [Protocol.UDP, Protocol.SCTP])
def test_udp_and_sctp_go_at_once(protocol: Protocol) -> None:
    def slice_of(*addresses: str) -> object:
        return endpoint_slice("dns", *map(endpoint, addresses), ports=[SlicePort("", protocol, 53)])

    agent = started(service("dns", "10.96.0.53", ports=[port(53, protocol=protocol)]), slice_of(ONE, TWO))
    key = server("10.96.0.53", 53, protocol)
    agent.kernel.connections[key, DestinationKey(packed(ONE), 53)] = 1
    agent.tell(slice_of(TWO))  # type: ignore[arg-type]
    assert weights(agent, key) == {TWO: 1}
    assert agent.controller.due() is None


def test_switched_off_everything_goes_at_once() -> None:
    agent = started(config=Config(ipvs_graceful_termination=False))
    connect(agent, ONE)
    agent.tell(pods("web", TWO))  # type: ignore[arg-type]
    assert weights(agent) == {TWO: 1}


@pytest.mark.parametrize(("scheduler", "flags"), [("rr", 0), ("sh", SCHED_FLAG_1), ("mh", SCHED_FLAG_1)])
def test_a_hashing_server_has_the_fallback_flag_just_while_it_drains(scheduler: str, flags: int) -> None:
    hashing = service("web", "10.96.0.10", annotations={"kube-router.io/service.scheduler": scheduler})
    agent = started(hashing, pods("web", ONE, TWO))
    assert agent.kernel.servers[server()].flags == 0
    connect(agent, ONE)
    agent.tell(pods("web", TWO))  # type: ignore[arg-type]
    assert (agent.kernel.servers[server()].flags, weights(agent)) == (flags, {ONE: 0, TWO: 1})
    later(agent, PERIOD)
    assert (agent.kernel.servers[server()].flags, weights(agent)) == (0, {TWO: 1})


def test_dh_cannot_drain() -> None:
    hashing = service("web", "10.96.0.10", annotations={"kube-router.io/service.scheduler": "dh"})
    agent = started(hashing, pods("web", ONE, TWO))
    connect(agent, ONE)
    agent.tell(pods("web", TWO))  # type: ignore[arg-type]
    assert weights(agent) == {TWO: 1}


# -- Services that go ------------------------------------------------------------------------------------------------


def test_a_service_that_is_deleted_keeps_its_address_until_it_is_drained() -> None:
    agent = started()
    before = agent.kernel.state()
    connect(agent, ONE)
    agent.tell_gone(WEB, pods("web", ONE, TWO))  # type: ignore[arg-type]
    assert weights(agent) == {ONE: 0}
    after = agent.kernel.state()
    assert {name: len(content) for name, content in after.items()} == {n: len(c) for n, c in before.items()}
    assert agent.controller.status({}, ()).counts["services"] == 0
    later(agent, PERIOD)
    assert agent.kernel.servers == {}
    assert agent.kernel.routes == {}
    assert agent.kernel.addresses == {}


def test_a_port_that_is_given_up_drains_and_an_address_does_not() -> None:
    """The address may be somebody else's by now."""
    web = service("web", "10.96.0.10", ports=[port(80), port(81, name="more")], external=["198.51.100.7"])
    slices = endpoint_slice("web", endpoint(ONE), ports=[SlicePort(name, Protocol.TCP, 8080) for name in ("", "more")])
    agent = started(web, slices, config=Config(strict_external_ip_validation=False))
    assert len(agent.kernel.servers) == 4
    for key in agent.kernel.servers:
        connect(agent, ONE, key=key)
    agent.tell(service("web", "10.96.0.10"))
    assert agent.kernel.servers.keys() == {server(), server(number=81)}
    assert weights(agent, server(number=81)) == {ONE: 0}
    later(agent, PERIOD)
    assert list(agent.kernel.servers) == [server()]


def test_a_new_service_with_the_same_address_takes_the_server_over_at_once() -> None:
    agent = started()
    connect(agent, ONE)
    agent.tell_gone(WEB, pods("web", ONE, TWO))  # type: ignore[arg-type]
    agent.tell(service("heir", "10.96.0.10", created=9000.0), pods("heir", THREE))  # type: ignore[arg-type]
    assert weights(agent) == {ONE: 0, THREE: 1}
    assert agent.notes() == []
    later(agent, PERIOD)
    assert weights(agent) == {THREE: 1}
    assert draining(agent) == 0


def test_deletion_and_its_replacement_in_one_sync() -> None:
    agent = started()
    connect(agent, ONE)
    rung = agent.delete(WEB, pods("web", ONE, TWO))  # type: ignore[arg-type]
    rung |= agent.put(service("heir", "10.96.0.10", created=9000.0), pods("heir", THREE))  # type: ignore[arg-type]
    agent.controller.sync(rung)
    agent.look()
    assert weights(agent) == {ONE: 0, THREE: 1}
    assert agent.notes() == []


def test_the_younger_service_that_waited_for_the_address_takes_over_what_drains() -> None:
    younger = service("younger", "10.96.0.10", created=9000.0)
    agent = started(WEB, pods("web", ONE, TWO), younger, pods("younger", THREE))
    assert weights(agent) == {ONE: 1, TWO: 1}
    connect(agent, ONE)
    agent.tell_gone(WEB, pods("web", ONE, TWO))  # type: ignore[arg-type]
    assert weights(agent) == {ONE: 0, THREE: 1}
    assert agent.notes() == []
    later(agent, PERIOD)
    assert weights(agent) == {THREE: 1}


def test_the_frontends_of_a_port_share_what_drains_in_them() -> None:
    web = service("web", "10.96.0.10", ports=[port(80, 30080)])
    agent = started(web, pods("web", ONE, TWO))
    for key in agent.kernel.servers:
        connect(agent, ONE, key=key)
    agent.tell(pods("web", TWO))  # type: ignore[arg-type]
    first, second = (found.destinations for found in agent.kernel.servers.values())
    assert first is second
    assert draining(agent) == 2


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
def test_the_server_on_a_mark_drains_as_its_frontends_do(protocol: Protocol, restart: bool) -> None:
    """The short circuit of policy Local: its connections know nothing of the frontend."""
    web = service("web", ports=[port(80, 30080, protocol=protocol)], external_local=True, kind="NodePort")
    here, slice_ports = endpoint("10.244.1.2", "n1"), [SlicePort("", protocol, 8080)]
    agent = started(web, endpoint_slice("web", here, endpoint(ONE), ports=slice_ports))
    (mark,) = (key for key in agent.kernel.servers if isinstance(key, MarkServerKey))
    connect(agent, ONE, key=mark)
    agent.delete(web)
    if restart:
        agent = agent.restarted()
        agent.start()
    else:
        agent.controller.sync({web.key})
        agent.look()
    kept = [key for key in agent.kernel.servers if isinstance(key, MarkServerKey)]
    assert kept == ([mark] if protocol == Protocol.TCP else [])
    if kept:
        assert weights(agent, mark) == {ONE: 0}
    later(agent, PERIOD)
    assert agent.kernel.servers == {}


# -- a new process ---------------------------------------------------------------------------------------------------


def test_a_new_process_goes_on_draining_what_it_finds() -> None:
    agent = started()
    connect(agent, ONE)
    agent.tell(pods("web", TWO))  # type: ignore[arg-type]
    agent.writes()
    agent.now += PERIOD - 1
    again = agent.restarted()
    again.start()
    assert again.writes() == []
    assert weights(again) == {ONE: 0, TWO: 1}
    later(again, PERIOD - 1)
    assert weights(again) == {ONE: 0, TWO: 1}
    later(again, 1)
    assert weights(again) == {TWO: 1}


@pytest.mark.parametrize("unheard", [False, True])
def test_also_of_a_service_that_is_gone(unheard: bool) -> None:
    """unheard: it went while no process was there to see it."""
    agent = started()
    connect(agent, ONE)
    rung = agent.delete(WEB, pods("web", ONE, TWO))  # type: ignore[arg-type]
    if not unheard:
        agent.controller.sync(rung)
        agent.look()
    again = agent.restarted()
    again.start()
    assert weights(again) == {ONE: 0}
    assert len(again.kernel.routes) == len(again.kernel.addresses) == 1
    assert again.controller.status({}, ()).counts["services"] == 0
    later(again, PERIOD)
    assert (again.kernel.servers, again.kernel.routes, again.kernel.addresses) == ({}, {}, {})
    assert [member for member in again.kernel.members if "owned" in member.set] == []


def test_but_not_at_an_address_that_a_living_service_gave_up() -> None:
    web = service("web", "10.96.0.10", external=["198.51.100.7"])
    agent = started(web, pods("web", ONE), config=Config(strict_external_ip_validation=False))
    connect(agent, ONE, key=server("198.51.100.7"))
    again = agent.restarted()  # where the address is not in the range
    again.start()
    assert list(again.kernel.servers) == [server()]


def test_what_drains_is_no_difference_to_a_plan() -> None:
    agent = started()
    connect(agent, ONE)
    agent.tell_gone(WEB, pods("web", ONE, TWO))  # type: ignore[arg-type]
    assert agent.restarted().controller.plan() == {}


def test_cleanup_does_not_drain() -> None:
    agent = started()
    connect(agent, ONE)
    agent.tell(pods("web", TWO))  # type: ignore[arg-type]
    agent.restarted().controller.cleanup()
    assert agent.kernel.servers == {}


# -- when to look ----------------------------------------------------------------------------------------------------


def leaving(drains: Drains, now: float, *addresses: str, key: ServerKey | None = None) -> None:
    """One server, of which these leave."""
    key = key or server()
    held = {key: VirtualServer("rr", 0, 0, {DestinationKey(packed(each), 8080): Destination() for each in addresses})}
    decided = Share((1.0,), {key: (Item(SERVERS, key, VirtualServer("rr", 0, 0, {})),)})
    drains.share("web", decided, NOTHING, held, now, gone=False, in_force=lambda _claim: True)


def test_one_look_is_for_all_that_began_to_drain_at_about_the_same_time() -> None:
    drains = Drains(PERIOD)
    leaving(drains, 100.0, ONE)
    leaving(drains, 100.0 + SOON / 2, ONE, TWO, key=server(number=81))
    assert drains.due() == 100.0 + SOON
    assert set(drains.to_look_at()) == {server(), server(number=81)}


def test_looks_are_as_rare_as_they_are_dear() -> None:
    drains = Drains(PERIOD)
    leaving(drains, 100.0, ONE)
    assert drains.due() is not None
    assert drains.to_look_at() == [server()]
    drains.looked(100.0, 0.0)
    assert drains.to_look_at() == [server()]
    drains.looked(101.0, 0.0)
    assert drains.due() == 101.0 + EVERY
    drains.looked(102.0, 0.1)
    assert drains.due() == 102.0 + 0.1 * PATIENCE


def test_but_an_end_is_not_missed() -> None:
    drains = Drains(PERIOD)
    leaving(drains, 100.0, ONE)
    drains.to_look_at()
    drains.to_look_at()
    drains.looked(101.0, 5.0)
    assert drains.due() == 100.0 + PERIOD


def test_what_begins_to_drain_does_not_put_off_looking_at_the_rest() -> None:
    drains = Drains(PERIOD)
    leaving(drains, 100.0, ONE)
    drains.to_look_at()
    drains.to_look_at()
    drains.looked(101.0, 0.0)
    leaving(drains, 101.5, ONE, TWO)
    assert drains.due() == 101.5 + SOON
    drains.to_look_at()
    drains.looked(101.5, 0.0)
    assert drains.due() == 101.0 + EVERY


# -- law -------------------------------------------------------------------------------------------------------------

_ADDRESSES = [ONE, TWO, THREE]
_steps = st.tuples(
    st.sampled_from(["web", "heir"]),
    st.one_of(st.none(), st.sets(st.sampled_from(_ADDRESSES))),  # its endpoints; None: the Service goes
    st.dictionaries(st.sampled_from(_ADDRESSES), st.integers(0, 2)),  # connections that there are then
    st.sampled_from([0.0, 0.5, 5.0, 20.0]),  # time that passes
    st.booleans(),  # and then the agent is restarted
)


@settings(max_examples=80, deadline=None)
@given(st.lists(_steps, max_size=10))
def test_nothing_wanted_is_at_weight_0_and_everything_ends(
    steps: Sequence[tuple[str, set[str] | None, Mapping[str, int], float, bool]],
) -> None:
    services = {"web": WEB, "heir": service("heir", "10.96.0.10", created=9000.0)}
    agent = FakeAgent(N1)
    agent.start()
    wanted: dict[str, set[str]] = {}
    for name, addresses, connections, seconds, restart in steps:
        if addresses is None:
            wanted.pop(name, None)
            agent.tell_gone(services[name], pods(name))  # type: ignore[arg-type]
        else:
            wanted[name] = addresses
            agent.tell(services[name], pods(name, *sorted(addresses)))  # type: ignore[arg-type]
        for address, count in connections.items():
            connect(agent, address, count)
        later(agent, seconds)
        if restart:
            now, agent = agent.now, agent.restarted()
            agent.now = now
            agent.start()
        in_force = wanted.get("web", wanted.get("heir"))
        if in_force is not None:
            found = weights(agent)
            assert {address for address, weight in found.items() if weight} == in_force
    for _ in range(3):
        later(agent, PERIOD)
    in_force = wanted.get("web", wanted.get("heir"))
    expected = {} if in_force is None else {server(): dict.fromkeys(in_force, 1)}
    assert {key: weights(agent, key) for key in agent.kernel.servers} == expected
    assert agent.controller.due() is None
    assert draining(agent) == 0
