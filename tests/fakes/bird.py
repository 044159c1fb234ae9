"""A BIRD on a control socket: what it says of itself, and whether it answers at all, is the test's."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable
from pathlib import Path

WELCOME = b"0001 BIRD 2.0.12 ready.\n"


class FakeBird:
    """Answers every command with `answer`: a whole one ("0000 \\n"). asked: the commands. Told "down" it ends, on_end
    first. where: a path, or a socket that is bound. hangs: it takes connections and answers nothing.
    """

    def __init__(
        self,
        where: Path | socket.socket,
        answer: Callable[[str], bytes] = lambda _: b"0000 \n",
        *,
        on_end: Callable[[], None] = lambda: None,
        hangs: bool = False,
    ) -> None:
        self.asked: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._answer = answer
        self._on_end = on_end
        self._answers = threading.Event()
        if not hangs:
            self._answers.set()
        self._connections: list[socket.socket] = []
        self._listener = where if isinstance(where, socket.socket) else _bound(where)
        self._listener.listen(8)
        threading.Thread(target=self._run, daemon=True).start()

    def go_on(self) -> None:
        """It hangs no longer."""
        self._answers.set()

    def end(self) -> None:
        """Its socket stays, as that of one that was killed."""
        self._answers.set()
        for each in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        self._answers.wait()
        with contextlib.suppress(OSError):
            connection.sendall(WELCOME)
            for line in connection.makefile("r"):
                self.asked.put(line.strip())
                connection.sendall(self._answer(line.strip()))
                if line.strip() == "down":
                    self._on_end()
                    self.end()
                    return


def _bound(path: Path) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.bind(str(path))
    return found
