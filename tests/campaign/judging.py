"""What the judge says of every cell: what this node has to let through, and how each side of it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from ipaddress import ip_address
from typing import NamedTuple

from kuberouter_py.controllers.firewall.judge import Attempt, Cluster, verdict
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.watchers.cache import Cache
from tests.campaign.network import NODE, PROTOCOLS, Place
from tests.campaign.probes import ICMP, Cell
from tests.fakes.worlds import PORTS


class Stand(NamedTuple):
    """How one end stands. pod: whose its address is."""

    isolated: bool
    allowed: bool
    pod: ObjectKey | None = None


class Said(NamedTuple):
    """egress, ingress: of an end on this node; another is judged by its own node, and is open here."""

    egress: Stand
    ingress: Stand

    @property
    def allowed(self) -> bool:
        return self.egress.allowed and self.ingress.allowed

    @property
    def isolated(self) -> bool:
        return self.egress.isolated or self.ingress.isolated

    @property
    def is_by_rule(self) -> bool:
        """Allowed, and not because nobody forbids anything."""
        return self.allowed and self.isolated


_OPEN = Stand(False, True)


@cache
def _packed(text: str) -> bytes:
    return ip_address(text).packed


def cells(places: Mapping[str, Place]) -> list[Cell]:
    """Every two places of which one is on this node, and by way of a Service whom it may lead to."""
    found = []
    for source in places.values():
        for destination in places.values():
            if source.name == destination.name or not (source.local or destination.local):
                continue
            if NODE in (source.name, destination.name) and not (source.local and destination.local):
                continue
            for family in source.addresses:
                found.append(Cell(source.name, destination.name, family, ICMP, 0))
                for protocol in PROTOCOLS:
                    for port in PORTS:
                        found.append(Cell(source.name, destination.name, family, protocol, port))
                        if NODE not in (source.name, destination.name):
                            found.append(Cell(source.name, destination.name, family, protocol, port, True))
    return found


def judged(
    asked: Iterable[Cell], places: Mapping[str, Place], cluster: Cache, *, default_deny: bool
) -> dict[Cell, Said]:
    """default_deny: addresses of this node that no pod has are closed."""
    there = Cluster(cluster.policies(), cluster.pods_in_full(), cluster.namespaces())
    said: dict[Cell, Said] = {}
    for cell in asked:  # by way of a Service it is the same attempt
        direct = cell._replace(service=False)
        if direct not in said:
            said[direct] = _said(direct, places, there, default_deny)
        said[cell] = said[direct]
    return said


def _said(cell: Cell, places: Mapping[str, Place], cluster: Cluster, default_deny: bool) -> Said:
    source, destination = places[cell.source], places[cell.destination]
    number = PROTOCOLS[cell.protocol] if cell.protocol != ICMP else 1 if cell.family == 4 else 58
    found = verdict(
        Attempt(
            _packed(source.addresses[cell.family]),
            _packed(destination.addresses[cell.family]),
            number,
            cell.port,
            from_node=source.name == NODE,
        ),
        cluster,
    )
    egress, ingress = (
        Stand(True, False)
        if default_deny and place.name != NODE and side.pod is None
        else Stand(side.isolated, side.allowed, side.pod)
        for place, side in ((source, found.egress), (destination, found.ingress))
    )
    if source.name == NODE:  # it may come to whatever runs on it
        ingress = ingress._replace(allowed=True)
    return Said(egress if source.local else _OPEN, ingress if destination.local else _OPEN)
