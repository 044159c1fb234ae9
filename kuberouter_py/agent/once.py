"""What runs once and ends: cleanup (sync to nothing) and plan (a sync that writes nothing)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import structlog

from kuberouter_py.agent.carrying import forget
from kuberouter_py.agent.edges import Node, ServicesEdges
from kuberouter_py.agent.source import KINDS_OF_SERVICES, NoCluster, Source, node_name
from kuberouter_py.config import Config
from kuberouter_py.controllers.history import Clocks
from kuberouter_py.controllers.reconcile import Outcome, Reconciler
from kuberouter_py.controllers.services.controller import ServicesController
from kuberouter_py.model import notation
from kuberouter_py.observe.log import configure
from kuberouter_py.watchers.cache import Cache

log = structlog.get_logger(__name__)

QUIET = -1  # a command whose output is the answer logs only what is wrong


def cleanup(config: Config) -> int:
    """Take everything of ours off this node. Needs no API server. The process's exit status."""
    configure(config.log_format, config.v)
    outcome = looking_controller(config, ServicesEdges(config, load_modules=False), Cache()).cleanup()
    log_cleanup("services", outcome)
    forget()
    return 1 if outcome.left_over else 0


def log_cleanup(controller: str, outcome: Outcome) -> None:
    """What it removed, and what it could not."""
    for table, reason in outcome.unread.items():
        if table in outcome.lacking:
            log.info("nothing to look at", table=table, reason=reason)
        else:
            log.error("not looked at", table=table, reason=reason)
    for (table, key), refused in outcome.refused.items():
        log.error("not removed", what=notation.key_text(table, key), table=table, reason=refused.reason)
    removed = {table.replace(" ", "_"): counts.removed for table, counts in outcome.tables.items() if counts.removed}
    log.info("cleaned up", controller=controller, failures=outcome.left_over, **removed)


class Planned(NamedTuple):
    """lines: in the notation of the tools. unread: tables that could not be looked at, each with the reason."""

    lines: list[str]
    differs: bool
    unread: list[str]


def plan(config: Config, _socket: str | None) -> Planned:
    """What a first sync, or with --cleanup a cleanup, would write now. Raises EdgeError, NoCluster."""
    configure("console", config.v or QUIET)
    if config.cleanup or not config.run_service_proxy:  # a controller that is off is a sync to nothing at start
        nothing = Reconciler(ServicesEdges(config, load_modules=False).tables)
        plans = nothing.plans(nothing.read())
        unread = [f"{table}: {refused.reason}" for (table, _key), refused in nothing.standing().items()]
        return Planned(notation.lines(plans), bool(plans), unread)
    with listed(config) as source:
        edges = ServicesEdges(config, load_modules=False)
        controller = looking_controller(config, edges, source.cache)
        plans = controller.plan()
    unread = [f"{table}: {reason}" for table, reason in controller.status({}, ()).refused]
    return Planned(notation.lines(plans), bool(plans), unread)


@contextmanager
def listed(config: Config) -> Iterator[Source]:
    """The cluster as it is now. Raises NoCluster where it cannot be read."""
    source = Source(config, KINDS_OF_SERVICES)
    source.start()
    try:
        if not source.wait_synced(config.cache_sync_timeout):
            errors = "; ".join(f"{kind}: {error}" for kind, error in source.errors().items())
            raise NoCluster(f"{source.name} gave no list of {', '.join(source.unsynced())}: {errors or 'no answer'}")
        yield source
    finally:
        source.stop()


def looking_controller(config: Config, edges: ServicesEdges, cache: Cache) -> ServicesController:
    """For one question, or one sync, outside the running agent."""
    return ServicesController(
        config,
        node_name(config),
        cache,
        Node(edges, looking_only=True),  # a cleanup has no question, a plan writes nothing
        edges.tables,
        edges.conntrack,
        Clocks(time.time, time.monotonic),
        on_report=lambda _report, _notes: None,
        messages=edges.messages,
    )
