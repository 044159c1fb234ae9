"""The routing controller over tables in memory: routes, tunnels, sets of a cluster, and what a change of it writes."""

from __future__ import annotations

from typing import NoReturn

import pytest
from msgspec.structs import replace

from kuberouter_py.config import Config
from kuberouter_py.controllers.routing import announcements, decisions
from kuberouter_py.controllers.routing.decisions import CNI_NOT_COMPLETED
from kuberouter_py.controllers.routing.nodes import NOT_ROUTED
from kuberouter_py.controllers.routing.notes import ANNOTATION_REFUSED, NOT_DECIDED, UNUSABLE_PART
from kuberouter_py.model.bgp import Announced
from kuberouter_py.model.cluster import Node, ObjectKey
from kuberouter_py.model.kernel import Chain, SetEntry, SetMember
from kuberouter_py.model.names import MAIN_TABLE, OVERLAY_TABLE, POD_BRIDGE, tunnel_name
from kuberouter_py.model.podnet import CniSeen, Listener, LookupRule, PodBridge, PodRoute, RouteKey, Tunnel
from kuberouter_py.model.report import Note
from kuberouter_py.ports import Refused
from tests.fakes.objects import BRIDGE, LOOPBACK, cidr, endpoint, endpoint_slice, link, node, packed, service
from tests.fakes.routing import FakeRouting

N1 = node("192.168.0.1")
FAR_TUNNEL = tunnel_name(packed("192.168.9.3"))
DUAL = link("eth0", "192.168.0.1/24", "2001:db8::1/64", "fe80::1/64")


def other(name: str, *addresses: str, pods: tuple[str, ...]) -> Node:
    return replace(node(*addresses, pod_cidrs=pods), key=ObjectKey("", name), uid=f"uid-{name}")


NEAR = other("n2", "192.168.0.2", pods=("10.244.2.0/24",))
FAR = other("n3", "192.168.9.3", pods=("10.244.3.0/24",))


def main(text: str) -> RouteKey:
    return RouteKey(MAIN_TABLE, *cidr(text))


def overlay(address: str) -> RouteKey:
    return RouteKey(OVERLAY_TABLE, packed(address), 8 * len(packed(address)))


def started(*objects: Node, config: Config | None = None) -> FakeRouting:
    agent = FakeRouting(*objects, config=config)
    assert agent.start()
    return agent


def test_a_node_of_our_subnet_is_its_pods_gateway() -> None:
    agent = started(N1, NEAR)
    assert agent.table("pod routes") == {
        main("10.244.2.0/24"): PodRoute("eth0", packed("192.168.0.2"), packed("192.168.0.1"))
    }
    assert not agent.table("tunnels")


def test_a_tunnel_leads_to_a_node_of_another_subnet_and_its_address_is_reached_by_it_from_pods() -> None:
    agent = started(N1, FAR)
    assert agent.table("tunnels") == {FAR_TUNNEL: Tunnel(4, packed("192.168.0.1"), packed("192.168.9.3"), 0, 1480)}
    assert agent.table("pod routes") == {
        main("10.244.3.0/24"): PodRoute(FAR_TUNNEL, source=packed("192.168.0.1")),
        overlay("192.168.9.3"): PodRoute(FAR_TUNNEL),
    }
    assert agent.table("lookup rules") == {LookupRule(*cidr("10.244.1.0/24")): OVERLAY_TABLE}


def test_without_overlay_what_is_behind_routers_is_theirs() -> None:
    agent = started(N1, NEAR, FAR, config=Config(enable_overlay=False))
    assert agent.table("pod routes").keys() == {main("10.244.2.0/24")}
    assert not agent.table("tunnels")
    assert not agent.table("lookup rules")


def test_full_overlay_leads_to_all_by_tunnels() -> None:
    agent = started(N1, NEAR, config=Config(overlay_type="full"))
    assert agent.table("pod routes")[main("10.244.2.0/24")].link == tunnel_name(packed("192.168.0.2"))


def test_gue_takes_its_port_and_more_of_the_packet() -> None:
    agent = started(N1, FAR, config=Config(overlay_encap="fou", overlay_encap_port=5556))
    assert agent.table("gue ports") == {Listener(4, 5556): None}
    assert agent.table("tunnels")[FAR_TUNNEL] == Tunnel(4, packed("192.168.0.1"), packed("192.168.9.3"), 5556, 1468)
    assert agent.table("pod bridges") == {POD_BRIDGE: PodBridge(1468)}


