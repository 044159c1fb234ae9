"""Owns the listening to rtnetlink's announcements: the socket, its thread's loop, and what to do when some were lost.

Which of them are news is left to monitor.py (Services and policies) and router_news.py.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import ClassVar, Final

from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE
from kuberouter_py.ports import Busy, EdgeError, Unavailable
from kuberouter_py.waker import Waker

# RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE: bits 1, 5, 7, 8, 9, 11 and 19,
# counted from one (rtnetlink.h).
_GROUPS = 1 << 0 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18
_COALESCE = 0.05  # seconds: one cause brings several announcements (a link that goes down: its addresses, its routes)
RECEIVE_QUEUE: Final = 8 << 20  # bytes: what ten thousand addresses written by ourselves announce
_SO_RCVBUFFORCE = 33
_HEADER = struct.Struct("=IHHII")


class Announcements(ABC):
    """One thread's work: open() (or run()) begins to listen, run() calls on_news until stop().

    on_news: called from run's thread with the kinds of news, at most every 50 ms. Where announcements were lost
    (ENOBUFS) it is called with everything. own_ports: port ids of this process's sockets.
    """

    everything: ClassVar[frozenset[str]]

    def __init__(
        self,
        on_news: Callable[[frozenset[str]], None],
        own_ports: Callable[[], Collection[int]],
        receive_queue: int,
    ) -> None:
        self._on_news = on_news
        self._own_ports = own_ports
        self._receive_queue = receive_queue
        self._socket: socket.socket | None = None
        self._outdated = False  # stock could not be taken when it should have been
        self._waker = Waker()

    @abstractmethod
    def _take_stock(self) -> None:
        """What there is now, so that an announcement that repeats it is known for what it is. Raises EdgeError."""

    @abstractmethod
    def _judge(self, kind: int, flags: int, own: bool, payload: memoryview) -> Collection[str]:
        """What news it is. kind, flags: the message's; own: caused by a message of this process."""

    def open(self) -> None:
        """Begins to listen: what changes from now on is told by run(). Raises EdgeError."""
        if self._socket is not None:
            return
        try:
            channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
            try:
                channel.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, self._receive_queue)
            except PermissionError:
                channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_queue)
            channel.setblocking(False)
            channel.bind((0, _GROUPS))
        except OSError as error:
            raise Unavailable(f"kernel news: {error.strerror}") from error
        self._socket = channel
        self._stocktaking()

    def stop(self) -> None:
        """From any thread, or a signal handler: run() returns, also one that has not begun."""
        self._waker.wake()

    def run(self) -> None:
        """Raises EdgeError when the kernel cannot be asked; whatever on_news raises ends it too."""
        self.open()
        assert self._socket is not None
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._waker, select.POLLIN)
        pending: set[str] = set()
        due = 0.0
        try:
            while True:
                timeout = max(0.0, due - time.monotonic()) * 1000 if pending else None
                ready = dict(poll.poll(timeout))
                if self._waker.fileno() in ready:
                    return
                before = bool(pending)
                if ready:
                    pending |= self._hear()
                if pending and not before:
                    due = time.monotonic() + _COALESCE
                if pending and time.monotonic() >= due:
                    news, pending = frozenset(pending), set()
                    self._on_news(news)
        finally:
            self._close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _stocktaking(self) -> None:
        """On a node where links come and go all the time it may take several attempts: the next news bring the next."""
        self._outdated = True
        with contextlib.suppress(Busy):
            self._take_stock()
            self._outdated = False

    def _hear(self) -> set[str]:
        """Everything that has arrived."""
        assert self._socket is not None
        news: set[str] = set()
        own = frozenset(self._own_ports())
        if self._outdated:
            self._stocktaking()
            news |= self.everything
        while True:
            try:
                data = memoryview(self._socket.recv(64 << 10))
            except BlockingIOError:
                return news
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise EdgeError(f"kernel news: {error.strerror}") from error
                self._stocktaking()
                news |= self.everything
                continue
            offset = 0
            while offset + 16 <= len(data):
                length, kind, flags, _, port = _HEADER.unpack_from(data, offset)
                if length < 16:
                    break
                news.update(self._judge(kind, flags, port in own, data[offset + 16 : offset + length]))
                offset += (length + 3) & ~3
