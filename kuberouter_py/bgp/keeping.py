"""Owns a BIRD beside the agent, in the foreground of a process (a container) of its own: it runs with what the agent
has written, is started again when it dies, and ends with the process, as the configuration says it shall.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from kuberouter_py import inotify
from kuberouter_py.bgp.configuration import restarts_gracefully
from kuberouter_py.bgp.files import Files, read_text, remove
from kuberouter_py.bgp.process import LAST_WORDS, arguments, end, mark
from kuberouter_py.bgp.watching import LOOK, watch
from kuberouter_py.ports import Busy, EdgeError
from kuberouter_py.waker import Waker

# Seconds from one start to the next, at least, when it dies: 1, 2, 4 … 32; one that ran for a minute begins anew.
_LONGEST_REST: Final = 32.0
_WELL: Final = 60.0


class Source(Protocol):
    def fileno(self) -> int: ...


class Child(Source, Protocol):
    """kernel/command.Child."""

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def collect(self) -> int: ...


class Keeping:
    """start: makes a process of a command line; raises EdgeError. say: a line for whoever reads the output."""

    def __init__(self, files: Files, start: Callable[[Sequence[str]], Child], say: Callable[[str], None]) -> None:
        self._files = files
        self._start = start
        self._say = say
        self._waker = Waker()

    def stop(self) -> None:
        """From any thread, or a signal handler."""
        self._waker.wake()

    def run(self) -> None:
        """Until stop(). Raises EdgeError where BIRD cannot be started at all, or has no directory for its files."""
        watcher = watch(self._files.socket.parent)
        rest = 0.5
        try:
            while self._wait_for_configuration(watcher):
                began = time.monotonic()
                if self._keep():
                    return
                ran = time.monotonic() - began
                rest = min(rest * 2, _LONGEST_REST) if ran < _WELL else 1.0
                if self._stopped(within=max(rest - ran, 0.0)):
                    return
        finally:
            if watcher is not None:
                os.close(watcher)

    def _wait_for_configuration(self, watcher: int | None) -> bool:
        """False: stop() was called first."""
        told = False
        while not self._stopped():
            if self._files.configuration.exists():
                return True
            if not told:
                self._say(f"waiting for the agent to write {self._files.configuration}")
                told = True
            if watcher is None:
                self._stopped(within=LOOK)
                continue
            if self._waker.fileno() in _ready(None, self._waker, watcher):
                return False
            inotify.drain(watcher)
        return False

    def _keep(self) -> bool:
        """Runs BIRD until it ends; whether that is what stop() wanted."""
        child = self._start(arguments(self._files, restarts_gracefully(read_text(self._files.configuration)), "-f"))
        mark(self._files)
        if self._waker.fileno() in _ready(None, self._waker, child):
            self._end(child)
            return True
        status = child.collect()
        ended = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        self._say(f"BIRD {ended}")
        return False

    def _end(self, child: Child) -> None:
        """Peers keep its routes where a graceful restart is configured; else they are told that it ends. In bounded
        time, also where it hangs, or has no socket (yet).
        """
        try:
            graceful = restarts_gracefully(read_text(self._files.configuration))
            if not end(self._files, "graceful restart" if graceful else "down"):
                # Of SIGTERM it makes a "down"; of one that is killed, peers keep the routes.
                (child.kill if graceful else child.terminate)()
            if not graceful:
                remove(self._files.ran)
            if child.fileno() not in _ready(LAST_WORDS, child):
                raise Busy(f"BIRD has not ended within {LAST_WORDS:g} s")
        except EdgeError as error:
            self._say(str(error))
            child.kill()
        child.collect()

    def _stopped(self, within: float = 0.0) -> bool:
        return self._waker.fileno() in _ready(within, self._waker)


def _ready(timeout: float | None, *sources: int | Source) -> set[int]:
    poll = select.poll()
    for source in sources:
        poll.register(source, select.POLLIN)
    return {number for number, _ in poll.poll(None if timeout is None else timeout * 1000)}
