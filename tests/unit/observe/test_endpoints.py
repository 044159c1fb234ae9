"""Which port answers what, from the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from kuberouter_py.config import Config
from kuberouter_py.observe.endpoints import http_server
from kuberouter_py.observe.health import Health, ProxyHealth
from kuberouter_py.observe.http import HttpServer, Question, Route
from kuberouter_py.observe.listening import Tcp, Unix, Where
from kuberouter_py.observe.metrics import Metrics
from kuberouter_py.observe.socket import ask


def routes(config: Config, monkeypatch: pytest.MonkeyPatch) -> dict[Where, dict[str, Route]]:
    found: dict[Where, dict[str, Route]] = {}

    def serve(_self: HttpServer, where: Where, paths: dict[str, Route], *questions: dict[str, Question]) -> None:
        found.setdefault(where, {}).update(paths)

    monkeypatch.setattr(HttpServer, "serve", serve)
    build(config)
    return found


def build(config: Config) -> HttpServer:
    health, proxy = Health(lambda: 0.0), ProxyHealth(300, lambda: 0.0)
    return http_server(config, health, proxy, Metrics("0", list, list), {"/status": lambda: {"verdict": "ok"}}, {})


def test_default_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    found = routes(Config(), monkeypatch)
    assert {where: sorted(paths) for where, paths in found.items()} == {
        Tcp("", 20244): ["/healthz", "/livez", "/readyz"],
        Tcp("", 10256): ["/healthz", "/livez"],
        Unix("/run/kuberouter-py/agent.sock"): ["/config", "/readyz", "/status"],
    }


def test_metrics_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(metrics_port=20241, metrics_path="/m", proxy_metrics_port=10249, health_port=20241)
    found = routes(config, monkeypatch)
    assert sorted(found[Tcp("", 20241)]) == ["/healthz", "/livez", "/m", "/readyz"]  # one port for both
    assert sorted(found[Tcp("127.0.0.1", 10249)]) == ["/healthz", "/metrics", "/proxyMode"]
    assert found[Tcp("127.0.0.1", 10249)]["/proxyMode"]().body == b"ipvs"


def test_no_proxy_no_proxy_health(monkeypatch: pytest.MonkeyPatch) -> None:
    found = routes(Config(run_service_proxy=False, health_port=0), monkeypatch)
    assert list(found) == [Unix("/run/kuberouter-py/agent.sock")]


def test_documents(tmp_path: Path) -> None:
    config = Config(socket=str(tmp_path / "a.sock"), health_port=0, proxy_healthz_port=0)
    server = build(config)
    server.start()
    try:
        assert ask(config.socket, "/status") == {"verdict": "ok"}
        assert ask(config.socket, "/config") == config.as_texts()
    finally:
        server.stop()
