"""What the firewall reports when asked: counts, how the node was understood, notes, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kuberouter_py.controllers.firewall.decisions import Decisions
from kuberouter_py.controllers.firewall.notes import CLOSED, NOT_UP_TO_DATE
from kuberouter_py.controllers.history import History
from kuberouter_py.model.notation import where_text
from kuberouter_py.model.report import ControllerStatus
from kuberouter_py.model.values import cidr_text
from kuberouter_py.ports import Refused


def status_of(
    name: str,
    history: History,
    decisions: Decisions,
    standing: Mapping[tuple[str, Any], Refused],
    more_facts: Mapping[str, str],
) -> ControllerStatus:
    """standing: what is refused now, by table and key; key None: all of the table."""
    notes = tuple(decisions.notes)
    local = list(decisions.world.local())
    numbers = {
        "policies": sum(1 for _ in decisions.world.policies()),
        "local pods": len(local),
        "isolated pods": sum(bool(decisions.guards.wanted(pod.key)) for pod in local),
        "guards": len(decisions.guards.known()),
        "peer sets": decisions.peers.count(),
        "closed pods": len({note.owner for note in notes if note.reason == CLOSED}),
        "pods under earlier rules": len({note.owner for note in notes if note.reason == NOT_UP_TO_DATE}),
    }
    view = decisions.view
    said = {
        "families": ", ".join(f"IPv{family}" for family in view.families),
        "pod CIDRs": ", ".join(map(cidr_text, view.pod_cidrs)) or "none",
        "pods without rules yet": decisions.unknown_are,
    }
    return replace(
        history.status(name),
        failures=len(standing),
        counts=numbers,
        notes=notes,
        refused=tuple((where_text(*where), refused.reason) for where, refused in standing.items()),
        facts={**said, **more_facts},
    )
