"""The EndpointSlices of a Service with a selector, as kube-controller-manager writes them (M4.07). Pure.

Differences to it: endpoints are dealt to slices in the Pods' order instead of staying where they were, a zone follows
its node's label at once, and there are no topology-mode hints (those of trafficDistribution there are).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

Object = dict[str, Any]
MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
SERVICE_NAME: Final = "kubernetes.io/service-name"
HEADLESS: Final = "service.kubernetes.io/headless"
ZONE: Final = "topology.kubernetes.io/zone"
CONTROLLER: Final = "endpointslice-controller.k8s.io"
PER_SLICE: Final = 100
CLOSE: Final = ("PreferClose", "PreferSameZone", "PreferSameNode")


def wants_slices(service: Object) -> bool:
    """Services without a selector and ExternalNames are left alone, with whatever slices they have."""
    spec = _mapping(service.get("spec"))
    return bool(_mapping(spec.get("selector"))) and spec.get("type") != "ExternalName"


def slices_of(service: Object, pods: Iterable[Object], nodes: Mapping[str, Object]) -> dict[str, Object]:
    """By name: one slice per family and set of resolved ports, and at most PER_SLICE endpoints in each."""
    selector = _mapping(service["spec"]["selector"])
    chosen = [pod for pod in pods if _selected(pod, service, selector) and _usable(pod, service, nodes)]
    slices: dict[str, Object] = {}
    for family in _families(service):
        groups: dict[str, list[Object]] = {}
        for pod in chosen:
            if _addresses(pod, family):
                groups.setdefault(json.dumps(_ports(service, pod)), []).append(pod)
        for ports, members in (groups or {"[]": []}).items():
            for number in range(0, max(len(members), 1), PER_SLICE):
                endpoints = [_endpoint(pod, service, nodes, family) for pod in members[number : number + PER_SLICE]]
                made = _slice(service, family, json.loads(ports), number // PER_SLICE, endpoints)
                slices[made["metadata"]["name"]] = made
    return slices


def _slice(service: Object, family: str, ports: list[Object], number: int, endpoints: list[Object]) -> Object:
    metadata = service["metadata"]
    labels = {key: value for key, value in _mapping(metadata.get("labels")).items() if key != HEADLESS}
    labels |= {SERVICE_NAME: metadata["name"], MANAGED_BY: CONTROLLER}
    if service["spec"].get("clusterIP") in (None, "", "None"):
        labels[HEADLESS] = ""
    digest = hashlib.sha256(json.dumps([metadata["uid"], family, ports, number]).encode()).hexdigest()[:5]
    owner = {
        "apiVersion": "v1",
        "kind": "Service",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{metadata['name']}-{digest}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [owner],
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": ports,
    }


def _endpoint(pod: Object, service: Object, nodes: Mapping[str, Object], family: str) -> Object:
    metadata, spec = pod["metadata"], pod["spec"]
    serving = any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in pod["status"].get("conditions") or []
    )
    terminating = bool(metadata.get("deletionTimestamp"))
    ready = bool(service["spec"].get("publishNotReadyAddresses")) or (serving and not terminating)
    endpoint: Object = {
        "addresses": _addresses(pod, family),
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "nodeName": spec["nodeName"],
        "targetRef": {
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }
    node = _mapping(nodes.get(spec["nodeName"]))
    zone = _mapping(_mapping(node.get("metadata")).get("labels")).get(ZONE)
    if zone:
        endpoint["zone"] = zone
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        endpoint["hostname"] = spec["hostname"]
    hints = _hints(service["spec"].get("trafficDistribution"), endpoint) if ready else {}
    return endpoint | ({"hints": hints} if hints else {})


def _hints(distribution: Any, endpoint: Object) -> Object:
    hints: Object = {}
    if distribution in CLOSE and "zone" in endpoint:
        hints["forZones"] = [{"name": endpoint["zone"]}]
    if distribution == "PreferSameNode":
        hints["forNodes"] = [{"name": endpoint["nodeName"]}]
    return hints


def _ports(service: Object, pod: Object) -> list[Object]:
    """The Service's ports as this Pod resolves them; one it does not have is left out."""
    found = []
    for port in service["spec"].get("ports") or []:
        if not isinstance(port, dict):
            continue
        number = _number(port.get("targetPort", port.get("port")), str(port.get("protocol") or "TCP"), pod)
        if number is not None:
            entry = {"name": port.get("name") or "", "port": number, "protocol": port.get("protocol") or "TCP"}
            found.append(entry | ({"appProtocol": port["appProtocol"]} if port.get("appProtocol") else {}))
    return found


def _number(target: Any, protocol: str, pod: Object) -> int | None:
    if not isinstance(target, str):
        return target if isinstance(target, int) else None
    sidecars = [each for each in pod["spec"].get("initContainers") or [] if each.get("restartPolicy") == "Always"]
    for container in [*(pod["spec"].get("containers") or []), *sidecars]:
        for port in container.get("ports") or []:
            if port.get("name") == target and (port.get("protocol") or "TCP") == protocol:
                return int(port["containerPort"])
    return None


def _selected(pod: Object, service: Object, selector: Mapping[str, Any]) -> bool:
    labels = _mapping(pod["metadata"].get("labels"))
    same_namespace = pod["metadata"]["namespace"] == service["metadata"]["namespace"]
    return same_namespace and all(labels.get(key) == value for key, value in selector.items())


def _usable(pod: Object, service: Object, nodes: Mapping[str, Object]) -> bool:
    """Has an address, has not ended, and its Node exists (unless the Service wants unready ones too)."""
    status = _mapping(pod.get("status"))
    if not status.get("podIPs") or status.get("phase") in ("Succeeded", "Failed"):
        return False
    return pod["spec"].get("nodeName") in nodes or bool(service["spec"].get("publishNotReadyAddresses"))


def _families(service: Object) -> list[str]:
    families = service["spec"].get("ipFamilies")
    return [family for family in families or ["IPv4", "IPv6"] if family in ("IPv4", "IPv6")]


def _addresses(pod: Object, family: str) -> list[str]:
    parsed = [ipaddress.ip_address(entry["ip"]) for entry in pod["status"]["podIPs"]]
    return [str(address) for address in parsed if f"IPv{address.version}" == family]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
