"""The servers behind healthCheckNodePort over real sockets of loopback."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.healthcheck import HealthCheck, HealthCheckPort
from kuberouter_py.observe.healthchecks import HealthChecks
from kuberouter_py.ports import Plan, Refused

WEB = ObjectKey("default", "web")
LOOPBACK = bytes([127, 0, 0, 1])


class Proxy:
    healthy = True


@pytest.fixture
def proxy() -> Proxy:
    return Proxy()


@pytest.fixture
def checks(proxy: Proxy) -> Iterator[HealthChecks]:
    table = HealthChecks(lambda: proxy.healthy)
    yield table
    table.stop()


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


@pytest.fixture
def key() -> HealthCheckPort:
    return HealthCheckPort(LOOPBACK, free_ports(1)[0])


def ask(key: HealthCheckPort, path: str = "/healthz") -> tuple[int, object, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", key.port, timeout=5)
    connection.request("GET", path)
    response = connection.getresponse()
    answer = response.status, json.loads(response.read()), response.headers
    connection.close()
    return answer


def refuses(key: HealthCheckPort) -> bool:
    try:
        socket.create_connection(("127.0.0.1", key.port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("path", ["/healthz", "/", "/anything?x=1"])
def test_the_answer(checks: HealthChecks, key: HealthCheckPort, path: str) -> None:
    assert checks.apply(Plan(add={key: HealthCheck(WEB, 2)})) == {}
    status, body, headers = ask(key, path)
    assert status == 200
    assert body == {
        "service": {"namespace": "default", "name": "web"},
        "localEndpoints": 2,
        "serviceProxyHealthy": True,
    }
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Load-Balancing-Endpoint-Weight"] == "2"


def test_without_endpoints_and_without_a_healthy_proxy(
    checks: HealthChecks, key: HealthCheckPort, proxy: Proxy
) -> None:
    checks.apply(Plan(add={key: HealthCheck(WEB, 1)}))
    proxy.healthy = False
    status, body, _ = ask(key)
    assert (status, body) == (503, {**expected(1), "serviceProxyHealthy": False})
    proxy.healthy = True
    checks.apply(Plan(change={key: (HealthCheck(WEB, 1), HealthCheck(WEB, 0))}))
    assert ask(key)[:2] == (503, expected(0))
    assert checks.read().ours == {key: HealthCheck(WEB, 0)}


def expected(endpoints: int) -> dict[str, object]:
    return {
        "service": {"namespace": "default", "name": "web"},
        "localEndpoints": endpoints,
        "serviceProxyHealthy": True,
    }


def test_a_port_that_is_closed_refuses_and_can_be_opened_again(checks: HealthChecks, key: HealthCheckPort) -> None:
    told = {key: HealthCheck(WEB, 1)}
    assert checks.apply(Plan(add=told)) == {}
    assert checks.apply(Plan(remove=told)) == {}
    assert refuses(key)
    assert checks.read().ours == {}
    assert checks.apply(Plan(remove=told)) == {}
    assert checks.apply(Plan(add=told)) == {}
    assert ask(key)[0] == 200


def test_a_taken_port_harms_no_other(checks: HealthChecks, key: HealthCheckPort) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        other = HealthCheckPort(LOOPBACK, taken.getsockname()[1])
        plan = Plan(add={other: HealthCheck(WEB, 1), key: HealthCheck(WEB, 1)})
        assert checks.apply(plan) == {other: Refused("cannot listen: Address already in use")}
        assert checks.read().ours == {key: HealthCheck(WEB, 1)}
        assert ask(key)[0] == 200
    assert checks.apply(Plan(add={other: HealthCheck(WEB, 1)})) == {}
    assert ask(other)[0] == 200


def test_a_number_that_is_no_port_harms_no_other(checks: HealthChecks, key: HealthCheckPort) -> None:
    none = HealthCheckPort(LOOPBACK, 70000)
    refused = checks.apply(Plan(add={none: HealthCheck(WEB, 1), key: HealthCheck(WEB, 1)}))
    assert [*refused] == [none]
    assert refused[none].reason.startswith("cannot listen: ")
    assert checks.read().ours == {key: HealthCheck(WEB, 1)}
    assert ask(key)[0] == 200


def test_many_ports_are_one_thread(checks: HealthChecks) -> None:
    before = {*threading.enumerate()}
    wanted = {HealthCheckPort(LOOPBACK, port): HealthCheck(WEB, 1) for port in free_ports(200)}
    assert checks.apply(Plan(add=wanted)) == {}
    assert len({*threading.enumerate()} - before) == 1
    assert {ask(key)[0] for key in wanted} == {200}
