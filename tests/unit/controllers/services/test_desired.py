"""One Service's share of the node: frontends by kind and family, what hangs on each, what is refused and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.config import Config
from kuberouter_py.controllers.claims import Unit
from kuberouter_py.controllers.services.desired import Decision, decide, route_source
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model import notation_servers, notation_sets
from kuberouter_py.model.cluster import EndpointSlice, Service, SlicePort
from kuberouter_py.model.kernel import (
    PERSISTENT,
    Address,
    Destination,
    MarkServerKey,
    Protocol,
    Route,
    VirtualServer,
    VirtualServerKey,
)
from kuberouter_py.model.names import VIP_LINK, balancing_mark
from tests.fakes.objects import DRAINING, NODE_NAME, cidr, endpoint, endpoint_slice, packed, port, service

NODE4, NODE6 = packed("192.168.0.1"), packed("2001:db8::1")
VIEW = NodeView(
    NODE_NAME,
    families=(4, 6),
    primary={4: NODE4, 6: NODE6},
    local={NODE4: "eth0", NODE6: "eth0"},
    nodeport_addresses=(NODE4, NODE6),
)
OPEN = Config(service_external_ip_range=(cidr("203.0.113.0/24"), cidr("2001:db8:1::/64"), cidr("192.168.0.0/24")))


def decided(
    one: Service,
    *slices: EndpointSlice,
    view: NodeView = VIEW,
    config: Config = OPEN,
    cluster_ip: Callable[[bytes], bool] = lambda address: False,
) -> Decision:
    return decide(one, slices, view, config, cluster_ip, lambda _user, _frontends: balancing_mark(7))


def units(decision: Decision) -> dict[str, Unit]:
    """By frontend as ipvsadm says it: "TCP 10.96.0.10:80"."""
    found = decision.share.units
    return {notation_servers.server_text(key): unit for key, unit in found.items() if isinstance(key, VirtualServerKey)}


def frontends(decision: Decision) -> set[str]:
    return set(units(decision))


def server(decision: Decision, name: str) -> VirtualServer:
    (found,) = (item.value for item in units(decision)[name] if item.table == "virtual servers")
    assert isinstance(found, VirtualServer)
    return found


def destinations(decision: Decision, name: str = "TCP 10.96.0.10:80") -> set[str]:
    return {notation_servers.endpoint_text(*key) for key in server(decision, name).destinations}


def members(decision: Decision, name: str) -> set[str]:
    """ "owned 10.96.0.10,tcp:80", without what is in every set's name."""
    return {
        f"{item.key.set.split('-')[2]} {notation_sets.entry_text(item.key.entry)}"
        for item in units(decision)[name]
        if item.table == "set members"
    }


def roles(decision: Decision, name: str) -> set[str]:
    return {member.split()[0] for member in members(decision, name)} - {"hairpin"}


def others(decision: Decision, name: str) -> dict[object, object]:
    return {item.key: item.value for item in units(decision)[name] if item.table in ("addresses", "routes")}


def reasons(decision: Decision) -> list[str]:
    return [note.message for note in decision.notes]


SLICE = endpoint_slice("web", endpoint("10.244.1.2", NODE_NAME), endpoint("10.244.2.3"))
SLICE6 = endpoint_slice("web", endpoint("fd00:244:1::2", NODE_NAME), suffix="six", family=6)


# -- frontends -------------------------------------------------------------------------------------------------------


def test_a_cluster_ip() -> None:
    found = decided(service(), SLICE)
    assert frontends(found) == {"TCP 10.96.0.10:80"}
    assert server(found, "TCP 10.96.0.10:80")[:3] == ("rr", 0, 0)
    assert destinations(found) == {"10.244.1.2:8080", "10.244.2.3:8080"}
    assert set(server(found, "TCP 10.96.0.10:80").destinations.values()) == {Destination(1)}
    assert members(found, "TCP 10.96.0.10:80") == {
        "owned 10.96.0.10,tcp:80",
        "frontends 10.96.0.10,tcp:80",
        "clusterips 10.96.0.10,tcp:80",
        "vips 10.96.0.10",
        "hairpin 10.244.1.2,tcp:8080,10.244.1.2",
    }
    assert others(found, "TCP 10.96.0.10:80") == {
        Address(VIP_LINK, packed("10.96.0.10")): None,
        packed("10.96.0.10"): Route(VIP_LINK, NODE4),
    }
    assert found.notes == ()


