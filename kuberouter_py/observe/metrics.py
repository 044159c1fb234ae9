"""What the agent counts of itself, and what Prometheus reads of it, under kube-router's and kube-proxy's names.

Counting is a few additions and needs no library; `exposition` turns the counts, and what IPVS has counted until this
very moment, into Prometheus' text format. prometheus_client is imported by the first scrape: an agent without a metrics
port never pays for it.
"""

from __future__ import annotations

import platform
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from kuberouter_py.model.report import ControllerStatus, SyncReport
from kuberouter_py.observe.bgp_metrics import SessionCounters, bgp_metrics
from kuberouter_py.observe.denied import DeniedCounters
from kuberouter_py.observe.histogram import Histogram, histogram_family, merged
from kuberouter_py.observe.http import Response
from kuberouter_py.observe.service_metrics import ServiceCounters, service_metrics
from kuberouter_py.ports import EdgeError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

# kube-proxy's buckets: 1 ms doubled fifteen times; and for network programming S14's.
SYNC_BUCKETS = tuple(0.001 * 2**power for power in range(15))
PROGRAMMING_BUCKETS = (
    0.25,
    0.5,
    *map(float, range(1, 60)),
    *map(float, range(60, 120, 5)),
    *map(float, range(120, 301, 30)),
)
# prometheus' default buckets, which kube-router's histograms have
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


# What a controller counts in its status -> the metric, and what it says.
_STANDING = {
    ("services", "virtual servers"): ("kube_router_controller_ipvs_services", "virtual servers of ours in IPVS"),
    ("routing", "pod routes"): ("kube_router_host_routes_synced", "routes to other nodes' pods"),
    ("firewall", "guards"): (
        "kube_router_controller_policy_chains",
        "chains that hold the rules of the policies that select pods of this node",
    ),
    ("firewall", "peer sets"): ("kube_router_controller_policy_ipsets", "ipsets of peers and of named ports"),
    ("firewall", "isolated pods"): ("kuberouter_py_netpol_isolated_pods", "pods of this node that a policy selects"),
    ("firewall", "closed pods"): (
        "kuberouter_py_netpol_closed_pods",
        "pods of this node that nothing passes, for their rules could not be written",
    ),
    ("firewall", "pods under earlier rules"): (
        "kuberouter_py_netpol_outdated_pods",
        "pods of this node whose changed rules could not be written yet",
    ),
}
# Writes that have a name of kube-router's as well: controller, table, action -> the metric.
_WRITES = {
    ("routing", "pod routes", "added"): "kube_router_host_routes_added",
    ("routing", "pod routes", "removed"): "kube_router_host_routes_removed",
}


