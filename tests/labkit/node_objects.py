"""A world's nodes as Node objects."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from tests.labkit.model import NodeSpec

READY: Final = {
    "type": "Ready",
    "status": "True",
    "reason": "KubeletReady",
    "message": "the lab plays kubelet",
    "lastHeartbeatTime": "2026-01-01T00:00:00Z",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


def node_object(node: NodeSpec) -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "address": str(ipaddress.ip_interface(each).ip)} for each in node.addresses]
    cidrs = [str(ipaddress.ip_network(cidr, strict=False)) for cidr in node.pod_cidrs]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": {"kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux", **node.labels},
            "annotations": dict(node.annotations),
        },
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs} if cidrs else {},
        "status": {"addresses": [*addresses, {"type": "Hostname", "address": node.name}], "conditions": [dict(READY)]},
    }
