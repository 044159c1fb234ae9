"""A folder of manifests as a cluster: what files an agent finds after which steps, and what becomes of the Pods."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.labkit.kubelet import Kubelets, Writer
from tests.labkit.manifest_cluster import ManifestCluster
from tests.labkit.ports import LabError
from tests.unit.labkit.recording_world import RecordingWorld, pod, scenario, service


@pytest.fixture
def world(tmp_path: Path) -> RecordingWorld:
    return RecordingWorld(tmp_path)


@pytest.fixture
def cluster(world: RecordingWorld) -> Iterator[ManifestCluster]:
    made = ManifestCluster()
    made.start(scenario(), world.as_world())
    yield made
    made.stop()


def files(world: RecordingWorld, node: str = "n1") -> dict[str, Any]:
    found = sorted((world.directory / node / "manifests").iterdir())
    return {path.name: yaml.safe_load(path.read_text()) for path in found}


def endpoints(cluster: ManifestCluster) -> list[tuple[str, bool]]:
    return [
        (endpoint["targetRef"]["name"], endpoint["conditions"]["ready"])
        for made in cluster.list("EndpointSlice")
        for endpoint in made["endpoints"]
    ]


def test_every_agent_finds_the_same_files(world: RecordingWorld, cluster: ManifestCluster) -> None:
    cluster.apply([service(), pod("web-1")])
    names = list(files(world))
    assert names[:4] == ["endpointslice_default_" + names[0].split("_")[2], "namespace_default.yaml",
                         "namespace_kube-system.yaml", "node_n1.yaml"]  # fmt: skip
    assert files(world, "n2") == files(world)
    assert cluster.agent_arguments("n1")[0] == ("--manifests", "/run/lab/manifests")
    node = files(world)["node_n1.yaml"]
    assert node["status"]["addresses"][0] == {"type": "InternalIP", "address": "192.0.2.11"}
    assert node["spec"]["podCIDRs"] == ["10.244.1.0/24", "fd00:10:244:1::/64"]


def test_creation_is_strictly_ordered_unless_given(cluster: ManifestCluster) -> None:
    given = service("c")
    given["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    cluster.apply([service("b"), service("a"), given])
    born = {each["metadata"]["name"]: each["metadata"]["creationTimestamp"] for each in cluster.list("svc")}
    assert born["b"] < born["a"]
    assert born["c"] == "2020-01-01T00:00:00Z"


def test_a_pod_runs_and_is_an_endpoint(world: RecordingWorld, cluster: ManifestCluster) -> None:
    cluster.apply([service(), pod("web-1"), pod("web-2", "n2", annotations={"ready": "false"})])
    cluster.settle(1)
    assert world.pods["default", "web-1"].addresses == ("10.244.1.2", "fd00:10:244:1::2")
    assert world.pods["default", "web-1"].ports == (("tcp", 80), ("udp", 53))
    assert endpoints(cluster) == [("web-1", True), ("web-2", False)]
    cluster.patch("pod/default/web-2", {"metadata": {"annotations": {"lab/ready": None}}})
    assert endpoints(cluster) == [("web-1", True), ("web-2", True)]


def test_host_network_and_no_node(world: RecordingWorld, cluster: ManifestCluster) -> None:
    cluster.apply([pod("h", hostNetwork=True), pod("nowhere", node="n9")])
    cluster.settle(1)
    assert world.pods["default", "h"].addresses == ("192.0.2.11", "2001:db8::11")
    assert list(world.pods) == [("default", "h")]


def test_a_finished_pod_keeps_its_status_and_frees_its_address(world: RecordingWorld, cluster: ManifestCluster) -> None:
    cluster.apply([service(), pod("job", annotations={"ip": "10.244.1.9"})])
    with pytest.raises(LabError, match="belongs to another Pod"):
        cluster.apply([pod("early", annotations={"ip": "10.244.1.9"})])
    cluster.delete(["pod/default/early"])
    cluster.patch("pod/default/job", {"metadata": {"annotations": {"lab/phase": "Failed"}}})
    assert world.events[-1] == "stop job"
    assert endpoints(cluster) == []
    found = cluster.get("pod/default/job")
    assert found is not None
    assert (found["status"]["phase"], found["status"]["podIPs"]) == ("Failed", [{"ip": "10.244.1.9"}])
    cluster.apply([pod("next", annotations={"ip": "10.244.1.9"})])
    assert endpoints(cluster) == [("next", True)]


def test_a_deleted_pod_serves_through_its_grace_period(
    world: RecordingWorld, cluster: ManifestCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers: list[tuple[float, Any]] = []

    class Timer(threading.Timer):
        def start(self) -> None:
            timers.append((self.interval, lambda: self.function(*self.args)))

    monkeypatch.setattr(threading, "Timer", Timer)
    cluster.apply([service(), pod("web-1", terminationGracePeriodSeconds=7)])
    cluster.delete(["pod/default/web-1"])
    conditions = cluster.list("endpointslice")[0]["endpoints"][0]["conditions"]
    assert conditions == {"ready": False, "serving": True, "terminating": True}
    assert world.events == ["add web-1", "terminating web-1"]
    ((seconds, end),) = timers
    assert seconds == 7
    end()
    assert world.events[-1] == "remove web-1"
    assert cluster.get("pod/default/web-1") is None
    assert endpoints(cluster) == []


def test_a_pod_that_has_ended_goes_at_once_when_it_is_deleted(world: RecordingWorld) -> None:
    """An API server may show a Pod that has ended once more, with a deletionTimestamp, before it is gone."""
    removed = threading.Event()

    class Told(Writer):
        def write_status(self, pod: dict[str, Any], status: dict[str, Any]) -> None: ...
        def remove(self, pod: dict[str, Any]) -> None:
            removed.set()

    kubelets = Kubelets(scenario().nodes, world.as_world(), Told())
    ended = pod("job", annotations={"phase": "Failed"})
    ended["metadata"] |= {"namespace": "default", "uid": "u1"}
    kubelets.observe(ended)
    ended["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    kubelets.observe(ended)
    assert removed.wait(5)
    assert world.events == ["add job", "stop job", "remove job"]


def test_hand_made_slices_are_left_alone(cluster: ManifestCluster) -> None:
    hand_made = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "by-hand", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.99"]}],
    }
    cluster.apply([hand_made, service()])
    assert len(cluster.list("EndpointSlice")) == 2
    cluster.delete(["service/web"])
    (left,) = cluster.list("EndpointSlice")
    assert left["metadata"]["name"] == "by-hand"
    assert left["endpoints"] == hand_made["endpoints"]


def test_status_takes_effect(cluster: ManifestCluster) -> None:
    balancer = {**service(type="LoadBalancer"), "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}}
    cluster.apply([balancer])
    cluster.apply([service(type="LoadBalancer")])
    found = cluster.get("service/default/web")
    assert found is not None and found["status"] == balancer["status"]
    cluster.patch("service/default/web", {"status": {"loadBalancer": {"ingress": None}}})
    found = cluster.get("service/default/web")
    assert found is not None and found["status"] == {"loadBalancer": {}}
    lame = {**pod("lame"), "status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    cluster.apply([lame])
    assert endpoints(cluster) == [("lame", False)]


def test_a_namespace_takes_everything_along(world: RecordingWorld, cluster: ManifestCluster) -> None:
    there = [pod("web-1", terminationGracePeriodSeconds=0), service()]
    for thing in there:
        thing["metadata"]["namespace"] = "y"
    cluster.apply(there)
    assert cluster.get("namespace/y") is not None
    cluster.delete(["namespace/y"])
    assert cluster.get("namespace/y") is None
    assert world.pods == {}
    assert [name for name in files(world) if "_y" in name] == []


def test_no_unknown_word_is_passed_over(cluster: ManifestCluster) -> None:
    for document, word in (
        (pod("a", annotations={"raedy": "false"}), "lab/raedy"),
        (pod("a", annotations={"ready": "no"}), "true, false"),
        ({"apiVersion": "v1", "kind": "Servcie", "metadata": {"name": "a"}}, "Servcie"),
        ({"apiVersion": "v2", "kind": "Service", "metadata": {"name": "a"}}, "v2"),
        ({"apiVersion": "v1", "kind": "Service", "metadata": {}}, "metadata.name"),
    ):
        with pytest.raises(LabError, match=word):
            cluster.apply([document])
    for reference in ("pod/a/b/c", "thing/a", "node/a/b", "pod/"):
        with pytest.raises(LabError):
            cluster.get(reference)
    with pytest.raises(LabError, match="none to patch"):
        cluster.patch("service/default/none", {})
    with pytest.raises(LabError, match="none to delete"):
        cluster.delete(["service/default/none"])
    with pytest.raises(LabError, match="apiserver"):
        cluster.api({"do": "stop"})
