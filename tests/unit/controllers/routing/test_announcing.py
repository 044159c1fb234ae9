"""Which addresses of one Service a node announces, and why not the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.config import Config
from kuberouter_py.controllers.routing.announcer import EXCLUDED_LABEL, GOING_TAINT, Announcer, announcer
from kuberouter_py.controllers.routing.announcing import Decided, Known, aggregates, announced
from kuberouter_py.model.bgp import Announced
from kuberouter_py.model.cluster import READY, SERVING, TERMINATING, EndpointSlice, Node, ObjectKey, Service, SlicePort
from kuberouter_py.model.kernel import Protocol, address_text
from kuberouter_py.model.values import cidr_text
from tests.fakes.objects import DRAINING, ETH0, NODE_NAME, cidr, endpoint, endpoint_slice, link, packed, port, service

CLUSTER_IP, EXTERNAL, BALANCER = "10.96.0.10", "203.0.113.10", "198.51.100.10"
ALL = "cluster external balancer"
HERE = Announcer(NODE_NAME, (4, 6), (cidr("10.96.0.0/12"), cidr("fd00:96::/112")))
ANNOTATION = "kube-router.io/service.advertise."
ELSEWHERE = (endpoint_slice("web", endpoint("10.244.2.2", "n2")),)


def config(advertise: str = ALL, aggregates: str = "", **more: Any) -> Config:
    return Config(
        advertise_cluster_ip="cluster" in advertise,
        advertise_external_ip="external" in advertise,
        advertise_loadbalancer_ip="balancer" in advertise,
        advertise_cluster_ip_range=tuple(map(cidr, aggregates.split())),
        service_external_ip_range=(cidr("203.0.113.0/24"), cidr("2001:db8::/64")),
        **more,
    )


def web(**more: Any) -> Service:
    """One address of each sort, announced from anywhere unless said otherwise."""
    about: dict[str, Any] = {"kind": "LoadBalancer", "external": [EXTERNAL], "ingress": [BALANCER]}
    return service("web", CLUSTER_IP, **{**about, **more})


def decided(
    one: Service,
    slices: Sequence[EndpointSlice] = ELSEWHERE,
    here: Announcer = HERE,
    options: Config | None = None,
    nodes: Mapping[str, str] | None = None,
    cluster_ips: Sequence[str] = (),
) -> Decided:
    of_nodes = {packed(address): name for address, name in (nodes or {}).items()}
    others = {packed(address) for address in cluster_ips}
    known = Known(others.__contains__, lambda address: of_nodes.get(address, ""))
    return announced(one, slices, here, options or config(), known)


def prefixes(found: Decided, value: Announced = Announced.SERVICE) -> set[str]:
    return {cidr_text(prefix).rpartition("/")[0] for prefix, said in found.prefixes.items() if said is value}


def reasons(found: Decided) -> dict[str, str]:
    return {address_text(address): reason for address, reason in found.reasons.items()}


# -- flags and annotations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "LoadBalancer"])
@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ("", set()),
        ("cluster", {CLUSTER_IP}),
        ("external", {EXTERNAL}),
        ("balancer", {BALANCER}),
        (ALL, {CLUSTER_IP, EXTERNAL, BALANCER}),
    ],
)
def test_flags_by_the_type_of_service(kind: str, flags: str, wanted: set[str]) -> None:
    found = decided(web(kind=kind), options=config(flags))
    assert prefixes(found) == (wanted if kind == "LoadBalancer" else wanted - {BALANCER})
    assert found.notes == ()


def test_what_no_flag_asks_for_says_so() -> None:
    assert reasons(decided(web(), options=config(""))) == {
        CLUSTER_IP: "--advertise-cluster-ip is off",
        EXTERNAL: "--advertise-external-ip is off",
        BALANCER: "--advertise-loadbalancer-ip is off",
    }


@pytest.mark.parametrize(
    ("sort", "address"), [("clusterip", CLUSTER_IP), ("externalip", EXTERNAL), ("loadbalancerip", BALANCER)]
)
@pytest.mark.parametrize("text", ["true", "1", "T", "False", "0", "f"])
def test_annotations_count_before_flags(sort: str, address: str, text: str) -> None:
    one = web(annotations={ANNOTATION + sort: text})
    if text in ("true", "1", "T"):
        assert prefixes(decided(one, options=config(""))) == {address}
    else:
        found = decided(one)
        assert prefixes(found) == {CLUSTER_IP, EXTERNAL, BALANCER} - {address}
        assert reasons(found) == {address: f"{ANNOTATION}{sort} says no"}


@pytest.mark.parametrize("text", ["yes", "", "TRUE ", "tRuE"])
def test_an_annotation_that_says_nothing_is_named_and_the_flag_counts(text: str) -> None:
    one = web(annotations={f"{ANNOTATION}externalip": text})
    assert EXTERNAL in prefixes(decided(one))
    found = decided(one, options=config(""))
    assert EXTERNAL not in prefixes(found)
    [note] = found.notes
    assert (note.owner, note.event) == (one.key, True)
    assert note.message == (
        f'{ANNOTATION}externalip: "{text}" is neither true nor false; --advertise-external-ip counts'
    )


# -- whose an address is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ClusterIP", "ExternalName"])
def test_headless_services_and_names_are_not_announced(kind: str) -> None:
    one = replaced(web(kind=kind), cluster_ips=())
    assert prefixes(decided(one)) == set()
    assert reasons(decided(one))[EXTERNAL] == "the Service has no IPv4 ClusterIP"


def replaced(one: Service, **fields: Any) -> Service:
    known = {name: getattr(one, name) for name in one.__struct_fields__}
    return Service(**{**known, **fields})


def test_skiplbips_is_about_load_balancer_addresses() -> None:
    found = decided(web(annotations={"kube-router.io/service.skiplbips": ""}), here=replace(HERE, held=True))
    assert prefixes(found) == {CLUSTER_IP, EXTERNAL}
    assert prefixes(found, Announced.HELD) == set()  # whoever balances there announces it to us
    assert reasons(found) == {BALANCER: "kube-router.io/service.skiplbips is set"}


def test_without_load_balancer_addresses() -> None:
    assert prefixes(decided(web(ingress=[]))) == {CLUSTER_IP, EXTERNAL}


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("192.0.2.1", "outside --service-external-ip-range (203.0.113.0/24, 2001:db8::/64)"),
        ("10.96.0.99", "inside the Service CIDR 10.96.0.0/12"),
        ("203.0.113.99", "a ClusterIP of this cluster"),
        ("203.0.113.98", "it is an address of Node n7"),
        ("127.0.0.1", "a loopback address"),
    ],
)
def test_a_bad_address_is_not_announced_and_holds_up_no_other(bad: str, why: str) -> None:
    found = decided(
        web(external=[bad, EXTERNAL]),
        here=replace(HERE, held=True),
        nodes={"203.0.113.98": "n7"},
        cluster_ips=["203.0.113.99"],
    )
    assert prefixes(found) == {CLUSTER_IP, EXTERNAL, BALANCER}
    assert prefixes(found, Announced.HELD) == set()  # somebody may write here what is a router's
    assert reasons(found) == {bad: why}
    assert [note.message for note in found.notes] == [f"externalIP {bad} is not announced: {why}"]


def test_what_is_no_address_at_all_is_named() -> None:
    text = "spec.externalIPs: '203.0.113.300' is not an address"
    one = web(unusable=[text, "spec.ports[1] has no port"])
    assert [note.message for note in decided(one).notes] == [f"not announced: {text}"]
    assert prefixes(decided(one)) == {CLUSTER_IP, EXTERNAL, BALANCER}
    assert decided(one, options=config("cluster")).notes == ()


def test_not_strict_announces_external_addresses_of_any_range() -> None:
    options = replace(config(), strict_external_ip_validation=False)
    assert "192.0.2.1" in prefixes(decided(web(external=["192.0.2.1"]), options=options))


def test_load_balancer_addresses_have_a_range_of_their_own() -> None:
    options = config(loadbalancer_ip_range=(cidr("192.0.2.0/24"),))
    assert reasons(decided(web(), options=options)) == {BALANCER: "outside --loadbalancer-ip-range (192.0.2.0/24)"}


def test_a_refusal_is_told_to_who_wants_it_announced() -> None:
    found = decided(web(external=["192.0.2.1"]), options=config("cluster balancer"))
    assert found.notes == ()
    assert reasons(found) == {"192.0.2.1": "outside --service-external-ip-range (203.0.113.0/24, 2001:db8::/64)"}


def test_an_address_of_a_node_is_never_announced() -> None:
    """K3s writes every node's address into the status."""
    found = decided(web(), here=replace(HERE, held=True), nodes={BALANCER: NODE_NAME})
    assert BALANCER not in prefixes(found) | prefixes(found, Announced.HELD)
    assert reasons(found) == {BALANCER: f"it is an address of Node {NODE_NAME}"}


