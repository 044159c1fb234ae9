"""Firewalls with one deliberate defect each, in what keeps the moments of a change safe: a test of the tests.

Within `mutant(NAME)` every FirewallController has it. What finds each of them is in docs/lab.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any
from unittest.mock import patch

from kuberouter_py.controllers.firewall import chains as fixed
from kuberouter_py.controllers.firewall import decisions
from kuberouter_py.controllers.firewall.controller import FirewallController
from kuberouter_py.controllers.firewall.decisions import Decisions, Dirty
from kuberouter_py.controllers.firewall.guards import Guard
from kuberouter_py.controllers.firewall.membership import Membership, Place
from kuberouter_py.controllers.firewall.peers import Peers
from kuberouter_py.controllers.firewall.rules import rules_of
from kuberouter_py.controllers.firewall.standing import CHAINS, MEMBERS
from kuberouter_py.controllers.firewall.world import World
from kuberouter_py.controllers.outcome import Outcome
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import SetMember
from kuberouter_py.model.names import fingerprint
from kuberouter_py.model.policies import NetworkPolicy

Patch = contextlib.AbstractContextManager[Any]


def _isolates_last() -> Patch:
    """Pods are isolated after they have become others' peers."""

    def isolate(self: Decisions, pods: Collection[ObjectKey], dirty: Dirty) -> None:
        pass

    return patch.object(Decisions, "isolate", isolate)


def _releases_first() -> Patch:
    """Pods are isolated no more before they have ceased to be others' peers."""

    def isolate(self: Decisions, pods: Collection[ObjectKey], dirty: Dirty) -> None:
        self._isolate(pods, dirty, stay=False)

    return patch.object(Decisions, "isolate", isolate)


def _enters_alone() -> Patch:
    """A pod leaves its guard as it enters the new one, and before its memberships as a peer change."""
    guards = Membership.guards

    def alone(self: Membership, pod: ObjectKey, standing: Any, *, stay: bool) -> Iterator[SetMember]:
        return guards(self, pod, standing, stay=False)

    return patch.object(Membership, "guards", alone)


def _enters_last() -> Patch:
    """Pods enter their guards when everything else has been written."""

    def enter(self: Decisions, dirty: Dirty) -> set[ObjectKey]:
        pods = self.membership.unsettled(self._intake.targets)
        self._intake.targets = set()
        return pods

    return patch.object(Decisions, "enter", enter)


def _replaces_at_once() -> Patch:
    """What one direction allows more comes before what the other denies."""
    return patch.object(Decisions, "hold_back", lambda *_: None)


def _fills_at_once() -> Patch:
    """A new process puts pods into sets of peers that stand before these pods are isolated."""
    return patch.object(Decisions, "_new_in_old_sets", lambda *_: set())


def _narrows_at_once() -> Patch:
    """What rules speak of no more is emptied before those rules have been replaced."""
    compile_guard = Decisions._compile

    def compiled(self: Decisions, guard: Guard, dirty: Dirty) -> None:
        with patch.object(Peers, "used", lambda *_: frozenset()):
            compile_guard(self, guard, dirty)

    return patch.object(Decisions, "_compile", compiled)


def _names_guards_by_policy() -> Patch:
    """A policy that selects others keeps its guards: whom it leaves meets its new rules on the way."""

    def init(self: Guard, direction: str, policies: Sequence[NetworkPolicy]) -> None:
        self.direction = direction
        self.policies = tuple(policy.key for policy in policies)
        self.selectors = tuple(policy.pods for policy in policies)
        self.name = f"{direction[0]}-{fingerprint(direction, *(word for each in policies for word in each.key))}"
        self.chain = f"KRPY-FW-{self.name.upper()}"

    def policies_of(world: World, guard: Guard) -> list[NetworkPolicy] | None:
        found = [policy for key in guard.policies if (policy := world.policy(key)) is not None]
        isolating = [policy for policy in found if rules_of(policy, guard.direction) is not None]
        return isolating if len(isolating) == len(guard.policies) else None

    stack = contextlib.ExitStack()
    stack.enter_context(patch.object(Guard, "__init__", init))
    stack.enter_context(patch.object(decisions, "policies_of", policies_of))
    return stack


def _closes_nobody() -> Patch:
    """A pod whose rules cannot be written, and that has none, is open."""
    fixed_sets = Membership._fixed_sets

    def without(self: Membership, pod: ObjectKey, standing: Any, families: Collection[int]) -> set[Place]:
        return {place for place in fixed_sets(self, pod, standing, families) if place[0] not in fixed.CLOSED}

    return patch.object(Membership, "_fixed_sets", without)


def _keeps_nothing() -> Patch:
    """A pod whose new rules cannot be written is closed, though it has others."""
    return patch.object(Membership, "_places", lambda *_: {})


def _forgets_at_restart() -> Patch:
    """A new process does not hold pods in the guards in which the one before left them."""
    return patch.object(Membership, "found", lambda *_: None)


def _clears_at_restart() -> Patch:
    """A new process takes away at once what it does not want, before what it wants is complete."""
    stages = FirewallController._stages

    def cleared(self: FirewallController, found: Mapping[str, Collection[Any]] | None = None) -> Outcome:
        if found is not None:
            self._write({CHAINS: self._decisions.standing.chains_left_behind(), MEMBERS: found[MEMBERS]})
        return stages(self, found)

    return patch.object(FirewallController, "_stages", cleared)


MUTANTS: Mapping[str, Callable[[], Patch]] = {
    made.__name__.strip("_").replace("_", "-"): made
    for made in (
        _isolates_last,
        _releases_first,
        _enters_alone,
        _enters_last,
        _replaces_at_once,
        _fills_at_once,
        _narrows_at_once,
        _names_guards_by_policy,
        _closes_nobody,
        _keeps_nothing,
        _forgets_at_restart,
        _clears_at_restart,
    )
}


def mutant(name: str) -> Patch:
    return MUTANTS[name]()
