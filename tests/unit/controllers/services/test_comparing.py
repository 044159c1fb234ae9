"""The periodic comparison: in slices, with changes between them, and news of the kernel before its turn."""

from __future__ import annotations

from kuberouter_py.controllers.services.sight import NODE
from kuberouter_py.model.kernel import VirtualServer, VirtualServerKey, address_text
from tests.fakes.agent import FakeAgent
from tests.fakes.objects import endpoint, endpoint_slice, node, service

N1 = node("192.168.0.1")
MANY = [service(f"s{n}", f"10.96.1.{n}") for n in range(10)]
PODS = [endpoint_slice(f"s{n}", endpoint(f"10.244.2.{n}")) for n in range(10)]


def started() -> FakeAgent:
    agent = FakeAgent(N1, *MANY, *PODS)
    agent.start()
    agent.writes()
    return agent


def until(agent: FakeAgent, table: str) -> None:
    """Slices until a part of that table was read."""
    while not agent.controller._reconciler.is_reading(table):
        assert agent.controller.background() is not None


def test_a_change_between_slices_is_served_at_once_and_not_undone() -> None:
    agent = started()
    agent.controller.begin_compare(())
    until(agent, "virtual servers")
    for number in range(10):
        assert agent.tell(endpoint_slice(f"s{number}", endpoint(f"10.244.3.{number}")))
        assert agent.controller.background()
    agent.drain()
    found = {address_text(to.address) for server in agent.kernel.servers.values() for to in server.destinations}
    assert found == {f"10.244.3.{number}" for number in range(10)}
    # The new destination beside the old one at weight 0, and then alone.
    assert [verb for table, verb, _ in agent.writes() if table == "virtual servers"] == ["write"] * 20


def test_a_service_that_goes_between_slices_stays_away() -> None:
    agent = started()
    agent.controller.begin_compare(())
    until(agent, "set members")
    agent.tell_gone(MANY[3], PODS[3])
    agent.drain()
    straight = FakeAgent(N1, *(one for one in MANY if one != MANY[3]), *(one for one in PODS if one != PODS[3]))
    straight.start()
    assert agent.kernel.state() == straight.kernel.state()


def test_one_report_tells_of_a_whole_comparison_without_a_difference() -> None:
    agent = started()
    agent.reports.clear()
    slices = agent.compare()
    assert len(slices) > 40  # a key each, here
    assert [report.full for report in agent.reports if report.keys == 0] == [True]
    assert all(slices)


def test_what_a_slice_puts_right_is_reported_at_once() -> None:
    agent = started()
    agent.kernel.servers.clear()
    agent.reports.clear()
    agent.compare()
    told = [report for report in agent.reports if report.tables]
    assert sum(report.tables["virtual servers"].added for report in told) == 10
    assert agent.reports[-1].failures == 0


def test_news_of_a_table_come_before_the_tables_whose_turn_it_is() -> None:
    agent = started()
    agent.controller.begin_compare(())
    until(agent, "virtual servers")
    agent.kernel.routes.clear()
    agent.controller.begin_compare(("routes",))
    for _ in range(11):
        assert agent.controller.background()
    assert len(agent.kernel.routes) == 10
    assert agent.controller._reconciler.is_reading("virtual servers"), "and then it goes on where it was"
    agent.drain()


def test_news_of_a_table_that_is_being_read_have_it_read_once_more() -> None:
    agent = started()
    agent.controller.begin_compare(("routes",))
    until(agent, "routes")
    for _ in range(5):
        agent.controller.background()
    first = next(iter(agent.kernel.routes))
    del agent.kernel.routes[first]  # whose part was read already
    agent.controller.begin_compare(("routes",))
    agent.drain()
    assert first in agent.kernel.routes
    assert agent.drain() == []


def test_a_server_that_appears_is_foreign_and_left_alone() -> None:
    agent = started()
    mine = next(iter(agent.kernel.servers))
    assert isinstance(mine, VirtualServerKey)
    theirs = mine._replace(address=bytes((203, 0, 113, 1)))
    agent.kernel.servers[theirs] = VirtualServer("wlc", 0, 0, {})
    stray = mine._replace(port=81)  # on a VIP of ours
    agent.kernel.servers[stray] = VirtualServer("rr", 0, 0, {})
    agent.compare()
    assert theirs in agent.kernel.servers
    assert stray not in agent.kernel.servers


def test_a_table_that_cannot_be_read_is_one_failure_and_the_others_go_on() -> None:
    agent = started()
    agent.kernel.table("set members").unreadable = "dump interrupted"
    agent.kernel.servers.clear()
    agent.compare()
    assert len(agent.kernel.servers) == 10
    assert [report.failures for report in agent.reports if report.full][-1] == 1
    agent.kernel.table("set members").unreadable = ""
    assert agent.controller.retry()
    assert agent.controller.sync({NODE})