class Metrics:
    """Counts what is reported to it (any thread); `exposition` is asked by the HTTP server.

    version: of this package. counters: reads IPVS now, with its Services' names; called at each scrape, and may raise
    EdgeError. statuses: every controller's status now. denied: what the firewall has denied until now. sessions: of
    BGP, now.
    """

    def __init__(
        self,
        version: str,
        counters: Callable[[], Iterable[ServiceCounters]],
        statuses: Callable[[], Sequence[ControllerStatus]],
        wall: Callable[[], float] = time.time,
        denied: Callable[[], Iterable[DeniedCounters]] = tuple,
        sessions: Callable[[], Iterable[SessionCounters]] = tuple,
    ) -> None:
        self._version = version
        self._denied = denied
        self._sessions = sessions
        self._service_counters = counters
        self._statuses = statuses
        self._wall = wall
        self._started = wall()
        self._lock = threading.Lock()
        self._syncs: dict[tuple[str, bool], Histogram] = {}
        self._written: Counter[tuple[str, str, str]] = Counter()
        self._last: dict[str, SyncReport] = {}
        self._last_queued: dict[str, float] = {}
        self._programming = Histogram(PROGRAMMING_BUCKETS)
        self._export = Histogram(DEFAULT_BUCKETS)
        self._answers: Counter[tuple[str, int]] = Counter()
        self._registry: CollectorRegistry | None = None

    def synced(self, report: SyncReport) -> None:
        """A sync is done."""
        with self._lock:
            histogram = self._syncs.setdefault((report.controller, report.full), Histogram(SYNC_BUCKETS))
            histogram.observe(report.duration)
            self._last[report.controller] = report
            for table, counts in report.tables.items():
                for action, count in counts._asdict().items():
                    self._written[report.controller, table, action] += count

    def queued(self, controller: str) -> None:
        """A change was heard of."""
        self._last_queued[controller] = self._wall()

    def programmed(self, trigger_times: Iterable[float]) -> None:
        """Changes with these trigger times (seconds since 1970) are in the kernel now (S14.01; M4.16)."""
        now = self._wall()
        with self._lock:
            for triggered in trigger_times:
                if triggered >= self._started:
                    self._programming.observe(max(0.0, now - triggered))

    def counted(self, name: str, answer: Callable[[], Response]) -> Callable[[], Response]:
        """The same route, its answers counted by status: kube-proxy's proxy_healthz_total and proxy_livez_total."""

        def route() -> Response:
            response = answer()
            with self._lock:
                self._answers[name, response.status] += 1
            return response

        return route

    def exposition(self) -> Response:
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

        if self._registry is None:
            self._registry = self._make_registry()
        return Response(200, generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4)

    def _make_registry(self) -> CollectorRegistry:
        from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        registry.register(self)
        return registry

    def describe(self) -> list[Metric]:
        """prometheus_client asks this when registering: our names come with each scrape, not before."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        began = time.monotonic()
        found = [*service_metrics(self._counted_by_ipvs())]
        with self._lock:
            self._export.observe(time.monotonic() - began)
            found += self._sync_metrics()
        yield from found
        yield from self._denied_metrics()
        yield from bgp_metrics(self._sessions())
        yield from self._standing_metrics()

    def _counted_by_ipvs(self) -> Sequence[ServiceCounters]:
        """None where it cannot be read, which is among the controller's failures: the rest is still told."""
        try:
            return [*self._service_counters()]
        except EdgeError:
            return ()

    def _denied_metrics(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily

        rows = list(self._denied())
        for name in ("packets", "bytes"):
            text = f"{name} that NetworkPolicy denied to (ingress) or from (egress) a pod of this node"
            metric = CounterMetricFamily(
                f"kuberouter_py_netpol_denied_{name}", text, labels=("namespace", "pod", "direction")
            )
            for row in rows:
                metric.add_metric((row.namespace, row.pod, row.direction), getattr(row, name))
            yield metric

    def _sync_metrics(self) -> Iterator[Metric]:
        """Called with the lock held."""
        yield histogram_family(
            "kube_router_controller_ipvs_metrics_export_time", "reading IPVS for a scrape", self._export
        )
        yield from self._durations()
        yield histogram_family(
            "kubeproxy_network_programming_duration_seconds",
            "from an endpoint's change in the cluster to the kernel",
            self._programming,
        )
        ended = {name: report.started + report.duration for name, report in self._last.items()}
        succeeded = {name: when for name, when in ended.items() if not self._last[name].failures}
        services = {name: when for name, when in ended.items() if name == "services"}
        yield _gauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "end of the last sync", services)
        queued = {name: when for name, when in self._last_queued.items() if name == "services"}
        yield _gauge("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "last change heard of", queued)
        yield _gauge("kube_router_controller_sync_last_timestamp_seconds", "end of the last sync", ended, "controller")
        yield _gauge(
            "kube_router_controller_sync_last_success_timestamp_seconds",
            "end of the last sync, where it was without failures",
            succeeded,
            "controller",
        )
        yield from self._writes()
        yield from self._answer_counters()

    def _durations(self) -> Iterator[Metric]:
        kinds, both = self._durations_of("services")
        text = "duration of a sync of the services controller"
        yield histogram_family("kubeproxy_sync_proxy_rules_duration_seconds", text, both)
        yield histogram_family(
            "kubeproxy_sync_full_proxy_rules_duration_seconds", f"{text}, of everything", kinds[True]
        )
        yield histogram_family(
            "kubeproxy_sync_partial_proxy_rules_duration_seconds", f"{text}, of a change", kinds[False]
        )
        yield histogram_family("kube_router_controller_ipvs_services_sync_time", text, both)
        text = "duration of a sync of the firewall controller"
        yield histogram_family("kube_router_controller_iptables_sync_time", text, self._durations_of("firewall")[1])
        text = "duration of a sync of the routing controller"
        yield histogram_family("kube_router_controller_routes_sync_time", text, self._durations_of("routing")[1])

    def _durations_of(self, controller: str) -> tuple[Mapping[bool, Histogram], Histogram]:
        """Of full and of partial syncs, and of both."""
        kinds = {full: self._syncs.get((controller, full), Histogram(SYNC_BUCKETS)) for full in (True, False)}
        return kinds, merged(kinds[True], kinds[False])

    def _writes(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, UnknownMetricFamily

        metric = CounterMetricFamily(
            "kube_router_controller_writes", "entries of kernel tables", labels=("controller", "table", "action")
        )
        for labels, count in self._written.items():
            metric.add_metric(labels, count)
        yield metric
        for which, name in _WRITES.items():
            one = UnknownMetricFamily(name, f"routes to other nodes' pods {which[2]}")  # a counter without _total
            one.add_metric((), self._written[which])
            yield one

    def _answer_counters(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily

        for name in ("healthz", "livez"):
            metric = CounterMetricFamily(f"kubeproxy_proxy_{name}", f"answers of /{name}", labels=("code",))
            for (which, status), count in self._answers.items():
                if which == name:
                    metric.add_metric((str(status),), count)
            yield metric

    def _standing_metrics(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        build = GaugeMetricFamily("kube_router_build_info", "always 1; what runs here", labels=("goversion", "version"))
        build.add_metric((f"python{platform.python_version()}", self._version), 1)
        yield build
        statuses = self._statuses()
        failures = {status.name: float(status.failures) for status in statuses}
        yield _gauge("kube_router_controller_failures", "keys that the kernel refuses now", failures, "controller")
        synced = {status.name: float(status.synced) for status in statuses}
        yield _gauge("kube_router_controller_synced", "1 after the first full sync", synced, "controller")
        counts = {one.name: one.counts for one in statuses}
        for (controller, what), (name, text) in _STANDING.items():
            found = counts.get(controller, {}).get(what)  # None: it is not run, or in the middle of a long sync
            yield _gauge(name, text, {} if found is None else {controller: float(found)})


def _gauge(name: str, text: str, values: Mapping[str, float], label: str = "") -> Metric:
    """One value per key of `values` under `label`; without a label the one value there is, if there is one."""
    from prometheus_client.core import GaugeMetricFamily

    metric = GaugeMetricFamily(name, text, labels=(label,) if label else ())
    for key, value in values.items():
        metric.add_metric((key,) if label else (), value)
    return metric
