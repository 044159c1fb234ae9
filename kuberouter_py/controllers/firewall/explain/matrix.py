"""Who of some namespaces reaches whom at one port by the policies, now and as it would be under others. Pure.

Judged by judge.py alone: it says what the policies mean, on every node, not what a kernel holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kuberouter_py.controllers.firewall.explain import words
from kuberouter_py.controllers.firewall.explain.explanation import Moment
from kuberouter_py.controllers.firewall.judge import Attempt, Cluster, case_of, is_party, verdict
from kuberouter_py.model.cluster import ObjectKey, Pod
from kuberouter_py.model.kernel import address_text, family_of
from kuberouter_py.model.notation_servers import protocol_text
from kuberouter_py.model.policies import NetworkPolicy

ALLOWED, DENIED, NOT_ASKED = ".", "X", "-"  # or the digit of the one family in which it is allowed
OUTSIDE = "outside"


class Asked(NamedTuple):
    """outside: addresses that stand for everybody who is no pod. plus: as if they were there, in the place of those of
    the same names; minus: as if they were not.
    """

    namespaces: tuple[str, ...]
    protocol: int
    port: int
    outside: tuple[bytes, ...]
    plus: tuple[NetworkPolicy, ...] = ()
    minus: tuple[ObjectKey, ...] = ()

    @property
    def is_dry_run(self) -> bool:
        return bool(self.plus or self.minus)


class End(NamedTuple):
    name: str
    addresses: tuple[bytes, ...]


@dataclass(frozen=True)
class Matrix:
    """Rows send, columns receive. now: as it is, where cells are as it would be. left_out: with the reason."""

    ends: Sequence[End]
    cells: Sequence[str]
    now: Sequence[str] | None
    changes: Sequence[dict[str, str]]
    left_out: Sequence[tuple[ObjectKey, str]]


def pods_of(namespaces: Collection[str], at: Moment) -> list[Pod]:
    return sorted((pod for pod in at.pods if pod.key.namespace in namespaces), key=lambda pod: pod.key)


def matrix(asked: Asked, at: Moment) -> Matrix:
    pods = pods_of(asked.namespaces, at)
    left_out = [(pod.key, why) for pod in pods if (why := _why_left_out(pod, at.cluster))]
    gone = {key for key, _ in left_out}
    ends = [End(str(pod.key), _own(pod, at.cluster)) for pod in pods if pod.key not in gone]
    ends.append(End(OUTSIDE, asked.outside))
    now = _cells(ends, asked, at.cluster)
    if not asked.is_dry_run:
        return Matrix(ends, now, None, (), left_out)
    then = Cluster(policies_then(asked, at), at.pods, at.namespaces)
    cells = _cells(ends, asked, then)
    return Matrix(ends, cells, now, list(_changes(ends, now, cells, asked, then)), left_out)


def policies_then(asked: Asked, at: Moment) -> list[NetworkPolicy]:
    others = {policy.key for policy in asked.plus} | {*asked.minus}
    return [*(policy for policy in at.policies if policy.key not in others), *asked.plus]


def _own(pod: Pod, cluster: Cluster) -> tuple[bytes, ...]:
    """Those that no other pod has with more right (P4.04)."""
    return tuple(each for each in pod.ips if (found := cluster.end(each).pod) is not None and found.key == pod.key)


def _why_left_out(pod: Pod, cluster: Cluster) -> str:
    """ "" where it is not."""
    if pod.host_network:
        return "on its node's network: policies are not about it"
    if not is_party(pod):
        return f"{pod.phase.lower()}: its address may be another pod's"
    if not pod.ips:
        return "has no address yet"
    return "" if _own(pod, cluster) else "its address is another pod's"


def _cells(ends: Sequence[End], asked: Asked, cluster: Cluster) -> list[str]:
    return ["".join(_cell(source, target, asked, cluster) for target in ends) for source in ends]


def _cell(source: End, target: End, asked: Asked, cluster: Cluster) -> str:
    attempts = [] if source is target else list(_attempts(source, target, asked))
    allowed = [attempt for attempt in attempts if verdict(attempt, cluster).allowed]
    if not attempts:
        return NOT_ASKED
    if len(allowed) == len(attempts):
        return ALLOWED
    return str(family_of(allowed[0].source)) if allowed else DENIED


def _attempts(source: End, target: End, asked: Asked) -> Iterator[Attempt]:
    """One for each family in which both have an address."""
    for family in (4, 6):
        here = next((each for each in source.addresses if family_of(each) == family), None)
        there = next((each for each in target.addresses if family_of(each) == family), None)
        if here and there:
            yield Attempt(here, there, asked.protocol, asked.port)


def _changes(
    ends: Sequence[End], now: Sequence[str], then: Sequence[str], asked: Asked, cluster: Cluster
) -> Iterator[dict[str, str]]:
    """why: as it would be."""
    for source, before, after in zip(ends, now, then, strict=True):
        for target, old, new in zip(ends, before, after, strict=True):
            if old == new:
                continue
            attempts = list(_attempts(source, target, asked))
            judged = [(attempt, verdict(attempt, cluster)) for attempt in attempts]
            attempt, because = next((each for each in judged if each[1].allowed == (new == ALLOWED)), judged[0])
            why = words.reason(because, case_of(attempt, cluster))
            yield {"from": source.name, "to": target.name, "now": old, "then": new, "why": why}


def matrix_document(node: str, asked: Asked, found: Matrix) -> dict[str, Any]:
    """A promise to scripts (docs/operations.md): fields are added, never changed."""
    return {
        "node": node,
        "namespaces": list(asked.namespaces),
        "port": asked.port,
        "protocol": protocol_text(asked.protocol),
        "outside": [address_text(each) for each in asked.outside],
        "with": [str(policy.key) for policy in asked.plus],
        "without": [str(key) for key in asked.minus],
        "ends": [end.name for end in found.ends],
        "cells": list(found.cells),
        "now": list(found.now) if found.now is not None else None,
        "changes": list(found.changes),
        "leftOut": [{"pod": str(key), "reason": why} for key, why in found.left_out],
        "notes": [f"{policy.key}: {part}; it matches nothing" for policy in asked.plus for part in policy.unusable],
    }
