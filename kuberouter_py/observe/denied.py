"""How many packets NetworkPolicy denied, by pod and direction, added up from counters that begin anew. Pure.

The kernel counts for an address, from the moment that it is isolated until it is not; a metric is a pod's and never
goes back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from kuberouter_py.model.cluster import ObjectKey

KEPT = 10_000  # pods and directions that are remembered: one that comes back goes on where it was

Counted = tuple[int, int]  # packets, bytes


class DeniedCounters(NamedTuple):
    """direction: "ingress" or "egress"."""

    namespace: str
    pod: str
    direction: str
    packets: int
    bytes: int


class DeniedTotals:
    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._last: dict[tuple[str, bytes], tuple[ObjectKey, Counted]] = {}
        self._totals: dict[tuple[str, ObjectKey], Counted] = {}  # who was isolated last comes last

    def take(self, counted: Mapping[tuple[str, bytes], Counted], owners: Mapping[bytes, ObjectKey]) -> None:
        """counted: what the kernel says now, by direction and address. owners: the pod that has an address; where none
        has it (any more) it was the one before.
        """
        last, self._last = self._last, {}
        for (direction, address), now in counted.items():
            before_owner, before = last.get((direction, address), (None, (0, 0)))
            owner = owners.get(address, before_owner)
            if owner is None:
                continue
            self._last[direction, address] = owner, now
            self._add((direction, owner), now, before if before[0] <= now[0] else (0, 0))
        self._forget()

    def of(self, pods: Collection[ObjectKey]) -> list[DeniedCounters]:
        """A pod that was never isolated has none."""
        return [
            DeniedCounters(pod.namespace, pod.name, direction, *total)
            for (direction, pod), total in self._totals.items()
            if pod in pods
        ]

    def _add(self, key: tuple[str, ObjectKey], now: Counted, before: Counted) -> None:
        packets, size = self._totals.pop(key, (0, 0))
        self._totals[key] = packets + now[0] - before[0], size + now[1] - before[1]

    def _forget(self) -> None:
        in_use = {(direction, owner) for (direction, _), (owner, _) in self._last.items()}
        for key in list(self._totals)[: max(0, len(self._totals) - self._kept)]:
            if key not in in_use:
                del self._totals[key]
