"""One real agent process over a folder of manifests: how long until the kernel holds everything, what it costs to
idle.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from kuberouter_py.observe.socket import NoAgent, ask
from tests.bench import objects

PATIENCE = 600.0
POLL = 0.05
TICKS = os.sysconf("SC_CLK_TCK")

# Flags: one controller alone.
SERVICES = ("--run-firewall=false",)
FIREWALL = ("--run-service-proxy=false",)


class Process:
    """A context: the agent runs in a namespace of its own and is ended with it."""

    def __init__(self, in_namespace: Callable[..., list[str]], manifests: Path, *more_flags: str) -> None:
        """more_flags: what runs, and how."""
        self._socket = manifests.parent / "agent.sock"
        flags = [
            f"--manifests={manifests}",
            f"--hostname-override={objects.NODE}",
            *more_flags,
            "--run-router=false",
            "--health-port=0",
            "--proxy-healthz-port=0",
            f"--socket={self._socket}",
        ]
        self._log = (manifests.parent / "agent.log").open("w")
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            in_namespace(sys.executable, "-m", "kuberouter_py", *flags), stdout=self._log, stderr=subprocess.STDOUT
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=30)
        self._log.close()

    def start(self, controller: str, **counts: int) -> dict[str, Any]:
        """Waits until the kernel is complete, by what that controller counts: seconds since the process started."""
        status = self._wait_complete(controller, counts)
        return {
            "start_seconds": self._seconds,
            "start_cpu_seconds": self._cpu_then,
            "agent_first_sync_seconds": status["lastDuration"],
        }

    def idle(self, seconds: float) -> dict[str, Any]:
        """After start(): an idle stretch. Sizes in MB of 2^20 bytes."""
        self._wait_settled()
        cpu = self._cpu()
        time.sleep(seconds)  # this stretch is what is measured, not a wait for something
        return {"idle_cpu_percent": (self._cpu() - cpu) / seconds * 100, "peak_mb": self.peak_mb()}

    def peak_mb(self) -> float:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self._process.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0

    def _wait_complete(self, name: str, counts: Mapping[str, int]) -> Any:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the agent ended: {Path(self._log.name).read_text()[-2000:]}")
            if self._ready():
                self._seconds, self._cpu_then = time.monotonic() - self._started, self._cpu()
                controller = self._status(deadline)["controllers"][name]
                found = {what.replace(" ", "_"): count for what, count in controller["counts"].items()}
                if controller["failures"] or not counts.items() <= found.items():
                    raise RuntimeError(f"not as it should be: {controller}")
                return controller
            time.sleep(POLL)
        raise RuntimeError(f"not complete within {PATIENCE:.0f} s")

    def _status(self, deadline: float) -> Any:
        """The agent may still be at what its first sync has brought about, and a big one takes long to count."""
        while True:
            try:
                return ask(str(self._socket), "/status")
            except NoAgent:
                if time.monotonic() > deadline:
                    raise

    def _wait_settled(self) -> None:
        """Until three seconds have cost nothing worth a tick each: news of what the first sync did come after it."""
        deadline = time.monotonic() + PATIENCE
        quiet = 0
        while quiet < 3 and time.monotonic() < deadline:
            before = self._cpu()
            time.sleep(1.0)
            quiet = quiet + 1 if self._cpu() - before <= 1 / TICKS else 0

    def _ready(self) -> bool:
        """Whether the first sync is done, asked so that the answer costs the agent nothing to speak of."""
        reader = socket.socket(socket.AF_UNIX)
        try:
            reader.connect(str(self._socket))
            reader.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
            return b" 200 " in reader.recv(64)
        except OSError:
            return False
        finally:
            reader.close()

    def _cpu(self) -> float:
        """CPU seconds of the process and its ended children: utime, stime, cutime, cstime of /proc/PID/stat."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / TICKS
