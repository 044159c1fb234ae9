"""The shares of all Services together, at a reconciler; and whom a change concerns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.config import Config
from kuberouter_py.controllers.reconcile import Reconciler
from kuberouter_py.controllers.routing.announcements import ANNOUNCED, Announcements, Claimant
from kuberouter_py.controllers.routing.announcer import Announcer
from kuberouter_py.model.bgp import Announced
from kuberouter_py.model.cluster import Cidr, EndpointSlice, Node, ObjectKey, Service
from kuberouter_py.model.values import cidr_text
from kuberouter_py.ports import Actual, Plan, Refused
from tests.fakes.objects import NODE_NAME, cidr, endpoint, endpoint_slice, key_of, packed, service

VIP, OTHER = "203.0.113.10", "203.0.113.11"
OPTIONS = Config(advertise_external_ip=True, service_external_ip_range=(cidr("203.0.113.0/24"),))
HERE = Announcer(NODE_NAME, (4,), (cidr("10.96.0.0/12"),), held=True)
WEB, DNS, PLAIN = key_of("web"), key_of("dns"), key_of("plain")


class Cluster:
    def __init__(self) -> None:
        self.services: dict[ObjectKey, Service] = {}
        self.slices: dict[ObjectKey, Sequence[EndpointSlice]] = {}

    def service_keys(self) -> Collection[ObjectKey]:
        return self.services.keys() | self.slices.keys()

    def service(self, key: ObjectKey) -> Service | None:
        return self.services.get(key)

    def slices_of(self, service: ObjectKey) -> Sequence[EndpointSlice]:
        return self.slices.get(service, ())


class HandOver:
    """The table of announced prefixes, and each change that was written to it."""

    name = ANNOUNCED

    def __init__(self) -> None:
        self.content: dict[Cidr, Announced] = {}
        self.written: list[str] = []

    def read(self) -> Actual[Cidr, Announced]:
        return Actual(dict(self.content))

    def apply(self, plan: Plan[Cidr, Announced]) -> dict[Cidr, Refused]:
        for prefix, value in plan.add.items():
            self.content[prefix] = value
            self.written.append(f"+ {cidr_text(prefix)} {value.name}")
        for prefix, (_, value) in plan.change.items():
            self.content[prefix] = value
            self.written.append(f"~ {cidr_text(prefix)} {value.name}")
        for prefix in plan.remove:
            del self.content[prefix]
            self.written.append(f"- {cidr_text(prefix)}")
        return {}


class World:
    def __init__(self, options: Config = OPTIONS, here: Announcer = HERE) -> None:
        self.cluster = Cluster()
        self.table = HandOver()
        self.reconciler = Reconciler([self.table])
        self.reconciler.read()
        self.announcements = Announcements(options, NODE_NAME, self.cluster)
        self.decide(self.announcements.here(here))

    def decide(self, keys: Iterable[ObjectKey]) -> Mapping[ObjectKey, Any]:
        decisions = self.announcements.of(keys)
        self.reconciler.write(self.reconciler.claim(decisions.shares))
        return decisions.notes

    def put(self, one: Service, *nodes: str) -> None:
        """The Service as it is now, with an endpoint on each of these nodes."""
        self.cluster.services[one.key] = one
        ends = [endpoint(f"10.244.{at}.2", on) for at, on in enumerate(nodes, 1)]
        self.cluster.slices[one.key] = [endpoint_slice(one.key.name, *ends)]
        self.decide([one.key])

    def delete(self, key: ObjectKey) -> None:
        self.cluster.services.pop(key, None)
        self.cluster.slices.pop(key, None)
        self.decide([key])

    def see(self, here: Announcer) -> set[ObjectKey]:
        concerned = self.announcements.here(here)
        self.decide(concerned)
        return concerned

    def written(self) -> list[str]:
        found, self.table.written = self.table.written, []
        return found


def web(**more: Any) -> Service:
    return service("web", "10.96.0.1", external=[VIP], external_local=True, **more)


def dns(**more: Any) -> Service:
    return service("dns", "10.96.0.2", external=[VIP], external_local=True, **more)


# -- one address of several Services -------------------------------------------------------------------------------


def test_a_shared_address_is_withdrawn_when_the_last_service_no_longer_wants_it() -> None:
    world = World()
    world.put(web(), NODE_NAME)
    world.put(dns(), NODE_NAME)
    assert world.written() == [f"+ {VIP}/32 SERVICE"]
    world.put(web(), "n2")
    assert world.written() == []
    world.put(dns(), "n2")
    assert world.written() == [f"~ {VIP}/32 HELD"]
    world.delete(DNS)
    assert world.written() == []
    world.delete(WEB)
    assert world.written() == [f"- {VIP}/32"]


def test_who_announces_prevails_over_who_holds_whichever_is_older() -> None:
    for order in permutations([(web(created=1.0), "n2"), (dns(created=2.0), NODE_NAME)]):
        world = World()
        for one, on in order:
            world.put(one, on)
        assert world.table.content == {cidr(f"{VIP}/32"): Announced.SERVICE}


def test_the_value_changes_in_one_step() -> None:
    """Never withdrawn between two values: a peer's route would be taken for that moment."""
    world = World()
    world.put(web(), "n2")
    world.put(web(), NODE_NAME)
    world.put(web())
    assert world.written() == [f"+ {VIP}/32 HELD", f"~ {VIP}/32 SERVICE", f"~ {VIP}/32 HELD"]


