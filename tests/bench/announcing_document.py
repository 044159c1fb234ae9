"""The table of announcing in docs/performance.md from build/bench-announcing.json, between markers of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

BEGIN, END = "<!-- announcing: begin -->", "<!-- announcing: end -->"

# What was to be reached: the router knows, after the last local endpoint's event.
WITHDRAWN_MS: Final = 100.0


def _spread(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda point: " / ".join(f"{each:.1f}" for each in point[name])


_ROWS: Final[Sequence[tuple[str, Callable[[dict[str, Any]], str]]]] = (
    ("objects in memory → kernel and BIRD, s", lambda p: f"{p['first_sync_seconds']:.2f}"),
    ("messages for it, BIRD's start among them", lambda p: f"{p['first_sync_messages']:,}"),
    ("session up → the router has all, s", lambda p: f"{p['router_seconds']:.2f}"),
    ("memory for it: agent / BIRD in all, MB", lambda p: f"{p['agent_mb']:.1f} / {p['bird_mb']:.1f}"),
    ("last local endpoint terminates → the agent says done p50 / p99, ms", _spread("withdrawn_kernel_ms")),
    ("→ the router has heard of it p50 / p99, ms", _spread("withdrawn_router_ms")),
    ("endpoint ready again → the router has it p50 / p99, ms", _spread("announced_router_ms")),
    ("messages for one", lambda p: f"{p['change_messages']}"),
    ("the Node is to go: all withdrawn in the kernel, s", lambda p: f"{p['all_kernel_seconds']:.2f}"),
    ("→ the router has heard of the last, s", lambda p: f"{p['all_gone_seconds']:.2f}"),
)


def table(points: list[dict[str, Any]]) -> str:
    rows = [["", *(f"{point['services']:,} addresses" for point in points)], ["---"] * (len(points) + 1)]
    rows += [[name, *map(cell, points)] for name, cell in _ROWS]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def aim(point: dict[str, Any]) -> str:
    found = point["withdrawn_router_ms"][1]
    missed = f", missed by {found - WITHDRAWN_MS:.0f} ms" if found > WITHDRAWN_MS else ""
    return f"Aim: withdrawn within {WITHDRAWN_MS:.0f} ms of the event; p99 {found:.1f} ms{missed}."


def main() -> int:
    figures, page = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    points = figures["points"]
    slowest = max(point["slowdown"] for point in points)
    said = f"Linux {figures['machine']['kernel']}, {figures['machine']['processor']}. Things took {slowest:.2f} times "
    said += "what they take on a CPU of one's own, at most."
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{said}\n\n{table(points)}\n\n{aim(points[-1])}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
