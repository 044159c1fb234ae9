"""Owns the start of other programs: nothing else in the package runs one. What they print is for the caller to read.

A program gets the C locale (its messages are matched), no terminal, and a bounded time.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kuberouter_py.ports import Busy, EdgeError, Unavailable

LOCK_HELD: Final = "xtables lock"  # iptables 1.8: "Another app is currently holding the xtables lock"
# On some hosts an agent's PATH lacks the sbin directories, where all of these programs live.
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class _Tally:
    """How many programs this process has started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.runs = 0

    def one_more(self) -> None:
        with self._lock:
            self.runs += 1


_tally = _Tally()


class CommandFailed(EdgeError):
    """A program ran and ended with another status than 0. stderr is stripped; argv is the whole command."""

    def __init__(self, argv: Sequence[str], status: int, stderr: str) -> None:
        super().__init__(f"{' '.join(argv)}: exit status {status}: {stderr or 'no message'}")
        self.argv = tuple(argv)
        self.status = status
        self.stderr = stderr


class LockHeld(Busy, CommandFailed):
    """The program gave up waiting for a lock that another one holds."""


def programs_run() -> int:
    """How many programs this process has started so far (for the messages count of a SyncReport)."""
    return _tally.runs


class Child:
    """A program that stays, with our standard error as its output; what a terminal signals to us, it does not hear.

    To be polled for reading: it is readable when it has ended.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        """Raises Unavailable, EdgeError."""
        _tally.one_more()
        try:
            self._process = subprocess.Popen(
                list(argv), stdin=subprocess.DEVNULL, stdout=2, env=_environment(), start_new_session=True
            )
        except (FileNotFoundError, PermissionError) as error:
            raise Unavailable(f"{argv[0]}: {error.strerror}") from error
        except OSError as error:
            raise EdgeError(f"{argv[0]}: {error.strerror}") from error
        self._handle = os.pidfd_open(self._process.pid)

    def fileno(self) -> int:
        return self._handle

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def collect(self) -> int:
        """Waits for its end. The exit status; of one that was killed, the signal's number, negative."""
        status = self._process.wait()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        return status


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}".lstrip(":")}


def run(argv: Sequence[str], input: str | None = None, timeout: float = 30.0) -> str:
    """Runs a program to its end and returns what it printed on its standard output.

    timeout: seconds, after which the program is killed. Raises Unavailable when the program is not there or may not be
    run, Busy when it ran out of time, LockHeld (Busy) when it could not have the xtables lock, CommandFailed for every
    other exit status than 0.
    """
    _tally.one_more()
    data = (input or "").encode()
    try:
        done = subprocess.run(
            list(argv), input=data, capture_output=True, timeout=timeout, env=_environment(), check=False
        )
    except (FileNotFoundError, PermissionError) as error:
        raise Unavailable(f"{argv[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise Busy(f"{' '.join(argv)}: no end within {timeout:g} s") from error
    except OSError as error:
        raise EdgeError(f"{argv[0]}: {error.strerror}") from error
    stderr = done.stderr.decode(errors="replace").strip()
    if done.returncode:
        kind = LockHeld if LOCK_HELD in stderr else CommandFailed
        raise kind(argv, done.returncode, stderr)
    return done.stdout.decode(errors="replace")


def load_modules(
    names: Sequence[str], modules: Path = Path("/sys/module"), parameters: Sequence[str] = ()
) -> dict[str, str]:
    """Asks the kernel to load modules; returns those that it may lack, each with modprobe's words.

    parameters: of a single module, "name=value"; they come before what modprobe.d says, and one that is loaded already
    keeps its own.

    A module can be built in without a trace in /sys/module, or the node can have no modprobe: whoever needs the
    function finds out by using it. So nothing is raised, and what comes back is only an explanation for a later
    failure.
    """
    wanted = [name for name in names if not (modules / name.replace("-", "_")).exists()]
    if not wanted:
        return {}
    try:
        run(["modprobe", *wanted, *parameters] if parameters else ["modprobe", "-a", *wanted])
    except CommandFailed as error:
        lines = error.stderr.splitlines() or [str(error)]
        return {name: reason for name in wanted if (reason := _line_about(name, lines))}
    except EdgeError as error:
        return dict.fromkeys(wanted, str(error))
    return {}


def module_parameter(module: str, name: str, modules: Path = Path("/sys/module")) -> str:
    """A parameter of a module that is loaded; "" where there is none to be read."""
    try:
        return (modules / module / "parameters" / name).read_text().strip()
    except OSError:
        return ""


def could_load(name: str, modules: Path = Path("/sys/module")) -> bool:
    """Whether a module is there, or modprobe could load it, without doing so; yes where nobody can tell."""
    if (modules / name.replace("-", "_")).exists() or not Path("/lib/modules", os.uname().release).exists():
        return True
    try:
        run(["modprobe", "--dry-run", "--quiet", name])
    except CommandFailed:
        return False
    except EdgeError:
        return True
    return True


def _line_about(name: str, lines: Sequence[str]) -> str:
    return next((line.strip() for line in lines if name in line.replace("'", " ").split()), "")
