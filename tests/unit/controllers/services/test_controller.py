"""The controller over fakes: from rung keys to a written difference, and what it says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberouter_py.config import Config
from kuberouter_py.controllers import course
from kuberouter_py.controllers.services import controller as controller_module
from kuberouter_py.controllers.services import decisions as decisions_module
from kuberouter_py.controllers.services.desired import decide
from kuberouter_py.controllers.services.sight import NODE
from kuberouter_py.model import notation, notation_servers
from kuberouter_py.model.cluster import ObjectKey, ServiceCidr
from kuberouter_py.model.kernel import (
    Address,
    IpSet,
    Protocol,
    Route,
    SetEntry,
    SetMember,
    VirtualServer,
    VirtualServerKey,
    address_text,
)
from kuberouter_py.model.names import VIP_LINK, services_set
from kuberouter_py.ports import Plan, Refused, Unavailable
from tests.fakes.agent import LINKS, FakeAgent
from tests.fakes.kernel import FakeKernel, FakeTable
from tests.fakes.objects import (
    BRIDGE,
    ETH0,
    LOOPBACK,
    VETH,
    cidr,
    endpoint,
    endpoint_slice,
    key_of,
    link,
    node,
    packed,
    port,
    service,
)

N1 = node("192.168.0.1")
WEB = service("web", "10.96.0.10")
WEB_PODS = endpoint_slice("web", endpoint("10.244.1.2", "n1"), endpoint("10.244.2.3"))
DNS = service("dns", "10.96.0.53", created=2000.0)
DNS_PODS = endpoint_slice("dns", endpoint("10.244.2.9"))


def servers(agent: FakeAgent) -> dict[str, list[str]]:
    """ "10.96.0.10:80" -> its destinations."""
    return {
        notation_servers.server_option(key).removeprefix("-t "): sorted(
            address_text(to.address) for to in server.destinations
        )
        for key, server in agent.kernel.servers.items()
    }


def routes(agent: FakeAgent) -> dict[str, str]:
    return {
        address_text(address): address_text(route.source) if route.source else ""
        for address, route in agent.kernel.routes.items()
    }


def messages(agent: FakeAgent) -> list[str]:
    return [note.message for note in agent.news]


def tcp(address: str, number: int = 80) -> VirtualServerKey:
    return VirtualServerKey(Protocol.TCP, packed(address), number)


# -- the first sync --------------------------------------------------------------------------------------------------


def _watched(table: FakeTable[Any, Any], tables: Sequence[FakeTable[Any, Any]], seen: list[int]) -> Any:
    apply = table.apply

    def watched(plan: Plan[Any, Any]) -> dict[Any, Refused]:
        seen.append(min(each.reads for each in tables))
        return apply(plan)

    return watched


def test_the_first_sync_reads_everything_before_it_writes_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS)
    seen: list[int] = []
    tables = [agent.kernel.table(each.name) for each in agent.kernel.tables()]
    for table in tables:
        monkeypatch.setattr(table, "apply", _watched(table, tables, seen))
    assert agent.start()
    assert min(seen) >= 1
    assert servers(agent) == {"10.96.0.10:80": ["10.244.1.2", "10.244.2.3"]}
    assert routes(agent) == {"10.96.0.10": "192.168.0.1"}


def test_masquerade_and_port_filter_stand_before_the_first_vip_does() -> None:
    """S10.11"""
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.start()
    order = [table for table, _, _ in agent.writes()]
    first = {table: order.index(table) for table in order}
    assert first["ipsets"] < first["set members"] < first["iptables"] < first["virtual servers"]
    assert first["virtual servers"] < first["addresses"] < first["routes"]
    assert max(place for place, table in enumerate(order) if table == "iptables") < first["virtual servers"]


def test_the_first_sync_reports_what_it_did() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.start()
    (report,) = agent.reports
    assert (report.controller, report.full, report.keys, report.failures) == ("services", True, 1, 0)
    assert report.tables["virtual servers"].added == 1
    assert report.messages == len(agent.kernel.journal)


def test_a_restart_adopts_what_it_finds_and_writes_nothing() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.start()
    agent.writes()
    again = agent.restarted()
    assert again.start()
    assert again.writes() == []


def test_left_overs_of_an_earlier_life_go_and_foreign_things_stay() -> None:
    kernel = FakeKernel(LINKS)
    foreign = tcp("198.51.100.1")
    kernel.servers[foreign] = VirtualServer("wlc", 0, 0, {})
    agent = FakeAgent(N1, WEB, WEB_PODS, DNS, kernel=kernel)
    agent.start()
    agent.delete(DNS)
    again = agent.restarted()
    again.start()
    assert set(kernel.servers) == {tcp("10.96.0.10"), foreign}
    assert routes(again).keys() == {"10.96.0.10"}


def test_a_changed_binding_keeps_every_vip_reachable() -> None:
    """Deleting an IPv4 address takes our route along: it is put back in the same sync."""
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.start()
    again = agent.restarted(Config(vip_binding="route"))
    again.start()
    assert agent.kernel.addresses == {}
    assert routes(again) == {"10.96.0.10": "192.168.0.1"}


def test_another_link_takes_every_vip_over_and_the_old_one_goes_last() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.start()
    agent.writes()
    again = agent.restarted(Config(vip_link="svc0"))
    assert notation.lines(again.controller.plan()) == [
        "ip link add svc0 type dummy",
        'ip link set svc0 alias "kuberouter-py: addresses of Services"',
        "ip link set svc0 up",
        "ip address add 10.96.0.10/32 dev svc0",
        "ip route replace local 10.96.0.10 dev svc0 table local src 192.168.0.1",
        "ip link del kube-dummy-if",
    ]
    again.start()
    assert [(table, verb) for table, verb, _ in again.writes()] == [
        ("links", "write"),
        ("addresses", "write"),
        ("routes", "write"),
        ("links", "remove"),
    ]
    assert agent.kernel.links.keys() == {"svc0"}
    assert agent.kernel.addresses == {Address("svc0", packed("10.96.0.10")): None}
    assert agent.kernel.routes == {packed("10.96.0.10"): Route("svc0", packed("192.168.0.1"))}
    assert again.controller.plan() == {}


def test_plan_says_what_a_first_sync_would_do_and_does_nothing() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS)
    plans = agent.controller.plan()
    assert set(plans["virtual servers"].add) == {tcp("10.96.0.10")}
    assert agent.writes() == []
    agent.start()
    assert agent.restarted().controller.plan() == {}


def test_cleanup_leaves_nothing_of_ours_and_everything_else() -> None:
    kernel = FakeKernel(LINKS, {"net/ipv4/ip_forward": "0", "net/ipv4/conf/eth0/rp_filter": "1"})
    kernel.servers[tcp("198.51.100.1")] = VirtualServer("wlc", 0, 0, {})
    kernel.sets["theirs"] = IpSet("hash:ip", 4)
    before = (dict(kernel.servers), dict(kernel.sets), dict(kernel.sysctls))
    agent = FakeAgent(N1, WEB, WEB_PODS, kernel=kernel)
    agent.start()
    assert agent.restarted().controller.cleanup().failures == 0
    assert (kernel.servers, kernel.sets, kernel.sysctls) == before
    assert not any(kernel.state().values())


# -- one change ------------------------------------------------------------------------------------------------------


def test_one_endpoint_is_one_write() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS, DNS, DNS_PODS)
    agent.start()
    agent.writes()
    agent.tell(endpoint_slice("web", endpoint("10.244.1.2", "n1"), endpoint("10.244.2.3"), endpoint("10.244.2.4")))
    assert agent.writes() == [("virtual servers", "write", tcp("10.96.0.10"))]
    assert agent.reports[-1].keys == 1


def test_an_endpoint_that_goes_is_two_writes_weight_zero_and_gone() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS, DNS, DNS_PODS)
    agent.start()
    agent.writes()
    agent.tell(endpoint_slice("web", endpoint("10.244.2.3")))
    assert agent.writes() == [
        ("virtual servers", "write", tcp("10.96.0.10")),
        (
            "set members",
            "remove",
            SetMember(
                services_set("hairpin", 4),
                SetEntry(packed("10.244.1.2"), Protocol.TCP, 8080, packed("10.244.1.2")),
            ),
        ),
        ("virtual servers", "write", tcp("10.96.0.10")),
    ]
    assert agent.reports[-1].keys == 1


def test_a_service_that_goes_takes_everything_along_in_reverse_order() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.start()
    fixed = {name: len(content) for name, content in FakeAgentState(N1).items()}
    agent.writes()
    agent.tell_gone(WEB, WEB_PODS)
    order = list(dict.fromkeys(table for table, verb, _ in agent.writes() if verb == "remove"))
    assert order == ["routes", "addresses", "virtual servers", "set members"]
    assert {name: len(content) for name, content in agent.kernel.state().items()} == fixed


def FakeAgentState(*objects: object) -> dict[str, dict[object, object]]:
    agent = FakeAgent(*objects)  # type: ignore[arg-type]
    agent.start()
    return agent.kernel.state()


def test_slices_without_a_service_wait_for_it() -> None:
    agent = FakeAgent(N1, WEB_PODS)
    agent.start()
    assert servers(agent) == {}
    agent.tell(WEB)
    assert servers(agent) == {"10.96.0.10:80": ["10.244.1.2", "10.244.2.3"]}


@pytest.mark.parametrize("kind", ["affinity", "scheduler"])
def test_what_changes_in_place_touches_the_server_alone(kind: str) -> None:
    """S5.05"""
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.start()
    agent.writes()
    changed = (
        service("web", "10.96.0.10", affinity=60)
        if kind == "affinity"
        else service("web", "10.96.0.10", annotations={"kube-router.io/service.scheduler": "wlc"})
    )
    agent.tell(changed)
    assert agent.writes() == [("virtual servers", "write", tcp("10.96.0.10"))]


def test_types_come_and_go_with_their_frontends() -> None:
    """S1.07"""
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.start()
    plain = agent.kernel.state()
    agent.tell(service("web", "10.96.0.10", kind="NodePort", ports=[port(80, 30080)]))
    assert set(servers(agent)) == {"10.96.0.10:80", "192.168.0.1:30080"}
    gone = service("web", "10.96.0.10", kind="ExternalName")
    agent.tell(type(gone)(gone.key, gone.uid, gone.created, gone.type, (), gone.ports))
    assert servers(agent) == {}
    agent.tell(WEB)
    assert agent.kernel.state() == plain


# -- claims ----------------------------------------------------------------------------------------------------------


def test_two_services_one_address() -> None:
    thief = service("thief", "10.96.0.77", external=["203.0.113.7"], created=3000.0)
    owner = service("owner", "10.96.0.78", external=["203.0.113.7"], created=1000.0)
    pods = [endpoint_slice("thief", endpoint("10.244.6.6")), endpoint_slice("owner", endpoint("10.244.5.5"))]
    config = Config(service_external_ip_range=(cidr("203.0.113.0/24"),))
    agent = FakeAgent(N1, thief, *pods, config=config)
    agent.start()
    assert servers(agent)["203.0.113.7:80"] == ["10.244.6.6"]
    agent.tell(owner)
    assert servers(agent)["203.0.113.7:80"] == ["10.244.5.5"]
    assert messages(agent) == ["203.0.113.7 port 80 is served for default/owner, which came first"]
    assert [(note.owner, note.reason, note.event) for note in agent.notes()] == [
        (key_of("thief"), "AddressTaken", True)
    ]
    assert agent.controller.owner_of(tcp("203.0.113.7")) == key_of("owner")
    agent.tell(service("owner", "10.96.0.78", created=1000.0))
    assert servers(agent)["203.0.113.7:80"] == ["10.244.6.6"]
    assert agent.notes() == []
    assert agent.controller.owner_of(tcp("203.0.113.7")) == key_of("thief")
    agent.tell(owner)
    assert len(agent.news) == 2  # lost anew is news again


def test_a_loser_that_goes_takes_its_note_along() -> None:
    config = Config(strict_external_ip_validation=False)
    old = service("old", "10.96.0.1", external=["203.0.113.7"], created=1.0)
    young = service("young", "10.96.0.2", external=["203.0.113.7"], created=2.0)
    agent = FakeAgent(N1, old, young, config=config)
    agent.start()
    assert len(agent.notes()) == 1
    agent.tell_gone(young)
    assert agent.notes() == []


# -- notes -----------------------------------------------------------------------------------------------------------


def test_a_note_is_news_once_and_ends_with_its_cause() -> None:
    bad = service("web", "10.96.0.10", external=["203.0.113.7"])
    agent = FakeAgent(N1, bad)
    agent.start()
    refusal = "externalIP 203.0.113.7 is not served: outside --service-external-ip-range (none given)"
    assert messages(agent) == [refusal]
    agent.tell(WEB_PODS)
    agent.controller.sync({WEB.key})
    agent.compare()
    assert messages(agent) == [refusal]
    agent.tell(WEB)
    assert agent.notes() == []
    agent.tell(bad)
    assert messages(agent) == [refusal, refusal]


def test_a_cluster_ip_that_comes_rings_who_served_it_as_external() -> None:
    web = service("web", "10.96.0.10", ingress=["10.96.0.53"])
    agent = FakeAgent(N1, web)
    agent.start()
    assert set(servers(agent)) == {"10.96.0.10:80", "10.96.0.53:80"}
    agent.tell(service("dns", "10.96.0.53", ports=[port(53)]))
    assert set(servers(agent)) == {"10.96.0.10:80", "10.96.0.53:53"}
    assert messages(agent) == ["load-balancer address 10.96.0.53 is not served: a ClusterIP of this cluster"]
    agent.tell_gone(DNS)
    assert set(servers(agent)) == {"10.96.0.10:80", "10.96.0.53:80"}


def test_service_cidrs_ring_who_has_external_addresses() -> None:
    agent = FakeAgent(N1, service("web", "10.96.0.10", ingress=["10.96.9.9"]), DNS)
    agent.start()
    agent.tell(ServiceCidr(ObjectKey("", "kubernetes"), (cidr("10.96.0.0/12"),)))
    agent.drain()
    assert set(servers(agent)) == {"10.96.0.10:80", "10.96.0.53:80"}


# -- the node --------------------------------------------------------------------------------------------------------


def test_a_heartbeat_writes_nothing() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.start()
    agent.writes()
    agent.tell(type(N1)(N1.key, N1.uid, N1.internal_ips, N1.external_ips, N1.pod_cidrs, taints=("x",)))
    assert agent.drain() == []
    assert agent.writes() == []


def test_a_node_that_gets_its_address_later() -> None:
    agent = FakeAgent(node(), service("web", "10.96.0.10", ports=[port(80, 30080)]), DNS)
    agent.start()
    assert routes(agent) == {"10.96.0.10": "", "10.96.0.53": ""}
    agent.tell(N1)
    assert set(servers(agent)) == {"10.96.0.10:80", "192.168.0.1:30080", "10.96.0.53:80"}  # NodePorts at once
    agent.drain()
    assert routes(agent) == {"10.96.0.10": "192.168.0.1", "10.96.0.53": "192.168.0.1"}


def test_a_node_that_moves_to_another_address() -> None:
    """S6.04; every route's source with it."""
    agent = FakeAgent(N1, service("web", "10.96.0.10", ports=[port(80, 30080)]), DNS)
    agent.start()
    agent.kernel.others = [LOOPBACK, link("eth0", "192.168.0.2/24"), BRIDGE, VETH]
    agent.tell(node("192.168.0.2"))
    agent.drain()
    assert set(servers(agent)) == {"10.96.0.10:80", "192.168.0.2:30080", "10.96.0.53:80"}
    assert set(routes(agent).values()) == {"192.168.0.2"}