def test_pods_packets_get_smaller_when_the_first_node_needs_a_tunnel_and_again_large_when_the_last_is_gone() -> None:
    agent = started(N1, NEAR)
    assert agent.table("pod bridges") == {POD_BRIDGE: PodBridge(1500)}
    agent.hear(FAR)
    agent.sync()
    assert agent.table("pod bridges") == {POD_BRIDGE: PodBridge(1480)}
    agent.lose(FAR)
    agent.sync()
    assert agent.table("pod bridges") == {POD_BRIDGE: PodBridge(1500)}


def test_auto_mtu_off_leaves_the_bridge_as_it_is() -> None:
    agent = started(N1, FAR, config=Config(auto_mtu=False))
    assert agent.table("pod bridges") == {POD_BRIDGE: PodBridge(0)}


def test_both_families() -> None:
    own = node("192.168.0.1", "2001:db8::1", pod_cidrs=("10.244.1.0/24", "fd00:1::/64"))
    near = other("n2", "192.168.0.2", "2001:db8::2", pods=("10.244.2.0/24", "fd00:2::/64"))
    far = other("n3", "192.168.9.3", "2001:db8:9::3", pods=("10.244.3.0/24", "fd00:3::/64"))
    agent = FakeRouting(own, near, far, links=(LOOPBACK, DUAL, BRIDGE))
    assert agent.start()
    routes, tunnel6 = agent.table("pod routes"), tunnel_name(packed("2001:db8:9::3"))
    assert routes[main("fd00:2::/64")] == PodRoute("eth0", packed("2001:db8::2"), packed("2001:db8::1"))
    assert routes[main("fd00:3::/64")] == PodRoute(tunnel6, source=packed("2001:db8::1"))
    assert agent.table("tunnels")[tunnel6].mtu == 1460
    assert agent.table("pod bridges") == {POD_BRIDGE: PodBridge(1460)}
    assert agent.table("announced") == {cidr("10.244.1.0/24"): Announced.PODS, cidr("fd00:1::/64"): Announced.PODS}


def test_of_each_family_an_internal_address_counts_or_else_an_external_one() -> None:
    """A cloud whose nodes have IPv6 addresses that are public alone: ExternalIPs."""
    own = node("192.168.0.1", pod_cidrs=("10.244.1.0/24", "fd00:1::/64"), external=("203.0.113.1", "2001:db8::1"))
    near = other("n2", "192.168.0.2", "2001:db8::2", pods=("10.244.2.0/24", "fd00:2::/64"))
    agent = FakeRouting(own, near, links=(LOOPBACK, DUAL, BRIDGE))
    assert agent.start()
    assert agent.table("pod routes") == {
        main("10.244.2.0/24"): PodRoute("eth0", packed("192.168.0.2"), packed("192.168.0.1")),
        main("fd00:2::/64"): PodRoute("eth0", packed("2001:db8::2"), packed("2001:db8::1")),
    }
    assert not agent.notes


def test_a_node_that_goes_changes_its_address_or_its_networks_is_followed() -> None:
    agent = started(N1, NEAR, FAR)
    agent.hear(other("n2", "192.168.0.22", pods=("10.244.22.0/24",)))
    agent.sync()
    assert agent.table("pod routes")[main("10.244.22.0/24")].gateway == packed("192.168.0.22")
    assert main("10.244.2.0/24") not in agent.table("pod routes")
    agent.lose(FAR)
    agent.sync()
    assert agent.table("pod routes").keys() == {main("10.244.22.0/24")}
    assert not agent.table("tunnels")
    assert SetMember("krpy-rt-nodes-4", SetEntry(packed("192.168.9.3"))) not in agent.table("set members")


