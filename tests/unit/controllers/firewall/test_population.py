"""Who is in the sets of peers follows from the cluster alone, whatever changed before, and in whatever company."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from kuberouter_py.controllers.firewall.peers import Peers
from kuberouter_py.controllers.firewall.sets import PodsOf
from kuberouter_py.controllers.firewall.world import World
from kuberouter_py.model.policies import NetworkPolicy, Selector
from tests.fakes.firewall import HEARD, FakeFirewall
from tests.fakes.objects import node
from tests.fakes.policies import namespace, pod, policy

N1 = node("192.168.0.1")
_HEARS = (
    "[{podSelector: {matchLabels: {app: a}}}]",
    "[{podSelector: {matchExpressions: [{key: app, operator: In, values: [a, b]}]}}]",
    "[{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: a}}}]",
    "[{namespaceSelector: {matchLabels: {team: blue}}}]",
    "[{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [red]}]}, podSelector: {}}]",
)


def _policy(name: str, hears: str, port: str) -> HEARD:
    return policy(f"x/{name}", f"{{podSelector: {{}}, ingress: [{{from: {hears}, ports: [{{port: {port}}}]}}]}}")


_changes = st.one_of(
    st.builds(lambda name, team: namespace(name, team=team), st.sampled_from("xyz"), st.sampled_from(["blue", "red"])),
    st.builds(
        lambda where, number, app, address, port: pod(
            f"{where}/p{number}", f"10.244.2.{address}", node="n2", labels={"app": app}, ports=[port]
        ),
        st.sampled_from("xyz"),
        st.integers(1, 3),
        st.sampled_from("abc"),
        st.integers(1, 3),
        st.sampled_from([("http", 6, 80), ("http", 6, 81), ("other", 6, 80)]),
    ),
    st.builds(_policy, st.sampled_from(["one", "two"]), st.sampled_from(_HEARS), st.sampled_from(["http", "80"])),
)
_batches = st.lists(st.tuples(st.booleans(), st.lists(_changes, min_size=1, max_size=4)), max_size=8)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(_batches)
def test_members_are_those_of_a_process_that_begins_now(batches: Sequence[tuple[bool, Sequence[HEARD]]]) -> None:
    agent = FakeFirewall(N1, *(namespace(name, team="blue") for name in "xyz"), pod("x/here", "10.244.1.2"))
    assert agent.start()
    for goes, objects in batches:
        assert agent.tell_gone(*objects[:1]) if goes else agent.tell(*objects)
        fresh = FakeFirewall(config=agent.config, links=agent.all_links, cache=agent.cache)
        assert fresh.start()
        assert agent.kernel.members == fresh.kernel.members
        assert agent.kernel.sets == fresh.kernel.sets


def test_of_a_namespace_that_is_gone_nothing_is_kept() -> None:
    """In a cluster that makes and deletes namespaces all the time, an agent that lives for months must not grow."""
    world = World("n1")
    peers = Peers(world)
    use = PodsOf("", Selector(), Selector())
    one = policy("x/one", "{podSelector: {}}")
    assert isinstance(one, NetworkPolicy)
    for ends in ("the policy", "the namespace"):
        world.take_policy(one.key, one)
        world.take_namespace("x", {})
        peers.namespace_changed("x")
        peers.use(one.key, [use])
        assert list(world.policies()) == [one] and peers._selectors
        world.take_policy(one.key, None)
        if ends == "the policy":
            peers.use(one.key, [])
        else:
            world.take_namespace("x", None)
            peers.namespace_changed("x")
        assert (world._policies, peers._selectors) == ({}, {})
