"""What the services controller reports when asked: counts, facts, notes, refusals, foreign virtual servers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kuberouter_py.config import Config
from kuberouter_py.controllers.history import History
from kuberouter_py.controllers.reconcile import Reconciler
from kuberouter_py.controllers.services.desired import MEMBERS, SERVERS
from kuberouter_py.controllers.services.refusals import is_failure
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model import notation
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import VirtualServer, address_text
from kuberouter_py.model.names import services_set
from kuberouter_py.model.report import ControllerStatus, Note
from kuberouter_py.model.values import cidr_text
from kuberouter_py.ports import Refused


def table_counts(reconciler: Reconciler, services: int, draining: int) -> dict[str, int]:
    servers: Mapping[Any, VirtualServer] = reconciler.wanted(SERVERS)
    vips = {services_set("vips", family) for family in (4, 6)}
    return {
        "services": services,
        "virtual servers": len(servers),
        "destinations": sum(len(server.destinations) for server in servers.values()),
        "draining": draining,
        "vips": sum(member.set in vips for member in reconciler.wanted(MEMBERS)),
    }


def facts(config: Config, view: NodeView) -> dict[str, str]:
    """How this node was understood; what an operator checks first when a source address is not as expected."""
    detector = view.detector
    if config.masquerade_all:
        detector = "not asked: --masquerade-all"
    elif view.detector == "none":
        detector = "none: only connections that took a VIP as their source are masqueraded"
    elif view.detector_cidrs:
        detector += " " + ", ".join(map(cidr_text, view.detector_cidrs))
    elif view.detector_interface:
        detector += f" {view.detector_interface}"
    no_port = "none in --nodeport-addresses" if config.nodeport_addresses else "none yet"
    return {
        "node": view.name,
        "addresses": ", ".join(map(address_text, view.primary.values())) or "none yet",
        "families": ", ".join(f"IPv{family}" for family in view.families),
        "local traffic": detector,
        "nodeport addresses": ", ".join(map(address_text, view.nodeport_addresses)) or no_port,
        "service CIDRs": ", ".join(map(cidr_text, view.service_cidrs)) or "not known: the ClusterIPs seen",
        "pod bridges": ", ".join(view.bridges) or "none",
        "vip link": config.vip_link,
    }


def _what(table: str, key: Any, owners: Sequence[ObjectKey]) -> str:
    """ "routes: 10.96.0.10 (default/web)"; a table's name alone where all of it is meant."""
    named = f" ({', '.join(map(str, owners))})" if owners else ""
    return f"{notation.where_text(table, key)}{named}"


def status_of(
    name: str,
    history: History,
    standing: Iterable[tuple[str, Any, Refused, Sequence[ObjectKey]]],
    numbers: Mapping[str, int],
    said: Mapping[str, str],
    notes: Iterable[Note],
    foreign_servers: tuple[str, ...],
) -> ControllerStatus:
    """standing: what is refused now, as (table, key, why, the Services that it is about)."""
    refused = [*standing]
    return replace(
        history.status(name),
        failures=sum(is_failure(table, reason) for table, _, reason, _ in refused),
        counts=dict(numbers),
        notes=tuple(notes),
        refused=tuple((_what(table, key, owners), reason.reason) for table, key, reason, owners in refused),
        facts=dict(said),
        foreign_servers=foreign_servers,
    )
