"""The lab's cluster in a real API server: the same steps as from manifests give the same Pods and endpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import RealControlPlane
from tests.labkit.api_cluster import ApiCluster
from tests.labkit.ports import LabError
from tests.unit.labkit.recording_world import RecordingWorld, pod, scenario, service


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> RecordingWorld:
    return RecordingWorld(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def cluster(_running_control_plane: RealControlPlane, world: RecordingWorld) -> Iterator[ApiCluster]:
    made = ApiCluster(_running_control_plane.control)
    made.start(scenario("apiserver"), world.as_world())
    yield made
    made.stop()
    _running_control_plane.fresh()  # for whoever shares the control plane


def wait_for(look: Callable[[], Any], expected: Any, within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while (seen := look()) != expected:
        assert time.monotonic() < deadline, f"saw {seen!r}, expected {expected!r}"
        time.sleep(0.05)


def endpoints(cluster: ApiCluster, namespace: str) -> list[tuple[str, bool, bool]]:
    return sorted(
        (endpoint["targetRef"]["name"], endpoint["conditions"]["ready"], endpoint["conditions"]["serving"])
        for made in cluster.list("EndpointSlice", namespace)
        for endpoint in made["endpoints"] or []
    )


def inside(namespace: str, *documents: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**each, "metadata": {**each["metadata"], "namespace": namespace}} for each in documents]


def test_pods_run_and_are_endpoints(cluster: ApiCluster, world: RecordingWorld) -> None:
    cluster.apply(inside("a", service(), pod("web-1"), pod("web-2", "n2", annotations={"ready": "false"})))
    cluster.settle(60)
    assert world.pods["a", "web-1"].addresses == ("10.244.1.2", "fd00:10:244:1::2")
    wait_for(lambda: endpoints(cluster, "a"), [("web-1", True, True), ("web-2", False, False)])
    cluster.patch("pod/a/web-2", {"metadata": {"annotations": {"lab/ready": None}}})
    cluster.settle(60)
    wait_for(lambda: endpoints(cluster, "a"), [("web-1", True, True), ("web-2", True, True)])
    (made,) = cluster.list("endpointslice", "a")
    assert sorted(endpoint["zone"] for endpoint in made["endpoints"]) == ["a", "b"]


def test_grace_phase_and_namespace(cluster: ApiCluster, world: RecordingWorld) -> None:
    cluster.apply(inside("b", service(), pod("web-1", terminationGracePeriodSeconds=1), pod("web-2")))
    cluster.settle(60)
    cluster.delete(["pod/b/web-1"])
    cluster.settle(60)
    wait_for(lambda: ("b", "web-1") in world.pods, False)
    cluster.patch("pod/b/web-2", {"metadata": {"annotations": {"lab/phase": "Succeeded"}}})
    cluster.settle(60)
    wait_for(lambda: endpoints(cluster, "b"), [])
    cluster.delete(["namespace/b"])
    wait_for(lambda: cluster.get("namespace/b"), None)
    assert ("b", "web-2") not in world.pods


def test_status_of_a_service_and_on_top_of_the_kubelets(cluster: ApiCluster) -> None:
    lame = {**pod("lame"), "status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    balancer = {**service(type="LoadBalancer"), "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}}
    cluster.apply(inside("c", lame, balancer))
    wait_for(lambda: endpoints(cluster, "c"), [("lame", False, False)])
    found = cluster.get("service/c/web")
    assert found is not None and found["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.7"
    cluster.patch("service/c/web", {"spec": {"type": "ExternalName", "externalName": "a.example"}})


def test_a_replaced_pod_is_another_one(cluster: ApiCluster, world: RecordingWorld) -> None:
    cluster.apply(inside("d", pod("web-1")))
    cluster.apply(inside("d", pod("web-1", labels={"app": "db"})))
    cluster.settle(60)
    first = world.pods["d", "web-1"].uid
    cluster.apply(inside("d", pod("web-1", "n2")))
    cluster.settle(60)
    assert world.pods["d", "web-1"].uid != first
    assert world.pods["d", "web-1"].node == "n2"


def test_changes_while_the_api_server_is_stopped(cluster: ApiCluster, world: RecordingWorld) -> None:
    cluster.api({"do": "stop"})
    cluster.apply(inside("e", pod("web-1")))
    cluster.settle(60)
    assert ("e", "web-1") in world.pods
    cluster.api({"do": "start"})
    for command in ({"slow": 0.05}, {"slow": 0.0}, {"do": "cut"}, {"do": "expire"}):
        cluster.api(command)
    cluster.apply(inside("e", pod("web-2")))
    cluster.settle(60)
    assert ("e", "web-2") in world.pods


def test_agents_get_access_and_errors_are_the_servers_own(cluster: ApiCluster, world: RecordingWorld) -> None:
    access = json.loads((Path(world.directory) / "n2" / "kubeconfig").read_text())
    assert access["clusters"][0]["cluster"]["server"].startswith("https://127.0.0.1:")
    assert access["users"][0]["user"]["token"]
    with pytest.raises(LabError, match=r"service/default/web: .*spec\.ports"):
        cluster.apply([service(ports=None)])
    with pytest.raises(LabError, match="not found"):
        cluster.patch("service/default/none", {"spec": {}})