def test_every_port_and_protocol_is_a_unit_of_its_own() -> None:
    ports = [port(80, name="http"), port(53, name="dns", protocol=Protocol.UDP), port(53, name="dns-tcp")]
    found = decided(service(ports=[*ports, port(3868, name="sig", protocol=Protocol.SCTP)]))
    assert frontends(found) == {"TCP 10.96.0.10:80", "UDP 10.96.0.10:53", "TCP 10.96.0.10:53", "SCTP 10.96.0.10:3868"}


@pytest.mark.parametrize("proto", list(Protocol))
def test_a_nodeport_answers_on_the_nodes_addresses(proto: Protocol) -> None:
    one = service("web", "10.96.0.10", "fd00:96::10", kind="NodePort", ports=[port(80, 30080, protocol=proto)])
    slices = [replace_ports(SLICE, SlicePort("", proto, 8080)), replace_ports(SLICE6, SlicePort("", proto, 8080))]
    found = decided(one, *slices)
    name = proto.name
    assert frontends(found) == {
        f"{name} 10.96.0.10:80",
        f"{name} [fd00:96::10]:80",
        f"{name} 192.168.0.1:30080",
        f"{name} [2001:db8::1]:30080",
    }
    assert destinations(found, f"{name} 192.168.0.1:30080") == {"10.244.1.2:8080", "10.244.2.3:8080"}
    assert roles(found, f"{name} 192.168.0.1:30080") == {"owned", "frontends", "external"}
    assert others(found, f"{name} 192.168.0.1:30080") == {}  # the node's own address is not ours to bind


def replace_ports(piece: EndpointSlice, *ports: SlicePort) -> EndpointSlice:
    return EndpointSlice(piece.key, piece.service, piece.family, ports, piece.endpoints)


def test_one_nodeport_number_for_tcp_and_udp() -> None:
    """S2.10"""
    ports = [port(53, 30053, "tcp"), port(53, 30053, "udp", Protocol.UDP)]
    assert {"TCP 192.168.0.1:30053", "UDP 192.168.0.1:30053"} < frontends(decided(service(ports=ports)))


def test_external_addresses_use_the_service_port() -> None:
    """S2.03, S2.04"""
    one = service(ports=[port(80, 30080)], external=["203.0.113.7"], ingress=["198.51.100.7"], kind="LoadBalancer")
    found = decided(one, SLICE)
    assert frontends(found) == {
        "TCP 10.96.0.10:80",
        "TCP 192.168.0.1:30080",
        "TCP 203.0.113.7:80",
        "TCP 198.51.100.7:80",
    }
    for name, address in (("TCP 203.0.113.7:80", "203.0.113.7"), ("TCP 198.51.100.7:80", "198.51.100.7")):
        assert roles(found, name) == {"owned", "frontends", "external", "vips"}
        assert others(found, name)[packed(address)] == Route(VIP_LINK, NODE4)


def test_the_same_address_as_external_and_from_the_balancer_is_one_frontend() -> None:
    config = replace(OPEN, loadbalancer_ip_range=(cidr("198.51.100.0/24"),))
    found = decided(service(external=["203.0.113.7"], ingress=["203.0.113.7"]), SLICE, config=config)
    assert frontends(found) == {"TCP 10.96.0.10:80", "TCP 203.0.113.7:80"}
    assert found.notes == ()  # it is served, so there is nothing to say


def test_a_service_without_ports_or_cluster_ip_has_nothing() -> None:
    """S1.03, S1.04, S1.09"""
    bare = service(ports=[port(80, 30080)], external=["203.0.113.7"])
    for one in (
        Service(bare.key, bare.uid, bare.created, "ClusterIP", (), bare.ports, bare.external_ips),
        Service(bare.key, bare.uid, bare.created, "ClusterIP", bare.cluster_ips, ()),
    ):
        assert decided(one, SLICE).share.units == {}


