"""The firewall's tables of docs/performance.md from build/bench-policies.json: the figures of one run, between markers
of their own; the prose stays.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

BEGIN, END = "<!-- policies: begin -->", "<!-- policies: end -->"

_Cell = Callable[[dict[str, Any]], str]

_ROWS: Final[Sequence[tuple[str, _Cell]]] = (
    ("process start → kernel complete, s", lambda p: f"{p['start_seconds']:.2f}"),
    ("CPU of it, s", lambda p: f"{p['start_cpu_seconds']:.2f}"),
    ("objects in memory → kernel, s", lambda p: f"{p['first_sync_seconds']:.2f}"),
    (
        "of that in programs (so many), s",
        lambda p: f"{p['first_sync_program_seconds']:.2f} ({p['first_sync_programs']})",
    ),
    ("messages / MB written for it", lambda p: f"{p['first_sync_messages']:,} / {p['first_sync_bytes'] / 2**20:.1f}"),
    ("guards", lambda p: f"{p['guards']:,}"),
    ("chains / rules standing, both families", lambda p: f"{p['chains']:,} / {p['rules']:,}"),
    ("sets / members standing, both families", lambda p: f"{p['sets']:,} / {p['members']:,}"),
    ("peak memory, MB", lambda p: f"{p['peak_mb']:.0f}"),
    ("CPU over 30 idle s, %", lambda p: f"{p['idle_cpu_percent']:.3f}"),
)

_CHANGE_COLUMNS: Final[Sequence[tuple[str, _Cell]]] = (
    ("to the kernel p50 / p99, ms", lambda c: f"{c['p50_ms']:.1f} / {c['p99_ms']:.1f}"),
    ("without programs p50 / p99, ms", lambda c: f"{c['own_p50_ms']:.1f} / {c['own_p99_ms']:.1f}"),
    ("programs", lambda c: f"{c['programs']:.1f}"),
    ("messages", lambda c: f"{c['messages']:.1f}"),
    ("bytes", lambda c: f"{c['bytes']:,.0f}"),
    ("CPU of it and of what comes after, ms", lambda c: f"{c['cpu_ms']:.1f}"),
    ("programs in all", lambda c: f"{c['programs_in_all']:.1f}"),
)

# What was to be reached: kube-router's firewall takes 4.3 s of CPU for a change of one pod or policy, in this lab, with
# 100 policies and 100 pods.
OWN_MS, FIRST_SYNC_SECONDS, POD_CPU_MS = 10.0, 5.0, 4300 / 20


def _title(point: dict[str, Any]) -> str:
    return f"{point['local']} local pods, {point['policies']:,} policies"


def points(found: list[dict[str, Any]]) -> str:
    rows = [["10,000 pods in 200 namespaces", *map(_title, found)], ["---"] * (len(found) + 1)]
    rows += [[name, *map(cell, found)] for name, cell in _ROWS]
    return _table(rows)


def changes(point: dict[str, Any]) -> str:
    rows = [[_title(point), *(name for name, _ in _CHANGE_COLUMNS)], ["---"] * (len(_CHANGE_COLUMNS) + 1)]
    rows += [[name, *(cell(change) for _, cell in _CHANGE_COLUMNS)] for name, change in point["changes"].items()]
    return _table(rows)


def packets(point: dict[str, Any]) -> str:
    found = point["packets"]
    base = found["paths"][0]
    rows = [[_title(point), "first packet, µs", "connection with one request, µs", "one stream, MB/s", "as a ratio"]]
    rows.append(["---"] * 5)
    for path in found["paths"]:
        figures = [path[name] for name in ("first_packet_us", "request_us", "stream_mb_per_second")]
        ratios = [path[name] / base[name] for name in ("first_packet_us", "request_us", "stream_mb_per_second")]
        rows.append([path["name"], *(f"{each:.0f}" for each in figures), " / ".join(f"{each:.2f}" for each in ratios)])
    return _table(rows)


def aims(point: dict[str, Any]) -> str:
    rows = [[_title(point), "aim", "measured"], ["---"] * 3]
    seconds = point["first_sync_seconds"]
    rows.append(_aim("objects in memory → kernel", FIRST_SYNC_SECONDS, seconds, "s"))
    for name, change in point["changes"].items():
        rows.append(_aim(f"{name}: without programs, p50", OWN_MS, change["own_p50_ms"], "ms"))
        if name.startswith("pod "):
            rows.append(_aim(f"{name}: CPU", POD_CPU_MS, change["cpu_ms"], "ms"))
    return _table(rows)


def _aim(what: str, limit: float, figure: float, unit: str) -> list[str]:
    missed = f", missed by {figure - limit:.3g} {unit}" if figure > limit else ""
    return [what, f"at most {limit:g} {unit}", f"{figure:.3g} {unit}{missed}"]


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _parts(figures: dict[str, Any]) -> Iterator[str]:
    machine, found = figures["machine"], figures["points"]
    said = (
        f"Linux {machine['kernel']}, {machine['processor']}, {machine['processors']} CPU, Python {machine['python']}."
    )
    slowest = max(point["slowdown"] for point in found)
    yield said + f" While this ran, things took {slowest:.2f} times what they take on a CPU of one's own, at most."
    yield points(found)
    yield from map(changes, found)
    yield aims(found[-1])
    yield from map(packets, found)


def main() -> int:
    figures, page = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n" + "\n\n".join(_parts(figures)) + f"\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
