"""Owns the conversation with BIRD over its control socket: a command, and the whole answer, within a bounded time.

How an answer is built is in replies.py; what it means, in answers.py.
"""

from __future__ import annotations

import errno
import socket
import time
from typing import Final

from kuberouter_py.bgp.replies import Line, end_of, lines_of
from kuberouter_py.ports import Busy, EdgeError

# Seconds for a command: BIRD is one thread, which a full table of the internet keeps for some seconds.
PATIENCE: Final = 10.0
# Bytes of an answer: a million lines, more than a person asks for.
_MOST = 64 << 20
# Seconds until one that takes no more connections is tried again.
_AGAIN: Final = 0.05


class Silent(EdgeError):
    """Nobody answers on the control socket."""


class Said(EdgeError):
    """BIRD understood, and said no (codes from 8000), or did not understand (9000)."""

    def __init__(self, command: str, line: Line) -> None:
        super().__init__(f"BIRD answers {command!r} with {line.code:04} {line.text}")
        self.line = line


class Control:
    """One connection. Raises Silent, Said, Busy; every other EdgeError means that it is not BIRD who answers.

    within: seconds for connecting, and for each command; in_all: for everything together.
    """

    def __init__(self, path: str, within: float = PATIENCE, *, in_all: bool = False) -> None:
        self._path = path
        self._within = within
        self._end = time.monotonic() + within if in_all else None
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._connect()
            self._answer("hello")
        except OSError as error:
            self.close()
            raise self._trouble(error) from error
        except EdgeError:
            self.close()
            raise

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """To be polled between commands: readable, it may be that BIRD is gone."""
        return self._socket.fileno()

    def is_open(self) -> bool:
        """Whether BIRD is still there, as far as it is known without asking. Between commands it says nothing."""
        try:
            return self._socket.recv(1 << 16, socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def ask(self, command: str) -> list[Line]:
        """All lines of the answer; of the last one too, which may be empty."""
        if "\n" in command:
            raise EdgeError("a command of BIRD is one line")
        try:
            self._socket.settimeout(_left(self._until()))
            self._socket.sendall(command.encode() + b"\n")
            lines = self._answer(command)
        except OSError as error:
            raise self._trouble(error) from error
        if lines[-1].code >= 8000:
            raise Said(command, lines[-1])
        return lines

    def _connect(self) -> None:
        """A BIRD that hangs is there: when its queue is full, who would not wait is sent away at once (unix(7))."""
        until = self._until()
        while True:
            self._socket.settimeout(_left(until))
            try:
                return self._socket.connect(self._path)
            except BlockingIOError:
                time.sleep(_AGAIN)

    def _answer(self, command: str) -> list[Line]:
        until = self._until()
        seen = 0
        while (end := end_of(self._buffer, seen)) < 0:
            seen = self._buffer.rfind(b"\n") + 1
            self._socket.settimeout(_left(until))
            more = self._socket.recv(1 << 16)
            if not more:
                raise ConnectionResetError(errno.ECONNRESET, "it ended")
            self._buffer += more
            if len(self._buffer) > _MOST:
                raise EdgeError(f"the answer to {command!r} does not end")
        lines = list(lines_of(bytes(self._buffer[:end])))
        del self._buffer[:end]
        return lines

    def _until(self) -> float:
        return time.monotonic() + self._within if self._end is None else self._end

    def _trouble(self, error: OSError) -> EdgeError:
        if isinstance(error, TimeoutError):
            return Busy(f"no answer from BIRD on {self._path} within {self._within:.2g} s")
        return Silent(f"nobody answers on {self._path}: {error.strerror or error}")


def _left(until: float) -> float:
    """Seconds; raises TimeoutError where none are."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def command(path: str, text: str) -> list[Line]:
    """One command on a connection of its own."""
    with Control(path) as control:
        return control.ask(text)
