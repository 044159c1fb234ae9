"""What one benchmark process measures inside the agent's own code: event to kernel, nothing to do, messages.

It runs alone in a network namespace of the lab kernel, over real kernel tables; the cluster is generated in memory and
handed to the real cache, decoder, runner and controller.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import queue
import resource
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from kuberouter_py.agent.edges import Node, ServicesEdges
from kuberouter_py.config import Config
from kuberouter_py.controllers.history import Clocks
from kuberouter_py.controllers.runner import Runner
from kuberouter_py.controllers.services.controller import ServicesController
from kuberouter_py.model.report import SyncReport
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.decode import decode_versioned
from tests.bench import objects

CHANGES = 100  # p99 of 100 is the second largest
PATIENCE = 300.0


class Compared(ServicesController):
    """Tells when the background work has come to its end, and how long each slice of it took."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.slices: list[float] = []
        self.done = threading.Event()

    def begin_compare(self, tables: Collection[str]) -> None:
        super().begin_compare(tables)
        self.done.clear()

    def background(self) -> bool | None:
        started = time.perf_counter()
        good = super().background()
        if good is None:
            self.done.set()
        else:
            self.slices.append(time.perf_counter() - started)
        return good


class Bench:
    """A controller over generated objects, run by the real runner."""

    def __init__(self, services: int, endpoints: int, binding: str) -> None:
        self.endpoints = endpoints
        self.cache = Cache()
        self.reports: queue.Queue[SyncReport] = queue.Queue()
        self.config = Config(run_router=False, run_firewall=False, vip_binding=binding)
        self.edges = ServicesEdges(self.config)
        for each in objects.objects(services, endpoints):
            self.put(each)
        self.controller = Compared(
            self.config,
            objects.NODE,
            self.cache,
            Node(self.edges),
            self.edges.tables,
            self.edges.conntrack,
            Clocks(time.time, time.monotonic),
            lambda report, _notes: self.reports.put(report),
            self.edges.messages,
        )
        self.runner = Runner(self.controller, period=1e9, min_interval=0.0, clock=time.monotonic)

    def put(self, one: dict[str, Any]) -> set[Any]:
        return self.put_raw(one["kind"], json.dumps(one).encode())

    def put_raw(self, kind: str, raw: bytes) -> set[Any]:
        decoded = decode_versioned(kind, raw)
        assert decoded.object is not None
        return self.cache.put(kind, decoded.key, decoded.object)

    def wait_drained(self) -> None:
        """The endpoint that went has no connections: what is left of it goes at once, in a sync of its own."""
        while self.controller.due() is not None:
            time.sleep(0.001)
        with contextlib.suppress(queue.Empty):
            while True:
                self.reports.get_nowait()

    def next_report(self) -> SyncReport:
        return self.reports.get(timeout=PATIENCE)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(seconds, CPU seconds with children)."""
    cpu, clock = cpu_seconds(), time.perf_counter()
    work()
    return time.perf_counter() - clock, cpu_seconds() - cpu


def cpu_seconds() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def measure(services: int, endpoints: int, binding: str) -> dict[str, Any]:
    gc.disable()  # as the agent does it until its first sync is done
    bench = Bench(services, endpoints, binding)
    thread = threading.Thread(target=bench.runner.run, args=(lambda: None,), daemon=True)

    def first_sync() -> None:
        thread.start()
        bench.next_report()

    seconds, cpu = timed(first_sync)
    gc.freeze()
    gc.enable()
    changes = [_change(bench, services, number) for number in range(CHANGES)]
    latencies = sorted(latency for latency, _ in changes)
    delays = _changes_while_comparing(bench, services)
    bench.runner.stop()
    thread.join()
    idle_seconds, idle_cpu = timed(lambda: _compare_everything(bench))
    slices = bench.controller.slices
    return {
        "first_sync_seconds": seconds,
        "first_sync_cpu_seconds": cpu,
        "change_p50_ms": latencies[len(latencies) // 2] * 1000,
        "change_p99_ms": latencies[-2] * 1000,
        "change_messages": max(messages for _, messages in changes),
        "change_while_comparing_p50_ms": delays[len(delays) // 2] * 1000,
        "change_while_comparing_max_ms": delays[-1] * 1000,
        "changes_while_comparing": len(delays),
        "longest_slice_ms": max(slices) * 1000,
        "slices": len(slices),
        "nothing_to_do_seconds": idle_seconds,
        "nothing_to_do_cpu_seconds": idle_cpu,
    }


def _change(bench: Bench, services: int, number: int) -> tuple[float, int]:
    """One endpoint of one Service changes: from the event's bytes to the kernel's acknowledgement."""
    raw = json.dumps(
        objects.endpoint_slice(number % services, bench.endpoints, generation=1 + number // services)
    ).encode()
    started = time.perf_counter()
    bench.runner.ring(bench.put_raw("EndpointSlice", raw))
    while not (report := bench.next_report()).keys:  # of a comparison
        pass
    seconds = time.perf_counter() - started
    bench.wait_drained()
    return seconds, report.messages


def _changes_while_comparing(bench: Bench, services: int) -> list[float]:
    """The same, while the whole kernel state is being compared: each from its event to the kernel, sorted."""
    bench.controller.done.clear()
    bench.runner.ask_compare(table.name for table in bench.edges.tables)
    delays = []
    number = CHANGES
    while not bench.controller.done.is_set():
        delays.append(_change(bench, services, number)[0])
        number += 1
    return sorted(delays)


def _compare_everything(bench: Bench) -> None:
    while not bench.reports.empty():
        bench.next_report()
    bench.controller.slices.clear()
    bench.controller.begin_compare(())
    while bench.controller.background() is not None:
        pass
    while not bench.reports.empty():
        report = bench.next_report()
        if report.wrote or report.failures:
            raise RuntimeError(f"nothing should have been to do: {report}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("services", type=int)
    parser.add_argument("endpoints", type=int)
    parser.add_argument("binding")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.services, arguments.endpoints, arguments.binding)))


if __name__ == "__main__":
    main()
