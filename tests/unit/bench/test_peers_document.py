"""What the comparison says: peer's figure / ours, a bound that was not kept, what was left out."""

from __future__ import annotations

from typing import Any

from tests.bench.peers.document import ratios, tables

OURS = {
    "over": {},
    "start_seconds": 2.0,
    "change_p99_ms": 5.0,
    "requests_per_second": 500.0,
    "full_sync_cpu_seconds": 0.0,
}
THEIRS = {"over": {"change_p99_ms": 600_000.0}, "start_seconds": 67.0, "requests_per_second": 250.0}
POINT: dict[str, Any] = {
    "services": 10_000,
    "endpoints": 10,
    "peers": {"ours": OURS, "ipvs": THEIRS, "kube-router": {"left_out": "KUBE_ROUTER names no program"}},
}


def test_ratios_with_a_bound_where_there_is_no_figure() -> None:
    assert ratios([POINT]) == {
        "10000x10": {"ipvs": {"start_seconds": 33.5, "change_p99_ms": 120_000.0, "requests_per_second": 0.5}}
    }


def test_what_costs_less_than_can_be_counted_is_no_division_by_zero() -> None:
    peers = {"ours": OURS, "ipvs": {"over": {}, "full_sync_cpu_seconds": 1.0}}
    assert ratios([{**POINT, "peers": peers}])["10000x10"]["ipvs"]["full_sync_cpu_seconds"] == 100.0


def test_the_table_says_what_was_not_had_and_why() -> None:
    backwards = {**POINT, "peers": dict(reversed(POINT["peers"].items()))}
    text = tables({"points": [backwards]})
    assert "| 10,000 × 10 | kuberouter_py | kube-proxy ipvs |" in text
    assert "| the same, p99, ms | 5 | > 600,000 |" in text
    assert "kube-router was left out: KUBE_ROUTER names no program." in text
    assert "rolled in 60 s" not in text  # nobody measured it


def test_the_table_says_where_its_figures_are_not_of_one_run() -> None:
    said = "Not all of one run"
    one = {"ours": {**OURS, "run": "1"}, "ipvs": {**THEIRS, "run": "1"}}
    two = {"ours": {**OURS, "run": "1"}, "ipvs": {**THEIRS, "run": "2"}}
    assert said not in tables({"points": [{**POINT, "peers": one}]})
    assert said in tables({"points": [{**POINT, "peers": two}]})
