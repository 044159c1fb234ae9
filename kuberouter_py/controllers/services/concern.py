"""Which Services a change of the node concerns: the inputs of a decision that are outside its object. Pure.

What desired.py reads of the view is listed here; the rest of it concerns the node's own share alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from kuberouter_py.controllers.services.desired import route_source
from kuberouter_py.controllers.services.scheduling import schedulers_needed
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model.cluster import ObjectKey, Service


class Concern(NamedTuple):
    """now: few, and what they serve is wrong until then. later: may be all of the rest, a slice at a time."""

    now: set[ObjectKey]
    later: set[ObjectKey]


def concern(
    before: NodeView,
    after: NodeView,
    services: Iterable[Service],
    holders: Callable[[bytes], Collection[ObjectKey]],
    direct: Collection[ObjectKey] = (),
) -> Concern:
    """holders: the Services that name an address. direct: those with direct return, whose endpoints may be nodes'.
    services is walked only where more than addresses came or went.
    """
    moved = {address for address, _link in before.local.items() ^ after.local.items()}
    moved |= before.elsewhere ^ after.elsewhere
    now = {key for address in moved for key in holders(address)} | ({*direct} if moved else set())
    ports = before.nodeport_addresses != after.nodeport_addresses
    everywhere = before.families != after.families or _sources(before) != _sources(after)
    zone = before.zone != after.zone  # S3.10
    cidrs = before.service_cidrs != after.service_cidrs
    schedulers = before.missing_schedulers ^ after.missing_schedulers
    later: set[ObjectKey] = set()
    if not (ports or everywhere or zone or cidrs or schedulers):
        return Concern(now, later)
    for service in services:
        external = cidrs and (service.external_ips or service.ingress_ips)
        if ports and (service.health_check_node_port or any(port.node_port for port in service.ports)):
            now.add(service.key)
        elif everywhere or zone or external or (schedulers and schedulers & schedulers_needed(service)):
            later.add(service.key)
    return Concern(now, later)


def _sources(view: NodeView) -> tuple[bytes, bytes]:
    return route_source(view, 4), route_source(view, 6)
