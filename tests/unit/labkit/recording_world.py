"""A World that only remembers which Pods it was told of, and a scenario to go with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from tests.labkit.model import AgentSpec, NodeSpec, PodNetwork, Scenario
from tests.labkit.ports import World


class RecordingWorld:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pods: dict[tuple[str, str], PodNetwork] = {}
        self.events: list[str] = []

    def as_world(self) -> World:
        return cast(World, self)  # the kubelet's part of it

    def node_dir(self, node: str) -> Path:
        path = self.directory / node
        path.mkdir(parents=True, exist_ok=True)
        return path

    def add_pod(self, pod: PodNetwork) -> tuple[str, ...]:
        self.pods[pod.namespace, pod.name] = pod
        self.events.append(f"add {pod.name}")
        return pod.addresses or ("10.244.1.77",)

    def pod_terminating(self, namespace: str, name: str) -> None:
        self.events.append(f"terminating {name}")

    def stop_pod_servers(self, namespace: str, name: str) -> None:
        self.events.append(f"stop {name}")

    def remove_pod(self, namespace: str, name: str) -> None:
        del self.pods[namespace, name]
        self.events.append(f"remove {name}")


def scenario(source: str = "manifests") -> Scenario:
    nodes = {
        f"n{i}": NodeSpec(
            f"n{i}",
            (f"192.0.2.1{i}/25", f"2001:db8::1{i}"),
            (f"10.244.{i}.0/24", f"fd00:10:244:{i}::/64"),
            labels={"topology.kubernetes.io/zone": "ab"[i % 2]},
        )
        for i in (1, 2)
    }
    cidrs = ("10.96.0.0/16", "fd00:10:96::/112")
    return Scenario(Path("test.yaml"), nodes, cidrs, {}, AgentSpec(source=source), ())


def pod(name: str, node: str = "n1", **changes: Any) -> dict[str, Any]:
    """`annotations`, `labels` and any key of spec may be given; labels default to app: web."""
    metadata = {"name": name, "labels": changes.pop("labels", {"app": "web"})}
    metadata["annotations"] = {f"lab/{key}": value for key, value in changes.pop("annotations", {}).items()}
    ports = [{"name": "http", "containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]
    spec = {"nodeName": node, "containers": [{"name": "web", "image": "web", "ports": ports}], **changes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    body = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": body}