def test_without_slices_the_server_stands_empty_and_answers_with_a_refusal() -> None:
    """1.4: a virtual server without destinations refuses at once."""
    found = decided(service(ports=[port(80, 30080)]))
    assert destinations(found) == destinations(found, "TCP 192.168.0.1:30080") == set()


def test_target_ports_may_differ_and_may_be_shared() -> None:
    """S2.07, S2.09"""
    ports = [port(80, name="http"), port(8080, name="alt")]
    slices = [
        replace_ports(SLICE, SlicePort("http", Protocol.TCP, 8000), SlicePort("alt", Protocol.TCP, 8000)),
        endpoint_slice("web", endpoint("10.244.3.4"), ports=[SlicePort("http", Protocol.TCP, 9000)], suffix="b"),
    ]
    found = decided(service(ports=ports), *slices)
    assert destinations(found, "TCP 10.96.0.10:80") == {"10.244.1.2:8000", "10.244.2.3:8000", "10.244.3.4:9000"}
    assert destinations(found, "TCP 10.96.0.10:8080") == {"10.244.1.2:8000", "10.244.2.3:8000"}


def test_frontends_of_a_port_share_one_mapping_of_destinations() -> None:
    found = decided(service(ports=[port(80, 30080)], external=["203.0.113.7"]), SLICE)
    assert len({id(server(found, name).destinations) for name in frontends(found)}) == 1


# -- families --------------------------------------------------------------------------------------------------------


def test_both_families_with_their_own_slices() -> None:
    """S11.01"""
    found = decided(service("web", "10.96.0.10", "fd00:96::10"), SLICE, SLICE6)
    assert destinations(found, "TCP [fd00:96::10]:80") == {"[fd00:244:1::2]:8080"}
    assert destinations(found) == {"10.244.1.2:8080", "10.244.2.3:8080"}
    assert others(found, "TCP [fd00:96::10]:80")[packed("fd00:96::10")] == Route(VIP_LINK, NODE6)


def test_a_family_without_a_cluster_ip_has_no_frontend_at_all() -> None:
    """S1.04, S11.03: also its NodePorts, externalIPs and load-balancer addresses are ignored."""
    found = decided(service(ports=[port(80, 30080)]), SLICE, SLICE6)
    assert frontends(found) == {"TCP 10.96.0.10:80", "TCP 192.168.0.1:30080"}
    assert found.notes == ()
    asked = service(ports=[port(80, 30080)], external=["2001:db8:1::7"], ingress=["2001:db8:2::7"])
    assert decided(asked, SLICE, SLICE6).share == found.share


def test_a_family_that_the_node_does_not_serve_is_left_out() -> None:
    one = service("web", "10.96.0.10", "fd00:96::10")
    assert frontends(decided(one, SLICE, SLICE6, view=replace(VIEW, families=(6,)))) == {"TCP [fd00:96::10]:80"}


def test_a_second_family_adds_and_removes_only_its_own() -> None:
    """S11.04"""
    single, dual = (
        decided(service(), SLICE, SLICE6),
        decided(service("web", "10.96.0.10", "fd00:96::10"), SLICE, SLICE6),
    )
    assert single.share.units.items() <= dual.share.units.items()


# -- addresses of the node -------------------------------------------------------------------------------------------


def test_an_external_address_that_the_node_has_keeps_its_link_and_its_route() -> None:
    """S10.05"""
    found = decided(service(external=["192.168.0.1"]), SLICE)
    name = "TCP 192.168.0.1:80"
    assert destinations(found, name) == {"10.244.1.2:8080", "10.244.2.3:8080"}
    assert roles(found, name) == {"owned", "frontends", "external"}  # not a VIP: host processes keep their ports
    assert others(found, name) == {}


