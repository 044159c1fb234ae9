"""This node, as far as it depends on it which Service addresses are announced: one frozen value. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kuberouter_py.config import Config
from kuberouter_py.controllers.addresses import on_other_links
from kuberouter_py.model.cluster import Cidr, Node
from kuberouter_py.model.kernel import LinkState

# core/v1 LabelNodeExcludeBalancers: whatever its value, a load balancer outside leaves the node out.
EXCLUDED_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
# cluster-autoscaler's, once it has decided that the node goes (KEP 3836).
GOING_TAINT = "ToBeDeletedByClusterAutoscaler"


@dataclass(frozen=True)
class Announcer:
    """nothing, no_external: why this node announces no Service address at all, or none of the external ones; "": it
    does. held: there is somebody who might announce our addresses to us. local: see on_other_links().
    """

    node: str
    families: tuple[int, ...] = (4,)
    service_cidrs: tuple[Cidr, ...] = ()  # as the operator says, else the cluster
    local: Mapping[bytes, str] = field(default_factory=dict)
    nothing: str = ""
    no_external: str = ""
    held: bool = False


def announcer(
    config: Config,
    name: str,
    node: Node | None,
    links: Sequence[LinkState],
    families: tuple[int, ...],
    service_cidrs: Sequence[Cidr],
    peered: bool,
) -> Announcer:
    """peered: it has or may have sessions. `unschedulable` is not asked for: a cordoned node serves as before."""
    return Announcer(
        node=name,
        families=families,
        service_cidrs=config.service_cluster_ip_range or tuple(service_cidrs),
        local=on_other_links(config, links),
        nothing=_why_nothing(node),
        no_external=_why_no_external(node),
        held=peered,
    )


def _why_nothing(node: Node | None) -> str:
    if node is None:
        return "this node has no Node object"
    if node.deleting:
        return "this Node is being deleted"
    if GOING_TAINT in node.taints:
        return f"this Node has the taint {GOING_TAINT}"
    return ""


def _why_no_external(node: Node | None) -> str:
    return f"this Node has the label {EXCLUDED_LABEL}" if node and EXCLUDED_LABEL in node.labels else ""
