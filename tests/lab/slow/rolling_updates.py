"""A rolling update under every scheduler, and once more with draining off.

Plays variants of tests/lab/rolling-update.yaml and prints who lost how many requests. Exit status 0: with draining
nobody lost one, and without it somebody did, so that the scenario can fail. dh cannot drain (it has no way past a
weight of 0): with it the connections that stay open are lost, and only new ones are judged.

    rolling_updates.py [SCHEDULER ...]     default: all that the agent knows
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from kuberouter_py.controllers.services.drain import NEVER_DRAINS
from kuberouter_py.controllers.services.scheduling import KNOWN

ROOT = Path(__file__).parents[3]
SCENARIO = ROOT / "tests/lab/rolling-update.yaml"
BUILD = ROOT / "build/rolling-updates"
OFF = "--ipvs-graceful-termination=false"
SEEN = re.compile(r"(\d+) attempts, (\d+) failed(?: \(([^)]*)\))?")


class Lost(NamedTuple):
    attempts: int
    failed: int
    how: str


class Variant(NamedTuple):
    scheduler: str
    drains: bool

    @property
    def file(self) -> Path:
        return BUILD / f"{self.scheduler}-{'draining' if self.drains else 'off'}.yaml"

    def write(self) -> None:
        """Without its expectations: every stream is counted to its end, and who answers is the scheduler's affair."""
        text = re.sub(r", (distinct: \d+|backends: \[[^]]*\])", "", SCENARIO.read_text())
        text = text.replace(", failed: 0}", "}")
        text = text.replace("service.scheduler: rr", f"service.scheduler: {self.scheduler}")
        if not self.drains:
            text = text.replace("--run-firewall=false]", f"--run-firewall=false, {OFF}]")
        self.file.write_text(text)

    def verdict(self, lost: dict[str, Lost]) -> str:
        """What is wrong; "" where all is as it should be."""
        if not lost or not all(each.attempts for each in lost.values()):
            return "was not played to its end"
        failed = {name: each.failed for name, each in lost.items() if each.failed}
        if not self.drains:
            return "" if failed else "nobody lost anything without draining: the scenario shows nothing"
        if self.scheduler == NEVER_DRAINS:
            failed = {name: number for name, number in failed.items() if not name.startswith("kept")}
        return f"lost requests: {', '.join(sorted(failed))}" if failed else ""


def main(schedulers: list[str]) -> int:
    if unknown := set(schedulers) - KNOWN:
        print(f"no such scheduler: {' '.join(sorted(unknown))} (known: {' '.join(sorted(KNOWN))})")
        return 2
    BUILD.mkdir(parents=True, exist_ok=True)
    variants = [Variant(name, drains) for name in schedulers or sorted(KNOWN) for drains in (True, False)]
    for variant in variants:
        variant.write()
    files = [variant.file for variant in variants]
    done = subprocess.run([ROOT / "scripts/lab", "run", "--json", *files], stdout=subprocess.PIPE, check=False)
    played = {Path(each["file"]).name: each for each in json.loads(done.stdout)["files"]}
    wrong = 0
    for variant in variants:
        lost = counted(played[variant.file.name])
        reason = variant.verdict(lost)
        wrong += bool(reason)
        told = "  ".join(f"{name} {each.failed}/{each.attempts}{each.how}" for name, each in lost.items())
        print(f"{variant.scheduler:6} draining {'on ' if variant.drains else 'off'}  {told}  {reason or 'ok'}")
    print(f"{len(variants) - wrong} passed, {wrong} failed")
    return 1 if wrong else 0


def counted(file: dict[str, Any]) -> dict[str, Lost]:
    """By stream."""
    found = {}
    for step in file["steps"]:
        seen = SEEN.search(step["detail"] or "") if step["kind"] == "streamed" else None
        if seen:
            name = re.sub(r"^streamed (\S+):$", r"\1", step["what"])
            found[name] = Lost(int(seen[1]), int(seen[2]), f" ({seen[3]})" if seen[3] else "")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