def test_an_external_address_on_a_link_is_announced_a_cluster_ip_there_is_not() -> None:
    """Others announce the external one whatever is here; the ClusterIP is a node-local DNS cache's."""
    local = {packed(CLUSTER_IP): "nodelocaldns", packed(EXTERNAL): "eth0", packed("10.96.0.11"): "kube-ipvs0"}
    found = decided(web(), here=replace(HERE, local=local))
    assert prefixes(found) == {EXTERNAL, BALANCER}
    assert reasons(found) == {CLUSTER_IP: "link nodelocaldns of this node has it"}
    assert prefixes(decided(service("web", "10.96.0.11"), here=replace(HERE, local=local))) == {"10.96.0.11"}


def test_excluded_addresses_are_somebody_elses() -> None:
    found = decided(web(), here=replace(HERE, held=True), options=config(excluded_cidrs=(cidr("203.0.113.0/24"),)))
    assert EXTERNAL not in prefixes(found) | prefixes(found, Announced.HELD)
    assert reasons(found) == {EXTERNAL: "inside --excluded-cidrs (203.0.113.0/24)"}


def test_an_address_of_two_sorts_is_announced_by_either() -> None:
    one = web(external=["192.0.2.1"], ingress=["192.0.2.1"])
    assert "192.0.2.1" in prefixes(decided(one, options=config("cluster balancer")))
    assert "192.0.2.1" not in reasons(decided(one, options=config("balancer")))
    one = web(external=[EXTERNAL], ingress=[EXTERNAL])
    assert prefixes(decided(one, options=config("external"), here=replace(HERE, held=True))) == {EXTERNAL}


