"""In the lab kernel: runs the peer's process and says when the kernel holds what. Told what to do by conductor.py.

    python -m tests.bench.peers.witness VIEW ADDRESS

Looking costs the peer CPU, of which the lab kernel has one. So there is a pause between two looks, of a hundredth of
the time that has been waited: what is seen is seen so exactly, or within a millisecond. (A priority below the peer's
would be no better: a peer that wakes while such a look is under way was seen to lose a tick, 10 ms.)
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench import objects
from tests.bench.peers import traffic
from tests.bench.peers.kernels import View, view_called
from tests.bench.peers.link import serve

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLED = 100  # Services; once all of these are whole, some 1 % of the work is left
BETWEEN = 0.05  # seconds between two looks at one Service
LEAST, SHARE = 0.001, 0.01  # seconds, and the part of the time waited, between two looks at what is expected
STOP_WITHIN = 60.0
NODE_NETWORK = (
    "ip link add uplink type veth peer name far; ip link set far up; ip link set uplink up; "
    f"ip address add {objects.NODE_ADDRESS}/24 dev uplink; "
    "ip route add default dev uplink"  # where nf_tables rewrites a destination, there must be a way to it before
)


class Witness:
    """Everything that the conductor may ask for is a method of this class, called by its name."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._process: subprocess.Popen[bytes] | None = None
        self._changed = threading.Condition()
        self._expected: dict[str, tuple[int, str, float]] = {}  # Service, endpoint, since when
        self._seen: dict[str, float] = {}
        self._answer: float | None = None
        self._prober: threading.Thread | None = None
        threading.Thread(target=self._watch, daemon=True).start()

    def clock(self) -> float:
        return time.time()

    # The peer's process

    def start(self, command: Sequence[str], log: str) -> float:
        with Path(log).open("ab") as stream:
            began = time.time()
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        return began

    def stop(self) -> None:
        process = self._running()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None

    def usage(self) -> dict[str, float]:
        """CPU seconds with ended children, sizes in MB of 2^20 bytes, and `started`."""
        base = Path("/proc") / str(self._running().pid)
        fields = (base / "stat").read_text().rpartition(")")[2].split()
        status = (base / "status").read_text()
        sizes = {name: int(value) / 1024 for name, value in re.findall(r"(VmHWM|VmRSS):\s+(\d+) kB", status)}
        return {
            "cpu": sum(map(int, fields[11:15])) / TICKS,
            "peak_mb": sizes["VmHWM"],
            "rss_mb": sizes["VmRSS"],
            "started": self.started(),
        }

    def started(self) -> int:
        """Programs and threads started in this kernel so far."""
        found = re.search(r"^processes (\d+)", Path("/proc/stat").read_text(), re.MULTILINE)
        return int(found[1]) if found else 0

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            status = self._process.returncode if self._process else "none was started"
            raise RuntimeError(f"the peer does not run ({status})")
        return self._process

    # What the kernel holds

    def complete(self, services: int, endpoints: int, within: float) -> float | None:
        """When the kernel first held so many; None: not within that time.

        Looking at all of it takes up to a second of the one CPU, so it is done once a few Services are whole.
        """
        deadline = time.monotonic() + within
        waiting = random.Random(services).sample(range(services), min(SAMPLED, services))
        while time.monotonic() < deadline:
            while waiting and self._view.whole(waiting[-1], endpoints // services):
                waiting.pop()
            pause = BETWEEN
            if not waiting:
                began, found = time.monotonic(), time.time()
                sizes = self._view.sizes()
                if sizes[0] >= services and sizes[1] >= endpoints:
                    return found
                pause = max(BETWEEN, (time.monotonic() - began) * self._view.patience)
            self._running()
            time.sleep(pause)
        return None

    def expect(self, name: str, number: int, address: str) -> None:
        """From now on look for it; `seen` tells when it was there."""
        with self._changed:
            self._expected[name] = (number, address, time.monotonic())
            self._changed.notify_all()

    def seen(self, names: Sequence[str], within: float) -> dict[str, float]:
        """Waits until all of them are there, at most that long, and forgets them; when each one was."""
        deadline = time.monotonic() + within
        with self._changed:
            while not all(name in self._seen for name in names):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, 1.0))
            for name in names:
                self._expected.pop(name, None)
            return {name: self._seen.pop(name) for name in names if name in self._seen}

    def _watch(self) -> None:
        while True:
            with self._changed:
                while not self._expected:
                    self._changed.wait()
                expected = list(self._expected.items())
            time.sleep(max(LEAST, SHARE * (time.monotonic() - max(since for _, (*_, since) in expected))))
            for name, (number, address, _) in expected:
                if self._view.holds(number, address):
                    now = time.time()
                    with self._changed:
                        if self._expected.pop(name, None):
                            self._seen[name] = now
                        self._changed.notify_all()

    # Packets

    def prepare(self) -> None:
        subprocess.run(["sh", "-ec", NODE_NETWORK], check=True)
        traffic.start_backend()

    def probe(self, vip: str, within: float) -> None:
        """Ask that address until it answers; `answered` tells when it did."""

        def work() -> None:
            self._answer = traffic.first_answer(vip, within)

        self._answer = None
        self._prober = threading.Thread(target=work, daemon=True)
        self._prober.start()

    def answered(self) -> float | None:
        assert self._prober is not None
        self._prober.join()
        return self._answer

    def load(self, vip: str, seconds: float) -> dict[str, float]:
        return traffic.load(vip, seconds)


def main() -> None:
    view, address = sys.argv[1:]
    witness = Witness(view_called(view))
    actions = (
        "clock",
        "start",
        "stop",
        "usage",
        "started",
        "complete",
        "expect",
        "seen",
        "prepare",
        "probe",
        "answered",
        "load",
    )
    serve(address, {name: getattr(witness, name) for name in actions})


if __name__ == "__main__":
    main()
