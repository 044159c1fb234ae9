"""Owns the news of one file: it says when the text is another one, however it was replaced.

What happens in the file's directory is heard (inotify(7)), and in a mounted Secret that is enough: kubelet writes the
new one beside the old, and renames a link in that directory. What is not heard (a link that leads elsewhere, a file
system that announces nothing, a directory that comes later) is found by a look every period.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

from kuberouter_py import inotify
from kuberouter_py.waker import Waker

# Seconds: who writes a file in several steps has done so by then.
GATHER: Final = 0.5

_EVENTS: Final = inotify.CLOSE_WRITE | inotify.MOVED_TO | inotify.CREATE | inotify.DELETE


class FileNews:
    """One thread's work: open() (or run()) begins, run() calls on_news until stop(). period: seconds."""

    def __init__(self, file: Path, on_news: Callable[[], None], period: float) -> None:
        self._file = file
        self._on_news = on_news
        self._period = period
        self._opened = False
        self._watcher: int | None = None
        self._seen = b""
        self._waker = Waker()

    def open(self) -> None:
        """What the file holds from now on is told by run(), if it is not what it holds now."""
        if not self._opened:
            self._opened = True
            self._watch()
            self._seen = self._fingerprint()

    def stop(self) -> None:
        """From any thread, or a signal handler: run() returns, also one that has not begun."""
        self._waker.wake()

    def run(self) -> None:
        """Whatever on_news raises ends it."""
        self.open()
        due = time.monotonic() + self._period
        try:
            while True:
                poll = select.poll()
                for source in (self._watcher, self._waker):
                    if source is not None:
                        poll.register(source, select.POLLIN)
                ready = {number for number, _ in poll.poll(max(0.0, due - time.monotonic()) * 1000)}
                if self._waker.fileno() in ready:
                    return
                if self._watcher is not None and inotify.drain(self._watcher):
                    due = min(due, time.monotonic() + GATHER)
                if time.monotonic() >= due:
                    due = time.monotonic() + self._period
                    self._look()
        finally:
            if self._watcher is not None:
                os.close(self._watcher)

    def _look(self) -> None:
        """A directory that was replaced is another one: it is watched anew."""
        self._watch()
        found = self._fingerprint()
        if found != self._seen:
            self._seen = found
            self._on_news()

    def _watch(self) -> None:
        before, self._watcher = self._watcher, None
        if before is not None:
            os.close(before)
        with contextlib.suppress(OSError):
            self._watcher = inotify.watch(self._file.parent, _EVENTS)

    def _fingerprint(self) -> bytes:
        """b"": it cannot be read. The text itself is not kept: it may be a secret."""
        try:
            return sha256(self._file.read_bytes()).digest()
        except OSError:
            return b""
