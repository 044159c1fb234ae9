"""What the routing controller reports when asked: counts, how the node was understood, notes, refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kuberouter_py.controllers.history import History
from kuberouter_py.controllers.routing.decisions import Decisions
from kuberouter_py.controllers.routing.nodes import ROUTES, TUNNELS
from kuberouter_py.controllers.routing.own import ANNOUNCED
from kuberouter_py.controllers.routing.view import View
from kuberouter_py.model.bgp import Announced
from kuberouter_py.model.kernel import address_text
from kuberouter_py.model.names import MAIN_TABLE
from kuberouter_py.model.notation import where_text
from kuberouter_py.model.report import ControllerStatus
from kuberouter_py.model.values import cidr_text
from kuberouter_py.ports import Refused


def status_of(
    history: History,
    decisions: Decisions,
    wanted: Callable[[str], Mapping[Any, Any]],
    standing: Mapping[tuple[str, Any], Refused],
    more_facts: Mapping[str, str],
) -> ControllerStatus:
    """standing: what is refused now, by table and key; key None: all of the table."""
    announced = wanted(ANNOUNCED).values()
    numbers = {
        "pod routes": sum(key.table == MAIN_TABLE for key in wanted(ROUTES)),
        "tunnels": len(wanted(TUNNELS)),
        "announced pod CIDRs": sum(value is Announced.PODS for value in announced),
        "announced Service addresses": sum(value is Announced.SERVICE for value in announced),
    }
    return replace(
        history.status("routing"),
        failures=len(standing),
        counts=numbers,
        notes=tuple(decisions.notes),
        refused=tuple((where_text(*where), refused.reason) for where, refused in standing.items()),
        facts={**_facts(decisions.view), **more_facts},
    )


def _facts(view: View) -> dict[str, str]:
    encapsulation = f"GUE to UDP port {view.gue_port}" if view.gue_port else "ipip"
    between = {"": "none", "subnet": f"to nodes of other subnets, {encapsulation}", "full": f"to all, {encapsulation}"}
    return {
        "addresses": ", ".join(map(address_text, view.primary.values())) or "none yet",
        "families": ", ".join(f"IPv{family}" for family in view.families),
        "pod CIDRs": ", ".join(map(cidr_text, view.pod_cidrs)) or "none yet",
        "tunnels": between.get(view.overlay, view.overlay),
    }