_states = st.sampled_from(["gone", "here", "elsewhere"])


@given(st.lists(st.tuples(st.sampled_from([WEB, DNS]), _states), max_size=8))
def test_the_path_does_not_matter(steps: list[tuple[ObjectKey, str]]) -> None:
    world = World()
    for key, state in steps:
        if state == "gone":
            world.delete(key)
        else:
            world.put(web() if key == WEB else dns(), NODE_NAME if state == "here" else "n2")
    last = dict(steps)
    expected = {}
    if "here" in last.values():
        expected = {cidr(f"{VIP}/32"): Announced.SERVICE}
    elif "elsewhere" in last.values():
        expected = {cidr(f"{VIP}/32"): Announced.HELD}
    assert world.table.content == expected


# -- none is held up by another ------------------------------------------------------------------------------------


def test_neither_no_slice_nor_a_bad_address_holds_up_the_others() -> None:
    world = World()
    world.cluster.services = {
        WEB: web(),
        DNS: service("dns", "10.96.0.2", external=["10.96.0.1", OTHER]),
        PLAIN: service("plain", "10.96.0.3", external=["203.0.113.12"]),
    }
    world.cluster.slices = {key: [endpoint_slice(key.name, endpoint("10.244.1.2", NODE_NAME))] for key in (WEB, DNS)}
    notes = world.decide(world.cluster.service_keys())
    announced = {prefix for prefix, value in world.table.content.items() if value is Announced.SERVICE}
    assert announced == {cidr(f"{VIP}/32"), cidr(f"{OTHER}/32")}
    assert [note.message for note in notes[DNS]] == [
        "externalIP 10.96.0.1 is not announced: inside the Service CIDR 10.96.0.0/12"
    ]
    assert world.announcements.why(PLAIN) == [
        ("10.96.0.3", "--advertise-cluster-ip is off"),
        ("203.0.113.12", "it has no EndpointSlice"),
    ]


def test_one_event_decides_one_service() -> None:
    world = World()
    world.put(web(), NODE_NAME)
    world.put(service("plain", "10.96.0.3", external=[OTHER]), NODE_NAME)
    world.written()
    decisions = world.announcements.of([WEB])
    assert decisions.notes.keys() == {WEB}
    assert {owner.service for owner in decisions.shares if isinstance(owner, Claimant)} == {WEB, ObjectKey("", "")}