def test_a_cluster_ip_that_another_link_has_is_theirs() -> None:
    """NodeLocal DNSCache binds kube-dns' ClusterIP to a link of its own; the rest of the Service is ours as ever."""
    view = replace(VIEW, local={**VIEW.local, packed("10.96.0.10"): "nodelocaldns"})
    found = decided(service("web", "10.96.0.10", "fd00:96::10", ports=[port(80, 30080)]), SLICE, view=view)
    assert frontends(found) == {"TCP 192.168.0.1:30080", "TCP [fd00:96::10]:80", "TCP [2001:db8::1]:30080"}
    assert [(note.reason, note.message, note.event) for note in found.notes] == [
        ("ClusterIPHeld", "ClusterIP 10.96.0.10 is not served on this node: its link nodelocaldns has it", False)
    ]


def test_a_cluster_ip_that_kube_proxy_has_bound_is_served_and_left_on_its_link() -> None:
    view = replace(VIEW, local={**VIEW.local, packed("10.96.0.10"): "kube-ipvs0"})
    found = decided(service(), SLICE, view=view)
    assert roles(found, "TCP 10.96.0.10:80") == {"owned", "frontends", "clusterips"}
    assert others(found, "TCP 10.96.0.10:80") == {}
    assert found.notes == ()


def test_a_node_without_addresses_serves_cluster_ips_without_a_source() -> None:
    found = decided(service(ports=[port(80, 30080)]), SLICE, view=NodeView(NODE_NAME))
    assert frontends(found) == {"TCP 10.96.0.10:80"}
    assert others(found, "TCP 10.96.0.10:80")[packed("10.96.0.10")] == Route(VIP_LINK, b"")


def test_the_source_must_be_on_a_link() -> None:
    """A cloud's 1:1 address is the Node's but no link's; the kernel refuses it as a source."""
    assert route_source(VIEW, 4) == NODE4
    assert route_source(replace(VIEW, local={}), 4) == b""


def test_binding_by_route_alone() -> None:
    found = decided(service(), SLICE, config=Config(vip_binding="route"))
    assert others(found, "TCP 10.96.0.10:80") == {packed("10.96.0.10"): Route(VIP_LINK, NODE4)}


# -- policies, affinity, scheduler -----------------------------------------------------------------------------------


def test_internal_and_external_policy_are_independent() -> None:
    """S4.01, S4.02"""
    ports = [port(80, 30080)]
    outside = decided(service(ports=ports, external_local=True), SLICE)
    assert destinations(outside) == {"10.244.1.2:8080", "10.244.2.3:8080"}
    assert destinations(outside, "TCP 192.168.0.1:30080") == {"10.244.1.2:8080"}
    assert roles(outside, "TCP 192.168.0.1:30080") == {"owned", "frontends", "shortcircuit"}  # its address is kept
    inside = decided(service(ports=ports, internal_local=True), SLICE)
    assert destinations(inside) == {"10.244.1.2:8080"}
    assert destinations(inside, "TCP 192.168.0.1:30080") == {"10.244.1.2:8080", "10.244.2.3:8080"}


def test_draining_endpoints_serve_while_there_is_nobody_else() -> None:
    draining = endpoint_slice("web", endpoint("10.244.2.3", conditions=DRAINING))
    assert destinations(decided(service(), draining)) == {"10.244.2.3:8080"}
    both = endpoint_slice("web", endpoint("10.244.2.3", conditions=DRAINING), endpoint("10.244.2.4"))
    assert destinations(decided(service(), both)) == {"10.244.2.4:8080"}


def test_affinity_is_on_every_frontend() -> None:
    found = decided(service(ports=[port(80, 30080)], affinity=60), SLICE)
    for name in frontends(found):
        assert server(found, name)[:3] == ("rr", PERSISTENT, 60)


def test_scheduler_and_flags_and_what_is_wrong_with_them() -> None:
    annotations = {"kube-router.io/service.scheduler": "mh", "kube-router.io/service.schedflags": "mh-port"}
    found = decided(service(annotations=annotations), SLICE)
    assert server(found, "TCP 10.96.0.10:80")[:2] == ("mh", 0x10)
    lacking = decided(service(annotations=annotations), SLICE, view=replace(VIEW, missing_schedulers=frozenset({"mh"})))
    assert server(lacking, "TCP 10.96.0.10:80")[:2] == ("rr", 0)
    assert {(note.reason, note.event) for note in lacking.notes} == {("SchedulerRefused", True)}