def test_nodeports_on_all_addresses_follow_the_links() -> None:
    web = service("web", "10.96.0.10", ports=[port(80, 30080)])
    agent = FakeAgent(N1, web, config=Config(nodeport_bindon_all_ip=True))
    agent.start()
    agent.rewire(*LINKS, link("eth1", "172.20.0.1/24"))
    assert "172.20.0.1:30080" in servers(agent)
    agent.rewire(*LINKS)
    assert "172.20.0.1:30080" not in servers(agent)


def test_a_vip_that_appears_on_another_link_is_given_up_and_taken_back() -> None:
    """S10.05: kube-vip, keepalived."""
    config = Config(strict_external_ip_validation=False)
    agent = FakeAgent(N1, service("web", "10.96.0.10", external=["203.0.113.7"]), config=config)
    agent.start()
    vip = Address(VIP_LINK, packed("203.0.113.7"))
    assert vip in agent.kernel.addresses
    agent.rewire(*LINKS, link("eth1", "203.0.113.7/32"))
    assert vip not in agent.kernel.addresses
    assert "203.0.113.7" not in routes(agent)
    assert "203.0.113.7:80" in servers(agent)
    agent.rewire(*LINKS)
    assert vip in agent.kernel.addresses


def test_a_new_pod_port_gets_hairpin_mode_and_no_service_is_decided() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.start()
    agent.writes()
    agent.rewire(*LINKS, link("veth2", master="kube-bridge"))
    assert agent.writes() == [("bridge ports", "write", "veth2")]
    assert agent.drain() == []


