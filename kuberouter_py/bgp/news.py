"""Owns the news of BIRD: it listens to BIRD's log for sessions that come and go, and to BIRD's control socket for BIRD
itself. Nothing is asked again and again to hear of them: they announce themselves (inotify(7), and the end of a
connection). What cannot is looked at now and then: a BIRD that hung when we came, and everything where a node has no
inotify instance left.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable
from typing import Final

from kuberouter_py import inotify
from kuberouter_py.bgp.control import Control
from kuberouter_py.bgp.files import Files
from kuberouter_py.bgp.states import SessionStates
from kuberouter_py.bgp.tail import Tail
from kuberouter_py.bgp.watching import LOOK, watch
from kuberouter_py.model.bgp import SessionNews
from kuberouter_py.ports import Busy, EdgeError
from kuberouter_py.waker import Waker

# Seconds between two times that BIRD is said to have ended: one that dies at once shall not keep the node busy.
REST: Final = 1.0
# Seconds after a session came up, at which BIRD is asked for something: BIRD 2.0, when it has made a session's first
# UPDATEs, sends them only when something wakes it, or after 3 s.
ROUSE: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)


class News:
    """One thread's work: open() (or run()) begins to listen, run() calls until stop().

    on_session: what the log says. on_process: BIRD answers (True), or it has ended (False); who is told so may start it
    again before returning. How everything stands when listening begins is no news.
    """

    def __init__(
        self, files: Files, on_session: Callable[[SessionNews], None], on_process: Callable[[bool], None]
    ) -> None:
        self._files = files
        self._on_session = on_session
        self._on_process = on_process
        self._states = SessionStates()
        self._log = Tail(files.log)
        self._control: Control | None = None
        self._rouse_at: list[float] = []
        self._watcher: int | None = None
        self._opened = False
        self._hung = False  # it is there, and could not be asked how its sessions stand
        self._waker = Waker()

    def open(self) -> None:
        """Raises EdgeError where there can be no directory for the files."""
        if self._opened:
            return
        self._opened = True
        self._watcher = watch(self._files.socket.parent)
        self._log.to_the_end()
        if self._connect():
            self._begin()

    def stop(self) -> None:
        """From any thread, or a signal handler: run() returns, also one that has not begun."""
        self._waker.wake()

    def run(self) -> None:
        """Whatever a callback raises ends it."""
        try:
            self.open()
            self._listen()
        finally:
            self._close()

    def _listen(self) -> None:
        last: float = -REST
        due: float | None = None
        while True:
            now = time.monotonic()
            if due is not None and now >= due:
                last, due = now, None
                self._on_process(False)
            if due is None and not self._control and self._connect():
                if self._hung:
                    self._begin()
                self._on_process(True)
            self._rouse()
            ready = self._wait(due)
            if self._waker.fileno() in ready:
                return
            if self._watcher is not None and self._watcher in ready:
                inotify.drain(self._watcher)
            self._tell()
            if self._control and self._control.fileno() in ready and self._has_ended():
                due = max(time.monotonic(), last + REST)

    def _rouse(self) -> None:
        """See ROUSE."""
        left = [each for each in self._rouse_at if each > time.monotonic()]
        if len(left) < len(self._rouse_at) and self._control:
            with contextlib.suppress(EdgeError):  # it ends in this moment: run() hears of it
                self._control.ask("show status")
        self._rouse_at = left

    def _wait(self, due: float | None) -> set[int]:
        looks = [time.monotonic() + LOOK] if due is None and self._must_look() else []
        until = min([*self._rouse_at[:1], *([] if due is None else [due]), *looks], default=None)
        poll = select.poll()
        for source in (self._waker, self._watcher, self._control):
            if source is not None:
                poll.register(source, select.POLLIN)
        left = None if until is None else max(until - time.monotonic(), 0) * 1000
        return {number for number, _ in poll.poll(left)}

    def _must_look(self) -> bool:
        """Whether something may happen that nobody announces."""
        return self._watcher is None or (not self._control and self._files.socket.exists())

    def _tell(self) -> None:
        for line in self._log.lines():
            if news := self._states.line(line):
                self._on_session(news)
                if news.up:
                    self._rouse_at = [time.monotonic() + each for each in ROUSE]

    def _connect(self) -> bool:
        try:
            self._control = Control(str(self._files.socket))
        except EdgeError as error:
            self._hung = isinstance(error, Busy)
            return False
        return True

    def _begin(self) -> None:
        """How the sessions stand, of which the log has told before we came."""
        assert self._control is not None
        self._hung = False
        with contextlib.suppress(EdgeError):  # it ends in this moment: run() hears of it
            self._states.begin(self._control.ask("show protocols"))

    def _has_ended(self) -> bool:
        assert self._control is not None
        if self._control.is_open():
            return False
        self._control.close()
        self._control = None
        self._tell()
        for news in self._states.ended():
            self._on_session(news)
        return True

    def _close(self) -> None:
        if self._control:
            self._control.close()
        self._log.close()
        if self._watcher is not None:
            os.close(self._watcher)
