"""DECIDE, for a Service with healthCheckNodePort: where to listen, and what to answer. Pure; rules S12.*, S6.05.

A cloud load balancer asks this port of every node and leaves out those without a local endpoint. Terminating endpoints
do not count, though they may still be served: the load balancer should go elsewhere before they are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kuberouter_py.config import Config
from kuberouter_py.controllers.claims import Item, Unit
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model.cluster import READY, Cidr, EndpointSlice, Service
from kuberouter_py.model.healthcheck import HealthCheck, HealthCheckPort

HEALTH_CHECKS = "health checks"


def has_health_check(service: Service) -> bool:
    return service.type == "LoadBalancer" and service.external_local and service.health_check_node_port > 0


def health_check_units(
    service: Service, slices: Sequence[EndpointSlice], view: NodeView, config: Config
) -> Iterator[tuple[HealthCheckPort, Unit]]:
    """One unit for each listener: two Services that want one port (hand-made objects) contest it like an address."""
    if not has_health_check(service):
        return
    told = HealthCheck(service.key, _local_endpoints(slices, view))
    for address in listening_addresses(view, config):
        key = HealthCheckPort(address, service.health_check_node_port)
        yield key, (Item(HEALTH_CHECKS, key, told),)


def listening_addresses(view: NodeView, config: Config) -> Iterable[bytes]:
    """Every address, VIPs too, unless the operator said that NodePorts answer on some only (S6.05)."""
    asked = config.nodeport_addresses
    everywhere = "all" in asked or all(isinstance(one, Cidr) and one.prefix == 0 for one in asked)
    return (b"",) if everywhere else view.nodeport_addresses


def _local_endpoints(slices: Sequence[EndpointSlice], view: NodeView) -> int:
    """Distinct addresses over all ports (S12.04). A pod of both families is one: the family that has more counts."""
    ready: dict[int, set[bytes]] = {family: set() for family in view.families}
    for part in slices:
        if part.family in ready:
            ready[part.family].update(
                one.address for one in part.endpoints if one.node == view.name and one.conditions & READY
            )
    return max(map(len, ready.values()), default=0)
