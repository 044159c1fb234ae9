"""The agent of one node as the lab's steps handle it: a process in a cgroup like a pod's, on the node's machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.labkit.cgroups import Cgroup
from tests.labkit.machine import Machine, environment
from tests.labkit.ports import LabError

LOG: Final = "agent.log"
PROGRAM: Final = (sys.executable, "-m", "kuberouter_py")
_END_WITHIN: Final = 30.0  # what a kubelet grants a pod by default
_CLEANUP_WITHIN: Final = 120.0
_POLL: Final = 0.02


class Agent:
    def __init__(
        self, machine: Machine, flags: Sequence[str], env: Mapping[str, str], program: Sequence[str] = PROGRAM
    ) -> None:
        self._machine = machine
        self._program = program
        self._flags = list(flags)
        self._env = dict(env)
        self._found: list[str] = []
        self._found_env: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._cgroup = Cgroup(str(uuid.uuid4()))
        self._verbs: dict[str, Callable[[], None]] = {
            "stop": self.stop, "kill": self.kill, "start": self.start, "restart": self.restart,
            "cleanup": self.cleanup, "upgrade": self.upgrade, "kill-bird": self.kill_bird,
        }  # fmt: skip

    def find_cluster_by(self, arguments: Sequence[str], env: Mapping[str, str]) -> None:
        self._found, self._found_env = list(arguments), dict(env)

    def replace(self, flags: Sequence[str] | None, env: Mapping[str, str] | None) -> None:
        if flags is not None:
            self._flags = list(flags)
        if env is not None:
            self._env = dict(env)

    def do(self, verb: str) -> None:
        if verb not in self._verbs:
            raise LabError(f"an agent cannot {verb}: it can {', '.join(self._verbs)}")
        self._verbs[verb]()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        if self.alive:
            raise LabError(f"the agent of {self._machine.name} runs already")
        self._process = self._spawn()

    def start_refused(self) -> None:
        """Starts it and expects it to end by itself."""
        self.start()
        if not self._ended(_END_WITHIN):
            self.kill()
            raise LabError(f"the agent of {self._machine.name} was to end by itself and still runs")

    def stop(self) -> None:
        self._signal(signal.SIGTERM)
        if not self._ended(_END_WITHIN):
            self.kill()
            raise LabError(f"the agent of {self._machine.name} did not end within {_END_WITHIN:g} s of SIGTERM")

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._ended(_END_WITHIN)

    def restart(self) -> None:
        if self.alive:
            self.stop()
        self.start()

    def upgrade(self) -> None:
        """As a kubelet replaces a pod: SIGTERM to its first process, then SIGKILL to all that is left of it."""
        if self.alive:
            self._signal(signal.SIGTERM)
            self._ended(_END_WITHIN)
        self._cgroup.kill()
        self._ended(_END_WITHIN)
        self.start()

    def cleanup(self) -> None:
        if self.alive:
            self.stop()
        process = self._spawn("--cleanup")
        try:
            status = process.wait(_CLEANUP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise LabError(f"cleanup on {self._machine.name} did not end within {_CLEANUP_WITHIN:g} s") from None
        if status != 0:
            raise LabError(f"cleanup on {self._machine.name}: exit status {status}; the log ends\n{self._tail()}")

    def kill_bird(self) -> None:
        birds = [pid for pid in self._cgroup.processes() if Path(f"/proc/{pid}/comm").read_text().strip() == "bird"]
        if not birds:
            raise LabError(f"no bird runs on {self._machine.name}")
        for pid in birds:
            os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """The world ends: nothing of it is left, whatever it was doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._cgroup.kill()
        self._cgroup.remove()

    def _spawn(self, *more: str) -> subprocess.Popen[bytes]:
        self._cgroup.make()
        shell = ["/bin/sh", "-c", 'echo 0 > "$0" && exec "$@"', str(self._cgroup.procs)]
        command = [*shell, *self._program, *self._found, *self._flags, *more]
        env = {**environment(self._machine.hostname), **self._found_env, **self._env}
        return self._machine.spawn(command, env, self._machine.state / LOG)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            raise LabError(f"the agent of {self._machine.name} does not run; the log ends\n{self._tail()}")
        self._process.send_signal(number)

    def _ended(self, within: float) -> bool:
        if self._process is None:
            return True
        deadline = time.monotonic() + within
        while self._process.poll() is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True

    def _tail(self) -> str:
        log = self._machine.state / LOG
        return log.read_text(errors="replace")[-2000:] if log.exists() else "(no log)"
