"""One status, with something of everything, and its document."""

from __future__ import annotations

from typing import Any, NamedTuple

from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.report import ControllerStatus, Note
from kuberouter_py.observe.status import status_document

NOW = 1_800_000_000.0


class Cache(NamedTuple):
    kind: str
    synced: bool
    objects: int
    last_event: float
    last_error: str = ""
    problems: tuple[tuple[str, str], ...] = ()


CACHES = (
    Cache("Service", True, 12, NOW - 3),
    Cache("EndpointSlice", True, 14, NOW - 60, "watch: connection refused", (("default/odd", "ports[0].port: nil"),)),
)
WEB = Note("Service", ObjectKey("default", "web"), "AddressRefused", "externalIP 203.0.113.9 is not served", event=True)
SERVICES = ControllerStatus(
    name="services",
    synced=True,
    last_sync=NOW - 3,
    last_duration=0.004,
    last_full_sync=NOW - 120,
    syncs=213,
    failures=1,
    last_error="",
    counts={"services": 12, "virtual servers": 30},
    notes=(WEB,),
    refused=(("virtual servers: TCP 10.96.0.9:80", "no such scheduler"),),
    facts={"local traffic": "NodeCIDR 10.244.1.0/24"},
    foreign_servers=("-A -t 198.51.100.7:80 -s rr",),
)


def document(**changes: Any) -> dict[str, Any]:
    return status_document(
        **{
            "version": "0.1.0",
            "node": "n1",
            "started": NOW - 3720,
            "now": NOW,
            "caches": CACHES,
            "controllers": (SERVICES,),
            "problems": ("cannot listen on *:10256: Address already in use",),
            "events": {"written": 2, "waiting": 0},
            **changes,
        }
    )


DOCUMENT = document()
