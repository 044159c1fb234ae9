"""docs/performance.md from build/bench.json: the figures of one run, between the page's markers; the prose stays."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

COLUMNS = (
    ("Services × endpoints", lambda p: f"{p['services']:,} × {p['endpoints']}"),
    ("VIP binding", lambda p: p["binding"]),
    ("process start → kernel complete, s", lambda p: f"{p['start_seconds']:.2f}"),
    ("CPU of it, s", lambda p: f"{p['start_cpu_seconds']:.2f}"),
    ("objects in memory → kernel, s", lambda p: f"{p['first_sync_seconds']:.2f}"),
    ("one endpoint changed p50 / p99, ms", lambda p: f"{p['change_p50_ms']:.2f} / {p['change_p99_ms']:.2f}"),
    ("messages", lambda p: f"{p['change_messages']}"),
    (
        "the same during a comparison p50 / longest, ms",
        lambda p: f"{p['change_while_comparing_p50_ms']:.1f} / {p['change_while_comparing_max_ms']:.1f}",
    ),
    ("full comparison, nothing to do, s", lambda p: f"{p['nothing_to_do_seconds']:.2f}"),
    ("in so many slices × the longest, ms", lambda p: f"{p['slices']} × {p['longest_slice_ms']:.1f}"),
    ("CPU over 30 idle s, %", lambda p: f"{p['idle_cpu_percent']:.3f}"),
    ("start over a full table, s", lambda p: f"{p['restart_seconds']:.2f}"),
    ("peak memory of the two starts, MB", lambda p: f"{p['peak_mb']:.0f} / {p['restart_peak_mb']:.0f}"),
)


# What was to be reached, by point: what, figure, limit, unit.
_BIG = (
    ("process start → kernel complete", "start_seconds", 60.0, "s"),
    ("one endpoint changed, p99", "change_p99_ms", 10.0, "ms"),
    ("messages for it", "change_messages", 2, ""),
)
AIMS: Mapping[tuple[int, int, str], Sequence[tuple[str, str, float, str]]] = {
    (10_000, 10, "route"): (
        ("process start → kernel complete", "start_seconds", 6.0, "s"),
        ("CPU of it", "start_cpu_seconds", 5.0, "s"),
        ("one endpoint changed, p99", "change_p99_ms", 5.0, "ms"),
        ("messages for it", "change_messages", 2, ""),
        ("idle CPU", "idle_cpu_percent", 0.1, "%"),
        ("peak memory", "peak_mb", 150.0, "MB"),
    ),
    (5_000, 50, "auto"): (
        *_BIG,
        ("peak memory", "peak_mb", 200.0, "MB"),
        ("peak memory over a full table", "restart_peak_mb", 200.0, "MB"),
    ),
    (45_000, 5, "auto"): _BIG,
}


def aims(points: list[dict[str, Any]]) -> str:
    """Aim beside figure, for each point that has aims."""
    tables = []
    for point in points:
        services, endpoints, binding = point["services"], point["endpoints"], point["binding"]
        if limits := AIMS.get((services, endpoints, binding)):
            rows = [[f"{services:,} × {endpoints}, {binding}", "aim", "measured"], ["---"] * 3]
            rows += [_aim(point, *each) for each in limits]
            tables.append("\n".join("| " + " | ".join(row) + " |" for row in rows))
    return "\n\n".join(tables)


def _aim(point: dict[str, Any], what: str, name: str, limit: float, unit: str) -> list[str]:
    missed = f", missed by {point[name] - limit:.2g} {unit}".rstrip() if point[name] > limit else ""
    return [what, f"at most {limit:g} {unit}".rstrip(), f"{point[name]:.3g} {unit}".rstrip() + missed]


def table(points: list[dict[str, Any]]) -> str:
    rows = [[title for title, _ in COLUMNS], ["---"] * len(COLUMNS)]
    rows += [[cell(point) for _, cell in COLUMNS] for point in points]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def estimation(figures: list[dict[str, float]]) -> str:
    """How long the kernel's timer holds up a CPU, with --ipvs-estimation=on and off."""
    rows = [["virtual servers and destinations", "longest wait every 2 s, estimation on, ms", "off, ms"], ["---"] * 3]
    rows += [[f"{one['entries']:,}", f"{one['on_ms']:.1f}", f"{one['off_ms']:.1f}"] for one in figures]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) if figures else ""


def main() -> int:
    figures = json.loads(Path(sys.argv[1]).read_text())
    page = Path(sys.argv[2])
    machine = figures["machine"]
    said = (
        f"Linux {machine['kernel']}, {machine['processor']}, {machine['processors']} CPU, Python {machine['python']}."
    )
    points = figures["points"]
    slowest = max(point["slowdown"] for point in points)
    said += f" While this ran, things took {slowest:.2f} times what they take on a CPU of one's own, at most."
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    parts = [said, table(points), aims(points), estimation(figures["estimation"])]
    text = "\n\n".join(part for part in parts if part)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