# -- hairpin ---------------------------------------------------------------------------------------------------------


def test_hairpin_for_local_endpoints_only() -> None:
    """S8.04; a pod of the host network has the node's address and meets no bridge."""
    piece = endpoint_slice(
        "web", endpoint("10.244.1.2", NODE_NAME), endpoint("10.244.2.3"), endpoint("192.168.0.1", NODE_NAME)
    )
    found = decided(service(ports=[port(80, 30080)]), piece)
    for name in ("TCP 10.96.0.10:80", "TCP 192.168.0.1:30080"):
        assert {one for one in members(found, name) if one.startswith("hairpin")} == {
            "hairpin 10.244.1.2,tcp:8080,10.244.1.2"
        }


# -- what is not served, and why -------------------------------------------------------------------------------------


def test_refused_addresses_leave_the_others_alone_and_say_why() -> None:
    one = service(external=["203.0.113.7", "198.51.100.1", "10.96.0.99"], ingress=["10.96.0.50"])
    found = decided(one, SLICE, view=replace(VIEW, service_cidrs=(cidr("10.96.0.0/12"),)))
    assert frontends(found) == {"TCP 10.96.0.10:80", "TCP 203.0.113.7:80"}
    ranges = "203.0.113.0/24, 2001:db8:1::/64, 192.168.0.0/24"
    assert reasons(found) == [
        f"externalIP 198.51.100.1 is not served: outside --service-external-ip-range ({ranges})",
        "externalIP 10.96.0.99 is not served: inside the Service CIDR 10.96.0.0/12",
        "load-balancer address 10.96.0.50 is not served: inside the Service CIDR 10.96.0.0/12",
    ]
    assert all((note.kind, note.owner, note.event) == ("Service", one.key, True) for note in found.notes)


def test_another_services_cluster_ip_is_refused_where_no_service_cidr_is_known() -> None:
    found = decided(service(ingress=["10.43.0.1"]), SLICE, cluster_ip=lambda address: address == packed("10.43.0.1"))
    assert frontends(found) == {"TCP 10.96.0.10:80"}
    assert reasons(found) == ["load-balancer address 10.43.0.1 is not served: a ClusterIP of this cluster"]


def test_an_external_address_of_a_family_without_a_cluster_ip_is_told_of() -> None:
    one = service(external=["203.0.113.7", "2001:db8:1::7"], ingress=["2001:db8:1::7", "2001:db8:1::8"])
    found = decided(one, SLICE)
    assert frontends(found) == {"TCP 10.96.0.10:80", "TCP 203.0.113.7:80"}
    assert reasons(found) == [
        "externalIP 2001:db8:1::7 is not served: the Service has no IPv6 ClusterIP",
        "load-balancer address 2001:db8:1::8 is not served: the Service has no IPv6 ClusterIP",
    ]
    assert {(note.reason, note.event) for note in found.notes} == {("AddressRefused", True)}


def test_where_the_node_has_not_got_the_family_nobody_misses_the_address() -> None:
    assert reasons(decided(service(external=["2001:db8:1::7"]), SLICE, view=replace(VIEW, families=(4,)))) == []


def test_external_addresses_of_a_headless_service_are_told_of() -> None:
    one = msgspec.structs.replace(service(external=["203.0.113.7", "198.51.100.1"]), cluster_ips=())
    found = decided(one, SLICE)
    assert frontends(found) == set()
    ranges = "203.0.113.0/24, 2001:db8:1::/64, 192.168.0.0/24"
    assert reasons(found) == [
        "externalIP 203.0.113.7 is not served: the Service has no ClusterIP",
        f"externalIP 198.51.100.1 is not served: outside --service-external-ip-range ({ranges})",
    ]


