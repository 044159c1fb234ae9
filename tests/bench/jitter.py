"""How long IPVS' estimation of rates holds up the CPU, by how much there is to estimate: JSON on stdout.

    python -m tests.bench.jitter 0,22000,66000      virtual servers and destinations

Other programs stop this one, too, but not every two seconds at the same moment: what counts is the longest gap that
comes back in nearly every period of the kernel's timer.
"""

from __future__ import annotations

import json
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from kuberouter_py.kernel.ipvs import VirtualServers
from kuberouter_py.model.kernel import Destination, DestinationKey, Protocol, ServerKey, VirtualServer, VirtualServerKey
from kuberouter_py.ports import Plan
from tests.bench import objects

SWITCH: Final = Path("/proc/sys/net/ipv4/vs/run_estimation")
ENDPOINTS: Final = 10
CYCLES: Final = 8
# The timer is set anew when its work is done, to a full tick: the period is a little more than 2 s.
PERIODS: Final = tuple(2.0 + step / 200 for step in range(9))
WINDOW: Final = 0.015
GAP: Final = 0.0002


def stall(gaps: list[tuple[float, float]]) -> float:
    """gaps: (when, seconds). The longest that all periods but one have at the same place."""
    best = 0.0
    for period in PERIODS:
        seen: dict[int, dict[int, float]] = {}
        for when, length in gaps:
            cycle, rest = divmod(when, period)
            place = seen.setdefault(int(rest / WINDOW), {})
            place[int(cycle)] = max(length, place.get(int(cycle), 0.0))
        for place in seen.values():
            if len(place) >= CYCLES - 1:
                best = max(best, sorted(place.values(), reverse=True)[CYCLES - 2])
    return best


def _watch() -> list[tuple[float, float]]:
    gaps = []
    began = last = time.perf_counter()
    while last - began < CYCLES * PERIODS[0]:
        now = time.perf_counter()
        if now - last > GAP:
            gaps.append((last - began, now - last))
        last = now
    return gaps


def _servers(first: int, end: int) -> dict[ServerKey, VirtualServer]:
    found: dict[ServerKey, VirtualServer] = {}
    for number in range(first, end):
        addresses = (objects.endpoint_ip(number * ENDPOINTS + each) for each in range(ENDPOINTS))
        to = {DestinationKey(ip_address(address).packed, objects.TARGET_PORT): Destination() for address in addresses}
        key = VirtualServerKey(Protocol.TCP, ip_address(objects.cluster_ip(number)).packed, objects.PORT)
        found[key] = VirtualServer("rr", 0, 0, to)
    return found


def main() -> None:
    table = VirtualServers(lambda: (), lambda: ())
    figures, there = [], 0
    for entries in map(int, sys.argv[1].split(",")):
        wanted = entries // (1 + ENDPOINTS)
        if refused := table.apply(Plan(add=_servers(there, wanted))):
            raise RuntimeError(f"not to be had: {next(iter(refused.values()))}")
        there = wanted
        figure: dict[str, float] = {"entries": entries}
        for name, value in (("on_ms", "1"), ("off_ms", "0")):
            SWITCH.write_text(value)
            figure[name] = stall(_watch()) * 1000
        figures.append(figure)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
