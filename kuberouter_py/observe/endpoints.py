"""Which path answers what on which port: the agent's HTTP server, from its configuration and its reporters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kuberouter_py.config import Config
from kuberouter_py.observe.health import Health, ProxyHealth
from kuberouter_py.observe.http import HttpServer, Question, Route, json_response, text_response
from kuberouter_py.observe.listening import Tcp, Unix
from kuberouter_py.observe.metrics import Metrics

Document = Callable[[], object]  # something plain that JSON can say


def http_server(
    config: Config,
    health: Health,
    proxy: ProxyHealth,
    metrics: Metrics,
    documents: Mapping[str, Document],
    questions: Mapping[str, Question],
) -> HttpServer:
    """Not started yet. documents, questions: what the local socket answers, by path ("/status"); /config is given."""
    server = HttpServer()
    if config.health_port:
        probes = {"/healthz": health.livez, "/livez": health.livez, "/readyz": health.readyz}
        server.serve(Tcp(config.health_addr, config.health_port), probes)
    if config.run_service_proxy and config.proxy_healthz_port:
        server.serve(
            Tcp(config.proxy_healthz_addr, config.proxy_healthz_port),
            {
                "/healthz": metrics.counted("healthz", proxy.healthz),
                "/livez": metrics.counted("livez", proxy.livez),
            },
        )
    if config.metrics_port:
        server.serve(Tcp(config.metrics_addr, config.metrics_port), {config.metrics_path: metrics.exposition})
    if config.proxy_metrics_port:
        server.serve(
            Tcp(config.proxy_metrics_addr, config.proxy_metrics_port),
            {
                "/metrics": metrics.exposition,
                "/proxyMode": lambda: text_response(200, "ipvs"),
                "/healthz": metrics.counted("healthz", proxy.healthz),
            },
        )
    everything = {"/config": config.as_texts, **documents}
    answers = {path: _document(answer) for path, answer in everything.items()}
    server.serve(Unix(config.socket), {"/readyz": health.readyz, **answers}, questions)
    return server


def _document(answer: Document) -> Route:
    return lambda: json_response(answer())
