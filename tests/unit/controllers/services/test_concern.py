"""Which Services a change of the node concerns."""

from __future__ import annotations

from dataclasses import replace

from kuberouter_py.controllers.services.concern import concern
from kuberouter_py.controllers.services.view import NodeView
from tests.fakes.objects import cidr, key_of, packed, port, service

PLAIN = service("plain", "10.96.0.1")
NODE_PORT = service("nodeport", "10.96.0.2", ports=[port(80, 30080)])
EXTERNAL = service("external", "10.96.0.3", external=["203.0.113.7"])
MAGLEV = service("maglev", "10.96.0.4", annotations={"kube-router.io/service.scheduler": "mh"})
SERVICES = (PLAIN, NODE_PORT, EXTERNAL, MAGLEV)
NODE4 = packed("192.168.0.1")
VIEW = NodeView("n1", primary={4: NODE4}, local={NODE4: "eth0"}, nodeport_addresses=(NODE4,))
HOLDERS = {packed("203.0.113.7"): [EXTERNAL.key]}


def names(after: NodeView, before: NodeView = VIEW) -> tuple[set[str], set[str]]:
    found = concern(before, after, iter(SERVICES), lambda address: HOLDERS.get(address, []))
    return {key.name for key in found.now}, {key.name for key in found.later}


def test_what_is_the_nodes_own_business_concerns_no_service() -> None:
    after = replace(VIEW, bridges=("cni0",), uplinks=("eth0",), detector="NodeCIDR", pod_cidrs=(cidr("10.244.1.0/24"),))
    assert names(after) == (set(), set())


def test_an_address_that_comes_or_goes_concerns_who_names_it() -> None:
    after = replace(VIEW, local={**VIEW.local, packed("203.0.113.7"): "eth1", packed("203.0.113.8"): "eth1"})
    assert names(after) == ({"external"}, set())
    assert names(VIEW, before=after) == ({"external"}, set())


def test_an_address_that_changes_hands_on_this_node_concerns_who_names_it() -> None:
    before = replace(VIEW, local={**VIEW.local, packed("203.0.113.7"): "kube-ipvs0"})
    after = replace(VIEW, local={**VIEW.local, packed("203.0.113.7"): "eth1"})
    assert names(after, before) == ({"external"}, set())


def test_an_address_that_another_node_gets_or_loses_concerns_who_names_it() -> None:
    after = replace(VIEW, elsewhere=frozenset({packed("203.0.113.7"), packed("203.0.113.8")}))
    assert names(after) == ({"external"}, set())
    assert names(VIEW, before=after) == ({"external"}, set())


def test_another_source_concerns_every_route_and_nodeports_first() -> None:
    other = packed("192.168.0.2")
    after = replace(VIEW, primary={4: other}, local={other: "eth0"}, nodeport_addresses=(other,))
    assert names(after) == ({"nodeport"}, {"plain", "external", "maglev"})


def test_an_address_that_leaves_its_link_is_no_source_any_more() -> None:
    assert names(replace(VIEW, local={})) == (set(), {"plain", "nodeport", "external", "maglev"})


def test_families_concern_everybody() -> None:
    assert names(replace(VIEW, families=(4, 6)))[1] == {"plain", "nodeport", "external", "maglev"}


def test_service_cidrs_concern_who_has_external_addresses() -> None:
    assert names(replace(VIEW, service_cidrs=(cidr("10.96.0.0/12"),))) == (set(), {"external"})


def test_a_scheduler_concerns_who_asks_for_it() -> None:
    assert names(replace(VIEW, missing_schedulers=frozenset({"mh"}))) == (set(), {"maglev"})
    assert key_of("maglev") == MAGLEV.key


def test_a_zone_concerns_everybody_whose_endpoints_may_have_hints() -> None:
    """S3.10; which Services have hints stands in their slices, so all are looked at, in the background."""
    assert names(replace(VIEW, zone="b")) == (set(), {"plain", "nodeport", "external", "maglev"})