def test_pod_cidrs_that_make_no_sense_change_no_route_and_are_told_of() -> None:
    """An Event only on the own Node: every Node's agent tells its own."""
    said = replace(N1, annotated=True), replace(NEAR, annotated=True)
    agent = started(*said)
    before = [dict(agent.table(name)) for name in ("pod routes", "announced", "set members")]
    of_spec = (cidr("10.244.9.0/24"),)
    agent.hear(*(replace(each, pod_cidrs=of_spec, refused=("pod-cidrs: bad",), annotated=False) for each in said))
    agent.sync()
    assert [agent.table(name) for name in ("pod routes", "announced", "set members")] == before
    notes = {note for note in agent.notes if note.reason == ANNOTATION_REFUSED}
    message = "pod-cidrs: bad; what it said before stays in force"
    assert notes == {Note("Node", N1.key, ANNOTATION_REFUSED, message, event=True)} | {
        Note("Node", NEAR.key, ANNOTATION_REFUSED, message)
    }
    assert notes <= set(agent.controller.status({}).notes)
    agent.hear(*said)
    agent.sync()
    assert not agent.controller.notes()


def test_parts_of_a_node_that_were_left_out_are_told_of() -> None:
    reason = "status.addresses: 'bad' is not an address"
    agent = started(replace(N1, unusable=(reason,)), replace(NEAR, unusable=(reason,)))
    assert set(agent.controller.notes()) == {
        Note("Node", N1.key, UNUSABLE_PART, reason, event=True),
        Note("Node", NEAR.key, UNUSABLE_PART, reason),
    }
    agent.lose(N1)
    agent.hear(NEAR)
    agent.sync()
    assert not agent.controller.notes()


def test_a_heartbeat_writes_nothing() -> None:
    agent = started(N1, NEAR, FAR)
    agent.hear(replace(NEAR, labels={"a": "b"}), N1)
    agent.sync()
    assert not agent.reports[-1].wrote


def test_sets_hold_all_pods_and_all_nodes_our_own_as_well() -> None:
    agent = started(N1, other("n2", "192.168.0.2", pods=("10.244.2.0/24",)))
    members = agent.table("set members").keys()
    assert {key.entry for key in members if key.set == "krpy-rt-pods-4"} == {
        SetEntry(cidr("10.244.1.0/24").network, prefix=24),
        SetEntry(cidr("10.244.2.0/24").network, prefix=24),
    }
    assert {key.entry.address for key in members if key.set == "krpy-rt-nodes-4"} == {
        packed("192.168.0.1"),
        packed("192.168.0.2"),
    }


@pytest.mark.parametrize("egress", [True, False])
def test_what_leaves_the_cluster_is_masqueraded_if_wanted(egress: bool) -> None:
    agent = started(N1, config=Config(enable_pod_egress=egress))
    assert (Chain(4, "nat", "POSTROUTING") in agent.table("iptables")) is egress


def test_forwarding_is_accepted_behind_everybody_elses_rules() -> None:
    agent = started(N1)
    assert agent.table("iptables")[Chain(4, "filter", "FORWARD")].first is False


def not_routed(agent: FakeRouting) -> list[tuple[str, str]]:
    """What `status` shows of it now."""
    notes = [note for note in agent.controller.notes() if note.reason == NOT_ROUTED]
    return [(str(note.owner), note.message.partition(": ")[2]) for note in notes]


def test_of_two_nodes_with_one_network_one_has_it_and_the_other_follows() -> None:
    agent = started(N1, NEAR, other("n4", "192.168.0.4", pods=("10.244.2.0/24",)))
    assert agent.table("pod routes")[main("10.244.2.0/24")].gateway == packed("192.168.0.2")
    assert not_routed(agent) == [("n4", "it is that of Node n2, too, whose name comes first")]
    agent.lose(NEAR)
    agent.sync()
    assert agent.table("pod routes")[main("10.244.2.0/24")].gateway == packed("192.168.0.4")
    assert not not_routed(agent)


