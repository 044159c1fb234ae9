"""The same objects for every benchmark: N Services with M endpoints each, as the API server would write them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

NODE = "bench-node"
NODE_ADDRESS = "192.0.2.11"
PORT, TARGET_PORT = 80, 8080


def cluster_ip(number: int) -> str:
    """10.96.0.0/12 from its 11th address on: room for a million Services."""
    number += 10
    return f"10.{96 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def endpoint_ip(number: int) -> str:
    """10.128.0.0/9, which is no Service address; pods of this node have 10.244.1.0/24 and are not among them."""
    return f"10.{128 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def service(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": f"svc-{number}",
            "namespace": f"ns-{number % 100}",
            "uid": f"00000000-0000-4000-8000-{number:012}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": cluster_ip(number),
            "clusterIPs": [cluster_ip(number)],
            "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "protocol": "TCP", "port": PORT, "targetPort": TARGET_PORT}],
            "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster",
        },
    }


def endpoint_slice(
    number: int, endpoints: int, *, generation: int = 0, addresses: Sequence[str] = ()
) -> dict[str, Any]:
    """generation: an odd one has a last endpoint of its own, so that every step of it is a change of one endpoint.

    addresses: other endpoints than those that are the Service's own.
    """
    first = number * endpoints
    addresses = [*addresses] or [endpoint_ip(first + each) for each in range(endpoints)]
    if generation % 2:
        addresses[-1] = f"10.127.{number >> 8 & 255}.{number & 255}"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"svc-{number}-abcde",
            "namespace": f"ns-{number % 100}",
            "uid": f"00000000-0000-4000-9000-{number:012}",
            "resourceVersion": str(1000 + generation),
            "labels": {
                "kubernetes.io/service-name": f"svc-{number}",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": TARGET_PORT}],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": f"node-{each % 50}",
                "zone": f"zone-{each % 3}",
                "targetRef": {
                    "kind": "Pod",
                    "namespace": f"ns-{number % 100}",
                    "name": f"svc-{number}-5d7c9f8b6-{each:05}",
                    "uid": f"00000000-0000-4000-{each:04x}-{number:012}",
                },
            }
            for each, address in enumerate(addresses)
        ],
    }


def node() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "uid": "00000000-0000-4000-a000-000000000000"},
        "spec": {"podCIDRs": ["10.244.1.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}]},
    }


def objects(services: int, endpoints: int) -> Iterator[dict[str, Any]]:
    yield node()
    for number in range(services):
        yield service(number)
        yield endpoint_slice(number, endpoints)


def write_manifests(directory: Path, all_objects: Iterable[dict[str, Any]]) -> None:
    """A JSON List for each two hundred, as `kubectl get -o json` would write them."""
    directory.mkdir(parents=True, exist_ok=True)
    batch: list[dict[str, Any]] = []
    files = 0
    for each in all_objects:
        batch.append(each)
        if len(batch) >= 200:
            files, batch = _write(directory, files, batch), []
    if batch:
        _write(directory, files, batch)


def _write(directory: Path, number: int, items: list[dict[str, Any]]) -> int:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, separators=(",", ":"))
    (directory / f"part-{number:04}.json").write_text(text)
    return number + 1
