"""What is measured of one peer at one point, in this order. Host side; the witness in the lab kernel does the rest.

A stage that does not come to its end within the bound has no figure but that bound.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final

from tests.bench import objects
from tests.bench.peers.cluster import Cluster
from tests.bench.peers.link import Witness, WitnessFailed
from tests.bench.peers.programs import Peer
from tests.bench.peers.traffic import BACKEND

ADDED: Final = 5  # Services, one after the other
ROLLED: Final = 1000  # endpoints
WATCHED: Final = 20  # of those, every one of so many
QUIET_WITHIN: Final = 30.0
SLACK: Final = 120.0  # the witness may be slow to answer while a peer has the CPU
LIVE: Final = 900_000  # the number of the first Service that has a backend


@dataclass(frozen=True)
class Times:
    """Seconds. bound: of any one stage. idle, rolling, load: how long those last."""

    bound: float = 600.0
    idle: float = 60.0
    rolling: float = 60.0
    load: float = 5.0


class Conductor:
    """kubeconfig, log: files that host and lab kernel share."""

    def __init__(
        self, witness: Witness, cluster: Cluster, peer: Peer, times: Times, kubeconfig: Path, log: Path
    ) -> None:
        self._witness, self._cluster, self._peer, self._times = witness, cluster, peer, times
        self._kubeconfig, self._log = kubeconfig, log
        self._next_address = int(time.time()) % 100_000 * 8  # so that none of another peer's comes again
        self._figures: dict[str, Any] = {"over": {}}

    def measure(self) -> dict[str, Any]:
        """Figures by name; "over": figures that were not had, with the bound; "failed": why no more came."""
        try:
            self._call("prepare")
            if self._start():
                for stage in (self._changes, self._added, self._load, self._rolling, self._idle, self._restart):
                    stage()
        except (WitnessFailed, OSError) as error:
            self._figures["failed"] = str(error)
            if "start_seconds" not in self._figures:
                self._figures["over"]["start_seconds"] = self._times.bound
            print(f"  {self._peer.name}: {error}", flush=True)
        return self._figures

    # Stages

    def _start(self) -> bool:
        """Process start → the kernel holds every Service with every endpoint."""
        bound, cluster = self._times.bound, self._cluster
        wanted = {"services": cluster.services, "endpoints": cluster.services * cluster.endpoints}
        before = self._call("started")
        began = self._start_process(period=0)
        done = self._call("complete", bound, **wanted, within=bound)
        self._figures["start_cpu_seconds"] = self._usage()["cpu"]
        self._figures["programs_and_threads_to_start"] = self._call("started") - before
        if done is None:
            self._figures["over"]["start_seconds"] = bound
        else:
            self._note("start", start_seconds=done - began)
            self._settle()
        return done is not None

    def _changes(self) -> None:
        """One endpoint of one Service changed in the API → seen in the kernel, one after the other."""
        bound, wanted = self._times.bound, self._peer.changes
        before, began = self._usage(), time.monotonic()
        from_asked: list[float] = []
        from_answered: list[float] = []
        while len(from_asked) < wanted and time.monotonic() - began < 2 * bound:
            number, address = len(from_asked) * 37 % self._cluster.services, self._new_address()
            self._call("expect", name="change", number=number, address=address)
            asked, answered = self._cluster.replace(number, -1, address)
            seen = self._seen(["change"], bound).get("change")
            if seen is None:
                self._figures["over"].update(dict.fromkeys(("change_p50_ms", "change_p99_ms"), bound * 1000))
                break
            from_asked.append((seen - asked) * 1000)
            from_answered.append(max(0.0, seen - answered) * 1000)
        self._settle()
        if from_asked:
            count = len(from_asked)
            after = self._usage()
            self._note(
                "changes",
                changes=count,
                change_p50_ms=_share(from_asked, 0.5),
                change_p99_ms=_share(from_asked, 0.99),
                change_after_answer_p50_ms=_share(from_answered, 0.5),
                change_after_answer_p99_ms=_share(from_answered, 0.99),
                change_cpu_ms=(after["cpu"] - before["cpu"]) / count * 1000,
                programs_and_threads_per_change=(after["started"] - before["started"]) / count,
            )

    def _added(self) -> None:
        """One Service with one endpoint added → the first packet to it is answered."""
        bound, delays = self._times.bound, []
        for number in range(LIVE, LIVE + ADDED):
            self._call("probe", vip=objects.cluster_ip(number), within=bound)
            there = self._cluster.add(number, [BACKEND])
            answered = self._call("answered", bound)
            if number != LIVE:
                self._cluster.remove(number)
            if answered is None:
                self._figures["over"]["service_added_p50_ms"] = bound * 1000
                return
            delays.append(max(0.0, answered - self._witness.offset - there) * 1000)
        self._note("added", service_added_p50_ms=_share(delays, 0.5), service_added_longest_ms=max(delays))

    def _load(self) -> None:
        """Through the VIP of the first Service that was added, where that works."""
        self._settle()
        if "service_added_p50_ms" in self._figures:
            seconds = self._times.load
            self._note("load", **self._call("load", seconds, vip=objects.cluster_ip(LIVE), seconds=seconds))
        self._cluster.remove(LIVE)
        self._settle()

    def _rolling(self) -> None:
        """Endpoints replaced one after the other: what it costs, how late the kernel is at worst.

        Not quite at an even pace: the lab kernel counts CPU by looking every 10 ms at who has it, and what comes in
        step with that is counted several times, or never.
        """
        bound, cluster = self._times.bound, self._cluster
        count = min(ROLLED, cluster.services * cluster.endpoints)
        before, began = self._usage(), time.monotonic()
        asked: dict[str, float] = {}
        uneven = random.Random(count)
        for step in range(count):
            due = began + (step + uneven.random()) * self._times.rolling / count
            time.sleep(max(0.0, due - time.monotonic()))
            number, position = divmod(step, cluster.endpoints)
            address = self._new_address()
            watched = step % WATCHED == 0 or step == count - 1
            if watched:
                self._call("expect", name=f"step-{step}", number=number, address=address)
            moment, _ = cluster.replace(number, position, address)
            if watched:
                asked[f"step-{step}"] = moment
        took = time.monotonic() - began
        seen = self._seen([*asked], bound)
        if len(seen) < len(asked):
            self._figures["over"]["rolling_worst_ms"] = bound * 1000
        else:
            self._figures["rolling_worst_ms"] = max(seen[name] - moment for name, moment in asked.items()) * 1000
        self._settle()
        cpu = self._usage()["cpu"] - before["cpu"]
        worst = self._figures.get("rolling_worst_ms", bound * 1000)
        self._note("rolling", rolling_cpu_seconds=cpu, rolling_took_seconds=took, rolled=count)
        print(f"  {self._peer.name}: the latest of them after {worst:.0f} ms", flush=True)

    def _idle(self) -> None:
        self._settle()
        self._note("idle", idle_cpu_seconds=self._cpu_over(self._times.idle))

    def _restart(self) -> None:
        """Over a full table, with one change that nobody heard of; and then what full syncs cost."""
        bound = self._times.bound
        self._call("stop", 60.0)
        address = self._new_address()
        self._cluster.replace(0, -1, address)
        self._call("expect", name="restart", number=0, address=address)
        began = self._start_process(period=self._peer.period)
        seen = self._call("seen", bound, names=["restart"], within=bound).get("restart")
        if seen is None:
            self._figures["over"]["restart_seconds"] = bound
            return
        self._note("restart", restart_seconds=seen - began, restart_cpu_seconds=self._usage()["cpu"])
        self._settle()
        syncs = self._times.idle / self._peer.period
        self._note("full syncs", full_sync_cpu_seconds=self._cpu_over(self._times.idle) / syncs)
        self._call("stop", 60.0)

    # What they are made of

    def _start_process(self, period: int) -> float:
        command = list(self._peer.command(self._kubeconfig, period))
        return float(self._call("start", command=command, log=str(self._log)))

    def _call(self, do: str, patience: float = 0.0, **arguments: Any) -> Any:
        return self._witness.call(do, timeout=patience + SLACK, **arguments)

    def _seen(self, names: Sequence[str], within: float) -> dict[str, float]:
        """By our clock."""
        seen: dict[str, float] = self._call("seen", within, names=names, within=within)
        return {name: moment - self._witness.offset for name, moment in seen.items()}

    def _usage(self) -> dict[str, float]:
        usage: dict[str, float] = self._call("usage")
        self._figures["peak_mb"] = max(usage["peak_mb"], self._figures.get("peak_mb", 0.0))
        return usage

    def _cpu_over(self, seconds: float) -> float:
        before = self._usage()["cpu"]
        time.sleep(seconds)  # this stretch is what is measured, not a wait for something
        return self._usage()["cpu"] - before

    def _settle(self) -> None:
        """Until two seconds have cost next to nothing: what came after the figure before is none of the next one's."""
        deadline = time.monotonic() + QUIET_WITHIN
        while self._cpu_over(2.0) > 0.04 and time.monotonic() < deadline:
            pass

    def _new_address(self) -> str:
        """Of 10.112.0.0/12, where no endpoint is from the start."""
        self._next_address += 1
        number = self._next_address % (1 << 20)
        return f"10.{112 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"

    def _note(self, stage: str, **figures: float) -> None:
        self._figures.update(figures)
        said = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        print(f"  {time.strftime('%H:%M:%S')} {self._peer.name}: {said}", flush=True)


def _share(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    return sorted(values)[max(0, ceil(len(values) * share) - 1)]
