"""Liveness, readiness and what a cloud load balancer asks."""

from __future__ import annotations

import json
from typing import Any

from kuberouter_py.observe.health import DELETION_TAINT, Health, ProxyHealth
from kuberouter_py.observe.http import Response


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def body(response: Response) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(response.body)
    return decoded


def test_liveness_is_that_the_loops_turn() -> None:
    clock = Clock()
    health = Health(clock)
    beat = health.expect("services", within=10)
    health.expect("watch Service", within=1000)
    assert health.livez() == Response(200, b"OK\n")
    clock.now += 11
    assert health.livez() == Response(500, b"Unhealthy\nservices: no turn for 11 s, at most 10 s are due\n")
    beat()
    assert health.livez().status == 200


def test_readiness_waits_for_the_first_sync() -> None:
    health = Health(Clock())
    health.wait_for("services' first sync", "cache Service")
    assert health.readyz() == Response(500, b"Unhealthy\nwaiting for services' first sync\nwaiting for cache Service\n")
    health.reached("services' first sync")
    health.reached("cache Service")
    health.reached("never asked for")
    assert health.readyz() == Response(200, b"OK\n")
    assert health.livez().status == 200


def test_not_ready_while_a_loop_hangs() -> None:
    clock = Clock()
    health = Health(clock)
    health.expect("services", within=10)
    clock.now += 11
    assert health.readyz().status == 500


def test_proxy_is_healthy_from_the_start() -> None:
    """S13.03, and as kube-proxy: nothing is queued yet."""
    proxy = ProxyHealth(300, Clock())
    assert proxy.healthz().status == 200
    assert body(proxy.healthz())["nodeEligible"] is True
    assert "nodeEligible" not in body(proxy.livez())


def test_proxy_is_unhealthy_when_a_change_waits_too_long() -> None:
    clock = Clock()
    proxy = ProxyHealth(300, clock)
    proxy.queued()
    proxy.synced(clock.now + 1)  # a sync that began after the change
    updated = clock.now
    clock.now += 100
    proxy.queued()
    clock.now += 500
    proxy.queued()
    assert proxy.healthz().status == 200  # 500 s, at most 600 are due
    assert body(proxy.healthz())["lastUpdated"] == body(proxy.healthz())["currentTime"]
    clock.now += 101
    assert proxy.healthz().status == proxy.livez().status == 503
    assert body(proxy.healthz())["lastUpdated"] == "1970-01-01T00:16:40+00:00"
    assert updated == 1000.0
    proxy.synced(clock.now)
    assert proxy.healthz().status == 200


def test_a_change_during_a_sync_waits_for_the_next_one() -> None:
    clock = Clock()
    proxy = ProxyHealth(300, clock)
    proxy.queued()
    started = clock.now
    clock.now += 5
    proxy.queued()
    proxy.synced(started)
    clock.now += 601
    assert proxy.healthz().status == 503


def test_a_node_on_its_way_out_gets_no_traffic_but_is_not_restarted() -> None:
    proxy = ProxyHealth(300, Clock())
    for deleting, taints in ((True, ()), (False, ("other", DELETION_TAINT))):
        proxy.node(deleting=deleting, taints=taints)
        assert proxy.healthz().status == 503
        assert body(proxy.healthz())["nodeEligible"] is False
        assert proxy.livez().status == 200
    proxy.node(deleting=False, taints=("other",))
    assert proxy.healthz().status == 200