def test_a_second_family_is_served_when_the_node_has_it() -> None:
    dual = service("web", "10.96.0.10", "fd00:96::10")
    agent = FakeAgent(N1, dual)
    agent.start()
    assert set(servers(agent)) == {"10.96.0.10:80"}
    agent.kernel.others = [LOOPBACK, link("eth0", "192.168.0.1/24", "2001:db8::1/64"), BRIDGE, VETH]
    agent.tell(node("192.168.0.1", "2001:db8::1"))
    agent.drain()
    assert routes(agent) == {"10.96.0.10": "192.168.0.1", "fd00:96::10": "2001:db8::1"}
    agent.tell_gone(N1)
    agent.rewire(LOOPBACK, ETH0, BRIDGE, VETH)
    agent.tell(N1)
    agent.drain()
    assert not [name for name, content in agent.kernel.state().items() for key in content if "-6" in str(key)]


def test_a_node_that_loses_its_addresses_for_a_moment_loses_no_service() -> None:
    """The Node's status is written by others; the addresses are on their link all the time."""
    both = node("192.168.0.1", "2001:db8::1")
    dual = service("web", "10.96.0.10", "fd00:96::10", ports=[port(80, 30080)])
    agent = FakeAgent(both, dual, links=[LOOPBACK, link("eth0", "192.168.0.1/24", "2001:db8::1/64"), BRIDGE, VETH])
    agent.start()
    agent.writes()
    for less in (N1, node("2001:db8::1"), node(), both):
        agent.tell(less)
        agent.drain()
        assert agent.writes() == []


