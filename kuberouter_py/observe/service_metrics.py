"""What IPVS counted for Services as Prometheus reads it, under kube-router's names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from prometheus_client.core import Metric


class ServiceCounters(NamedTuple):
    """What IPVS counted on one address and port of a Service. Rates are per second, as the kernel estimates them; None:
    it does not.
    """

    namespace: str
    service: str
    vip: str
    protocol: str
    port: int
    connections: int
    packets_in: int
    packets_out: int
    bytes_in: int
    bytes_out: int
    connection_rate: int | None = None
    packet_rate_in: int | None = None
    packet_rate_out: int | None = None
    byte_rate_in: int | None = None
    byte_rate_out: int | None = None


# kube-router's metric -> the field of ServiceCounters; counters, then gauges.
_COUNTERS = {
    "total_connections": "connections",
    "packets_in": "packets_in",
    "packets_out": "packets_out",
    "bytes_in": "bytes_in",
    "bytes_out": "bytes_out",
}
_GAUGES = {
    "cps": "connection_rate",
    "pps_in": "packet_rate_in",
    "pps_out": "packet_rate_out",
    "bps_in": "byte_rate_in",
    "bps_out": "byte_rate_out",
}
_LABELS = ("svc_namespace", "service_name", "service_vip", "protocol", "port")


def service_metrics(counters: Iterable[ServiceCounters]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily, UnknownMetricFamily

    rows = list(counters)
    labels = [(row.namespace, row.service, row.vip, row.protocol, str(row.port)) for row in rows]
    # The library gives a counter's name the ending _total, which kube-router's names lack: so untyped, as rate()
    # does not mind.
    for kind, columns in ((UnknownMetricFamily, _COUNTERS), (GaugeMetricFamily, _GAUGES)):
        for name, column in columns.items():
            metric = kind(f"kube_router_service_{name}", f"IPVS: {column.replace('_', ' ')}", labels=_LABELS)
            for label, row in zip(labels, rows, strict=True):
                if (value := getattr(row, column)) is not None:
                    metric.add_metric(label, value)
            yield metric
