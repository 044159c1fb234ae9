"""The firewall controller over a kernel in memory: what packets see after each change, what is written for it, and what
becomes of pods whose rules cannot be written.
"""

from __future__ import annotations

import pytest

from kuberouter_py.config import Config
from kuberouter_py.controllers.firewall.guards import Guard
from kuberouter_py.controllers.firewall.standing import CHAINS
from kuberouter_py.kernel.iptables_text import spoken
from kuberouter_py.model.kernel import Chain, Protocol
from kuberouter_py.ports import Refused
from tests.fakes.firewall import FakeFirewall
from tests.fakes.objects import node, packed
from tests.fakes.packets import Packet, passes
from tests.fakes.policies import namespace, pod, policy

N1 = node("192.168.0.1")
X, Y = namespace("x"), namespace("y", team="blue")
A, B = pod("x/a", "10.244.1.2"), pod("x/b", "10.244.1.3")
C = pod("y/c", "10.244.2.4", node="n2")
DENY = policy("x/deny", "{podSelector: {}, policyTypes: [Ingress]}")
FROM_A = policy(
    "x/from-a",
    """
    podSelector: {matchLabels: {pod: b}}
    ingress: [{from: [{podSelector: {matchLabels: {pod: a}}}]}]
    """,
)
FROM_BLUE = policy(
    "x/from-blue",
    """
    podSelector: {}
    ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}]
    """,
)


def started(*objects: object) -> FakeFirewall:
    agent = FakeFirewall(N1, X, Y, *objects)  # type: ignore[arg-type]
    assert agent.start()
    agent.writes()
    return agent


def reaches(agent: FakeFirewall, source: str, destination: str, port: int = 80, **more: object) -> bool:
    hook = str(more.pop("hook", "FORWARD"))
    packet = Packet(packed(source), packed(destination), port=port, **more)  # type: ignore[arg-type]
    return passes(agent.kernel, packet, hook)


def test_without_policies_everything_passes() -> None:
    agent = started(A, B, C)
    assert reaches(agent, "10.244.1.2", "10.244.1.3")
    assert reaches(agent, "203.0.113.9", "10.244.1.2")


def test_an_isolated_pod_hears_only_from_whom_its_policies_allow() -> None:
    agent = started(A, B, C, DENY, FROM_A)
    assert reaches(agent, "10.244.1.2", "10.244.1.3")
    assert not reaches(agent, "10.244.2.4", "10.244.1.3")
    assert not reaches(agent, "10.244.1.3", "10.244.1.2")
    assert reaches(agent, "10.244.1.2", "10.244.2.4"), "nobody isolates its egress"


def test_the_node_itself_always_comes_in() -> None:
    agent = started(A, DENY)
    assert reaches(agent, "192.168.0.1", "10.244.1.2", hook="OUTPUT", local=True)
    assert not reaches(agent, "192.168.0.1", "10.244.1.2", hook="FORWARD"), "its address alone does not make it so"
    assert not reaches(agent, "203.0.113.9", "10.244.1.2", hook="OUTPUT"), "what ip_vs forwards is judged here"


def test_egress_to_the_node_is_judged_but_not_to_a_service_before_ip_vs() -> None:
    agent = started(A, policy("x/none", "{podSelector: {}, policyTypes: [Egress]}"))
    assert not reaches(agent, "10.244.1.2", "192.168.0.1", hook="INPUT")
    assert reaches(agent, "10.244.1.2", "10.96.0.10", hook="INPUT", service=True)
    assert not reaches(agent, "10.244.1.2", "10.244.2.4", hook="OUTPUT")


def test_a_pod_reaches_itself() -> None:
    agent = started(A, policy("x/none", "{podSelector: {}, policyTypes: [Ingress, Egress]}"))
    assert reaches(agent, "10.244.1.2", "10.244.1.2", hook="OUTPUT")


def test_neighbours_find_each_other_whatever_they_may_send() -> None:
    """An isolated pod that may not ask for its gateway's link address reaches nobody."""
    none = policy("x/none", "{podSelector: {}, policyTypes: [Ingress, Egress]}")
    agent = started(node("192.168.0.1", "fd00::1"), pod("x/a", "fd00::2"), pod("x/b", "fd00::3"), none)
    for hook in ("FORWARD", "INPUT"):
        for kind in ("neighbour-solicitation", "neighbour-advertisement"):
            assert reaches(agent, "fd00::2", "fd00::3", 0, hook=hook, protocol=58, icmp=kind)
        assert not reaches(agent, "fd00::2", "fd00::3", 0, hook=hook, protocol=58, icmp="echo-request")


def test_established_connections_are_not_asked_again() -> None:
    agent = started(A, B, DENY)
    assert reaches(agent, "10.244.1.2", "10.244.1.3", state="ESTABLISHED")


def test_a_named_port_that_nobody_has_opens_nothing() -> None:
    named = policy("x/named", "{podSelector: {}, ingress: [{ports: [{port: web}]}]}")
    agent = started(A, pod("x/b", "10.244.1.3", ports=[("web", Protocol.TCP, 8080)]), named)
    assert not reaches(agent, "10.244.1.3", "10.244.1.2", 8080)
    assert reaches(agent, "10.244.1.2", "10.244.1.3", 8080)
    assert not reaches(agent, "10.244.1.2", "10.244.1.3", 80)