def test_ipv6_stays_on_also_when_the_address_is_gone_from_its_link() -> None:
    dual = service("web", "10.96.0.10", "fd00:96::10", ports=[port(80, 30080)])
    agent = FakeAgent(node("192.168.0.1", "2001:db8::1"), dual)
    agent.rewire(LOOPBACK, link("eth0", "192.168.0.1/24", "2001:db8::1/64"), BRIDGE, VETH)
    agent.start()
    agent.put(N1)
    agent.rewire(LOOPBACK, ETH0, BRIDGE, VETH)
    agent.drain()
    assert routes(agent) == {"10.96.0.10": "192.168.0.1", "fd00:96::10": ""}
    assert set(servers(agent)) == {"10.96.0.10:80", "192.168.0.1:30080", "[fd00:96::10]:80"}


def test_an_external_address_of_another_node_is_not_taken_from_it() -> None:
    """In both orders; bound here, this node could not reach the other one any more."""
    other = msgspec.structs.replace(node("192.168.0.2"), key=ObjectKey("", "n2"))
    balanced = service("web", "10.96.0.10", ingress=["192.168.0.2", "203.0.113.7"])
    config = Config(vip_binding="route")
    agent = FakeAgent(N1, balanced, WEB_PODS, config=config)
    agent.start()
    assert routes(agent).keys() == {"10.96.0.10", "192.168.0.2", "203.0.113.7"}
    agent.tell(other)
    assert routes(agent).keys() == {"10.96.0.10", "203.0.113.7"}
    assert "192.168.0.2:80" in servers(agent)
    agent.tell_gone(other)
    assert "192.168.0.2" in routes(agent)
    later = FakeAgent(N1, other, config=config)
    later.start()
    later.tell(balanced, WEB_PODS)
    assert routes(later).keys() == {"10.96.0.10", "203.0.113.7"}


