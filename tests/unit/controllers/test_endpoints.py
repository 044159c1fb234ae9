"""Which endpoints may receive new connections: the table of S3.* and the merge rules M4.*."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.controllers.endpoints import candidates, choose, left_out
from kuberouter_py.model.cluster import READY, SERVING, TERMINATING, SlicePort
from kuberouter_py.model.kernel import Protocol, address_text
from tests.fakes.objects import NODE_NAME, endpoint, endpoint_slice, port

# What each kind of endpoint shows of itself, and how the controllers write it (M4.07).
KINDS = {
    "ready": READY | SERVING,
    "ready-only": READY,  # hand-made: serving says no, ready decides
    "publish-not-ready": READY | TERMINATING,  # a terminating pod of publishNotReadyAddresses keeps ready (S3.05)
    "starting": 0,
    "unready-serving": SERVING,
    "draining": SERVING | TERMINATING,
    "gone": TERMINATING,
}
ADDRESSES = {kind: f"10.244.9.{number}" for number, kind in enumerate(KINDS, 1)}


def chosen(here: str = "", elsewhere: str = "", node: str = NODE_NAME) -> tuple[set[str], set[str], bool]:
    """Kinds on this node and elsewhere -> (cluster set, local set, anything usable anywhere)."""
    slices = [
        endpoint_slice(
            "web",
            *(endpoint(ADDRESSES[kind], NODE_NAME, KINDS[kind]) for kind in here.split()),
            *(endpoint(ADDRESSES[kind].replace(".9.", ".8."), "n2", KINDS[kind]) for kind in elsewhere.split()),
        )
    ]
    found = choose(candidates(slices, port(), 4, node), node, "")
    named = {ADDRESSES[kind]: kind for kind in KINDS} | {
        ADDRESSES[kind].replace(".9.", ".8."): f"~{kind}" for kind in KINDS
    }

    def names(part: object) -> set[str]:
        assert isinstance(part, dict)
        return {named[address_text(key.address)] for key in part}

    return names(found.cluster), names(found.local), found.anywhere


@pytest.mark.parametrize(
    ("here", "elsewhere", "cluster", "local"),
    [
        ("", "", "", ""),
        ("ready", "", "ready", "ready"),
        ("ready", "ready", "ready ~ready", "ready"),
        ("", "ready", "~ready", ""),  # S3.03: nobody here
        ("ready-only", "publish-not-ready", "ready-only ~publish-not-ready", "ready-only"),
        ("ready draining", "", "ready", "ready"),  # S3.02: ready ones first
        ("draining", "", "draining", "draining"),
        ("draining", "ready", "~ready", "draining"),  # S3.03: decided apart from the cluster set
        ("draining", "draining", "draining ~draining", "draining"),
        ("starting", "", "", ""),  # S3.04
        ("unready-serving", "", "", ""),  # not ready, not terminating: receives nothing
        ("gone", "gone", "", ""),
        ("starting", "draining", "~draining", ""),
        ("gone starting", "ready", "~ready", ""),
    ],
)
def test_the_table(here: str, elsewhere: str, cluster: str, local: str) -> None:
    assert chosen(here, elsewhere) == (set(cluster.split()), set(local.split()), bool(cluster))


def test_without_a_name_of_its_own_nothing_is_local() -> None:
    found = choose(candidates([endpoint_slice("web", endpoint("10.244.1.2", node=""))], port(), 4, ""), "", "")
    assert (len(found.cluster), found.local) == (1, {})


def test_slices_are_united_over_all_of_them() -> None:
    slices = [
        endpoint_slice("web", endpoint("10.244.1.2"), suffix="a"),
        endpoint_slice("web", endpoint("10.244.1.3"), suffix="b"),
    ]
    assert len(candidates(slices, port(), 4, NODE_NAME)) == 2


def test_an_endpoint_in_two_slices_is_one_and_the_local_one_counts() -> None:
    """M4.03, M4.04: it moves between slices; its conditions are those of the kept one."""
    there = endpoint("10.244.1.2", "n2", READY)
    here = endpoint("10.244.1.2", NODE_NAME, 0)
    for order in ((there, here), (here, there)):
        slices = [endpoint_slice("web", one, suffix=str(number)) for number, one in enumerate(order)]
        (only,) = candidates(slices, port(), 4, NODE_NAME).values()
        assert only == here


def test_ports_are_matched_by_name_and_protocol() -> None:
    """S2.07, M4.08: a named target port that resolves differently is in different slices, and all are used."""
    http = [SlicePort("http", Protocol.TCP, 8080), SlicePort("dns", Protocol.UDP, 53)]
    other = [SlicePort("http", Protocol.TCP, 9090), SlicePort("http", Protocol.UDP, 7070)]
    slices = [
        endpoint_slice("web", endpoint("10.244.1.2"), ports=http, suffix="a"),
        endpoint_slice("web", endpoint("10.244.1.3"), ports=other, suffix="b"),
    ]
    found = candidates(slices, port(name="http"), 4, NODE_NAME)
    assert {(address_text(one.address), one.port) for one in found} == {
        ("10.244.1.2", 8080),
        ("10.244.1.3", 9090),
    }
    assert candidates(slices, port(name=""), 4, NODE_NAME) == {}
    assert [one.port for one in candidates(slices, port(name="dns", protocol=Protocol.UDP), 4, NODE_NAME)] == [53]


def test_one_endpoint_with_two_numbers_for_one_name_is_two_destinations() -> None:
    both = [SlicePort("http", Protocol.TCP, 8080), SlicePort("http", Protocol.TCP, 8081)]
    slices = [endpoint_slice("web", endpoint("10.244.1.2"), ports=both)]
    assert [one.port for one in candidates(slices, port(name="http"), 4, NODE_NAME)] == [8080, 8081]


def test_a_slice_belongs_to_one_family() -> None:
    slices = [
        endpoint_slice("web", endpoint("10.244.1.2"), suffix="4"),
        endpoint_slice("web", endpoint("fd00:244::2"), suffix="6", family=6),
    ]
    assert [len(one.address) for one in candidates(slices, port(), 6, NODE_NAME)] == [16]


@given(st.permutations(range(4)))
def test_the_order_of_slices_decides_nothing(order: list[int]) -> None:
    slices = [
        endpoint_slice(
            "web", endpoint(f"10.244.1.{number % 3}", NODE_NAME if number == 3 else "n2"), suffix=str(number)
        )
        for number in order
    ]
    found = candidates(slices, port(), 4, NODE_NAME)
    assert {(address_text(key.address), one.node) for key, one in found.items()} == {
        ("10.244.1.0", NODE_NAME),
        ("10.244.1.1", "n2"),
        ("10.244.1.2", "n2"),
    }


def hinted(*hints: tuple[str, str], zone: str = "a", draining: int = 0) -> set[str]:
    """(zones, nodes) hinted for each ready endpoint -> which are kept for this node, by number from 1."""
    endpoints = [
        msgspec.structs.replace(
            endpoint(f"10.244.9.{number}"), hint_zones=tuple(zones.split()), hint_nodes=tuple(nodes.split())
        )
        for number, (zones, nodes) in enumerate(hints, 1)
    ]
    endpoints += [endpoint(f"10.244.9.{100 + number}", conditions=SERVING | TERMINATING) for number in range(draining)]
    found = choose(candidates([endpoint_slice("web", *endpoints)], port(), 4, NODE_NAME), NODE_NAME, zone)
    return {address_text(key.address).removeprefix("10.244.9.") for key in found.cluster}


@pytest.mark.parametrize(
    ("hints", "kept"),
    [
        ([("a", ""), ("b", "")], {"1"}),
        ([("a b", ""), ("b", "")], {"1"}),
        ([("b", ""), ("c", "")], {"1", "2"}),  # none for this zone: all
        ([("a", ""), ("", "")], {"1", "2"}),  # one has no hint: all (M4.14)
        ([("a", NODE_NAME), ("a", "n2")], {"1"}),  # node before zone
        ([("a", "n2"), ("b", "n3")], {"1"}),  # no hint names this node: by zone
        ([("a", NODE_NAME), ("b", "")], {"1"}),  # not every one names nodes: by zone
        ([("b", NODE_NAME), ("b", "")], {"1", "2"}),
    ],
)
def test_hints_keep_traffic_near(hints: list[tuple[str, str]], kept: set[str]) -> None:
    """S3.06, S3.07: hints alone decide, node hints before zone hints."""
    assert hinted(*hints) == kept


def test_a_node_without_a_zone_has_no_use_for_zones() -> None:
    assert hinted(("a", ""), ("b", ""), zone="") == {"1", "2"}


def test_only_ready_endpoints_hint_and_are_hinted() -> None:
    """S3.06: a draining one without a hint disturbs nothing; S3.02: the fall-back knows no topology."""
    assert hinted(("a", ""), ("b", ""), draining=1) == {"1"}
    assert hinted(draining=2) == {"100", "101"}


def test_hints_leave_the_local_set_alone() -> None:
    """S3.08: policy Local beats hints."""
    one = msgspec.structs.replace(endpoint("10.244.9.1", NODE_NAME), hint_zones=("b",))
    two = msgspec.structs.replace(endpoint("10.244.9.2"), hint_zones=("a",))
    found = choose(candidates([endpoint_slice("web", one, two)], port(), 4, NODE_NAME), NODE_NAME, "a")
    assert [address_text(key.address) for key in found.local] == ["10.244.9.1"]
    assert [address_text(key.address) for key in found.cluster] == ["10.244.9.2"]


@pytest.mark.parametrize(
    ("kinds", "local", "reasons"),
    [
        ("ready draining", False, {"draining": "terminating, and others are ready"}),
        ("draining gone", False, {"gone": "terminating, and no longer serving"}),
        ("starting unready-serving", False, {"starting": "not ready", "unready-serving": "not ready"}),
        ("draining", True, {}),
        ("ready draining", True, {"draining": "terminating, and others are ready"}),
    ],
)
def test_who_is_left_out_is_told_why(kinds: str, local: bool, reasons: dict[str, str]) -> None:
    slices = [endpoint_slice("web", *(endpoint(ADDRESSES[kind], NODE_NAME, KINDS[kind]) for kind in kinds.split()))]
    named = {address: kind for kind, address in ADDRESSES.items()}
    found = left_out(candidates(slices, port(), 4, NODE_NAME), NODE_NAME, "", local=local)
    assert {named[address_text(key.address)]: reason for key, reason in found.items()} == reasons


def test_other_nodes_and_hints_are_reasons() -> None:
    here, there = endpoint("10.244.1.2", NODE_NAME), endpoint("10.244.2.2", "n2")
    found = candidates([endpoint_slice("web", here, there)], port(), 4, NODE_NAME)
    assert list(left_out(found, NODE_NAME, "a", local=True).values()) == ["on node n2"]
    zones = [msgspec.structs.replace(one, hint_zones=(zone,)) for one, zone in ((here, "a"), (there, "b"))]
    found = candidates([endpoint_slice("web", *zones)], port(), 4, NODE_NAME)
    assert list(left_out(found, NODE_NAME, "a", local=False).values()) == ["hinted to zone b, and this node is in a"]
    nodes = [msgspec.structs.replace(one, hint_nodes=(name,)) for one, name in ((here, NODE_NAME), (there, "n2"))]
    found = candidates([endpoint_slice("web", *nodes)], port(), 4, NODE_NAME)
    assert list(left_out(found, NODE_NAME, "a", local=False).values()) == ["hinted to node n2, not to this one"]


HINTS = st.lists(st.sampled_from(["", "a", "b", NODE_NAME, "n2"]), max_size=2).map(
    lambda names: tuple(filter(None, names))
)


@given(
    st.lists(
        st.tuples(st.sampled_from(["", NODE_NAME, "n2"]), st.sampled_from([*KINDS.values()]), HINTS, HINTS), max_size=6
    ),
    st.sampled_from(["", NODE_NAME]),
    st.sampled_from(["", "a", "c"]),
)
def test_everybody_is_either_chosen_or_told_why_not(
    several: list[tuple[str, int, tuple[str, ...], tuple[str, ...]]], node: str, zone: str
) -> None:
    endpoints = [
        msgspec.structs.replace(endpoint(f"10.244.0.{at}", where, kind), hint_zones=zones, hint_nodes=nodes)
        for at, (where, kind, zones, nodes) in enumerate(several)
    ]
    found = candidates([endpoint_slice("web", *endpoints)], port(), 4, node)
    chosen = choose(found, node, zone)
    for local, those in ((False, chosen.cluster), (True, chosen.local)):
        reasons = left_out(found, node, zone, local=local)
        assert reasons.keys() | those.keys() == found.keys()
        assert not reasons.keys() & those.keys()
