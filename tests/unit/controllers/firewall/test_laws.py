"""Laws over random clusters: what the compiled rules let through is what the judge allows; no single write on the way
opens or closes what is neither before nor after; a second sync and a new process write nothing; cleanup leaves nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kuberouter_py.controllers.firewall.cutting import cluster_of, forbidden
from kuberouter_py.controllers.firewall.judge import Attempt, Cluster, verdict
from kuberouter_py.controllers.firewall.rung import Rung
from kuberouter_py.model.cluster import Pod
from kuberouter_py.model.kernel import Flow, Protocol
from tests.fakes.firewall import HEARD, FakeFirewall
from tests.fakes.objects import node
from tests.fakes.packets import Packet, passes
from tests.fakes.scenes import SCENES
from tests.fakes.worlds import CLUSTERS, OUTSIDE, PODS, PORTS, Change, Scene, scenes

N1 = node("192.168.0.1", pod_cidrs=("10.244.1.0/24", "fd00:10:244:1::/64"))
QUICK = settings(derandomize=True, max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])

ADDRESSES = [
    [ip_address(text).packed for text in dict.fromkeys((*(pod[family] for pod in PODS.values()), OUTSIDE[family]))]
    for family in (0, 1)
]
PACKETS = [
    Packet(source, destination, protocol, port)
    for addresses in ADDRESSES
    for source, destination in product(addresses, addresses)
    for protocol in Protocol
    for port in PORTS
] + [Packet(a, b, 1, 0) for addresses in ADDRESSES for a, b in product(addresses, addresses)]  # ICMP
FEW = [
    packet for packet in PACKETS if len(packet.source) == 4 and packet.protocol == Protocol.TCP and packet.port == 80
]


def heard(objects: Iterable[HEARD]) -> FakeFirewall:
    return FakeFirewall(N1, *objects)


def judged(agent: FakeFirewall) -> Mapping[Packet, bool]:
    """What of it this node has to let through: of a pod elsewhere, its own node judges."""
    cluster = Cluster(agent.cache.policies(), agent.cache.pods_in_full(), agent.cache.namespaces())
    local = {address for name, (v4, v6, where) in PODS.items() if where == "n1" for address in map(_packed, (v4, v6))}
    said = {}
    for packet in PACKETS:
        found = verdict(Attempt(packet.source, packet.destination, packet.protocol, packet.port), cluster)
        said[packet] = (found.egress.allowed or packet.source not in local) and (
            found.ingress.allowed or packet.destination not in local
        )
    return said


def _packed(text: str) -> bytes:
    return ip_address(text).packed


def seen(agent: FakeFirewall, packets: Sequence[Packet] = PACKETS) -> Mapping[Packet, bool]:
    return {packet: passes(agent.kernel, packet) for packet in packets}


@contextmanager
def watched(agent: FakeFirewall) -> Iterator[list[Mapping[Packet, bool]]]:
    """What passes after each single write."""
    moments: list[Mapping[Packet, bool]] = []
    agent.kernel.watch = lambda: moments.append(seen(agent, FEW))
    yield moments
    agent.kernel.watch = lambda: None


def make(agent: FakeFirewall, change: Change) -> bool:
    rung = tell(agent, change)
    return agent.controller.sync(rung) and agent.settle()


def tell(agent: FakeFirewall, change: Change) -> set[Rung]:
    """Into the cache, and not further."""
    if change.put is not None:
        return agent.put(change.put)
    assert change.gone is not None
    kind, key = change.gone
    held = agent.cache.pod(key) if kind is Pod else agent.cache.policy(key)
    return agent.delete(held) if held is not None else set()


def astray(
    before: Mapping[Packet, bool], on_the_way: Iterable[Mapping[Packet, bool]], after: Mapping[Packet, bool]
) -> list[Packet]:
    """What was at some moment neither as before nor as after."""
    return [packet for now in on_the_way for packet in now if before[packet] == after[packet] != now[packet]]


def different(now: Mapping[Packet, bool], then: Mapping[Packet, bool]) -> list[Packet]:
    return [packet for packet, through in now.items() if then[packet] != through]


@QUICK
@given(scenes(0, 3))
def test_what_passes_is_what_the_judge_allows(scene: Scene) -> None:
    objects, changes = scene
    agent = heard(objects)
    assert agent.start()
    assert different(seen(agent), judged(agent)) == []
    for change in changes:
        assert make(agent, change)
        assert different(seen(agent), judged(agent)) == []


@QUICK
@given(scenes(1, 4))
def test_nothing_opens_or_closes_on_the_way(scene: Scene) -> None:
    nothing_opens_or_closes(scene)


def nothing_opens_or_closes(scene: Scene) -> None:
    objects, changes = scene
    agent = heard(objects)
    assert agent.start()
    for change in changes:
        before = seen(agent, FEW)
        with watched(agent) as on_the_way:
            assert make(agent, change)
        assert astray(before, on_the_way, seen(agent, FEW)) == []


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
def test_nothing_opens_or_closes_in_scenes_that_are_likely_to(scene: Scene) -> None:
    nothing_opens_or_closes(scene)
    taken_over(scene)
    retried(scene)
    for writes in itertools.takewhile(lambda writes: cut_short(scene, writes), itertools.count(1)):
        assert writes < 200


@QUICK
@given(scenes(1, 1))
def test_a_change_while_nobody_looked_neither_opens_nor_closes(scene: Scene) -> None:
    """P5.07."""
    taken_over(scene)


def taken_over(scene: Scene) -> None:
    objects, [change] = scene
    first = heard(objects)
    assert first.start()
    before = seen(first, FEW)
    tell(first, change)
    second = first.restarted()
    with watched(second) as on_the_way:
        assert second.start()
    assert different(seen(second), judged(second)) == []
    assert astray(before, on_the_way, seen(second, FEW)) == []
    assert vars_of(second) == vars_of(fresh(everything(second)))


@QUICK
@given(scenes(1, 1), st.integers(1, 40))
def test_a_process_that_dies_in_the_middle_neither_opens_nor_closes(scene: Scene, writes: int) -> None:
    cut_short(scene, writes)


class Died(Exception):
    pass


def cut_short(scene: Scene, writes: int) -> bool:
    """Whether the process got so far: it dies after so many writes, and another takes over."""
    objects, [change] = scene
    first = heard(objects)
    assert first.start()
    before, on_the_way = seen(first, FEW), []
    left = itertools.count(writes - 1, -1)

    def dies() -> None:
        on_the_way.append(seen(first, FEW))
        if next(left) == 0:
            raise Died

    first.kernel.watch = dies
    try:
        assert make(first, change)
        died = False
    except Died:
        died = True
    second = first.restarted()
    with watched(second) as then:
        assert second.start()
    assert astray(before, [*on_the_way, *then], seen(second, FEW)) == []
    assert vars_of(second) == vars_of(fresh(everything(second)))
    return died


@QUICK
@given(scenes(1, 3))
def test_what_iptables_refuses_for_a_time_opens_nothing_and_closes_only_who_is_isolated_since(scene: Scene) -> None:
    retried(scene)


def retried(scene: Scene) -> None:
    objects, changes = scene
    agent = heard(objects)
    assert agent.start()
    for change in changes:
        before, isolated = seen(agent, FEW), isolation(agent)
        agent.kernel.restore_fails = True
        with watched(agent) as on_the_way:
            make(agent, change)
            agent.kernel.restore_fails = False
            assert agent.controller.retry() and agent.settle()
        after, changed = seen(agent, FEW), isolated ^ isolation(agent)
        wrong = astray(before, on_the_way, after)
        assert [packet for packet in wrong if not (after[packet] and ends(packet) & changed)] == []


def isolation(agent: FakeFirewall) -> set[tuple[str, bytes]]:
    members = agent.kernel.members
    return {(side, each.entry.address) for side in ("egress", "ingress") for each in members if f"-{side}-" in each.set}


def ends(packet: Packet) -> set[tuple[str, bytes]]:
    return {("egress", packet.source), ("ingress", packet.destination)}


@QUICK
@given(scenes(0, 4))
def test_whatever_led_there_the_state_is_the_same(scene: Scene) -> None:
    objects, changes = scene
    agent = heard(objects)
    assert agent.start()
    for change in changes:
        assert make(agent, change)
    agent.writes()
    again = agent.restarted()
    assert again.start() and again.compare()
    assert agent.writes() == []
    assert vars_of(agent) == vars_of(fresh(everything(agent)))


@QUICK
@given(CLUSTERS)
def test_cleanup_leaves_nothing(objects: list[HEARD]) -> None:
    agent = heard(objects)
    assert agent.start()
    assert agent.restarted().controller.cleanup().left_over == 0
    assert vars_of(agent) == ({}, {}, {})


def everything(agent: FakeFirewall) -> list[HEARD]:
    return [*agent.cache.namespaces(), *agent.cache.pods_in_full(), *agent.cache.policies()]


def fresh(objects: Iterable[HEARD]) -> FakeFirewall:
    agent = heard(objects)
    assert agent.start()
    return agent


def vars_of(agent: FakeFirewall) -> tuple[object, object, object]:
    return agent.kernel.sets, agent.kernel.members, agent.kernel.chains


@QUICK
@given(CLUSTERS)
def test_a_flow_is_judged_by_what_there_is_at_its_ends(objects: Sequence[HEARD]) -> None:
    agent = heard(objects)
    assert agent.start()
    world = agent.controller._decisions.world
    everything = Cluster(agent.cache.policies(), agent.cache.pods_in_full(), agent.cache.namespaces())
    for source, destination, protocol, port, *_ in FEW:
        flow = Flow(protocol, source, 40000, destination, port, destination, port)
        assert forbidden(flow, cluster_of([flow], world), world, ()) == forbidden(flow, everything, world, ())