def test_background_slices_are_small_and_rung_keys_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_module, "SLICE", 2)
    many = [service(f"s{n}", f"10.96.1.{n}") for n in range(5)]
    agent = FakeAgent(node(), *many)
    agent.start()
    agent.tell(N1)
    agent.controller.sync({key_of("s0")})
    assert len(agent.drain()) == 2
    assert set(routes(agent).values()) == {"192.168.0.1"}


def test_a_node_that_cannot_be_looked_at_is_taken_as_it_was() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.start()
    before = agent.kernel.state()
    agent.node.broken = "dump interrupted"
    assert not agent.rewire(LOOPBACK)
    assert agent.kernel.state() == before
    assert agent.reports[-1].failures == 1
    assert not agent.controller.retry()
    agent.node.broken = ""
    agent.kernel.others = list(LINKS)
    assert agent.controller.retry()
    assert agent.kernel.state() == before


# -- schedulers ------------------------------------------------------------------------------------------------------

MAGLEV = service("maglev", "10.96.0.4", annotations={"kube-router.io/service.scheduler": "mh"})


def schedulers(agent: FakeAgent) -> list[str]:
    return [server.scheduler for server in agent.kernel.servers.values()]


def test_a_missing_scheduler_is_asked_for_once_until_the_next_comparison() -> None:
    agent = FakeAgent(N1, MAGLEV)
    agent.with_schedulers("rr")
    agent.start()
    agent.controller.sync({MAGLEV.key})
    assert schedulers(agent) == ["rr"]
    assert agent.node.asked_schedulers == ["mh"]
    assert [note.reason for note in agent.notes()] == ["SchedulerRefused"]
    agent.compare()
    assert agent.node.asked_schedulers == ["mh", "mh"]
    agent.with_schedulers("rr", "mh")
    agent.compare()
    assert schedulers(agent) == ["mh"]
    assert agent.notes() == []


def test_a_probe_does_not_swallow_what_else_changed_on_the_node() -> None:
    agent = FakeAgent(
        N1, service("web", "10.96.0.10", ports=[port(80, 30080)]), config=Config(nodeport_bindon_all_ip=True)
    )
    agent.start()
    agent.kernel.others = [*LINKS, link("eth1", "172.20.0.1/24")]
    agent.tell(MAGLEV)  # probes, before the kernel's news of eth1 rings
    agent.controller.sync({NODE})
    assert "172.20.0.1:30080" in servers(agent)


# -- failures and drift ----------------------------------------------------------------------------------------------


