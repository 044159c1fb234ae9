"""What is explained of one connection as plain values, ready for JSON: a promise (docs/operations.md), fields are
added, never changed. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kuberouter_py.controllers.firewall.explain import words
from kuberouter_py.controllers.firewall.explain.explanation import Passed, Path, headline
from kuberouter_py.controllers.firewall.judge import Direction, rules_of
from kuberouter_py.controllers.reading import Met
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import SetMember, address_text
from kuberouter_py.model.names import CHAIN_PREFIX
from kuberouter_py.model.notation_servers import protocol_text
from kuberouter_py.model.notation_sets import entry_text
from kuberouter_py.model.policies import NetworkPolicy

Policies = Mapping[ObjectKey, NetworkPolicy]


def path_document(path: Path, policies: Policies) -> dict[str, Any]:
    attempt, case = path.connection.attempt, path.case
    return {
        "verdict": headline(path, words.reason(path.verdict, case)),
        "allowed": path.allowed,
        "allowedByPolicies": path.verdict.allowed,
        "source": _end(path, Direction.EGRESS),
        "destination": {**_end(path, Direction.INGRESS), "port": attempt.port},
        "protocol": protocol_text(attempt.protocol),
        "egress": _side(path, Direction.EGRESS, policies),
        "ingress": _side(path, Direction.INGRESS, policies),
        "hooks": list(path.connection.hooks),
        "decided": _passed(path.decided),
        "actual": _passed(path.actual),
        "differences": list(path.differences),
        "notes": list(path.notes),
        "refused": list(path.refused),
    }


def _end(path: Path, direction: Direction) -> dict[str, Any]:
    near = path.case.near(direction)
    return {
        "address": address_text(near.address),
        "pod": str(near.pod.key) if near.pod else "",
        "node": near.pod.node if near.pod else "",
    }


def _side(path: Path, direction: Direction, policies: Policies) -> dict[str, Any]:
    """here: whether this node judges it; the node of the pod does, and nobody where there is no pod."""
    side = path.side(direction)
    return {
        "allowed": side.allowed,
        "isolated": side.isolated,
        "here": direction in path.here,
        "reason": words.side_reason(direction, side, path.case),
        "policies": [str(key) for key in side.policies],
        "rules": list(_rules(path, direction, policies)),
    }


def _rules(path: Path, direction: Direction, policies: Policies) -> Iterator[dict[str, Any]]:
    """Of every policy that isolates the pod, those that allow first; of the others why they do not."""
    side, case = path.side(direction), path.case
    found = []
    for key in side.policies:
        policy = policies[key]
        rules = rules_of(policy, direction) or ()
        for position, rule in enumerate(rules):
            found.append({
                "policy": str(key),
                "rule": position + 1,
                "allows": (key, position) in side.by,
                "says": words.rule_text(rule, policy, direction, case.destination.pod),
                "why": words.why_not(rule, policy, direction, case),
            })  # fmt: skip
        if not rules:
            found.append({"policy": str(key), "rule": 0, "allows": False, "says": "nothing is allowed", "why": ""})
    yield from sorted(found, key=lambda told: not told["allows"])


def _passed(passed: Passed | None) -> dict[str, Any] | None:
    if passed is None:
        return None
    return {
        "allowed": passed.allowed,
        "rules": [_rule(met) for met in passed.met],
        "members": [_member(member) for member, held in passed.asked.items() if held],
        "notUnderstood": [_rule(met) for met in passed.unread],
    }


def _rule(met: Met) -> str:
    """ "KRPY-FW-TO 3: -j …"; of a chain that is everybody's, where our rules stand among others, without the number."""
    ours = met.chain.chain.startswith(CHAIN_PREFIX)
    return f"{met.chain.chain} {met.number}: {met.rule}" if ours else f"{met.chain.chain}: {met.rule}"


def _member(member: SetMember) -> str:
    return f"{member.set} {entry_text(member.entry)}"
