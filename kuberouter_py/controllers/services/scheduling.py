"""Scheduler, its flags and persistence of a virtual server, from a Service's annotations and affinity. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from kuberouter_py.model.cluster import Service
from kuberouter_py.model.kernel import PERSISTENT, SCHED_FLAG_1, SCHED_FLAG_2, SCHED_FLAG_3

SCHEDULER = "kube-router.io/service.scheduler"
SCHED_FLAGS = "kube-router.io/service.schedflags"

DEFAULT = "rr"
HASHING = "sh"  # by the client's address
KNOWN = frozenset({"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq", "mh"})

# kube-router's names, and ipvsadm's for the schedulers that give the bits a meaning.
_FLAG_BITS = {
    "flag-1": SCHED_FLAG_1,
    "flag-2": SCHED_FLAG_2,
    "flag-3": SCHED_FLAG_3,
    "sh-fallback": SCHED_FLAG_1,
    "sh-port": SCHED_FLAG_2,
    "mh-fallback": SCHED_FLAG_1,
    "mh-port": SCHED_FLAG_2,
}
# sh and mh hash to a destination whatever its weight, and answer "no destination" for one of weight 0 unless this flag
# makes them go on to the next. dh has no such flag (tried; ip_vs_dh.c).
FALLBACK = {"sh": SCHED_FLAG_1, "mh": SCHED_FLAG_1}
_FLAGGED = ("sh", "mh")  # the only schedulers that read the bits (net/netfilter/ipvs/ip_vs_{sh,mh}.c)


class Scheduling(NamedTuple):
    scheduler: str
    flags: int
    timeout: int
    reasons: tuple[str, ...]


def scheduler_asked(service: Service) -> str:
    """The annotation as written, the default without one; whether the kernel has it is another question."""
    asked = service.annotations.get(SCHEDULER, DEFAULT).strip()
    return asked if asked in KNOWN else DEFAULT


def schedulers_needed(service: Service) -> set[str]:
    """With the one that stands in for affinity where a mark has a virtual server."""
    return {scheduler_asked(service), *((HASHING,) if _hashes(service) else ())}


def _hashes(service: Service) -> bool:
    return service.external_local and service.affinity_timeout > 0


def scheduling(service: Service, missing: Collection[str]) -> Scheduling:
    """missing: schedulers that this kernel does not have."""
    reasons: list[str] = []
    asked = service.annotations.get(SCHEDULER, DEFAULT).strip()
    scheduler = asked
    if asked not in KNOWN:
        reasons.append(f"{SCHEDULER}: {asked!r} is no scheduler (known: {' '.join(sorted(KNOWN))}); {DEFAULT} is used")
        scheduler = DEFAULT
    elif asked in missing:
        reasons.append(f"{SCHEDULER}: this node's kernel has no ip_vs_{asked}; {DEFAULT} is used")
        scheduler = DEFAULT
    flags = _flags(service.annotations.get(SCHED_FLAGS, ""), scheduler, reasons)
    if service.affinity_timeout:
        flags |= PERSISTENT
    if _hashes(service) and HASHING in missing:
        reasons.append(f"sessionAffinity: not for clients on this node, whose kernel has no ip_vs_{HASHING}")
    return Scheduling(scheduler, flags, service.affinity_timeout, tuple(reasons))


def without_affinity(how: Scheduling, missing: Collection[str]) -> Scheduling:
    """For a virtual server on a mark: a persistent one would keep the client's port instead of writing the endpoint's.

    Hashing the client's address keeps it at one endpoint as well, for as long as the endpoints stay the same; the
    fallback flag leads past one of weight 0.
    """
    if not how.flags & PERSISTENT:
        return how
    if HASHING in missing:
        return how._replace(flags=how.flags & ~PERSISTENT, timeout=0)
    return Scheduling(HASHING, SCHED_FLAG_1, 0, how.reasons)


def _flags(text: str, scheduler: str, reasons: list[str]) -> int:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names and scheduler not in _FLAGGED:
        reasons.append(f"{SCHED_FLAGS}: {scheduler} has no flags, only {' and '.join(_FLAGGED)} do")
        return 0
    flags = 0
    for name in names:
        head, _, _ = name.partition("-")
        if name not in _FLAG_BITS or (head in _FLAGGED and head != scheduler):
            reasons.append(f"{SCHED_FLAGS}: {name!r} is no flag of {scheduler}")
        else:
            flags |= _FLAG_BITS[name]
    return flags
