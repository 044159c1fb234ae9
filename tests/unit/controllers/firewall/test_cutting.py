"""Flows that a new denial forbids: forgotten, and not to be picked up again from either side."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import msgspec
import pytest

from kuberouter_py.config import Config
from kuberouter_py.controllers.firewall.cutting import LASTS, Holders, needless
from kuberouter_py.controllers.firewall.rung import THIS_NODE
from kuberouter_py.controllers.firewall.world import World
from kuberouter_py.model.cluster import ObjectKey, Pod
from kuberouter_py.model.kernel import Flow, Protocol, SetMember
from tests.fakes.firewall import FakeFirewall
from tests.fakes.objects import link, node, packed
from tests.fakes.packets import Packet, passes
from tests.fakes.policies import namespace, pod, policy

N1 = node("192.168.0.1")
A, B, FAR = pod("x/a", "10.244.1.2"), pod("x/b", "10.244.1.3"), pod("x/far", "10.244.2.4", node="n2")
DENY = policy("x/deny", "{podSelector: {matchLabels: {pod: b}}, policyTypes: [Ingress]}")


def flow(source: str, answers: str, destination: str = "", protocol: int = Protocol.TCP, port: int = 80) -> Flow:
    """destination: the Service that was asked, if any."""
    asked = packed(destination or answers)
    return Flow(protocol, packed(source), 40000, asked, port, packed(answers), port)


def started(*flows: Flow, config: Config | None = None) -> FakeFirewall:
    agent = FakeFirewall(N1, namespace("x"), A, B, FAR, config=config)
    agent.all_links.append(link("eth1", "192.168.7.1/24"))
    assert agent.start()
    agent.kernel.tracked = list(flows)
    return agent


def cut(agent: FakeFirewall) -> set[SetMember]:
    return {member for member in agent.kernel.members if member.set == "krpy-fw-cut-4"}


def test_what_is_forbidden_now_is_forgotten_and_nothing_else() -> None:
    forbidden = [flow("10.244.1.2", "10.244.1.3"), flow("203.0.113.9", "10.244.1.3", "10.96.0.10")]
    allowed = [flow("10.244.1.3", "10.244.1.2"), flow("192.168.7.1", "10.244.1.3"), flow("10.244.1.2", "10.244.2.4")]
    agent = started(*forbidden, *allowed)
    assert agent.tell(DENY)
    assert agent.kernel.tracked == allowed
    assert {member.entry.address2 for member in cut(agent)} == {packed("10.244.1.2"), packed("203.0.113.9")}


def test_no_packet_of_either_side_brings_it_back() -> None:
    agent = started(flow("10.244.1.2", "10.244.1.3"))
    assert agent.tell(DENY)
    ask = Packet(packed("10.244.1.2"), packed("10.244.1.3"), port=80, source_port=40000, syn=False)
    answer = Packet(packed("10.244.1.3"), packed("10.244.1.2"), port=40000, source_port=80, syn=False)
    assert not passes(agent.kernel, ask)
    assert not passes(agent.kernel, answer)
    assert passes(agent.kernel, answer._replace(syn=True)), "a connection that the server itself begins is none of it"
    assert passes(agent.kernel, answer._replace(source_port=81))


def test_a_datagram_of_the_server_does_not_either() -> None:
    agent = started(flow("10.244.1.2", "10.244.1.3", protocol=Protocol.UDP))
    assert agent.tell(DENY)
    answer = Packet(packed("10.244.1.3"), packed("10.244.1.2"), Protocol.UDP, port=40000, source_port=80)
    assert not passes(agent.kernel, answer)


def test_the_set_holds_it_before_the_entry_goes() -> None:
    agent = started(flow("10.244.1.2", "10.244.1.3"))
    held: list[bool] = []
    forget = agent.kernel.forget

    def watched(flows: list[Flow]) -> None:
        held.append(bool(cut(agent)) or not flows)
        forget(flows)

    agent.kernel.forget = watched  # type: ignore[method-assign, assignment]
    assert agent.tell(DENY)
    assert held and all(held)


def test_a_peer_that_loses_its_label_is_cut_off() -> None:
    rule = "{podSelector: {matchLabels: {pod: b}}, ingress: [{from: [{podSelector: {matchLabels: {role: ok}}}]}]}"
    agent = started()
    assert agent.tell(pod("x/far", "10.244.2.4", node="n2", labels={"role": "ok"}), policy("x/ok", rule))
    agent.kernel.tracked = [flow("10.244.2.4", "10.244.1.3")]
    assert agent.tell(FAR)
    assert agent.kernel.tracked == []


def test_it_is_over_after_a_day() -> None:
    agent = started(flow("10.244.1.2", "10.244.1.3"))
    assert agent.tell(DENY)
    assert agent.controller.due() == agent.now + LASTS
    agent.now += LASTS
    assert agent.settle()
    assert cut(agent) == set()
    assert agent.controller.due() is None


def test_a_new_process_keeps_them() -> None:
    agent = started(flow("10.244.1.2", "10.244.1.3"))
    assert agent.tell(DENY)
    before = cut(agent)
    assert agent.restarted().controller.plan() == {}
    again = agent.restarted()
    assert again.start()
    assert cut(again) == before != set()


def test_only_where_it_is_asked_for() -> None:
    one = flow("10.244.1.2", "10.244.1.3")
    agent = started(one, config=replace(Config(), netpol_cut_established=False))
    assert agent.tell(DENY)
    assert agent.kernel.tracked == [one]


def test_flows_that_cannot_be_looked_at_are_said_and_looked_at_again() -> None:
    agent = started(flow("10.244.1.2", "10.244.1.3"))
    agent.kernel.no_flows = "nf_conntrack_netlink is missing"
    assert not agent.tell(DENY)
    assert ("flows", "nf_conntrack_netlink is missing") in agent.controller.status({}).refused
    agent.kernel.no_flows = ""
    assert agent.controller.retry() and agent.settle()
    assert agent.kernel.tracked == []


def udp_cut(config: Config | None = None) -> FakeFirewall:
    agent = started(flow("10.244.1.2", "10.244.1.3", protocol=Protocol.UDP), config=config)
    assert agent.tell(DENY)
    assert cut(agent)
    return agent


FROM_SERVER = Packet(packed("10.244.1.3"), packed("10.244.1.2"), Protocol.UDP, port=8000, source_port=80)


def test_the_servers_own_datagrams_pass_when_the_policy_is_gone() -> None:
    agent = udp_cut()
    assert not passes(agent.kernel, FROM_SERVER)
    assert agent.tell_gone(DENY)
    assert cut(agent) == set()
    assert passes(agent.kernel, FROM_SERVER)
    assert agent.controller.due() is None


def test_a_flow_that_another_policy_forbids_still_stays_cut() -> None:
    agent = udp_cut()
    with_label = pod("x/a", "10.244.1.2", labels={"pod": "a", "more": ""})
    assert agent.tell(policy("x/as-well", "{podSelector: {}, policyTypes: [Ingress]}"))
    assert agent.tell_gone(DENY) and agent.tell(with_label)
    assert not passes(agent.kernel, FROM_SERVER)


@pytest.mark.parametrize("node_name", ["n1", "n2"], ids=["a client here", "a client elsewhere"])
def test_a_client_that_a_rule_allows_by_now_is_cut_off_no_longer(node_name: str) -> None:
    rule = "{podSelector: {matchLabels: {pod: b}}, ingress: [{from: [{podSelector: {matchLabels: {role: ok}}}]}]}"
    agent = started(flow("10.244.2.5", "10.244.1.3", protocol=Protocol.SCTP))
    assert agent.tell(pod("x/c", "10.244.2.5", node=node_name), policy("x/ok", rule))
    assert cut(agent)
    assert agent.tell(pod("x/c", "10.244.2.5", node=node_name, labels={"role": "ok"}))
    assert cut(agent) == set()


@pytest.mark.parametrize("gone", [A, B], ids=["client", "server"])
def test_it_is_over_when_an_end_of_it_is_gone(gone: Pod) -> None:
    agent = udp_cut()
    assert agent.tell_gone(gone)
    assert cut(agent) == set()


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
@pytest.mark.parametrize("old", [A, B], ids=["client", "server"])
def test_it_is_over_when_another_pod_has_the_address_of_an_end(old: Pod, protocol: Protocol) -> None:
    agent = started(flow("10.244.1.2", "10.244.1.3", protocol=protocol))
    assert agent.tell(DENY)
    new = msgspec.structs.replace(old, key=ObjectKey("x", "new"), uid="uid-new")
    assert agent.controller.sync(agent.delete(old) | agent.put(new)) and agent.settle()
    assert cut(agent) == set()


def test_a_tcp_connection_that_was_cut_is_not_taken_up_in_its_middle_by_the_server() -> None:
    agent = started(flow("10.244.1.2", "10.244.1.3"))
    assert agent.tell(DENY)
    assert agent.tell_gone(DENY)
    answer = Packet(packed("10.244.1.3"), packed("10.244.1.2"), port=40000, source_port=80, syn=False)
    assert not passes(agent.kernel, answer)
    assert passes(agent.kernel, answer._replace(syn=True))
    assert passes(agent.kernel, Packet(packed("10.244.1.2"), packed("10.244.1.3"), port=80, syn=False))


def test_what_an_earlier_process_cut_is_over_when_it_is_allowed_by_now() -> None:
    agent = udp_cut()
    agent.delete(DENY)
    again = agent.restarted(config=replace(Config(), netpol_cut_established=False))
    assert again.start()
    assert cut(again) == set()


def test_it_is_over_when_the_client_turns_out_to_be_this_node() -> None:
    agent = started(flow("192.168.9.1", "10.244.1.3", protocol=Protocol.UDP))
    assert agent.tell(DENY) and cut(agent)
    agent.all_links.append(link("eth2", "192.168.9.1/24"))
    assert agent.controller.sync([THIS_NODE]) and agent.settle()
    assert cut(agent) == set()


def test_only_what_a_change_is_about_is_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = udp_cut()
    judged: list[int] = []

    def counted(cut: Mapping[SetMember, Holders], world: World, own: Collection[bytes]) -> list[SetMember]:
        judged.append(len(cut))
        return needless(cut, world, own)

    monkeypatch.setattr("kuberouter_py.controllers.firewall.flows.needless", counted)
    assert agent.tell(pod("x/other", "10.244.1.9")) and agent.tell(pod("x/far", "10.244.2.4", node="n3"))
    assert judged == []
    assert agent.tell(pod("x/b", "10.244.1.3", labels={"pod": "b", "more": ""}))
    assert judged == [1]