def test_an_except_takes_from_its_own_block_only() -> None:
    blocks = policy(
        "x/blocks",
        """
        podSelector: {}
        ingress:
        - from:
          - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}
          - ipBlock: {cidr: 10.1.2.0/24}
        """,
    )
    agent = started(A, blocks)
    assert reaches(agent, "10.9.9.9", "10.244.1.2")
    assert reaches(agent, "10.1.2.3", "10.244.1.2")
    assert not reaches(agent, "10.1.3.3", "10.244.1.2")


def test_a_second_sync_and_a_new_process_write_nothing() -> None:
    agent = started(A, B, C, DENY, FROM_A, FROM_BLUE)
    assert agent.compare()
    assert agent.writes() == []
    again = agent.restarted()
    assert again.start()
    assert agent.writes() == []


def test_a_new_pod_of_known_kind_needs_no_iptables() -> None:
    agent = started(A, B, C, DENY, FROM_A)
    assert agent.tell(pod("x/b2", "10.244.1.9", labels={"pod": "b"}))
    assert {table for table, _, _ in agent.writes()} == {"set members"}
    assert reaches(agent, "10.244.1.2", "10.244.1.9")
    assert not reaches(agent, "10.244.2.4", "10.244.1.9")


def test_a_label_of_a_namespace_moves_its_pods() -> None:
    agent = started(A, C, DENY, FROM_BLUE)
    assert reaches(agent, "10.244.2.4", "10.244.1.2")
    assert agent.tell(namespace("y", team="red"))
    assert not reaches(agent, "10.244.2.4", "10.244.1.2")
    assert {table for table, _, _ in agent.writes()} == {"set members"}
    assert agent.tell(Y)
    assert reaches(agent, "10.244.2.4", "10.244.1.2")


def test_the_last_policy_gone_nothing_of_it_is_left() -> None:
    agent = started(A, B)
    before = (dict(agent.kernel.sets), dict(agent.kernel.members), dict(agent.kernel.chains))
    assert agent.tell(DENY, FROM_A, FROM_BLUE)
    assert agent.tell_gone(DENY, FROM_A, FROM_BLUE)
    assert reaches(agent, "203.0.113.9", "10.244.1.2")
    assert (agent.kernel.sets, agent.kernel.members, agent.kernel.chains) == before


def test_a_finished_pods_address_is_another_ones() -> None:
    agent = started(B, DENY, FROM_A, pod("x/a", "10.244.1.2", phase="Succeeded"), pod("x/z", "10.244.1.2"))
    assert not reaches(agent, "10.244.1.2", "10.244.1.3")


def test_a_pod_of_the_hosts_network_is_neither_peer_nor_target() -> None:
    agent = started(B, DENY, FROM_A, pod("x/a", "192.168.0.1", host_network=True))
    assert not reaches(agent, "192.168.0.1", "10.244.1.3")
    assert reaches(agent, "10.244.1.3", "192.168.0.1", hook="INPUT")


def guard_chains(agent: FakeFirewall) -> set[Chain]:
    return {key for key in agent.kernel.chains if key.chain.startswith(("KRPY-FW-I-", "KRPY-FW-E-"))}


def test_a_pod_whose_rules_cannot_be_written_is_closed_and_says_so() -> None:
    (chain,) = guard_chains(started(A, B, DENY))
    fresh = started(A, B, pod("y/d", "10.244.1.8"), policy("y/deny", "{podSelector: {}}"))
    fresh.kernel.refuse[CHAINS, chain] = Refused("no")
    assert not fresh.tell(DENY)
    assert not reaches(fresh, "203.0.113.9", "10.244.1.2")
    assert {note.reason for note in fresh.notes()} == {"PodClosed"}
    assert fresh.controller.status({}).counts["closed pods"] == 2
    assert reaches(fresh, "10.244.1.8", "203.0.113.9"), "other pods go on"
    fresh.kernel.refuse.clear()
    assert fresh.controller.retry() and fresh.settle()
    assert fresh.notes() == []
    assert fresh.tell(FROM_BLUE, C)
    assert reaches(fresh, "10.244.2.4", "10.244.1.2")


def test_a_pod_stays_under_its_last_good_rules_while_new_ones_cannot_be_written() -> None:
    agent = started(A, B, C, FROM_BLUE)
    (chain,) = guard_chains(agent)
    agent.kernel.refuse[CHAINS, chain] = Refused("no")
    assert not agent.tell(policy("x/from-blue", "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"))
    assert reaches(agent, "10.244.2.4", "10.244.1.2"), "as before"
    assert {(note.owner, note.reason) for note in agent.notes()} == {
        (A.key, "PolicyNotYetWritten"),
        (B.key, "PolicyNotYetWritten"),
    }
    assert agent.tell(pod("y/c2", "10.244.2.5", node="n2"))
    assert reaches(agent, "10.244.2.5", "10.244.1.2"), "and the sets of the earlier rules are kept up"
    agent.kernel.refuse.clear()
    assert agent.controller.retry() and agent.settle()
    assert not reaches(agent, "10.244.2.4", "10.244.1.2")
    assert reaches(agent, "10.244.1.3", "10.244.1.2")
    assert agent.notes() == []