def test_a_refused_server_is_retried_and_harms_nobody() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS, DNS, DNS_PODS)
    agent.kernel.table("virtual servers").refuse[tcp("10.96.0.53")] = Refused("out of memory")
    assert not agent.start()
    assert set(servers(agent)) == {"10.96.0.10:80"}
    status = agent.controller.status({}, ())
    assert status.refused == (("virtual servers: TCP 10.96.0.53:80 (default/dns)", "out of memory"),)
    assert (status.failures, status.last_error) == (1, "virtual servers: TCP 10.96.0.53:80: out of memory")
    assert agent.controller.sync({WEB.key}), "other keys are fine"
    assert not agent.controller.retry()
    agent.kernel.table("virtual servers").refuse.clear()
    assert agent.controller.retry()
    assert "10.96.0.53:80" in servers(agent)
    assert agent.controller.status({}, ()).refused == ()


def test_what_the_node_lacks_is_said_and_is_no_failure() -> None:
    agent = FakeAgent(N1)
    key = "net/netfilter/nf_conntrack_max"
    agent.kernel.table("sysctls").refuse[key] = Refused("read-only", missing=True)
    assert agent.start()
    status = agent.controller.status({}, ())
    assert (status.refused, status.failures) == (((f"sysctls: {key}", "read-only"),), 0)


@pytest.mark.parametrize(
    "table", ["ipsets", "set members", "iptables", "virtual servers", "links", "addresses", "routes"]
)
def test_a_comparison_heals_what_somebody_took_away(table: str) -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.start()
    whole = agent.kernel.state()
    broken: dict[object, object] = {
        "ipsets": agent.kernel.sets,
        "set members": agent.kernel.members,
        "iptables": agent.kernel.chains,
        "virtual servers": agent.kernel.servers,
        "links": agent.kernel.links,
        "addresses": agent.kernel.addresses,
        "routes": agent.kernel.routes,
    }[table]  # type: ignore[assignment]
    broken.clear()
    agent.compare()
    assert agent.kernel.state() == whole
    agent.writes()
    agent.compare()
    assert agent.writes() == []


def test_a_lost_ownership_set_loses_no_server() -> None:
    """The set destroyed and the agent restarted: no server goes, and cleanup is still complete."""
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.start()
    whole = agent.kernel.state()
    agent.kernel.members.clear()
    again = agent.restarted()
    agent.writes()
    again.start()
    assert ("virtual servers", "remove", tcp("10.96.0.10")) not in again.writes()
    assert agent.kernel.state() == whole


def test_a_comparison_of_some_tables_reads_only_those() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.start()
    before = {table.name: agent.kernel.table(table.name).reads for table in agent.kernel.tables()}
    agent.kernel.routes.clear()
    agent.controller.begin_compare(("addresses", "routes"))
    agent.drain()
    read = {name for name, count in before.items() if agent.kernel.table(name).reads > count}
    assert read == {"addresses", "routes"}
    assert routes(agent) == {"10.96.0.10": "192.168.0.1"}
    assert not agent.reports[-1].full
    told = len(agent.reports)
    agent.compare()
    assert [report.full for report in agent.reports[told:]].count(True) == 1


def test_a_comparison_looks_at_the_node_too() -> None:
    agent = FakeAgent(
        N1, service("web", "10.96.0.10", ports=[port(80, 30080)]), config=Config(nodeport_bindon_all_ip=True)
    )
    agent.start()
    agent.kernel.others = [*LINKS, link("eth1", "172.20.0.1/24")]  # and the news of it was lost
    agent.compare()
    assert "172.20.0.1:30080" in servers(agent)


def test_an_unreadable_table_at_the_start_removes_nothing_and_is_retried() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS, DNS)
    agent.start()
    agent.delete(DNS)
    again = agent.restarted()
    again.kernel.table("virtual servers").unreadable = "dump interrupted"
    assert not again.start()
    assert set(servers(again)) == {"10.96.0.10:80", "10.96.0.53:80"}
    again.kernel.table("virtual servers").unreadable = ""
    again.controller.retry()
    assert set(servers(again)) == {"10.96.0.10:80"}
    whole = again.kernel.state()
    straight = FakeAgent(N1, WEB, WEB_PODS)
    straight.start()
    assert whole == straight.kernel.state()