def test_excluded_ranges_are_somebody_elses() -> None:
    config = replace(OPEN, excluded_cidrs=(cidr("203.0.113.0/28"),))
    one = service(external=["203.0.113.7", "203.0.113.77"], ports=[port(80, name="a"), port(443, name="b")])
    found = decided(one, SLICE, config=config)
    assert not [name for name in frontends(found) if "203.0.113.7:" in name]
    assert {"TCP 203.0.113.77:80", "TCP 203.0.113.77:443"} < frontends(found)
    assert reasons(found) == ["203.0.113.7 is not served: inside --excluded-cidrs (203.0.113.0/28)"]


def test_parts_that_did_not_decode_are_told() -> None:
    found = decided(
        service(unusable=["spec.ports[1] has no port"]), endpoint_slice("web", unusable=["endpoints[0]: 'x' is bad"])
    )
    assert [(note.message, note.event) for note in found.notes] == [
        ("spec.ports[1] has no port", True),
        ("EndpointSlice web-a: endpoints[0]: 'x' is bad", False),
    ]


# -- seniority and laws ----------------------------------------------------------------------------------------------


def test_the_older_is_senior_then_the_name_decides() -> None:
    old, young, other = (
        decided(one).share.seniority
        for one in (service("z", created=1), service("a", created=2), service("b", created=2))
    )
    assert old < young < other


_slices = st.permutations(
    [SLICE, SLICE6, endpoint_slice("web", endpoint("10.244.1.2"), endpoint("10.244.5.6"), suffix="c")]
)


@given(_slices)
def test_the_order_of_slices_decides_nothing(slices: Sequence[EndpointSlice]) -> None:
    one = service("web", "10.96.0.10", "fd00:96::10", ports=[port(80, 30080)])
    found, straight = decided(one, *slices), decided(one, *sorted(slices, key=lambda piece: piece.key))
    assert found.share.units.keys() == straight.share.units.keys()
    for claim, unit in found.share.units.items():
        assert {(item.table, item.key): item.value for item in unit} == {
            (item.table, item.key): item.value for item in straight.share.units[claim]
        }


_KINDS = st.sampled_from(["10.96.0.10", "203.0.113.7", "192.168.0.1", "198.51.100.1"])


@given(st.sets(_KINDS), st.sets(_KINDS), st.integers(0, 2), st.booleans())
def test_a_unit_hangs_together(external: set[str], ingress: set[str], ports: int, local: bool) -> None:
    """What the order of writing relies on: each server is owned and known, and nothing is named twice in a unit."""
    one = service(
        external=sorted(external),
        ingress=sorted(ingress),
        external_local=local,
        ports=[port(80 + n, 30080 + n) for n in range(ports)],
    )
    for key, unit in decided(one, SLICE).share.units.items():
        assert len({(item.table, item.key) for item in unit}) == len(unit)
        assert [item.key for item in unit if item.table == "virtual servers"] == [key]
        if isinstance(key, MarkServerKey):  # known by its mark
            continue
        held = {item.key.set for item in unit if item.table == "set members"}
        assert {"krpy-svc-owned-4", "krpy-svc-frontends-4"} <= held
        bound = [item for item in unit if item.table in ("addresses", "routes")]
        assert len(bound) == (2 if "krpy-svc-vips-4" in held else 0)


@pytest.mark.parametrize(
    ("kind", "local", "known"),
    [("LoadBalancer", True, True), ("LoadBalancer", False, False), ("NodePort", True, False)],
)
def test_the_health_check_port_is_known_where_outside_traffic_comes_in(kind: str, local: bool, known: bool) -> None:
    """S12.01, S10.08: on the load-balancer address and the node's, of policy Local."""
    plain = service(kind=kind, ports=[port(80, node_port=30080)], ingress=["203.0.113.8"], external_local=local)
    one = msgspec.structs.replace(plain, health_check_node_port=32000)
    found = {item.key for unit in units(decided(one)).values() for item in unit if "healthchecks" in str(item.key)}
    addresses = {packed("203.0.113.8"), NODE4} if known else set()
    assert {(key.entry.address, key.entry.protocol, key.entry.port) for key in found} == {
        (address, Protocol.TCP, 32000) for address in addresses
    }