def test_a_new_process_keeps_earlier_rules_until_its_own_stand() -> None:
    agent = started(A, B, C, FROM_BLUE)
    agent.put(policy("x/more", "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"))
    probe = started(A, B, C, FROM_BLUE, policy("x/more", "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"))
    for chain in guard_chains(probe) - guard_chains(agent):
        agent.kernel.refuse[CHAINS, chain] = Refused("no")
    again = agent.restarted()
    assert not again.start()
    again.settle()
    assert reaches(again, "10.244.2.4", "10.244.1.2")
    assert not reaches(again, "10.244.1.3", "10.244.1.2")
    assert {note.reason for note in again.notes()} == {"PolicyNotYetWritten"}
    agent.kernel.refuse.clear()
    assert again.controller.retry() and again.settle()
    assert reaches(again, "10.244.1.3", "10.244.1.2")
    assert len(guard_chains(again)) == 1


def test_default_deny_follows_the_networks_of_the_nodes_pods() -> None:
    agent = FakeFirewall(
        node("192.168.0.1", pod_cidrs=("10.244.1.0/24",)), X, Y, A, config=Config(netpol_default_deny=True)
    )
    assert agent.start()
    assert not reaches(agent, "10.244.1.2", "10.244.1.99") and reaches(agent, "10.244.1.2", "10.244.9.99")
    assert agent.controller.status({}).facts["pods without rules yet"] == "closed"
    assert agent.tell(node("192.168.0.1", pod_cidrs=("10.244.9.0/24",)))
    assert reaches(agent, "10.244.1.2", "10.244.1.99") and not reaches(agent, "10.244.1.2", "10.244.9.99")
    assert agent.tell(node("192.168.0.1", pod_cidrs=()))
    assert reaches(agent, "10.244.1.2", "10.244.9.99")
    said = agent.controller.status({}).facts["pods without rules yet"]
    assert said == "open (--netpol-default-deny has no podCIDRs to go by)"


def test_cleanup_leaves_nothing() -> None:
    agent = started(A, B, C, DENY, FROM_A, FROM_BLUE)
    assert agent.restarted().controller.cleanup().left_over == 0
    assert (agent.kernel.sets, agent.kernel.members, agent.kernel.chains) == ({}, {}, {})


def test_a_plan_is_what_a_first_sync_writes() -> None:
    agent = FakeFirewall(N1, X, Y, A, B, C, DENY, FROM_A)
    planned = {(name, key) for name, plan in agent.controller.plan().items() for key in plan.add}
    assert agent.kernel.journal == []
    assert agent.restarted().start()
    assert {(table, key) for table, _, key in agent.writes()} == planned


@pytest.mark.parametrize("kinds", [[], ["bpf"]])
def test_a_kernel_that_cannot_compare_addresses_lacks_only_that(kinds: list[str]) -> None:
    agent = FakeFirewall(N1, X, A, B, policy("x/none", "{podSelector: {}, policyTypes: [Ingress, Egress]}"))
    agent.kernel.lacks = kinds
    assert agent.start()
    assert reaches(agent, "10.244.1.2", "10.244.1.2", hook="OUTPUT") == (not kinds)
    assert not reaches(agent, "10.244.1.2", "10.244.1.3")


def test_pods_of_one_bridge_that_cannot_be_kept_apart_are_named() -> None:
    agent = FakeFirewall(N1, X, A, B, DENY)
    agent.kernel.refuse["sysctls", "net/bridge/bridge-nf-call-iptables"] = Refused("Permission denied", missing=True)
    agent.start()
    (note,) = agent.notes()
    assert (note.kind, note.owner, note.reason) == ("Node", N1.key, "PolicyNotEnforced")
    assert "net/bridge/bridge-nf-call-iptables: Permission denied. It concerns x/a, x/b" in note.message
    assert agent.news == [note]
    agent.kernel.refuse.clear()
    assert agent.controller.retry()
    assert agent.notes() == []


def test_a_guard_s_comment_names_its_policies_as_far_as_iptables_has_room() -> None:
    few = [policy(f"x/{name}", "{podSelector: {}}") for name in ("a", "b")]
    many = [policy(f"{'n' * 63}/{name * 60}", "{podSelector: {}}") for name in "abcd"]
    long = policy(f"{'n' * 63}/{'a' * 253}", "{podSelector: {}}")
    assert Guard("ingress", few).words() == '-m comment --comment "x/a, x/b"'
    assert Guard("ingress", many).words().endswith(f'{"a" * 60} and 3 more"')
    assert Guard("ingress", [long, *few]).words().endswith('aaa... and 2 more"')
    for policies in (few, many, [long, *few]):
        assert len(spoken(f"{Guard('ingress', policies).words()} -j RETURN", "0" * 12).split('"')[1]) < 256
