"""The changes that the firewall's benchmark makes, many of each kind, at different places of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from tests.bench import policy_objects as made
from tests.bench.policy_objects import APPS, BIG, NAMESPACES, PODS, PodSpec, Point

MANY: Final = 100  # p99 of 100 is the second largest
FEW: Final = 30  # of those that iptables is run for; their p99 is the largest


class Change(NamedTuple):
    """object: as it is after change `number`. is_new: it was not there before. times: so often."""

    name: str
    object: Callable[[int], dict[str, Any]]
    is_new: bool = False
    times: int = MANY


def changes(point: Point) -> Iterator[Change]:
    pods = [*made.pods(point)]
    local = [spec for spec in pods if spec.local is not None]
    remote = [spec for spec in pods if spec.local is None and spec.number >= BIG]
    held = {(spec.namespace, spec.app) for spec in local}
    free = [(where, app) for where in range(NAMESPACES) for app in range(APPS) if (where, app) not in held]
    beside = [number for number in range(2 * NAMESPACES, point.policies) if _app(number) in held and _has_port(number)]

    def at(found: list[Any], number: int) -> Any:
        return found[number * len(found) // MANY]

    def new_here(place: tuple[int, int], number: int) -> dict[str, Any]:
        return made.pod(PodSpec(PODS + number, *place, point.local + number))

    yield Change(
        "pod added on another node",
        lambda number: made.pod(at(remote, number)._replace(number=PODS + number)),
        is_new=True,
    )
    yield Change(
        "pod added here, like one that is here",
        lambda number: new_here((at(local, number).namespace, at(local, number).app), number),
        is_new=True,
    )
    yield Change(
        "pod added here, the first with its policies",
        lambda number: new_here(at(free, number * 3), number),
        is_new=True,
        times=FEW,
    )
    yield Change(
        "label of a pod elsewhere",
        lambda number: made.pod(at(remote, number), app=f"app-{(at(remote, number).app + 1) % APPS}"),
    )
    yield Change(
        "a policy's port, for a pod here",
        lambda number: made.policy(at(beside, number * 3), port=8081 + number),
        times=FEW,
    )
    yield Change(
        "policy added, for a pod here",
        lambda number: _renamed(made.policy(at(beside, number * 3), port=7000 + number)),
        is_new=True,
        times=FEW,
    )
    yield Change(
        f"namespace label that moves {BIG} pods",
        lambda number: made.namespace(0, monitors="no" if number % 2 else "yes"),
    )


def _app(number: int) -> tuple[int, int]:
    """Namespace and app of the pods that this policy selects."""
    policy = made.policy(number)
    return number % NAMESPACES, int(policy["spec"]["podSelector"]["matchLabels"]["app"].removeprefix("app-"))


def _has_port(number: int) -> bool:
    return made.policy(number, port=1) != made.policy(number, port=2)


def _renamed(policy: dict[str, Any]) -> dict[str, Any]:
    policy["metadata"]["name"] += "-new"
    return policy