# -- whom a change concerns ----------------------------------------------------------------------------------------


def full() -> World:
    world = World(replace(OPTIONS, advertise_cluster_ip=True))
    world.put(web(), NODE_NAME)
    world.put(service("plain", "10.96.0.3"), NODE_NAME)
    world.written()
    return world


def test_a_label_concerns_services_with_external_addresses() -> None:
    world = full()
    assert world.see(replace(HERE, no_external="labelled")) == {WEB}
    assert world.written() == [f"~ {VIP}/32 HELD"]
    assert world.see(HERE) == {WEB}
    assert world.written() == [f"~ {VIP}/32 SERVICE"]


def test_a_node_that_goes_concerns_all() -> None:
    world = full()
    assert world.see(replace(HERE, nothing="it goes")) == {WEB, PLAIN}
    assert sorted(world.written()) == ["- 10.96.0.1/32", "- 10.96.0.3/32", f"~ {VIP}/32 HELD"]


@pytest.mark.parametrize("change", [{"held": False}, {"families": (4, 6)}, {"service_cidrs": (cidr("10.0.0.0/8"),)}])
def test_what_the_whole_node_is_concerns_all(change: Mapping[str, Any]) -> None:
    assert full().see(replace(HERE, **change)) == {WEB, PLAIN}


def test_the_same_node_concerns_nobody() -> None:
    assert full().see(replace(HERE)) == set()


def test_an_address_on_a_link_concerns_who_names_it() -> None:
    world = full()
    local = {packed("10.96.0.3"): "nodelocaldns", packed("192.168.0.1"): "eth0"}
    assert world.see(replace(HERE, local=local)) == {PLAIN}
    assert world.written() == ["- 10.96.0.3/32"]


def test_a_nodes_address_concerns_who_names_it() -> None:
    world = full()
    other = Node(key=ObjectKey("", "n7"), uid="", external_ips=(packed(VIP), packed("192.168.0.7")))
    nodes = world.announcements.nodes
    assert nodes({other.key: other}) == {WEB}
    world.decide([WEB])
    assert world.written() == [f"- {VIP}/32"]
    assert world.announcements.why(WEB) == [("10.96.0.1", ""), (VIP, "it is an address of Node n7")]
    assert nodes({other.key: other}) == set()
    assert nodes({other.key: None}) == {WEB}
    assert nodes({ObjectKey("", "n8"): None}) == set()


def test_a_cluster_ip_that_comes_decides_who_has_it_as_external() -> None:
    world = World(here=replace(HERE, service_cidrs=()))
    world.put(web(), NODE_NAME)
    world.put(service("dns", VIP), NODE_NAME)
    assert (VIP, "a ClusterIP of this cluster") in (world.announcements.why(WEB) or ())
    assert world.table.content[cidr(f"{VIP}/32")] is Announced.HELD  # a ClusterIP that no range is known to hold
    world.delete(DNS)
    assert world.table.content[cidr(f"{VIP}/32")] is Announced.SERVICE


# -- aggregates, questions -----------------------------------------------------------------------------------------


def test_aggregates_stand_without_any_service() -> None:
    world = World(replace(OPTIONS, advertise_cluster_ip_range=(cidr("10.96.0.0/16"),)))
    world.decide(())
    assert world.written() == ["+ 10.96.0.0/16 SERVICE"]
    world.see(replace(HERE, nothing="it goes"))
    assert world.written() == ["- 10.96.0.0/16"]


def test_what_there_is_to_say_of_a_service_without_addresses() -> None:
    world = World()
    assert world.announcements.why(WEB) is None
    headless = service("web")
    fields = {name: getattr(headless, name) for name in headless.__struct_fields__}
    world.put(Service(**{**fields, "cluster_ips": (), "unusable": ("spec.externalIPs: 'x' is not an address",)}))
    assert world.announcements.why(WEB) == [("spec.externalIPs", "'x' is not an address")]
