"""What build/bench-peers.json says: ratios, and the table of docs/performance.md.

python -m tests.bench.peers.document build/bench-peers.json docs/performance.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench.peers.programs import TITLES

BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"

# Figure -> what it is called. Less is better, but for the last.
MEASURES: Final = {
    "start_seconds": "start → kernel complete, s",
    "start_cpu_seconds": "CPU of it, s",
    "change_p50_ms": "one endpoint changed in the API → kernel, p50, ms",
    "change_p99_ms": "the same, p99, ms",
    "change_cpu_ms": "CPU for one change, ms",
    "service_added_p50_ms": "Service added → first packet answered, p50, ms",
    "rolling_cpu_seconds": "1,000 endpoints rolled in 60 s: CPU, s",
    "rolling_worst_ms": "the latest of them, ms",
    "idle_cpu_seconds": "CPU of 60 idle s, s",
    "full_sync_cpu_seconds": "CPU of a periodic full sync, s",
    "restart_seconds": "restart over a full table → a change seen, s",
    "peak_mb": "peak memory, MB",
    "first_packet_p50_ms": "first packet through a VIP, p50, ms",
    "first_packet_p10_ms": "the same, less disturbed (p10), ms",
    "request_p10_ms": "connection with one request, less disturbed (p10), ms",
    "requests_per_second": "requests through a VIP, 1/s (more is better)",
}
# Beside the table, without a ratio: they explain it.
BESIDE: Final = {
    "changes": "changes measured",
    "change_after_answer_p50_ms": "change, from the API server's answer on, p50, ms",
    "change_after_answer_p99_ms": "the same, p99, ms",
    "programs_and_threads_to_start": "programs and threads started until complete",
    "programs_and_threads_per_change": "and for one change",
}
# The kernel counts CPU in ticks of 10 ms: less than one is taken for one in a ratio.
SMALLEST: Final = {"idle_cpu_seconds": 0.01, "full_sync_cpu_seconds": 0.01, "change_cpu_ms": 0.1}
OURS: Final = "ours"


def ratios(points: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Point -> peer -> measure -> peer's figure / ours; where it did not come to an end, its bound / ours."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for point in points:
        ours = point["peers"].get(OURS, {})
        at = found.setdefault(f"{point['services']}x{point['endpoints']}", {})
        for name, theirs in point["peers"].items():
            if name != OURS and "left_out" not in theirs:
                at[name] = {measure: ratio for measure in MEASURES if (ratio := _ratio(measure, theirs, ours))}
    return found


def _ratio(measure: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> float | None:
    mine, other = ours.get(measure), theirs.get("over", {}).get(measure, theirs.get(measure))
    if mine is None or other is None:
        return None
    least = SMALLEST.get(measure, 1e-6)
    return float(f"{max(other, least) / max(mine, least):.3g}")


def tables(results: Mapping[str, Any]) -> str:
    return "\n\n".join(_table(point) for point in sorted(results["points"], key=_size))


def _size(point: Mapping[str, Any]) -> int:
    return int(point["services"] * point["endpoints"])


def _table(point: Mapping[str, Any]) -> str:
    held = point["peers"]  # in the order in which they were measured
    peers = {name: held[name] for name in TITLES if name in held and "left_out" not in held[name]}
    rows = [
        [f"{point['services']:,} × {point['endpoints']}", *(TITLES[name] for name in peers)],
        ["---"] * (1 + len(peers)),
    ]
    for measure, title in {**MEASURES, **BESIDE}.items():
        cells = [_cell(measure, figures) for figures in peers.values()]
        if any(cells):
            rows.append([title, *cells])
    notes = [
        f"{TITLES[name]} was left out: {each['left_out']}."
        for name, each in point["peers"].items()
        if "left_out" in each
    ]
    if len({figures.get("run") for figures in peers.values()}) > 1:
        notes.append("Not all of one run: ratios between columns say less.")
    notes += [f"{TITLES[name]} ended early: {each['failed']}." for name, each in peers.items() if "failed" in each]
    return "\n".join(_lines(rows)) + ("\n\n" + " ".join(notes) if notes else "")


def _lines(rows: Iterable[Iterable[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in rows]


def _cell(measure: str, figures: Mapping[str, Any]) -> str:
    if (over := figures["over"].get(measure)) is not None:  # also where the first few were had
        return f"> {over:,.0f}"
    if (value := figures.get(measure)) is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> int:
    results = json.loads(Path(sys.argv[1]).read_text())
    page = Path(sys.argv[2])
    machine = results["machine"]
    said = f"Host: Linux {machine['kernel']}, {machine['processors']} CPUs."
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{said}\n\n{tables(results)}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
