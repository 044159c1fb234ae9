"""What runs once and ends: cleanup (sync to nothing) and plan (a sync that writes nothing)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import NamedTuple

import structlog

from kuberouter_py.agent.carrying import forget
from kuberouter_py.agent.controllers import firewall_controller, routing_controller, services_controller
from kuberouter_py.agent.edges import ServicesEdges
from kuberouter_py.agent.firewall_edges import FirewallEdges
from kuberouter_py.agent.routing_edges import RoutingEdges
from kuberouter_py.agent.source import NoCluster, Source, kinds_of
from kuberouter_py.config import Config
from kuberouter_py.controllers.firewall.controller import FirewallController
from kuberouter_py.controllers.outcome import Outcome
from kuberouter_py.controllers.reconcile import Reconciler
from kuberouter_py.controllers.routing.controller import RoutingController
from kuberouter_py.model import notation
from kuberouter_py.model.report import ControllerStatus
from kuberouter_py.observe.log import configure
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.kinds import Kind

log = structlog.get_logger(__name__)

QUIET = -1  # a command whose output is the answer logs only what is wrong


def cleanup(config: Config) -> int:
    """Take everything of ours off this node. Needs no API server. The process's exit status."""
    configure(config.log_format, config.v)
    left_over = 0
    for controller in (  # nobody is told of an address any more before it goes
        routing_controller(config, RoutingEdges(config, load_modules=False), Cache()),
        firewall_controller(config, FirewallEdges(config, load_modules=False), Cache()),
        services_controller(config, ServicesEdges(config, load_modules=False), Cache(), looking_only=True),
    ):
        outcome = controller.cleanup()
        log_cleanup(controller.name, outcome)
        left_over += outcome.left_over
    forget()
    return 1 if left_over else 0


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


def plan(config: Config) -> Planned:
    """What a first sync, or with --cleanup a cleanup, would write now. Raises EdgeError, NoCluster."""
    configure("console", config.v or QUIET)
    firewall, services, routing = (
        on and not config.cleanup for on in (config.run_firewall, config.run_service_proxy, config.run_router)
    )
    kinds = kinds_of(replace(config, run_firewall=firewall, run_service_proxy=services, run_router=routing))
    with listed(config, kinds) if kinds else nullcontext() as source:
        cache = source.cache if source else Cache()
        planned = (
            _planned(firewall_controller(config, FirewallEdges(config, load_modules=False), cache))
            if firewall
            else _plan_of_nothing(FirewallEdges(config, load_modules=False)),
            _plan_of_services(config, cache)
            if services
            else _plan_of_nothing(ServicesEdges(config, load_modules=False)),
            _planned(routing_controller(config, RoutingEdges(config, load_modules=False), cache))
            if routing
            else _plan_of_nothing(RoutingEdges(config, load_modules=False)),
        )
    return Planned(
        [line for each in planned for line in each.lines],
        any(each.differs for each in planned),
        [reason for each in planned for reason in each.unread],
    )


def _plan_of_nothing(edges: FirewallEdges | ServicesEdges | RoutingEdges) -> Planned:
    """A controller that is off is a sync to nothing at start."""
    nothing = Reconciler(edges.tables)
    plans = nothing.plans(nothing.read())
    unread = [f"{table}: {refused.reason}" for (table, _key), refused in nothing.standing().items()]
    return Planned(notation.lines(plans), bool(plans), unread)


def _plan_of_services(config: Config, cache: Cache) -> Planned:
    controller = services_controller(config, ServicesEdges(config, load_modules=False), cache, looking_only=True)
    plans = controller.plan()
    return Planned(notation.lines(plans), bool(plans), _unread(controller.status({}, ())))


def _planned(controller: FirewallController | RoutingController) -> Planned:
    plans = controller.plan()
    return Planned(notation.lines(plans), bool(plans), _unread(controller.status({})))


def _unread(status: ControllerStatus) -> list[str]:
    return [f"{table}: {reason}" for table, reason in status.refused]


@contextmanager
def listed(config: Config, kinds: Sequence[Kind]) -> Iterator[Source]:
    """The cluster as it is now. Raises NoCluster where it cannot be read."""
    source = Source(config, kinds)
    source.start()
    try:
        if not source.wait_synced(config.cache_sync_timeout):
            errors = "; ".join(f"{kind}: {error}" for kind, error in source.errors().items())
            raise NoCluster(f"{source.name} gave no list of {', '.join(source.unsynced())}: {errors or 'no answer'}")
        yield source
    finally:
        source.stop()