def test_a_service_that_cannot_be_decided_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.start()
    real = decide

    def broken(one: object, *rest: object) -> object:
        if one == WEB:
            raise ZeroDivisionError("a fault")
        return real(one, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(decisions_module, "decide", broken)
    agent.put(DNS_PODS, endpoint_slice("web", endpoint("10.244.9.9")))
    agent.controller.sync({*agent.put(DNS), WEB.key})
    assert servers(agent) == {"10.96.0.10:80": ["10.244.1.2", "10.244.2.3"], "10.96.0.53:80": ["10.244.2.9"]}
    assert messages(agent) == ["left as it was, it could not be decided: ZeroDivisionError: a fault"]
    monkeypatch.undo()
    agent.controller.sync({WEB.key})
    agent.look()
    assert servers(agent)["10.96.0.10:80"] == ["10.244.9.9"]
    assert agent.notes() == []


# -- status ----------------------------------------------------------------------------------------------------------


def test_status_counts_what_is_served() -> None:
    agent = FakeAgent(N1, service("web", "10.96.0.10", ports=[port(80, 30080)]), WEB_PODS, DNS)
    before = agent.controller.status({}, ())
    assert (before.synced, before.last_sync, before.syncs) == (False, 0.0, 0)
    agent.start()
    status = agent.controller.status({"iptables": "legacy"}, ["TCP 198.51.100.1:80 wlc"])
    assert status.synced
    assert status.counts == {"services": 2, "virtual servers": 3, "destinations": 4, "draining": 0, "vips": 2}
    assert status.foreign_servers == ("TCP 198.51.100.1:80 wlc",)
    assert status.facts["iptables"] == "legacy"
    assert status.facts["local traffic"] == "NodeCIDR 10.244.1.0/24"
    assert status.facts["nodeport addresses"] == "192.168.0.1"
    assert status.facts["pod bridges"] == "kube-bridge"
    assert status.facts["vip link"] == "kube-dummy-if"
    assert agent.kernel.routes[packed("10.96.0.10")] == Route(VIP_LINK, packed("192.168.0.1"))


# -- law -------------------------------------------------------------------------------------------------------------

_names = st.sampled_from(["web", "dns"])
_events = st.one_of(
    st.builds(
        lambda name, address, node_port, external, age: service(
            name, address, ports=[port(80, node_port)], external=external, created=age
        ),
        _names,
        st.sampled_from(["10.96.0.10", "10.96.0.53"]),
        st.sampled_from([0, 30080]),
        st.sampled_from([(), ("203.0.113.7",), ("192.168.0.1",), ("10.96.0.10",)]),
        st.sampled_from([1.0, 2.0]),
    ),
    st.builds(
        lambda name, here, there: endpoint_slice(
            name, *[endpoint("10.244.1.2", "n1")] * here, *[endpoint("10.244.2.3")] * there
        ),
        _names,
        st.integers(0, 1),
        st.integers(0, 1),
    ),
    st.builds(lambda addresses: node(*addresses), st.sampled_from([("192.168.0.1",), ("192.168.0.9",)])),
)


@settings(max_examples=60)
@given(st.lists(st.tuples(_events, st.booleans()), max_size=8))
def test_the_path_does_not_matter(events: Sequence[tuple[object, bool]]) -> None:
    links = [LOOPBACK, ETH0, link("eth1", "192.168.0.9/24"), BRIDGE, VETH]
    config = Config(strict_external_ip_validation=False)
    walked, straight = FakeAgent(config=config, links=links), FakeAgent(config=config, links=links)
    walked.start()
    for one, stays in events:
        for agent in (walked, straight):
            rung = agent.put(one) if stays else agent.put(one) | agent.delete(one)  # type: ignore[arg-type]
            if agent is walked:
                walked.controller.sync(rung)
    walked.look()
    walked.drain()
    straight.start()
    assert walked.kernel.state() == straight.kernel.state()
    assert sorted(map(str, walked.notes())) == sorted(map(str, straight.notes()))
    walked.writes()
    walked.compare()
    assert walked.writes() == []


# -- what has to stand before a VIP does -----------------------------------------------------------------------------


def _refuse_all(agent: FakeAgent, table: str, reason: str, *, missing: bool = False) -> None:
    agent.kernel.table(table).refuse = _Everything(Refused(reason, missing))


class _Everything(dict[Any, Refused]):
    """Says the same to whatever is asked."""

    def __init__(self, answer: Refused) -> None:
        super().__init__()
        self._answer = answer

    def get(self, key: Any, default: Any = None) -> Any:
        return self._answer


@pytest.mark.parametrize("table", ["iptables", "virtual servers"])
def test_no_vip_while_what_it_leans_on_cannot_be_written(table: str) -> None:
    """S10.11: the xtables lock is held, or there is no ip_vs; all comes when that has passed."""
    agent = FakeAgent(N1, WEB, WEB_PODS)
    _refuse_all(agent, table, "not now")
    assert not agent.start()
    agent.tell(DNS, DNS_PODS)
    assert routes(agent) == {}
    assert agent.kernel.addresses == {}
    assert not agent.controller.retry()
    assert routes(agent) == {}
    agent.kernel.table(table).refuse = {}
    assert agent.controller.retry()
    assert routes(agent).keys() == {"10.96.0.10", "10.96.0.53"}
    assert servers(agent).keys() == {"10.96.0.10:80", "10.96.0.53:80"}
    agent.writes()
    agent.compare()
    assert agent.writes() == []


def test_one_refused_server_holds_no_other_services_vip_back() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS, DNS, DNS_PODS)
    agent.kernel.table("virtual servers").refuse = {tcp("10.96.0.10"): Refused("no")}
    assert not agent.start()
    assert "10.96.0.53" in routes(agent)