# -- who may attract the traffic -----------------------------------------------------------------------------------


KINDS = {
    "ready": READY | SERVING,
    "ready-only": READY,
    "starting": 0,
    "unready-serving": SERVING,
    "draining": SERVING | TERMINATING,
    "gone": TERMINATING,
}


def slices(here: str = "", elsewhere: str = "") -> list[EndpointSlice]:
    def some(kinds: str, net: int, node: str) -> list[Any]:
        return [endpoint(f"10.244.{net}.{at}", node, KINDS[kind]) for at, kind in enumerate(kinds.split(), 2)]

    return [endpoint_slice("web", *some(here, 1, NODE_NAME), *some(elsewhere, 2, "n2"))]


NO_READY = "policy Local and no ready endpoint on this node"
LEAVING = "policy Local, and what is on this node is terminating while others are ready"
NOBODY = "no endpoint is ready on any node"
ENDPOINTS = [  # here, elsewhere, why not under Cluster, why not under Local
    ("ready", "", "", ""),
    ("ready-only", "", "", ""),
    ("ready draining", "ready", "", ""),
    ("", "ready", "", NO_READY),
    ("starting", "ready", "", NO_READY),
    ("unready-serving", "ready", "", NO_READY),
    ("gone", "ready", "", NO_READY),
    ("draining", "", "", ""),  # while no node has a ready one
    ("draining", "draining", "", ""),
    ("draining", "starting", "", ""),
    ("draining", "ready", "", LEAVING),
    ("draining", "ready-only", "", LEAVING),
    ("", "draining", "", NO_READY),
    ("", "", NOBODY, NOBODY),
    ("starting", "gone", NOBODY, NOBODY),
]


@pytest.mark.parametrize(("here", "elsewhere", "cluster", "local"), ENDPOINTS)
@pytest.mark.parametrize("internal", [False, True])
@pytest.mark.parametrize("external", ["Cluster", "Local", "annotation"])
def test_policies_and_endpoints(
    here: str, elsewhere: str, cluster: str, local: str, internal: bool, external: str
) -> None:
    annotations = {"kube-router.io/service.local": "true"} if external == "annotation" else {}
    one = web(internal_local=internal, external_local=external == "Local", annotations=annotations)
    found = decided(one, slices(here, elsewhere))
    outside = cluster if external == "Cluster" else local
    expected = {CLUSTER_IP: local if internal else cluster, EXTERNAL: outside, BALANCER: outside}
    assert reasons(found) == {address: reason for address, reason in expected.items() if reason}
    assert prefixes(found) == {address for address, reason in expected.items() if not reason}
    assert found.notes == ()


def test_only_true_makes_a_service_local() -> None:
    one = web(annotations={"kube-router.io/service.local": "True"})
    assert prefixes(decided(one)) == {CLUSTER_IP, EXTERNAL, BALANCER}


def test_no_slice_is_a_reason() -> None:
    assert set(reasons(decided(web(), ())).values()) == {"it has no EndpointSlice"}


