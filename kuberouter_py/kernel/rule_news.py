"""Owns the news of iptables: it listens for others who write rules, so that a jump of ours that was pushed down is put
back soon, and not at the next periodic comparison.

nf_tables announces its changes; legacy tables change in silence, but who writes those takes /run/xtables.lock, and that
the file is closed again is announced (inotify(7)). Which rules changed is not said, and our own writing is heard too:
the comparison that follows finds nothing. What cannot be listened to at all is left to the periodic comparison.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kuberouter_py import inotify
from kuberouter_py.kernel.own_writes import OWN_WRITES
from kuberouter_py.waker import Waker

LOCK_FILE: Final = Path("/run/xtables.lock")
# Seconds. A program that sets something up runs iptables several times; and one that insists on being first itself, or
# looks at its chains all the time, shall cost six looks a minute.
GATHER, REST = 0.5, 10.0
# What is heard while this process writes may be nothing but its own writing, or somebody else's right beside it: it is
# looked at, with more time between.
REST_OF_OWN = 60.0

_NETLINK_NETFILTER: Final = 12
_GROUP_NFTABLES: Final = 1 << 6  # NFNLGRP_NFTABLES, counted from one


class RuleNews:
    """One thread's work: open() (or run()) begins to listen, run() calls on_news until stop()."""

    def __init__(self, on_news: Callable[[], None], lock_file: Path = LOCK_FILE) -> None:
        self._on_news = on_news
        self._lock_file = lock_file
        self._opened = False
        self._lock_closed: int | None = None
        self._tables_changed: socket.socket | None = None
        self._waker = Waker()

    def open(self) -> None:
        """Begins to listen: what is written from now on is told by run()."""
        if self._opened:
            return
        self._opened = True
        with contextlib.suppress(OSError):
            self._lock_closed = _watch(self._lock_file)
        with contextlib.suppress(OSError):
            channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
            channel.setblocking(False)
            channel.bind((0, _GROUP_NFTABLES))
            self._tables_changed = channel

    def stop(self) -> None:
        """From any thread, or a signal handler: run() returns, also one that has not begun."""
        self._waker.wake()

    def run(self) -> None:
        """Whatever on_news raises ends it."""
        self.open()
        poll = select.poll()
        for source in (self._lock_closed, self._tables_changed, self._waker):
            if source is not None:
                poll.register(source, select.POLLIN)
        due: float | None = None
        last = -REST_OF_OWN
        try:
            while True:
                now = time.monotonic()
                if due is not None and now >= due:
                    due, last = None, now
                    self._on_news()
                ready = {number for number, _ in poll.poll(None if due is None else (due - now) * 1000)}
                if self._waker.fileno() in ready:
                    return
                if self.heard():
                    found = when(time.monotonic(), last, REST_OF_OWN if OWN_WRITES.just_now() else REST)
                    due = found if due is None else min(due, found)
        finally:
            self._close()

    def heard(self) -> bool:
        """Whether there was any news since the last call. What it says does not matter; ENOBUFS says as much."""
        heard = self._lock_closed is not None and inotify.drain(self._lock_closed)
        if self._tables_changed is not None:
            try:
                while self._tables_changed.recv(64 << 10):
                    heard = True
            except BlockingIOError:
                pass
            except OSError:
                heard = True
        return heard

    def _close(self) -> None:
        if self._lock_closed is not None:
            os.close(self._lock_closed)
        if self._tables_changed is not None:
            self._tables_changed.close()


def when(now: float, last: float, rest: float = REST) -> float:
    """When to tell of what was heard now, the last time being `last`."""
    return max(now + GATHER, last + rest)


def _watch(file: Path) -> int:
    """A descriptor that becomes readable when somebody closes the file, which is made as iptables makes it."""
    os.close(os.open(file, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return inotify.watch(file, inotify.CLOSE_WRITE | inotify.CLOSE_NOWRITE)
