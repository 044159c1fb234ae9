"""How long the router's routes take by themselves: 5,000 Nodes of both families, and 10,000 announced prefixes.

    scripts/lab exec -- unshare --net python -m tests.bench.routes [--nodes 5000] [--prefixes 10000]

Prints a line for each step: messages sent, seconds, and in how many steps a comparison reads them, with the longest.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import time
from typing import Any

from kuberouter_py.kernel.handover import Handover
from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch
from kuberouter_py.kernel.pod_routes import PodRoutes
from kuberouter_py.model.bgp import Announced
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.names import MAIN_TABLE
from kuberouter_py.model.podnet import PodRoute, RouteKey
from kuberouter_py.ports import Plan, SlicedTable, Table

_LINKS = """ip link set lo up; ip link add uplink type dummy; ip link set uplink up; ip link add tunnel type dummy
ip link set tunnel up; ip address add 172.16.0.1/12 dev uplink; ip address add fd00:9::1/64 dev uplink nodad"""


def pod_routes(nodes: int) -> dict[RouteKey, PodRoute]:
    """Each with a gateway of its own: Nodes of one subnet."""
    found = {}
    for node in range(2, nodes + 2):
        pod_cidr = (10 << 24 | node << 8).to_bytes(4, "big")
        found[RouteKey(MAIN_TABLE, pod_cidr, 24)] = PodRoute("uplink", (0xAC10_0000 | node).to_bytes(4, "big"))
        pod_cidr = (0xFD00_0010 << 32 | node << 16).to_bytes(8, "big") + bytes(8)
        gateway = (0xFD00_0009 << 96 | node).to_bytes(16, "big")
        found[RouteKey(MAIN_TABLE, pod_cidr, 64)] = PodRoute("uplink", gateway)
    return found


def announced(prefixes: int) -> dict[Cidr, Announced]:
    return {Cidr((0x0A60_0000 + number).to_bytes(4, "big"), 32): Announced.SERVICE for number in range(prefixes)}


def measure(batch: Batch, table: Table[Any, Any], wanted: dict[Any, Any], other: Any) -> None:
    one = next(iter(wanted))
    changed = dict.fromkeys(wanted, other)
    print(f"{table.name}: {len(wanted):,}", flush=True)
    _step(batch, table, "all new", Plan(add=wanted))
    _step(batch, table, "one changed", Plan(change={one: (wanted[one], other)}))
    _step(batch, table, "that back", Plan(change={one: (other, wanted[one])}))
    _step(batch, table, "all changed", Plan(change={key: (value, other) for key, value in wanted.items()}))
    started = time.monotonic()
    assert table.read().ours == changed
    print(f"  {'read whole':12} {time.monotonic() - started:8.3f} s")
    assert isinstance(table, SlicedTable)
    steps = [time.monotonic()]
    steps += [time.monotonic() for _ in table.parts(list(changed))]
    longest = max(after - before for before, after in itertools.pairwise(steps))
    told = f"in {len(steps) - 1} steps, the longest {longest * 1e3:.1f} ms"
    print(f"  {'compared':12} {steps[-1] - steps[0]:8.3f} s {told}")
    _step(batch, table, "all gone", Plan(remove=changed))


def _step(batch: Batch, table: Table[Any, Any], what: str, plan: Plan[Any, Any]) -> None:
    sent, started = batch.sent, time.monotonic()
    refused = table.apply(plan)
    print(f"  {what:12} {time.monotonic() - started:8.3f} s {batch.sent - sent:7,} messages", flush=True)
    assert not refused, next(iter(refused.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--prefixes", type=int, default=10000)
    options = parser.parse_args()
    subprocess.run(["sh", "-ec", _LINKS], check=True)
    batch = Batch(NETLINK_ROUTE, strict=True)
    measure(batch, PodRoutes(batch), pod_routes(options.nodes), PodRoute("tunnel"))
    measure(batch, Handover(batch), announced(options.prefixes), Announced.HELD)


if __name__ == "__main__":
    main()
