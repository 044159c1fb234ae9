"""Scheduler, flags and persistence from a Service's annotations and affinity."""

from __future__ import annotations

import pytest

from kuberouter_py.controllers.services.scheduling import (
    KNOWN,
    SCHED_FLAGS,
    SCHEDULER,
    Scheduling,
    scheduler_asked,
    scheduling,
)
from kuberouter_py.model.kernel import PERSISTENT, SCHED_FLAG_1, SCHED_FLAG_2, SCHED_FLAG_3
from tests.fakes.objects import service


def asked(scheduler: str = "", flags: str = "", *, missing: str = "", affinity: int = 0) -> Scheduling:
    annotations = {name: text for name, text in ((SCHEDULER, scheduler), (SCHED_FLAGS, flags)) if text}
    return scheduling(service(annotations=annotations, affinity=affinity), missing.split())


def test_round_robin_is_the_default() -> None:
    assert asked() == Scheduling("rr", 0, 0, ())


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_every_scheduler_by_annotation(name: str) -> None:
    assert asked(f" {name} ") == Scheduling(name, 0, 0, ())
    assert scheduler_asked(service(annotations={SCHEDULER: f" {name} "})) == name


@pytest.mark.parametrize("name", ["magic", "RR", "fo"])
def test_an_unknown_one_is_round_robin_with_a_reason(name: str) -> None:
    found = asked(name)
    assert (found.scheduler, len(found.reasons)) == ("rr", 1)
    assert repr(name) in found.reasons[0]
    assert scheduler_asked(service(annotations={SCHEDULER: name})) == "rr"


def test_one_that_the_kernel_lacks_is_round_robin_with_another_reason() -> None:
    assert asked("mh", missing="mh lblc") == Scheduling(
        "rr", 0, 0, (f"{SCHEDULER}: this node's kernel has no ip_vs_mh; rr is used",)
    )


@pytest.mark.parametrize(
    ("scheduler", "flags", "bits"),
    [
        ("mh", "flag-1", SCHED_FLAG_1),
        ("mh", "flag-1, flag-2 ,flag-3", SCHED_FLAG_1 | SCHED_FLAG_2 | SCHED_FLAG_3),
        ("mh", "mh-fallback,mh-port", SCHED_FLAG_1 | SCHED_FLAG_2),
        ("sh", "sh-port", SCHED_FLAG_2),
        ("sh", "sh-fallback,,", SCHED_FLAG_1),
    ],
)
def test_flags(scheduler: str, flags: str, bits: int) -> None:
    assert asked(scheduler, flags) == Scheduling(scheduler, bits, 0, ())


@pytest.mark.parametrize(
    ("scheduler", "flags", "bits"),
    [
        ("rr", "flag-1", 0),
        ("mh", "sh-port", 0),
        ("sh", "mh-port,sh-port", SCHED_FLAG_2),
        ("mh", "flag-4,flag-1", SCHED_FLAG_1),
    ],
)
def test_flags_that_the_scheduler_does_not_have_are_left_out_with_a_reason(
    scheduler: str, flags: str, bits: int
) -> None:
    found = asked(scheduler, flags)
    assert (found.scheduler, found.flags, len(found.reasons)) == (scheduler, bits, 1)


def test_affinity_is_persistence_with_its_timeout_beside_the_flags() -> None:
    assert asked("mh", "mh-port", affinity=60) == Scheduling("mh", PERSISTENT | SCHED_FLAG_2, 60, ())
    assert asked(affinity=10800) == Scheduling("rr", PERSISTENT, 10800, ())
