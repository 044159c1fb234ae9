"""Names that dashboards and alerts use, read back with prometheus_client's own parser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from kuberouter_py.model.report import SyncReport, TableCounts
from kuberouter_py.observe.bgp_metrics import SessionCounters
from kuberouter_py.observe.denied import DeniedCounters
from kuberouter_py.observe.histogram import Histogram
from kuberouter_py.observe.http import Response
from kuberouter_py.observe.metrics import PROGRAMMING_BUCKETS, SYNC_BUCKETS, Metrics
from kuberouter_py.observe.service_metrics import ServiceCounters
from kuberouter_py.ports import EdgeError
from tests.unit.observe.bgp_documents import NODE, ROUTER
from tests.unit.observe.documents import SERVICES

ROW = ServiceCounters("default", "web", "10.96.0.10", "tcp", 80, 7, 70, 60, 7000, 6000, 1, 2, 3, 4, 5)
LABELS = (
    ("port", "80"),
    ("protocol", "tcp"),
    ("service_name", "web"),
    ("service_vip", "10.96.0.10"),
    ("svc_namespace", "default"),
)
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(metrics: Metrics) -> Samples:
    response = metrics.exposition()
    assert response.status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.body.decode())
        for sample in family.samples
    }


def make(now: float = 1000.0) -> Metrics:
    return Metrics("0.1.0", lambda: [ROW], lambda: [SERVICES], wall=lambda: now)


def report(duration: float, *, full: bool, failures: int = 0) -> SyncReport:
    return SyncReport(
        "services", 1000.0, duration, full, 3, {"virtual servers": TableCounts(2, 1, 0, failures)}, 4, failures
    )


def test_service_counters_under_kube_routers_names() -> None:
    samples = scrape(make())
    values = {
        "total_connections": 7,
        "packets_in": 70,
        "packets_out": 60,
        "bytes_in": 7000,
        "bytes_out": 6000,
        "cps": 1,
        "pps_in": 2,
        "pps_out": 3,
        "bps_in": 4,
        "bps_out": 5,
    }
    assert {name: samples[f"kube_router_service_{name}", LABELS] for name in values} == values


def test_no_rates_where_the_kernel_estimates_none() -> None:
    still = ROW._replace(
        connection_rate=None, packet_rate_in=None, packet_rate_out=None, byte_rate_in=None, byte_rate_out=None
    )
    samples = scrape(Metrics("0.1.0", lambda: [still], lambda: [SERVICES]))
    assert samples["kube_router_service_packets_in", LABELS] == 70
    assert not [name for name, _ in samples if name.endswith(("_cps", "ps_in", "ps_out"))]


def test_without_ipvs_everything_else_is_told() -> None:
    def counters() -> Iterator[ServiceCounters]:
        yield ROW
        raise EdgeError("IPVS: Operation not permitted")

    metrics = Metrics("0.1.0", counters, lambda: [SERVICES])
    metrics.synced(report(0.5, full=True))
    samples = scrape(metrics)
    assert not [name for name, _ in samples if name.startswith("kube_router_service_")]
    assert samples["kube_router_controller_synced", (("controller", "services"),)] == 1
    assert samples["kube_router_controller_ipvs_services_sync_time_count", ()] == 1


def test_syncs_under_both_names() -> None:
    metrics = make()
    metrics.synced(report(0.5, full=True))
    metrics.synced(report(0.002, full=False))
    metrics.synced(report(0.002, full=False, failures=1))
    metrics.queued("services")
    samples = scrape(metrics)
    assert samples["kubeproxy_sync_proxy_rules_duration_seconds_count", ()] == 3
    assert samples["kubeproxy_sync_full_proxy_rules_duration_seconds_count", ()] == 1
    assert samples["kubeproxy_sync_partial_proxy_rules_duration_seconds_count", ()] == 2
    assert samples["kubeproxy_sync_partial_proxy_rules_duration_seconds_bucket", (("le", "0.002"),)] == 2
    assert samples["kubeproxy_sync_partial_proxy_rules_duration_seconds_bucket", (("le", "0.001"),)] == 0
    assert samples["kube_router_controller_ipvs_services_sync_time_sum", ()] == 0.504
    assert samples["kubeproxy_sync_proxy_rules_last_timestamp_seconds", ()] == 1000.002
    assert samples["kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", ()] == 1000.0
    services = (("controller", "services"),)
    assert samples["kube_router_controller_sync_last_timestamp_seconds", services] == 1000.002
    assert ("kube_router_controller_sync_last_success_timestamp_seconds", services) not in samples
    added = (("action", "added"), ("controller", "services"), ("table", "virtual servers"))
    assert samples["kube_router_controller_writes_total", added] == 6


def test_denied_packets_by_pod_and_direction() -> None:
    rows = [DeniedCounters("x", "a", "ingress", 3, 180), DeniedCounters("x", "a", "egress", 0, 0)]
    samples = scrape(Metrics("0", list, list, denied=lambda: rows))
    for row in rows:
        labels = (("direction", row.direction), ("namespace", "x"), ("pod", "a"))
        assert samples["kuberouter_py_netpol_denied_packets_total", labels] == row.packets
        assert samples["kuberouter_py_netpol_denied_bytes_total", labels] == row.bytes


def test_bgp_sessions() -> None:
    samples = scrape(Metrics("0", list, list, sessions=lambda: [SessionCounters(ROUTER, 2), SessionCounters(NODE, 0)]))
    info = (("address", "10.0.0.254"), ("asn", "64999"), ("state", "Established"), ("type", "external"))
    assert samples["kube_router_bgp_peer_info", info] == 1
    node = (("address", "10.0.0.2"), ("node", "n2"))
    assert samples["kuberouter_py_bgp_session_up", node] == 1
    router = (("address", "10.0.0.254"), ("node", ""))
    assert samples["kuberouter_py_bgp_session_flaps_total", router] == 2
    routes = {labels: value for (name, labels), value in samples.items() if name == "kuberouter_py_bgp_routes"}
    assert routes[("address", "10.0.0.254"), ("direction", "accepted"), ("family", "IPv4")] == 2
    assert len(routes) == 9


def test_routes_have_kube_routers_names_too() -> None:
    metrics = make()
    metrics.synced(SyncReport("routing", 1000.0, 0.25, True, 3, {"pod routes": TableCounts(4, 1, 2)}))
    samples = scrape(metrics)
    assert samples["kube_router_host_routes_added", ()] == 4
    assert samples["kube_router_host_routes_removed", ()] == 2
    assert samples["kube_router_controller_routes_sync_time_sum", ()] == 0.25


def test_each_controllers_syncs_have_their_own_durations() -> None:
    metrics = make()
    metrics.synced(report(0.5, full=True))
    for full in (True, False):
        metrics.synced(SyncReport("firewall", 1000.0, 0.25, full, 3))
    samples = scrape(metrics)
    assert samples["kube_router_controller_iptables_sync_time_count", ()] == 2
    assert samples["kube_router_controller_iptables_sync_time_sum", ()] == 0.5
    assert samples["kube_router_controller_ipvs_services_sync_time_count", ()] == 1
    ended = "kube_router_controller_sync_last_timestamp_seconds"
    assert samples[ended, (("controller", "firewall"),)] == 1000.25
    assert samples[ended, (("controller", "services"),)] == 1000.5


def test_standing_values() -> None:
    samples = scrape(make())
    assert samples["kube_router_controller_ipvs_services", ()] == 30
    assert samples["kube_router_controller_failures", (("controller", "services"),)] == 1
    [info] = [labels for name, labels in samples if name == "kube_router_build_info"]
    assert dict(info)["version"] == "0.1.0"
    assert any(name == "process_cpu_seconds_total" for name, _ in samples)


def test_pods_that_are_closed_or_held_back_are_counted_and_nothing_is_told_in_the_middle_of_a_sync() -> None:
    counts = {"guards": 7, "peer sets": 5, "isolated pods": 4, "closed pods": 1, "pods under earlier rules": 2}
    firewall = replace(SERVICES, name="firewall", counts=counts)
    samples = scrape(Metrics("0", list, lambda: [SERVICES, firewall]))
    expected = {
        "kube_router_controller_policy_chains": 7,
        "kube_router_controller_policy_ipsets": 5,
        "kuberouter_py_netpol_isolated_pods": 4,
        "kuberouter_py_netpol_closed_pods": 1,
        "kuberouter_py_netpol_outdated_pods": 2,
        "kube_router_controller_ipvs_services": 30,
    }
    assert {name: samples[name, ()] for name in expected} == expected
    busy = scrape(Metrics("0", list, lambda: [replace(firewall, counts={})]))
    assert not any(name in expected for name, _ in busy)


def test_network_programming_ignores_what_was_before_us() -> None:
    times = iter([1000.0, 1002.2])  # start; programmed
    metrics = Metrics("0", list, list, wall=lambda: next(times))
    metrics.programmed([999.0, 0.0, 1000.0, 1002.0])
    samples = scrape(metrics)
    name = "kubeproxy_network_programming_duration_seconds"
    assert samples[f"{name}_count", ()] == 2
    assert samples[f"{name}_bucket", (("le", "0.25"),)] == 1
    assert samples[f"{name}_bucket", (("le", "3.0"),)] == 2


def test_answers_are_counted_by_status() -> None:
    metrics = make()
    answers = iter([Response(200, b""), Response(503, b""), Response(200, b"")])
    route = metrics.counted("healthz", lambda: next(answers))
    assert [route().status for _ in range(3)] == [200, 503, 200]
    samples = scrape(metrics)
    assert samples["kubeproxy_proxy_healthz_total", (("code", "200"),)] == 2
    assert samples["kubeproxy_proxy_healthz_total", (("code", "503"),)] == 1


def test_buckets_are_kube_proxys() -> None:
    assert SYNC_BUCKETS[0] == 0.001
    assert (SYNC_BUCKETS[-1], len(SYNC_BUCKETS)) == (16.384, 15)
    assert PROGRAMMING_BUCKETS[:4] == (0.25, 0.5, 1.0, 2.0)
    assert (PROGRAMMING_BUCKETS[-1], len(PROGRAMMING_BUCKETS)) == (300.0, 2 + 59 + 12 + 7)


def test_histogram() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert histogram.read() == ([("1.0", 2.0), ("2.0", 3.0), ("+Inf", 4.0)], 12.0)
