"""Cgroups as a kubelet names them: the path holds the pod's UID, by which an agent finds the processes of a pod."""

from __future__ import annotations

import contextlib
import hashlib
import time
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup/kubepods/burstable")
_DEADLINE: Final = 5.0


class Cgroup:
    """One container of one pod."""

    def __init__(self, uid: str, container: str = "") -> None:
        self._pod = _ROOT / f"pod{uid}"
        self._container = self._pod / hashlib.sha256((uid + container).encode()).hexdigest()

    @property
    def procs(self) -> Path:
        return self._container / "cgroup.procs"

    def make(self) -> None:
        self._container.mkdir(parents=True, exist_ok=True)

    def add(self, pid: int) -> None:
        self.procs.write_text(str(pid))

    def processes(self) -> list[int]:
        return [int(line) for line in self.procs.read_text().split()] if self.procs.exists() else []

    def kill(self) -> None:
        """SIGKILL to every process in it, and returns when none is left."""
        if not self._container.exists():
            return
        (self._container / "cgroup.kill").write_text("1")
        deadline = time.monotonic() + _DEADLINE
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.01)

    def remove(self) -> None:
        for path in (self._container, self._pod):
            with contextlib.suppress(OSError):  # a process that just ended may keep it a moment longer: it is empty
                path.rmdir()
