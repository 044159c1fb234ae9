"""Owns BIRD's process where it is our own: checking a configuration without it, starting it in the background, so that
it outlives this process, and ending it. A later process finds it by its socket.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from kuberouter_py.bgp.control import Control, Silent
from kuberouter_py.bgp.files import Files
from kuberouter_py.ports import Busy, EdgeError

BIRD: Final = "bird"
# Seconds for it to be gone after "down": it withdraws its routes and tells its peers.
LAST_WORDS: Final = 10.0

# Runs a program to its end, and raises EdgeError with what it said where it fails (kernel/command.py).
Run = Callable[[Sequence[str]], object]


class Process:
    """run: see Run."""

    def __init__(self, files: Files, run: Run) -> None:
        self._files = files
        self._run = run

    def check(self, configuration: Path) -> None:
        """Raises EdgeError with BIRD's words when it would not take it."""
        self._run([BIRD, "-p", "-c", str(configuration)])

    def start(self, graceful_restart: bool) -> None:
        """In the background, with the configuration that is on disk; it answers when this returns. Raises EdgeError.

        After a graceful restart BIRD waits, before it announces, for what its peers have kept for it. Where none ran
        before on this machine no peer keeps anything, and the wait would be for nothing.
        """
        self._run(arguments(self._files, graceful_restart))
        mark(self._files)


def arguments(files: Files, graceful_restart: bool, *more: str) -> list[str]:
    """The command line; graceful_restart: whether it is configured."""
    start = [BIRD, "-c", str(files.configuration), "-s", str(files.socket), "-P", str(files.pid), *more]
    return [*start, "-R"] if graceful_restart and files.ran.exists() else start


def mark(files: Files) -> None:
    """That a BIRD has run. Raises EdgeError."""
    try:
        files.ran.touch(mode=0o600)
    except OSError as error:
        raise EdgeError(f"{files.ran}: {error.strerror}") from error


def answers(files: Files) -> bool:
    """Whether a BIRD runs there. Raises EdgeError when that cannot be told."""
    try:
        Control(str(files.socket)).close()
    except Silent:
        return False
    return True


def end(files: Files, last: str = "down") -> bool:
    """Tells it to end, and waits until it has. False: nobody is there to be told. Raises EdgeError.

    last: "down", or "graceful restart", after which peers keep its routes.
    """
    try:
        with Control(str(files.socket)) as control:
            control.ask(last)
            _wait_for_the_end(control)
    except Silent:
        return False
    return True


def _wait_for_the_end(control: Control) -> None:
    until = time.monotonic() + LAST_WORDS
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while (left := until - time.monotonic()) > 0:
        if poll.poll(left * 1000) and not control.is_open():
            return
    raise Busy(f"BIRD has not ended within {LAST_WORDS:g} s")
