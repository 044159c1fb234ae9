"""docs/performance.md from build/bench.json: the figures of one run, between the page's markers; the prose stays."""

from __future__ import annotations

import json
import sys
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
    ("full comparison, nothing to do, s", lambda p: f"{p['nothing_to_do_seconds']:.2f}"),
    ("CPU over 30 idle s, %", lambda p: f"{p['idle_cpu_percent']:.3f}"),
    ("peak memory, MB", lambda p: f"{p['peak_mb']:.0f}"),
)


def table(points: list[dict[str, Any]]) -> str:
    rows = [[title for title, _ in COLUMNS], ["---"] * len(COLUMNS)]
    rows += [[cell(point) for _, cell in COLUMNS] for point in points]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> int:
    figures = json.loads(Path(sys.argv[1]).read_text())
    page = Path(sys.argv[2])
    machine = figures["machine"]
    said = (
        f"Linux {machine['kernel']}, {machine['processor']}, {machine['processors']} CPU, Python {machine['python']}."
    )
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{said}\n\n{table(figures['points'])}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
