"""Whether the agent lives, is ready, and is worth a cloud load balancer's traffic. Values and clocks, no sockets.

Liveness says that the loops turn, never that the last sync succeeded: restarting an agent does not mend a kernel that
refuses. Failures are metrics, Events and lines of `status`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from kuberouter_py.observe.http import Response, json_response, text_response

# Seconds a loop may take for one turn. The longest turn measured is the first sync of 45,000 Services with an address
# each: the kernel alone takes 95 s for IPv4 and 159 s for IPv6, which it walks as a list.
TURN = 600.0

# Taint that the cluster autoscaler puts on a Node before it deletes it (S13.01).
DELETION_TAINT = "ToBeDeletedByClusterAutoscaler"


@dataclass
class _Loop:
    within: float
    last: float


class Health:
    """Loops that must go on turning, and things that must have happened once. Callable from any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """clock: monotonic seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._loops: dict[str, _Loop] = {}
        self._awaited: dict[str, None] = {}

    def expect(self, loop: str, within: float = TURN) -> Callable[[], None]:
        """From now on `loop` must beat at least every `within` seconds; returns its beat."""
        with self._lock:
            entry = self._loops[loop] = _Loop(within, self._clock())

        def beat() -> None:
            entry.last = self._clock()

        return beat

    def wait_for(self, *things: str) -> None:
        """Not ready until each of these was reported with `reached`."""
        with self._lock:
            self._awaited.update(dict.fromkeys(things))

    def reached(self, thing: str) -> None:
        with self._lock:
            self._awaited.pop(thing, None)

    def stalled(self) -> list[str]:
        now = self._clock()
        with self._lock:
            return [
                f"{name}: no turn for {now - loop.last:.0f} s, at most {loop.within:.0f} s are due"
                for name, loop in self._loops.items()
                if now - loop.last > loop.within
            ]

    def missing(self) -> list[str]:
        with self._lock:
            return [f"waiting for {thing}" for thing in self._awaited]

    def livez(self) -> Response:
        """200 "OK" or 500 "Unhealthy" and why, as kube-router answers; /healthz is the same."""
        return _verdict(self.stalled())

    def readyz(self) -> Response:
        return _verdict(self.stalled() + self.missing())


def _verdict(reasons: list[str]) -> Response:
    if not reasons:
        return text_response(200, "OK\n")
    return text_response(500, "\n".join(["Unhealthy", *reasons, ""]))


class ProxyHealth:
    """What a cloud load balancer asks of a Service proxy: S13.01 to S13.05. Callable from any thread.

    Unhealthy when a change has waited for its sync longer than twice the period. A sync with refused keys counts: one
    broken Service must not take a whole node out of every load balancer.
    """

    def __init__(self, period: float, clock: Callable[[], float]) -> None:
        """period: seconds between full syncs; clock: seconds since 1970."""
        self._limit = 2 * period
        self._clock = clock
        self._lock = threading.Lock()
        self._oldest = 0.0  # when the oldest change came that no sync has covered; 0.0: there is none
        self._newest = 0.0
        self._updated = 0.0  # end of the last sync
        self._eligible = True  # until the first Node says otherwise (S13.03)

    def queued(self) -> None:
        """A change was heard of."""
        now = self._clock()
        with self._lock:
            self._newest = now
            self._oldest = self._oldest or now

    def synced(self, started: float) -> None:
        """A sync that began at `started` (clock's seconds) is done: it covers every change heard of before."""
        with self._lock:
            self._updated = self._clock()
            # What came during the sync is taken as old as the newest of it: off by the sync's duration at most.
            self._oldest = self._newest if self._newest > started else 0.0

    def node(self, *, deleting: bool, taints: Iterable[str]) -> None:
        """The Node as it is now; where it cannot be asked, the last word holds."""
        with self._lock:
            self._eligible = not deleting and DELETION_TAINT not in taints

    def healthz(self) -> Response:
        with self._lock:
            eligible = self._eligible
        return self._answer(needed=eligible, fields={"nodeEligible": eligible})

    def livez(self) -> Response:
        return self._answer(needed=True, fields={})

    def healthy(self) -> bool:
        """No change waits too long, whatever the Node says (S12.05)."""
        now = self._clock()
        with self._lock:
            return not self._oldest or now - self._oldest <= self._limit

    def _answer(self, *, needed: bool, fields: dict[str, bool]) -> Response:
        good = self.healthy()
        now = self._clock()
        with self._lock:
            updated = now if good else self._updated  # S13.01: a healthy proxy has nothing to catch up on
        body = {"lastUpdated": _timestamp(updated), "currentTime": _timestamp(now), **fields}
        return json_response(body, 200 if good and needed else 503)


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
