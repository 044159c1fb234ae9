"""The servers behind healthCheckNodePort: one listener for each port, one thread for all of them.

A table (ports.Table), so that a port that cannot be had is reported at its Service and tried again like anything else
that is refused. What is answered is decided in controllers/services/healthchecks.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from kuberouter_py.model.healthcheck import HealthCheck, HealthCheckPort
from kuberouter_py.model.kernel import address_text
from kuberouter_py.observe.http import ANY_PATH, HttpServer, Response, json_response
from kuberouter_py.observe.listening import Tcp
from kuberouter_py.ports import Actual, Plan, Refused


class HealthChecks:
    """proxy_healthy: whether changes reach the kernel in time; without that no node is worth traffic (S12.02)."""

    name = "health checks"

    def __init__(self, proxy_healthy: Callable[[], bool]) -> None:
        self._proxy_healthy = proxy_healthy
        self._told: dict[HealthCheckPort, HealthCheck] = {}  # the server's threads look into it
        self._server: HttpServer | None = None  # with the first port

    def read(self) -> Actual[HealthCheckPort, HealthCheck]:
        return Actual(dict(self._told))

    def apply(self, plan: Plan[HealthCheckPort, HealthCheck]) -> dict[HealthCheckPort, Refused]:
        refused: dict[HealthCheckPort, Refused] = {}
        wanted = {**plan.add, **{key: new for key, (_, new) in plan.change.items()}}
        for key, told in wanted.items():
            there = key in self._told
            self._told[key] = told
            if not there and (reason := self._open(key)):
                del self._told[key]
                refused[key] = Refused(reason)
        for key in plan.remove:
            if self._told.pop(key, None) is not None and self._server:
                self._server.close(_where(key))
        return refused

    def stop(self) -> None:
        if self._server:
            self._server.stop()

    def _open(self, key: HealthCheckPort) -> str:
        """Why not; "" when it listens."""
        if self._server is None:
            self._server = HttpServer("health checks")
            self._server.start()
        try:
            self._server.open(_where(key), {ANY_PATH: lambda: self._answer(key)})
        except OSError as error:
            return f"cannot listen: {os.strerror(error.errno) if error.errno else error}"
        return ""

    def _answer(self, key: HealthCheckPort) -> Response:
        told = self._told.get(key)
        if told is None:  # closed between question and answer
            return json_response({}, 503)
        healthy = self._proxy_healthy()
        body = {
            "service": {"namespace": told.service.namespace, "name": told.service.name},
            "localEndpoints": told.local_endpoints,
            "serviceProxyHealthy": healthy,
        }
        status = 200 if told.local_endpoints and healthy else 503
        return json_response(body, status, {"X-Load-Balancing-Endpoint-Weight": str(told.local_endpoints)})


def _where(key: HealthCheckPort) -> Tcp:
    return Tcp(address_text(key.address) if key.address else "", key.port)
