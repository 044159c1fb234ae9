"""Denied packets of a pod never go back, whatever the kernel's counters do."""

from __future__ import annotations

from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.observe.denied import DeniedCounters, DeniedTotals

A, B = ObjectKey("x", "a"), ObjectKey("x", "b")
ONE, TWO, SIX = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]), bytes(15) + b"\1"


def test_a_pods_families_are_one_and_its_directions_two() -> None:
    totals = DeniedTotals()
    totals.take({("ingress", ONE): (1, 60), ("ingress", SIX): (2, 160), ("egress", ONE): (5, 300)}, {ONE: A, SIX: A})
    assert totals.of({A}) == [
        DeniedCounters("x", "a", "ingress", 3, 220),
        DeniedCounters("x", "a", "egress", 5, 300),
    ]
    assert totals.of({B}) == []


def test_a_counter_that_begins_anew_goes_on() -> None:
    totals = DeniedTotals()
    seen = []
    for now in ((4, 240), (6, 360), (1, 60), (1, 60), None, (0, 0), (2, 120)):
        totals.take({("ingress", ONE): now} if now else {}, {ONE: A})
        seen.append([(row.packets, row.bytes) for row in totals.of({A})])
    assert seen == [[each] for each in ((4, 240), (6, 360), (7, 420), (7, 420), (7, 420), (7, 420), (9, 540))]


def test_a_pod_that_leaves_is_not_told_and_goes_on_where_it_was() -> None:
    totals = DeniedTotals()
    totals.take({("egress", ONE): (4, 240)}, {ONE: A})
    totals.take({}, {})
    assert totals.of(set()) == []
    totals.take({("egress", TWO): (1, 60)}, {TWO: A})
    assert totals.of({A}) == [DeniedCounters("x", "a", "egress", 5, 300)]


def test_an_address_that_another_pod_has_now_counts_for_it_from_now_on() -> None:
    totals = DeniedTotals()
    totals.take({("ingress", ONE): (4, 240)}, {ONE: A})
    totals.take({("ingress", ONE): (9, 540)}, {ONE: B})
    assert totals.of({A, B}) == [
        DeniedCounters("x", "a", "ingress", 4, 240),
        DeniedCounters("x", "b", "ingress", 5, 300),
    ]


def test_an_address_that_no_pod_has_is_the_last_ones_or_nobodys() -> None:
    totals = DeniedTotals()
    totals.take({("ingress", ONE): (1, 60), ("ingress", TWO): (7, 420)}, {ONE: A})
    totals.take({("ingress", ONE): (3, 180), ("ingress", TWO): (8, 480)}, {})
    assert totals.of({A, B}) == [DeniedCounters("x", "a", "ingress", 3, 180)]


def test_only_so_many_are_remembered_and_none_that_counts_is_forgotten() -> None:
    totals = DeniedTotals(kept=2)
    totals.take({("ingress", ONE): (1, 60)}, {ONE: A})
    pods = [ObjectKey("x", f"p{number}") for number in range(4)]
    for pod in pods:
        totals.take({("ingress", ONE): (1, 60), ("ingress", TWO): (1, 60)}, {ONE: A, TWO: pod})
        totals.take({("ingress", ONE): (1, 60)}, {ONE: A})
    assert {row.pod for row in totals.of({A, *pods})} == {"a", "p3"}
