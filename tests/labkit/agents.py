"""The agent of one node as the lab's steps handle it: the containers of one pod on the node's machine, a cgroup each.

The agent is one of them; with --bird-socket the BIRD that runs beside it is the other.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.labkit.cgroups import Cgroup
from tests.labkit.machine import Machine, environment
from tests.labkit.ports import LabError

LOG: Final = "agent.log"
BIRD_LOG: Final = "bird.log"  # of the container
PROGRAM: Final = (sys.executable, "-m", "kuberouter_py")
_END_WITHIN: Final = 30.0  # what a kubelet grants a pod by default
_CLEANUP_WITHIN: Final = 120.0
BIRD: Final = "bird"
_BESIDE: Final = "--bird-socket"


class Container:
    """One command in a cgroup of its own."""

    def __init__(self, machine: Machine, what: str, pod: str, log: str) -> None:
        self.what = what
        self.log = machine.state / log
        self.cgroup = Cgroup(pod, what)
        self._machine = machine
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        self.cgroup.make()
        shell = ["/bin/sh", "-c", 'echo 0 > "$0" && exec "$@"', str(self.cgroup.procs)]
        self._process = self._machine.spawn([*shell, *command], env, self.log)
        return self._process

    def signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            raise LabError(f"the {self.what} of {self._machine.name} does not run; the log ends\n{self.tail()}")
        self._process.send_signal(number)

    def hold_up(self, seconds: float) -> None:
        if self.alive:
            process = self._process
            assert process is not None
            process.send_signal(signal.SIGSTOP)
            going_on = threading.Timer(seconds, process.send_signal, [signal.SIGCONT])  # nothing where it has ended
            going_on.daemon = True
            going_on.start()

    def ended(self, within: float) -> bool:
        if self._process is None:
            return True
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True

    def terminate(self) -> None:
        """As a kubelet does it once the first process was told: SIGKILL for whatever is left when the time is over."""
        self.ended(_END_WITHIN)
        self.cgroup.kill()
        self.ended(_END_WITHIN)

    def processes(self, name: str) -> list[int]:
        return [pid for pid in self.cgroup.processes() if _name(pid) == name]

    def end(self) -> None:
        """The world ends: nothing of it is left, whatever it was doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.cgroup.kill()
        self.cgroup.remove()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else "(no log)"


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
        pod = str(uuid.uuid4())
        self._agent = Container(machine, "agent", pod, LOG)
        self._bird = Container(machine, "bird", pod, BIRD_LOG)
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
        return self._agent.alive

    def hold_up(self, seconds: float) -> None:
        self._agent.hold_up(seconds)

    def start(self) -> None:
        """Its BIRD's container too, where it has one that does not run."""
        if self.alive:
            raise LabError(f"the agent of {self._machine.name} runs already")
        socket = bird_socket(self._flags)
        if socket is not None and not self._bird.alive:
            self._bird.start([*self._program, "bird", _BESIDE, socket], self._environment())
        self._run()

    def start_refused(self) -> None:
        """Starts it and expects it to end by itself."""
        self.start()
        if not self._agent.ended(_END_WITHIN):
            self.kill()
            raise LabError(f"the agent of {self._machine.name} was to end by itself and still runs")

    def stop(self) -> None:
        self._agent.signal(signal.SIGTERM)
        if not self._agent.ended(_END_WITHIN):
            self.kill()
            raise LabError(f"the agent of {self._machine.name} did not end within {_END_WITHIN:g} s of SIGTERM")

    def kill(self) -> None:
        self._agent.signal(signal.SIGKILL)
        self._agent.ended(_END_WITHIN)

    def restart(self) -> None:
        if self.alive:
            self.stop()
        self.start()

    def upgrade(self) -> None:
        """As a kubelet replaces a pod: both containers are told together, and end with all that is in them."""
        self._end_pod(self._agent, self._bird)
        self.start()

    def cleanup(self) -> None:
        """Run when the pod is gone, as after the DaemonSet was deleted; a BIRD of the agent's own is its to end."""
        if self.alive:
            self.stop()
        self._end_pod(self._bird)
        process = self._run("--cleanup")
        try:
            status = process.wait(_CLEANUP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise LabError(f"cleanup on {self._machine.name} did not end within {_CLEANUP_WITHIN:g} s") from None
        if status != 0:
            said = self._agent.tail()
            raise LabError(f"cleanup on {self._machine.name}: exit status {status}; the log ends\n{said}")
        if self._agent.processes(BIRD):
            raise LabError(f"cleanup on {self._machine.name} left bird running")

    def kill_bird(self) -> None:
        birds = self._agent.processes(BIRD) + self._bird.processes(BIRD)
        if not birds:
            raise LabError(f"no bird runs on {self._machine.name}")
        for pid in birds:
            os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        self._agent.end()
        self._bird.end()

    def _end_pod(self, *containers: Container) -> None:
        for each in containers:
            if each.alive:
                each.signal(signal.SIGTERM)
        for each in containers:
            each.terminate()

    def _run(self, *more: str) -> subprocess.Popen[bytes]:
        return self._agent.start([*self._program, *self._found, *self._flags, *more], self._environment())

    def _environment(self) -> dict[str, str]:
        return {**environment(self._machine.hostname), **self._found_env, **self._env}


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""  # it has just ended


def bird_socket(flags: Sequence[str]) -> str | None:
    """Of a BIRD that runs beside the agent; None: the agent runs its own."""
    found = None
    for flag, following in zip(flags, [*flags[1:], ""], strict=False):
        name, equals, value = flag.partition("=")
        if name == _BESIDE:
            found = value if equals else following
    return found or None
