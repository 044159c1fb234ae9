"""What one benchmark process measures of the firewall inside the agent's own code: event to kernel, what is written for
it, and what is done after it.

It runs alone in a network namespace of the lab kernel, over real kernel tables; the cluster is generated in memory and
handed to the real cache, decoder, runner and controller. The programs of iptables are timed by themselves.
"""

from __future__ import annotations

import argparse
import gc
import json
import queue
import resource
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from kuberouter_py.agent.firewall_edges import FirewallEdges
from kuberouter_py.config import Config
from kuberouter_py.controllers.firewall.controller import FirewallController
from kuberouter_py.controllers.firewall.rung import THIS_NODE, Rung
from kuberouter_py.controllers.history import Clocks
from kuberouter_py.controllers.runner import Runner
from kuberouter_py.kernel import command
from kuberouter_py.kernel.netlink_socket import Batch
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.report import SyncReport
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.decode import decode_versioned
from tests.bench import policy_objects
from tests.bench.inside import PATIENCE, cpu_seconds, timed
from tests.bench.objects import NODE
from tests.bench.policy_changes import Change, changes
from tests.bench.policy_objects import Point


class Settling(FirewallController):
    """Tells when nothing is left to be done."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.settled = threading.Event()

    def background(self) -> bool | None:
        good = super().background()
        if good is None:
            self.settled.set()
        return good


class Written(NamedTuple):
    """What went to the kernel so far: programs with the seconds that they took, netlink messages, bytes of both."""

    programs: int = 0
    seconds: float = 0.0
    messages: int = 0
    bytes: int = 0

    def since(self, before: Written) -> Written:
        return Written(
            self.programs - before.programs,
            self.seconds - before.seconds,
            self.messages - before.messages,
            self.bytes - before.bytes,
        )


class Counting:
    """Counts it as it passes."""

    def __init__(self) -> None:
        self.written = Written()
        send = Batch.send

        def counted(batch: Batch, messages: Sequence[bytes], *more: Any) -> dict[int, int]:
            self._add(Written(messages=len(messages), bytes=sum(map(len, messages))))
            return send(batch, messages, *more)

        Batch.send = counted  # type: ignore[method-assign,assignment]

    def run(self, argv: Sequence[str], input: str | None = None, **more: Any) -> str:
        """command.run"""
        started = time.perf_counter()
        try:
            return command.run(argv, input, **more)
        finally:
            self._add(Written(1, time.perf_counter() - started, 0, len(input or "")))

    def _add(self, more: Written) -> None:
        self.written = more.since(Written().since(self.written))


class Taken(NamedTuple):
    """One change: seconds from the event's bytes to the kernel's acknowledgement, and what was written till then; what
    was written in all, and for how long somebody was at it.
    """

    seconds: float
    written: Written
    seconds_in_all: float
    written_in_all: Written


class Bench:
    """A firewall over generated objects, run by the real runner."""

    def __init__(self, point: Point) -> None:
        self.cache = Cache()
        self.reports: queue.Queue[SyncReport] = queue.Queue()
        self.counting = Counting()
        config = Config(run_router=False, run_service_proxy=False)
        self.edges = FirewallEdges(config, run=self.counting.run)
        for each in policy_objects.objects(point):
            self.put(each)
        self.controller = Settling(
            config,
            NODE,
            self.cache,
            self.edges,
            self.edges.tables,
            self.edges.conntrack,
            Clocks(time.time, time.monotonic),
            lambda report, _notes: self.reports.put(report),
            self.edges.messages,
        )
        self.runner = Runner(self.controller, period=1e9, min_interval=0.0, clock=time.monotonic)

    def put(self, one: dict[str, Any]) -> set[Rung]:
        return self.put_raw(one["kind"], json.dumps(one).encode())

    def put_raw(self, kind: str, raw: bytes) -> set[Rung]:
        decoded = decode_versioned(kind, raw)
        assert decoded.object is not None
        return _rung(kind, self.cache.put(kind, decoded.key, decoded.object))

    def delete(self, one: dict[str, Any]) -> set[Rung]:
        key = ObjectKey(one["metadata"].get("namespace", ""), one["metadata"]["name"])
        return _rung(one["kind"], self.cache.delete(one["kind"], key))

    def take(self, ring: Callable[[], set[Rung]]) -> Taken:
        before = self.counting.written
        self.controller.settled.clear()
        started = time.perf_counter()
        self.runner.ring(ring())
        report = self.reports.get(timeout=PATIENCE)
        while not report.keys:  # of what came after the one before
            report = self.reports.get(timeout=PATIENCE)
        seconds, written = time.perf_counter() - started, self.counting.written
        if report.failures or not self.controller.settled.wait(PATIENCE):
            raise RuntimeError(f"this should not have happened: {report}")
        in_all = time.perf_counter() - started
        return Taken(seconds, written.since(before), in_all, self.counting.written.since(before))


def _rung(kind: str, keys: Iterable[ObjectKey]) -> set[Rung]:
    return {Rung(kind, key) for key in keys} if kind != "Node" else {THIS_NODE}


def measure(point: Point) -> dict[str, Any]:
    gc.disable()  # as the agent does it until its first sync is done
    bench = Bench(point)
    thread = threading.Thread(target=bench.runner.run, args=(lambda: None,), daemon=True)

    def first_sync() -> None:
        thread.start()
        report = bench.reports.get(timeout=PATIENCE)
        if not report.full or report.failures:
            raise RuntimeError(f"the first sync did not succeed: {report}")

    seconds, cpu = timed(first_sync)
    first = bench.counting.written
    bench.controller.settled.wait(PATIENCE)
    gc.freeze()
    gc.enable()
    figures = {
        **point._asdict(),
        "first_sync_seconds": seconds,
        "first_sync_cpu_seconds": cpu,
        "first_sync_programs": first.programs,
        "first_sync_program_seconds": first.seconds,
        "first_sync_messages": first.messages,
        "first_sync_bytes": first.bytes,
        **_standing(bench),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "changes": {change.name: _measured(bench, change) for change in changes(point)},
    }
    bench.runner.stop()
    thread.join()
    return figures


def _standing(bench: Bench) -> dict[str, int]:
    chains = bench.edges.chains.read().ours
    counts = bench.controller.status({}).counts
    return {
        "isolated": counts["isolated pods"],
        "guards": counts["guards"],
        "chains": len(chains),
        "rules": sum(len(each.rules) for each in chains.values()),
        "sets": len(bench.edges.sets.read().ours),
        "members": len(bench.edges.members.read().ours),
    }


def _measured(bench: Bench, change: Change) -> dict[str, float]:
    """Each change by itself; what undoes it, so that the next one meets the same cluster, is not measured."""
    taken: list[Taken] = []
    cpu = 0.0
    for number in range(change.times):
        one = change.object(number)
        raw = json.dumps(one).encode()
        before = cpu_seconds()
        taken.append(bench.take(lambda: bench.put_raw(one["kind"], raw)))  # noqa: B023
        cpu += cpu_seconds() - before
        if change.is_new:
            bench.take(lambda: bench.delete(one))  # noqa: B023
    whole = [each.seconds for each in taken]
    own = [each.seconds - each.written.seconds for each in taken]
    return {
        "times": change.times,
        "p50_ms": _percentile(whole, 50) * 1000,
        "p99_ms": _percentile(whole, 99) * 1000,
        "own_p50_ms": _percentile(own, 50) * 1000,
        "own_p99_ms": _percentile(own, 99) * 1000,
        "own_in_all_ms": _mean(each.seconds_in_all - each.written_in_all.seconds for each in taken) * 1000,
        "cpu_ms": cpu / len(taken) * 1000,
        "messages": _mean(each.written.messages for each in taken),
        "messages_in_all": _mean(each.written_in_all.messages for each in taken),
        "programs": _mean(each.written.programs for each in taken),
        "programs_in_all": _mean(each.written_in_all.programs for each in taken),
        "bytes": _mean(each.written.bytes for each in taken),
        "bytes_in_all": _mean(each.written_in_all.bytes for each in taken),
    }


def _percentile(figures: Sequence[float], percent: int) -> float:
    return sorted(figures)[(len(figures) * percent + 99) // 100 - 1]


def _mean(figures: Iterable[float]) -> float:
    found = [*figures]
    return sum(found) / len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("local", type=int)
    parser.add_argument("policies", type=int)
    arguments = parser.parse_args()
    print(json.dumps(measure(Point(arguments.local, arguments.policies))))


if __name__ == "__main__":
    main()
