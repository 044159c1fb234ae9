"""Runs every benchmark of the firewall inside the lab kernel, each in a network namespace of its own, and writes the
figures.

    python -m tests.bench.policies OUTPUT.json [--points 100x1000,250x5000]      local pods x policies

10,000 pods in 200 namespaces, whatever the point; policy_objects.py says what the policies are. Other programs on the
machine can only make things slower: a start and a first sync are measured twice, and the faster one counts. Printed
while it runs; OUTPUT gets everything. scripts/bench --policies makes its tables of docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from operator import itemgetter
from pathlib import Path
from typing import Any

from tests.bench import policy_objects
from tests.bench.__main__ import IDLE_SECONDS, Network, machine, run, slowdown
from tests.bench.objects import write_manifests
from tests.bench.policy_objects import Point
from tests.bench.process import FIREWALL, Process

PACKET_SECONDS = "60"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--points", default="100x1000,250x5000")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "points": []}
    for text in options.points.split(","):
        local, policies = map(int, text.split("x"))
        point = _point(Point(local, policies))
        print(json.dumps(point), flush=True)
        results["points"].append(point)
        options.output.write_text(json.dumps(results, indent=1))
    return 0


def _point(point: Point) -> dict[str, Any]:
    arguments = str(point.local), str(point.policies)
    before = slowdown()
    figures: dict[str, Any] = json.loads(run("tests.bench.policy_inside", *arguments))
    starts = []
    with tempfile.TemporaryDirectory() as directory:
        manifests = Path(directory) / "manifests"
        write_manifests(manifests, policy_objects.objects(point))
        for last in (False, True):
            with Network() as network, Process(network.inside, manifests, *FIREWALL) as agent:
                starts.append(agent.start("firewall", policies=point.policies, local_pods=point.local))
                if last:
                    figures.update(agent.idle(IDLE_SECONDS))
    figures.update(min(starts, key=itemgetter("start_seconds")))
    figures["packets"] = json.loads(run("tests.bench.policy_packets", *arguments, "--seconds", PACKET_SECONDS))
    figures["slowdown"] = (before + slowdown()) / 2
    return figures


if __name__ == "__main__":
    sys.exit(main())
