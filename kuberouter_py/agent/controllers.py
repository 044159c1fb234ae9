"""Each controller over the edges of the real node: for the running agent, and (where nobody is told of a report) for
one question, or one sync, outside it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from kuberouter_py.agent.edges import Node, ServicesEdges
from kuberouter_py.agent.firewall_edges import FirewallEdges
from kuberouter_py.agent.routing_edges import RoutingEdges
from kuberouter_py.agent.source import node_name
from kuberouter_py.config import Config
from kuberouter_py.controllers.course import OnReport
from kuberouter_py.controllers.firewall.controller import FirewallController
from kuberouter_py.controllers.history import Clocks
from kuberouter_py.controllers.routing.controller import RoutingController
from kuberouter_py.controllers.services.controller import ServicesController
from kuberouter_py.model.report import Note, SyncReport
from kuberouter_py.watchers.cache import Cache

CLOCKS = Clocks(time.time, time.monotonic)


def nobody(_report: SyncReport, _notes: Sequence[Note]) -> None:
    """Is told."""


def services_controller(
    config: Config, edges: ServicesEdges, cache: Cache, on_report: OnReport = nobody, *, looking_only: bool = False
) -> ServicesController:
    """looking_only: see Node."""
    return ServicesController(
        config,
        node_name(config),
        cache,
        Node(edges, looking_only=looking_only),
        edges.tables,
        edges.conntrack,
        CLOCKS,
        on_report,
        edges.messages,
    )


def firewall_controller(
    config: Config, edges: FirewallEdges, cache: Cache, on_report: OnReport = nobody
) -> FirewallController:
    return FirewallController(
        config, node_name(config), cache, edges, edges.tables, edges.conntrack, CLOCKS, on_report, edges.messages
    )


def routing_controller(
    config: Config, edges: RoutingEdges, cache: Cache, on_report: OnReport = nobody
) -> RoutingController:
    return RoutingController(config, node_name(config), cache, edges, edges.tables, CLOCKS, on_report, edges.messages)