def test_one_port_that_may_be_served_is_enough() -> None:
    ports = [port(80, name="http"), port(443, name="https")]
    parts = [
        endpoint_slice("web", endpoint("10.244.1.2", NODE_NAME, DRAINING), ports=[SlicePort("https", Protocol.TCP, 1)]),
        endpoint_slice("web", endpoint("10.244.2.2"), ports=[SlicePort("https", Protocol.TCP, 1)], suffix="b"),
    ]
    one = web(ports=ports, external_local=True)
    assert reasons(decided(one, parts)) == {EXTERNAL: LEAVING, BALANCER: LEAVING}
    parts.append(
        endpoint_slice("web", endpoint("10.244.1.2", NODE_NAME), ports=[SlicePort("http", Protocol.TCP, 2)], suffix="c")
    )
    assert reasons(decided(one, parts)) == {}


def test_endpoints_of_a_port_that_is_not_the_services_count_for_nothing() -> None:
    parts = [endpoint_slice("web", endpoint("10.244.1.2", NODE_NAME), ports=[SlicePort("other", Protocol.TCP, 1)])]
    assert set(reasons(decided(web(), parts)).values()) == {NOBODY}


def test_each_family_has_its_endpoints() -> None:
    one = service("web", CLUSTER_IP, "fd00:96::10", external=[EXTERNAL, "2001:db8::10"], external_local=True)
    parts = [
        endpoint_slice("web", endpoint("10.244.2.2", "n2")),
        endpoint_slice("web", endpoint("fd00:244:1::2", NODE_NAME), family=6, suffix="b"),
    ]
    assert prefixes(decided(one, parts)) == {CLUSTER_IP, "fd00:96::10", "2001:db8::10"}
    only4 = replace(HERE, families=(4,))
    assert reasons(decided(one, parts, only4))["fd00:96::10"] == "this node does without IPv6"


def test_prefixes_are_of_one_address() -> None:
    one = service("web", CLUSTER_IP, "fd00:96::10")
    parts = [*ELSEWHERE, endpoint_slice("web", endpoint("fd00:244:2::2"), family=6, suffix="b")]
    assert {cidr_text(prefix) for prefix in decided(one, parts).prefixes} == {f"{CLUSTER_IP}/32", "fd00:96::10/128"}


def test_hints_for_other_nodes_do_not_take_an_address_away() -> None:
    far = endpoint("10.244.2.2")
    hinted = type(far)(far.address, far.conditions, far.node, hint_nodes=("n3",), hint_zones=("b",))
    assert prefixes(decided(web(), [endpoint_slice("web", hinted)])) == {CLUSTER_IP, EXTERNAL, BALANCER}


# -- this node -----------------------------------------------------------------------------------------------------


def node(**about: Any) -> Node:
    return Node(key=ObjectKey("", NODE_NAME), uid="", internal_ips=(packed("192.168.0.1"),), **about)


def seen(one: Node | None, **about: Any) -> Announcer:
    return announcer(config(**about), NODE_NAME, one, [ETH0], (4, 6), [cidr("10.96.0.0/12")], peered=True)


def test_a_node_excluded_from_load_balancers_announces_cluster_ips_only() -> None:
    found = decided(web(), here=seen(node(labels={EXCLUDED_LABEL: "false"})))
    assert prefixes(found) == {CLUSTER_IP}
    assert reasons(found)[EXTERNAL] == f"this Node has the label {EXCLUDED_LABEL}"
    assert prefixes(found, Announced.HELD) == {EXTERNAL, BALANCER}


@pytest.mark.parametrize(
    ("going", "why"),
    [
        (node(taints=(GOING_TAINT,)), f"this Node has the taint {GOING_TAINT}"),
        (node(deleting=True), "this Node is being deleted"),
        (None, "this node has no Node object"),
    ],
)
def test_a_node_that_goes_announces_no_service(going: Node | None, why: str) -> None:
    found = decided(web(), here=seen(going))
    assert prefixes(found) == set()
    assert set(reasons(found).values()) == {why}


def test_a_cordoned_node_announces_as_before() -> None:
    assert seen(node(taints=("node.kubernetes.io/unschedulable",))) == seen(node())
    assert prefixes(decided(web(), here=seen(node()))) == {CLUSTER_IP, EXTERNAL, BALANCER}


def test_the_operators_service_cidrs_count_before_the_clusters() -> None:
    assert seen(node()).service_cidrs == (cidr("10.96.0.0/12"),)
    told = seen(node(), service_cluster_ip_range=(cidr("10.200.0.0/16"),))
    assert told.service_cidrs == (cidr("10.200.0.0/16"),)


_DUMMIES = (("nodelocaldns", CLUSTER_IP), ("kube-dummy-if", "10.96.0.1"))