def test_a_node_without_iptables_for_good_still_gets_its_vips() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS)
    _refuse_all(agent, "iptables", "Couldn't load match `set'", missing=True)
    agent.start()
    assert routes(agent).keys() == {"10.96.0.10"}


def test_vips_that_stand_stay_when_the_lock_is_held_later() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.start()
    again = agent.restarted()
    _refuse_all(again, "iptables", "lock")
    again.start()
    assert routes(again).keys() == {"10.96.0.10"}
    assert again.tell(DNS, DNS_PODS)
    assert routes(again).keys() == {"10.96.0.10", "10.96.0.53"}


def test_cleanup_of_a_node_that_lacks_a_table_leaves_nothing_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """--cleanup where ip_vs was never loaded is no failure; one that cannot be read for another reason is."""
    agent = FakeAgent(N1)
    table = agent.kernel.table("virtual servers")

    def lacking() -> Any:
        raise Unavailable("this kernel offers no IPVS")

    monkeypatch.setattr(table, "read", lacking)
    outcome = agent.controller.cleanup()
    assert (outcome.failures, outcome.left_over) == (1, 0)
    monkeypatch.undo()
    table.unreadable = "busy"
    assert FakeAgent(N1, kernel=agent.kernel).controller.cleanup().left_over == 1


# -- what is told ------------------------------------------------------------------------------------------------------


def test_a_refusal_is_told_once_with_its_service_until_its_reason_changes() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.kernel.table("routes").refuse = {packed("10.96.0.10"): Refused("no buffer space")}
    assert not agent.start()
    (note,) = agent.news
    assert (note.kind, note.owner, note.reason) == ("Service", WEB.key, "KernelRefused")
    assert note.message == "routes: 10.96.0.10: no buffer space"
    assert agent.controller.status({}, ()).refused == (("routes: 10.96.0.10 (default/web)", "no buffer space"),)
    agent.controller.retry()
    agent.controller.retry()
    assert agent.news == [note]
    agent.kernel.table("routes").refuse = {packed("10.96.0.10"): Refused("invalid argument")}
    agent.controller.retry()
    assert messages(agent)[1:] == ["routes: 10.96.0.10: invalid argument"]
    agent.kernel.table("routes").refuse = {}
    assert agent.controller.retry()
    assert agent.controller.status({}, ()).refused == ()


def test_a_table_that_cannot_be_read_is_told_once() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.kernel.table("iptables").unreadable = "iptables-save: exit status 1"
    agent.start()
    agent.controller.retry()
    assert [(note.owner, note.message) for note in agent.news] == [(None, "iptables: iptables-save: exit status 1")]


def test_what_a_node_lacks_is_a_failure_where_services_need_it() -> None:
    agent = FakeAgent(N1, WEB, WEB_PODS)
    _refuse_all(agent, "iptables", "Couldn't load match `set'", missing=True)
    assert not agent.start()
    assert agent.controller.status({}, ()).failures > 0


def test_a_node_that_cannot_be_looked_at_at_first_is_written_when_it_can() -> None:
    kernel = FakeKernel(LINKS)
    FakeAgent(N1, WEB, WEB_PODS, kernel=kernel).start()
    agent = FakeAgent(N1, WEB, WEB_PODS, DNS, DNS_PODS, kernel=kernel)
    agent.writes()
    agent.node.broken = "netlink dump was interrupted 8 times"
    assert not agent.start()
    assert not agent.controller.sync({DNS.key})
    agent.controller.begin_compare(())
    assert agent.drain() == []
    assert not agent.controller.retry()
    assert agent.writes() == []
    assert not agent.controller.status({}, ()).synced
    agent.node.broken = ""
    assert agent.controller.retry()
    assert servers(agent).keys() == {"10.96.0.10:80", "10.96.0.53:80"}
    assert agent.controller.status({}, ()).synced


def test_a_question_does_not_wait_for_a_long_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "PATIENCE", 0.01)
    agent = FakeAgent(N1, WEB, WEB_PODS)
    agent.start()
    with agent.controller._course.lock:
        said = agent.controller.status({"iptables": "nft"}, ())
        assert agent.controller.owner_of(tcp("10.96.0.10")) == WEB.key
    assert said.facts["state"].startswith("in the middle of a sync")
    assert (said.synced, said.facts["iptables"]) == (True, "nft")
