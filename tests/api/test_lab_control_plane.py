"""The lab's own control plane does to its clients what the lab says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.labkit.apiclient import ApiClient, Unreachable

if TYPE_CHECKING:
    from tests.api.conftest import RealControlPlane


def client_under_test(plane: RealControlPlane) -> ApiClient:
    host, port = plane.server.removeprefix("https://").split(":")
    return ApiClient(host, int(port), plane.credentials, plane.directory)


def test_an_object_with_its_status_is_created_then_replaced(control_plane: RealControlPlane) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "lb"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}},
    }
    first = control_plane.objects.apply(service)
    again = control_plane.objects.apply({**service, "metadata": {"name": "lb", "labels": {"a": "b"}}})
    assert first["status"]["loadBalancer"]["ingress"][0]["ip"] == "203.0.113.7"
    assert again["spec"]["clusterIP"] == first["spec"]["clusterIP"]
    assert again["metadata"]["labels"] == {"a": "b"}


def test_stopped_it_refuses_clients_also_while_the_test_writes(control_plane: RealControlPlane) -> None:
    control_plane.stop()
    with pytest.raises(Unreachable):
        client_under_test(control_plane).request("GET", "/version")
    control_plane.inside()
    control_plane.objects.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "meanwhile"}})
    with pytest.raises(Unreachable):
        client_under_test(control_plane).request("GET", "/version")
    control_plane.start()
    assert client_under_test(control_plane).get("/api/v1/namespaces/default/configmaps/meanwhile") is not None


def test_cut_ends_a_watch(control_plane: RealControlPlane) -> None:
    client = client_under_test(control_plane)
    version = client.request("GET", "/api/v1/services?limit=1")["metadata"]["resourceVersion"]
    events = client.watch("/api/v1/configmaps", resource_version=version, seconds=60)
    control_plane.objects.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seen"}})
    assert next(events)["type"] == "ADDED"
    control_plane.cut()
    with pytest.raises(Unreachable):
        list(events)


def test_slow_delays_answers(control_plane: RealControlPlane) -> None:
    client = client_under_test(control_plane)
    client.request("GET", "/version")
    control_plane.slow(0.4)
    started = time.monotonic()
    client.request("GET", "/version")
    assert time.monotonic() - started >= 0.4


def test_expired_watches_end_with_410(control_plane: RealControlPlane) -> None:
    client = client_under_test(control_plane)
    version = client.request("GET", "/api/v1/services?limit=1")["metadata"]["resourceVersion"]
    control_plane.expire()
    events = list(client.watch("/api/v1/services", resource_version=version, seconds=60))
    assert [event["object"]["code"] for event in events] == [410]