def test_a_node_that_takes_anothers_network_is_told_of_once_until_it_has_one_of_its_own() -> None:
    agent = started(N1, NEAR, FAR)
    agent.hear(other("n3", "192.168.9.3", pods=("10.244.2.0/24", "10.244.3.0/24")))
    agent.sync()
    agent.hear(other("n4", "192.168.0.4", pods=("10.244.4.0/24",)))
    agent.sync()
    assert agent.table("pod routes")[main("10.244.2.0/24")].gateway == packed("192.168.0.2")
    assert [(str(note.owner), note.message) for note in agent.notes if note.reason == NOT_ROUTED] == [
        ("n3", "no route to its pods in 10.244.2.0/24: it is that of Node n2, too, whose name comes first")
    ]
    agent.hear(FAR)
    agent.sync()
    assert not not_routed(agent)


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (other("n2", "192.168.0.2", pods=("10.244.0.0/16",)), "it overlaps 10.244.1.0/24 of this node"),
        (other("n2", "192.168.0.1", pods=("10.244.2.0/24",)), "the Node's address 192.168.0.1 is one of this node's"),
        (other("n2", pods=("10.244.2.0/24",)), "the Node has no IPv4 address"),
    ],
)
def test_a_node_whose_pods_cannot_be_reached_says_why_and_harms_nobody(one: Node, reason: str) -> None:
    agent = started(N1, one, FAR)
    assert main("10.244.3.0/24") in agent.table("pod routes")
    notes = [note for note in agent.notes if note.reason == NOT_ROUTED]
    assert [note.message.partition(": ")[2] for note in notes] == [reason]
    assert notes[0].owner == ObjectKey("", "n2")


def test_nothing_is_written_before_our_own_node_is_known() -> None:
    agent = FakeRouting(NEAR)
    assert not agent.start()
    assert not agent.table("pod routes")
    agent.hear(N1)
    assert agent.sync()
    assert agent.table("pod routes")


def test_a_node_object_that_goes_leaves_this_node_as_it_was() -> None:
    agent = started(N1, NEAR)
    agent.lose(N1)
    agent.sync()
    assert agent.table("pod routes")
    assert agent.table("announced")


def test_links_that_cannot_be_looked_at_leave_everything_as_it_was() -> None:
    agent = started(N1, NEAR, FAR)
    agent.unseen = "no netlink"
    assert not agent.look(LOOPBACK)
    assert len(agent.table("pod routes")) == 3
    status = agent.controller.status({})
    assert ("node", "no netlink") in status.refused


def test_our_address_on_another_link_moves_the_routes() -> None:
    agent = started(N1, NEAR)
    agent.look(LOOPBACK, link("bond0", "192.168.0.1/24"), BRIDGE)
    assert agent.table("pod routes")[main("10.244.2.0/24")].link == "bond0"


def test_what_an_earlier_process_left_of_nodes_that_are_gone_goes() -> None:
    agent = FakeRouting(N1, NEAR)
    agent.kernel.content["pod routes"][main("10.244.9.0/24")] = PodRoute("eth0", packed("192.168.0.9"))
    agent.kernel.content["tunnels"]["krt4-c0a80909"] = Tunnel(4, packed("192.168.0.1"), packed("192.168.9.9"))
    assert agent.start()
    assert agent.table("pod routes").keys() == {main("10.244.2.0/24")}
    assert not agent.table("tunnels")


def test_one_refused_route_holds_nobody_up_and_is_tried_again() -> None:
    agent = FakeRouting(N1, NEAR, FAR)
    routes = agent.kernel.tables["pod routes"]
    routes.refuse[main("10.244.2.0/24")] = Refused("somebody else's")
    assert not agent.start()
    assert main("10.244.3.0/24") in agent.table("pod routes")
    routes.refuse.clear()
    assert agent.controller.retry()
    assert main("10.244.2.0/24") in agent.table("pod routes")


def test_cleanup_leaves_nothing() -> None:
    agent = started(N1, NEAR, FAR)
    FakeRouting(kernel=agent.kernel).controller.cleanup()
    assert not any(agent.kernel.content.values())


def peers(agent: FakeRouting) -> list[bytes]:
    return [peer.address for speaker in agent.table("bgp").values() for peer in speaker.peers]


def test_nodes_are_peers_as_they_come_and_go() -> None:
    agent = started(N1, NEAR, FAR)
    assert peers(agent) == [packed("192.168.0.2"), packed("192.168.9.3")]
    agent.lose(FAR)
    agent.sync()
    assert peers(agent) == [packed("192.168.0.2")]
    agent.lose(NEAR)
    agent.sync()
    assert not agent.table("bgp")


def test_a_node_object_that_goes_leaves_bgp_as_it_was() -> None:
    agent = started(N1, NEAR)
    agent.lose(N1)
    agent.sync()
    assert peers(agent) == [packed("192.168.0.2")]


def test_peers_of_flags_get_their_passwords_from_the_file() -> None:
    config = Config(
        peer_router_ips=(packed("192.168.0.254"),),
        peer_router_asns=(65000,),
        peer_router_passwords_file="/etc/passwords",
        enable_ibgp=False,
    )
    agent = FakeRouting(N1, config=config)
    agent.passwords = "c2VjcmV0"
    assert agent.start()
    [speaker] = agent.table("bgp").values()
    assert [peer.password.text for peer in speaker.peers] == ["secret"]


