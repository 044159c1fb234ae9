"""What each part of our rules costs a request through a VIP. Runs in the lab kernel; `scripts/bench --packets`.

    python -m tests.bench.packets [--services 100] [--seconds 120]

One part costs less than what other programs on the machine take from the CPU in the same moment. So a part is passed
COPIES times more often than it is, in turn with the rules as they are, and of many requests the undisturbed ones (the
fastest tenth) are compared: the difference, divided by the copies, is what passing it once more costs. The first pass
may cost more: it finds less in the CPU's caches.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench import objects
from tests.bench.__main__ import SETTLED
from tests.bench.peers.traffic import BACKEND, request, start_backend, undisturbed
from tests.bench.process import SERVICES, Process

LIVE: Final = 900_000  # the number of the Service that has the backend
COPIES: Final = 32
REQUESTS: Final = 60  # of one part, then it is the next one's turn
# What is passed more often: (table, hook, rule). A rule without a target matches and goes on. These are what a client
# on the node meets; in FORWARD there are answers only to pods.
_JUMP: Final = "-j KRPY-SVC-"
_PARTS: Final = {
    "mangle PREROUTING: SILENT": [("mangle", "PREROUTING", f"{_JUMP}SILENT")],
    "mangle OUTPUT: SILENT": [("mangle", "OUTPUT", f"{_JUMP}SILENT")],
    "mangle INPUT: MARK": [("mangle", "INPUT", f"{_JUMP}MARK")],
    "mangle OUTPUT: MARK": [("mangle", "OUTPUT", f"{_JUMP}MARK")],
    "mangle POSTROUTING: UNMARK": [("mangle", "POSTROUTING", f"{_JUMP}UNMARK")],
    "filter INPUT: INPUT": [("filter", "INPUT", f"{_JUMP}INPUT")],
    "filter OUTPUT: OUTPUT": [("filter", "OUTPUT", f"{_JUMP}OUTPUT")],
    "nat OUTPUT: the sets of NAT": [
        ("nat", "OUTPUT", f"-m set --match-set krpy-svc-{name}-4 dst,dst")
        for name in ("frontends", "external", "clusterips")
    ],
    "nat POSTROUTING: the matches of MASQ": [
        ("nat", "POSTROUTING", "-m set --match-set krpy-svc-hairpin-4 dst,dst,src"),
        ("nat", "POSTROUTING", "-m connmark --mark 0x1000000/0x1000000"),
        (
            "nat",
            "POSTROUTING",
            "-m connmark --mark 0x2000000/0x2000000 -m addrtype --src-type LOCAL ! --dst-type LOCAL",
        ),
    ],
}
AS_IT_IS: Final = "rules as they are"
NO_RULE: Final = "no rule at all, and so no masquerade"
ONLY_MASQUERADE: Final = "nothing but the masquerade"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=120.0)
    options = parser.parse_args()
    rules = _serve(options.services)
    variants = dict(_variants(rules))
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    deadline = time.monotonic() + options.seconds
    while time.monotonic() < deadline:
        for name in random.sample(list(variants), len(variants)):
            subprocess.run(["iptables-restore"], input=variants[name], text=True, check=True)
            taken[name] += [request(objects.cluster_ip(LIVE)) for _ in range(REQUESTS)]
    print("\n".join(_table(taken)))
    return 0


def _serve(services: int) -> str:
    """The agent's rules: it makes them, ends, and leaves the node forwarding."""
    subprocess.run(["sh", "-ec", SETTLED], check=True)
    start_backend()
    live = [objects.service(LIVE), objects.endpoint_slice(LIVE, 1, addresses=[BACKEND])]
    with tempfile.TemporaryDirectory() as directory:
        manifests = Path(directory) / "manifests"
        objects.write_manifests(manifests, objects.objects(services, 10))
        (manifests / "live.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": live}))
        with Process(lambda *command: [*command], manifests, *SERVICES) as agent:
            agent.start("services", virtual_servers=services + 1)
    return subprocess.run(["iptables-save"], stdout=subprocess.PIPE, text=True, check=True).stdout


def _variants(rules: str) -> Iterator[tuple[str, str]]:
    yield AS_IT_IS, rules
    yield NO_RULE, "".join(f"*{table}\nCOMMIT\n" for table in ("nat", "mangle", "filter"))
    masquerade = "*nat\n-A POSTROUTING -o pod -j MASQUERADE --random-fully\nCOMMIT\n"
    yield ONLY_MASQUERADE, masquerade + "".join(f"*{table}\nCOMMIT\n" for table in ("mangle", "filter"))
    for name, copied in _PARTS.items():
        more = {table: [f"-I {hook} 1 {rule}\n" for at, hook, rule in copied if at == table] for table, _, _ in copied}
        text, table = [], ""
        for line in rules.splitlines(keepends=True):
            table = line[1:].strip() if line.startswith("*") else table
            if line == "COMMIT\n":
                text += more.get(table, []) * COPIES
            text.append(line)
        yield name, "".join(text)


def _table(taken: dict[str, list[tuple[float, float]]]) -> Iterator[str]:
    connect, whole = undisturbed(taken[AS_IT_IS])
    yield "| part | first packet, µs | connection with one request, µs | share of the latter |"
    yield "| --- | --- | --- | --- |"
    for name, times in taken.items():
        found = undisturbed(times)
        first, all_of_it = ((found[0] - connect) / COPIES, (found[1] - whole) / COPIES) if name in _PARTS else found
        yield f"| {name} | {first * 1e6:.1f} | {all_of_it * 1e6:.1f} | {all_of_it / whole:.1%} |"


if __name__ == "__main__":
    sys.exit(main())
