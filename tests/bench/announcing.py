"""Runs the benchmark of announcing inside the lab kernel, and writes the figures.

    python -m tests.bench.announcing OUTPUT.json [--points 1000,10000]           Services with an external address each

Other programs on the machine can only make things slower: every point is measured twice, and the faster withdrawal of
a single address counts. scripts/bench --announcing makes its table of docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tests.bench.__main__ import machine, run, slowdown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--points", default="1000,10000")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "points": []}
    for services in options.points.split(","):
        point = min((_point(services) for _ in range(2)), key=lambda found: found["withdrawn_router_ms"])
        print(json.dumps(point), flush=True)
        results["points"].append(point)
        options.output.write_text(json.dumps(results, indent=1))
    return 0


def _point(services: str) -> dict[str, Any]:
    before = slowdown()
    figures: dict[str, Any] = json.loads(run("tests.bench.announcing_inside", services))
    return figures | {"slowdown": (before + slowdown()) / 2}


if __name__ == "__main__":
    sys.exit(main())
