"""Runs every benchmark inside the lab kernel, each in a network namespace of its own, and writes the figures.

    python -m tests.bench OUTPUT.json [--points 100x10,1000x10,10000x10,45000x5,5000x50] [--bindings route,address]

Above BIG Services, --vip-binding=auto alone is measured: it is what such a node has, and 45,000 addresses take minutes.
Other programs on the machine can only make things slower: a start is measured three times, a first sync and what
follows it twice, and the fastest counts. Printed while it runs; OUTPUT gets everything, with the kernel and the
machine. scripts/bench makes docs/performance.md of it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from operator import itemgetter
from pathlib import Path
from typing import Any

from tests.bench import objects
from tests.bench.process import SERVICES, Process

IDLE_SECONDS = 30.0
BUSY = 1.15
BIG = 100_000  # endpoints
# In a fresh namespace: loopback, and a link that carries the node's address, so that routes have a source.
SETTLED = (
    "mount -t tmpfs tmpfs /run; ip link set lo up; ip link add uplink type dummy; ip link set uplink up; "
    f"ip address add {objects.NODE_ADDRESS}/24 dev uplink"
)


class Network:
    """A context: a network namespace with a /run of its own, for one process after the other."""

    def __enter__(self) -> Network:
        command = ["unshare", "--net", "--mount", "sh", "-c", f"{SETTLED}; echo; exec sleep infinity"]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.wait()

    def inside(self, *command: str) -> list[str]:
        return ["nsenter", f"--target={self._holder.pid}", "--net", "--mount", *command]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--points", default="100x10,1000x10,10000x10,5000x50,45000x5")
    parser.add_argument("--bindings", default="route,address")
    parser.add_argument("--estimation", default="0,22000,44000,66000", help="entries to estimate; empty: not measured")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "points": [], "estimation": []}
    for text in options.points.split(","):
        services, endpoints = map(int, text.split("x"))
        big = services * endpoints > BIG
        for binding in ["auto"] if big else options.bindings.split(","):
            point = _point(services, endpoints, binding, once=big)
            print(_line(point), flush=True)
            results["points"].append(point)
            options.output.write_text(json.dumps(results, indent=1))
    if options.estimation:
        results["estimation"] = json.loads(run("tests.bench.jitter", options.estimation))
        print(f"estimation: {results['estimation']}", flush=True)
        options.output.write_text(json.dumps(results, indent=1))
    return 0


def slowdown() -> float:
    """How much longer things take than they need, because others use this CPU as well; 1.0: alone. Looks for 1 s."""
    pieces: list[float] = []
    while sum(pieces) < 1.0:
        began = time.perf_counter()
        sum(range(50_000))
        pieces.append(time.perf_counter() - began)
    return sum(pieces) / len(pieces) / sorted(pieces)[len(pieces) // 10]


def _point(services: int, endpoints: int, binding: str, *, once: bool) -> dict[str, Any]:
    """once: every start one time, and last one over the table that the one before it has left."""
    figures: dict[str, Any] = {"services": services, "endpoints": endpoints, "binding": binding}
    before = slowdown()
    figures.update(
        min(
            (_inside(services, endpoints, binding) for _ in range(1 if once else 2)),
            key=itemgetter("first_sync_seconds"),
        )
    )
    with tempfile.TemporaryDirectory() as directory:
        manifests = Path(directory) / "manifests"
        objects.write_manifests(manifests, objects.objects(services, endpoints))
        starts = []
        for last in (True,) if once else (False, False, True):
            with Network() as network:
                with Process(network.inside, manifests, f"--vip-binding={binding}", *SERVICES) as agent:
                    starts.append(agent.start("services", virtual_servers=services))
                    if last:
                        figures.update(agent.idle(IDLE_SECONDS))
                if last:
                    with Process(network.inside, manifests, f"--vip-binding={binding}", *SERVICES) as agent:
                        figures["restart_seconds"] = agent.start("services", virtual_servers=services)["start_seconds"]
                        figures["restart_peak_mb"] = agent.peak_mb()
    figures.update(min(starts, key=itemgetter("start_seconds")))
    figures["slowdown"] = (before + slowdown()) / 2
    return figures


def _inside(services: int, endpoints: int, binding: str) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads(run("tests.bench.inside", str(services), str(endpoints), binding))
    return figures


def run(module: str, *arguments: str) -> str:
    """What a module prints, run in a network namespace of its own."""
    with Network() as network:
        command = network.inside(sys.executable, "-m", module, *arguments)
        done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=1800)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def machine() -> dict[str, str]:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "unknown",
    )
    return {
        "kernel": platform.release(),
        "processor": model,
        "python": platform.python_version(),
        "processors": str(os.cpu_count()),
    }


def _line(point: dict[str, Any]) -> str:
    return (
        f"{point['services']:6} Services x {point['endpoints']}, {point['binding']:7}: "
        f"start to kernel complete {point['start_seconds']:.2f} s (CPU {point['start_cpu_seconds']:.2f}), "
        f"objects to kernel {point['first_sync_seconds']:.2f} s; one change p50 {point['change_p50_ms']:.2f} ms, "
        f"p99 {point['change_p99_ms']:.2f} ms, {point['change_messages']} messages; during a comparison p50 "
        f"{point['change_while_comparing_p50_ms']:.1f} ms, at most {point['change_while_comparing_max_ms']:.1f} ms; "
        f"nothing to do {point['nothing_to_do_seconds']:.2f} s, longest slice "
        f"{point['longest_slice_ms']:.1f} ms; idle {point['idle_cpu_percent']:.3f} % CPU; "
        f"peak {point['peak_mb']:.0f} MB; over a full table {point['restart_seconds']:.2f} s, "
        f"{point['restart_peak_mb']:.0f} MB"
        + (f" (the machine is busy: {point['slowdown']:.1f} times what it takes)" if point["slowdown"] > BUSY else "")
    )


if __name__ == "__main__":
    sys.exit(main())