def test_links_that_are_not_ours_are_seen() -> None:
    links = [
        ETH0,
        link("nodelocaldns", f"{CLUSTER_IP}/32", kind="dummy"),
        link("kube-dummy-if", "10.96.0.1/32", kind="dummy"),
    ]
    found = announcer(Config(), NODE_NAME, node(), links, (4,), (), peered=False)
    assert found.local[packed(CLUSTER_IP)] == "nodelocaldns"
    assert packed("10.96.0.1") not in found.local


# -- held ----------------------------------------------------------------------------------------------------------


def test_what_is_not_announced_is_held_where_somebody_may_announce_it() -> None:
    assert decided(web(), (), options=config()).prefixes == {}
    peered = replace(HERE, held=True)
    assert prefixes(decided(web(), (), peered), Announced.HELD) == {EXTERNAL, BALANCER}
    assert prefixes(decided(web(), (), peered, config("")), Announced.HELD) == {EXTERNAL, BALANCER}


def test_cluster_ips_are_held_where_no_range_says_that_they_are() -> None:
    unknown = replace(HERE, held=True, service_cidrs=(cidr("fd00:96::/112"),))
    assert prefixes(decided(web(), (), unknown), Announced.HELD) == {CLUSTER_IP, EXTERNAL, BALANCER}


# -- aggregates ----------------------------------------------------------------------------------------------------


def test_an_aggregate_stands_for_the_cluster_ips_in_it() -> None:
    options = config("cluster", aggregates="10.96.0.0/16")
    found = decided(web(), options=options)
    assert prefixes(found) == set()
    assert reasons(found)[CLUSTER_IP] == "10.96.0.0/16, which it is in, is announced in its place"
    assert prefixes(decided(service("far", "10.97.0.1"), options=options)) == {"10.97.0.1"}
    assert aggregates(HERE, options) == {cidr("10.96.0.0/16"): Announced.SERVICE}


def test_local_cluster_ips_in_an_aggregate_are_announced_by_who_has_endpoints() -> None:
    """The longer prefix leads there; the aggregate alone would lead to nodes that are silent."""
    options = config("", aggregates="10.96.0.0/16")
    one = web(internal_local=True)
    assert prefixes(decided(one, slices("ready", "ready"), options=options)) == {CLUSTER_IP}
    assert reasons(decided(one, slices("", "ready"), options=options))[CLUSTER_IP] == NO_READY


def test_an_annotation_cannot_take_an_address_out_of_an_aggregate() -> None:
    one = web(annotations={f"{ANNOTATION}clusterip": "false"})
    options = config(aggregates="10.96.0.0/16")
    assert [note.message for note in decided(one, options=options).notes] == [
        f"{ANNOTATION}clusterip has no effect on {CLUSTER_IP}: 10.96.0.0/16 is announced"
    ]
    assert decided(one, here=replace(HERE, nothing="it goes"), options=options).notes == ()


def test_aggregates_go_with_all_services_of_the_node_and_not_with_external_ones() -> None:
    options = config(aggregates="10.96.0.0/16 fd00:96::/112 10.200.0.0/16")
    all_of_them = dict.fromkeys(options.advertise_cluster_ip_range, Announced.SERVICE)
    assert aggregates(replace(HERE, no_external="excluded"), options) == all_of_them
    assert aggregates(replace(HERE, families=(6,)), options) == {cidr("fd00:96::/112"): Announced.SERVICE}
    assert aggregates(replace(HERE, nothing="it goes"), options) == {}
    going = replace(HERE, nothing="it goes", held=True)
    assert aggregates(going, options) == {cidr("10.200.0.0/16"): Announced.HELD}


# -- laws ----------------------------------------------------------------------------------------------------------


_conditions = st.lists(st.tuples(st.sampled_from([NODE_NAME, "n2", "n3"]), st.sampled_from(sorted(KINDS))), max_size=5)


@given(_conditions, st.booleans())
def test_somebody_announces_what_anybody_could_serve(where: list[tuple[str, str]], local: bool) -> None:
    """And under Local nobody does who has nobody to serve."""
    parts = [
        endpoint_slice("web", *(endpoint(f"10.244.1.{at}", on, KINDS[kind]) for at, (on, kind) in enumerate(where, 2)))
    ]
    one = web(external_local=local)
    nodes = {NODE_NAME, "n2", "n3"}
    announcing = {on for on in nodes if EXTERNAL in prefixes(decided(one, parts, replace(HERE, node=on)))}
    ready = {on for on, kind in where if kind in ("ready", "ready-only")}
    draining = {on for on, kind in where if kind == "draining"}
    serving = ready or draining
    assert announcing == (serving if local else nodes if serving else set())
