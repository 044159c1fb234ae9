"""The cluster that the firewall's benchmark is made of, and what its tables say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kuberouter_py.model.cluster import Pod
from kuberouter_py.model.policies import NetworkPolicy
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.decode import decode_versioned
from tests.bench.policy_changes import changes
from tests.bench.policy_document import aims, packets
from tests.bench.policy_objects import BIG, NAMESPACES, PODS, Point, objects

SMALL = Point(100, 1000)


def _put(cache: Cache, one: dict[str, Any]) -> set[Any]:
    decoded = decode_versioned(one["kind"], json.dumps(one).encode())
    assert decoded.object is not None
    return cache.put(one["kind"], decoded.key, decoded.object)


@pytest.fixture
def cache() -> Cache:
    cache = Cache()
    for each in objects(SMALL):
        _put(cache, each)
    return cache


def test_the_cluster_is_as_it_is_said_to_be(cache: Cache) -> None:
    pods, policies = cache.list(Pod), cache.list(NetworkPolicy)
    assert (len(pods), len(policies), len(cache.namespaces())) == (PODS, SMALL.policies, NAMESPACES)
    assert sum(pod.node == "bench-node" for pod in pods) == SMALL.local
    assert sum(pod.key.namespace == "ns-0" for pod in pods) == BIG
    assert len({address for pod in pods for address in pod.ips}) == 2 * PODS
    assert not any(policy.unusable for policy in policies)


def test_every_change_is_one(cache: Cache) -> None:
    """One that changes nothing would be waited for in vain."""
    for change in changes(SMALL):
        for number in range(change.times):
            one = change.object(number)
            assert _put(cache, one), f"{change.name}, {number}"


def test_an_aim_that_was_missed_says_by_how_much() -> None:
    change = {"own_p50_ms": 12.0, "cpu_ms": 200.0}
    point = {"local": 250, "policies": 5000, "first_sync_seconds": 4.0, "changes": {"pod added here": change}}
    assert aims(point).splitlines()[2:] == [
        "| objects in memory → kernel | at most 5 s | 4 s |",
        "| pod added here: without programs, p50 | at most 10 ms | 12 ms, missed by 2 ms |",
        "| pod added here: CPU | at most 215 ms | 200 ms |",
    ]


def test_paths_are_told_as_ratios_to_no_rule_at_all() -> None:
    paths = [
        {"name": "no rule", "first_packet_us": 100.0, "request_us": 400.0, "stream_mb_per_second": 300.0},
        {"name": "longest", "first_packet_us": 125.0, "request_us": 440.0, "stream_mb_per_second": 270.0},
    ]
    told = packets({"local": 100, "policies": 1000, "packets": {"paths": paths}}).splitlines()
    assert told[-1] == "| longest | 125 | 440 | 270 | 1.25 / 1.10 / 0.90 |"