TO_ROUTER = {"peer_router_ips": (packed("192.168.0.254"),), "peer_router_asns": (65000,)}


def test_addresses_of_services_are_announced_while_they_are_served() -> None:
    agent = FakeRouting(N1, config=Config(advertise_cluster_ip=True, **TO_ROUTER))  # type: ignore[arg-type]
    assert agent.start()
    agent.hear(service("web"), endpoint_slice("web", endpoint("10.244.2.2")))
    agent.sync()
    assert agent.table("announced")[cidr("10.96.0.10/32")] is Announced.SERVICE
    assert agent.controller.status({}).counts["announced Service addresses"] == 1
    assert agent.controller.why(ObjectKey("default", "web")) == [("10.96.0.10", "")]
    assert agent.controller.why(ObjectKey("default", "other")) is None
    agent.lose(endpoint_slice("web"))
    agent.sync()
    assert agent.table("announced").get(cidr("10.96.0.10/32")) is not Announced.SERVICE


def test_aggregates_are_announced_before_the_first_service_and_not_while_the_node_goes() -> None:
    whole = cidr("10.96.0.0/16")
    agent = FakeRouting(N1, config=Config(advertise_cluster_ip_range=(whole,), **TO_ROUTER))  # type: ignore[arg-type]
    assert agent.start()
    assert agent.table("announced")[whole] is Announced.SERVICE
    agent.hear(replace(N1, deleting=True))
    agent.sync()
    assert agent.table("announced").get(whole) is not Announced.SERVICE


def test_a_cni_configuration_is_made_with_the_pods_networks_and_follows_their_mtu() -> None:
    agent = started(N1)
    [(path, file)] = agent.table("cni").items()
    assert path == "/etc/cni/net.d/10-kuberouter.conflist"
    assert '"subnet": "10.244.1.0/24"' in file.text
    assert '"mtu": 1500' in file.text
    agent.cni_seen = CniSeen(file.text, file.text)
    agent.hear(FAR)
    agent.sync()
    assert '"mtu": 1480' in agent.table("cni")[path].text


def test_a_cni_configuration_that_cannot_be_read_is_named_and_left_alone() -> None:
    agent = FakeRouting(N1)
    agent.cni_seen = CniSeen("{")
    assert agent.start()
    assert not agent.table("cni")
    assert "it is no JSON" in next(note.message for note in agent.notes if note.reason == CNI_NOT_COMPLETED)
    later = FakeRouting(N1, kernel=agent.kernel)
    assert later.start()
    later.no_cni = "no permission"
    assert later.look(LOOPBACK, link("bond0", "192.168.0.1/24"), BRIDGE)
    assert later.table("cni")


def test_without_cni_neither_bridge_nor_file_is_ours() -> None:
    agent = started(N1, config=Config(enable_cni=False))
    assert not agent.table("cni")
    assert not agent.table("pod bridges")


def test_what_cannot_be_decided_stays_as_it_was_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(advertise_cluster_ip=True, **TO_ROUTER)  # type: ignore[arg-type]
    web, there = service("web"), endpoint_slice("web", endpoint("10.244.2.2"))
    agent = FakeRouting(N1, NEAR, web, there, config=config)
    assert agent.start()

    def broken(*_arguments: object) -> NoReturn:
        raise KeyError("a mistake of ours")

    with monkeypatch.context() as patched:
        patched.setattr(decisions, "decide_node", broken)
        patched.setattr(announcements, "announced", broken)
        agent.hear(other("n2", "192.168.0.22", pods=("10.244.22.0/24",)), web)
        assert agent.sync()
    assert agent.table("pod routes").keys() == {main("10.244.2.0/24")}
    assert agent.table("announced")[cidr("10.96.0.10/32")] is Announced.SERVICE
    assert {note.kind for note in agent.notes if note.reason == NOT_DECIDED} == {"Node", "Service"}
    agent.hear(other("n2", "192.168.0.22", pods=("10.244.22.0/24",)))
    assert agent.sync()
    assert agent.table("pod routes").keys() == {main("10.244.22.0/24")}
