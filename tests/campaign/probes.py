"""Packets: many new connections, associations, datagrams and echo requests at once, and what became of each.

Asking and answering live in one process: a datagram got through when its server has it, and a connection when it
stands.
What REJECT refuses is told by ICMP at once; only what was lost takes all the patience that there is.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import select
import socket
import struct
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import groupby
from typing import Final, NamedTuple

from tests.campaign.network import NODE, PROTOCOLS, Place
from tests.fakes.worlds import PORTS
from tests.labkit.traffic.sockets import IP_RECVERR, IPV6_RECVERR, reset_on_close

ICMP: Final = "icmp"
AT_ONCE: Final = 300
_PAUSE: Final = 5  # milliseconds between looks at sockets that the kernel wakes nobody for
_LOOKS: Final = 20
_KINDS: Final = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
_ECHO: Final = {4: (socket.IPPROTO_ICMP, 8), 6: (socket.IPPROTO_ICMPV6, 128)}
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_REFUSED: Final = frozenset({errno.ECONNREFUSED, errno.EPERM, errno.EACCES, errno.ECONNRESET, errno.ECONNABORTED})
_FIRST_PORT, _LAST_PORT = 10_000, 60_000
_APART = 101  # begun so far from each other, servers are seldom asked from one port at a time
_libc = ctypes.CDLL(None, use_errno=True)


class Outcome(StrEnum):
    OPEN, REFUSED, SILENT = "open", "refused", "silent"


class Cell(NamedTuple):
    """source, destination: names of places. service: asked by way of the Service in front of the destination."""

    source: str
    destination: str
    family: int
    protocol: str
    port: int
    service: bool = False

    def __str__(self) -> str:
        way = " by way of its Service" if self.service else ""
        return f"{self.source} to {self.destination}{way}, {self.protocol}/{self.port}, IPv{self.family}"


class _Asked:
    """One attempt, and what is known of it."""

    def __init__(self, cell: Cell, opened: socket.socket, number: int) -> None:
        self.cell = cell
        self.socket = opened
        self.number = number
        self.outcome: Outcome | None = None


class Probes:
    """Servers at every place, and who asks them: of these families alone, so that there may be one for each."""

    def __init__(self, places: Mapping[str, Place], families: Collection[int] = (4, 6)) -> None:
        self._places = places
        self._families = families
        self._servers: dict[int, socket.socket] = {}  # by descriptor
        self._datagrams = select.epoll()
        self._associations = select.epoll()
        self._numbers = itertools.count(1)
        self._ports: dict[tuple[str, str, str, int], Iterator[int]] = {}
        for place in places.values():
            with _visiting(place):
                self._serve(place)

    def close(self) -> None:
        self._datagrams.close()
        self._associations.close()
        for opened in self._servers.values():
            opened.close()

    def _serve(self, place: Place) -> None:
        """Nobody accepts TCP's connections: a reset takes them out of the queue while the server waits for data."""
        for protocol, family, port in itertools.product(PROTOCOLS, self._families, PORTS):
            kind, number = _KINDS[protocol]
            opened = self._listen(protocol, socket.socket(_FAMILIES[family], kind, number))
            opened.bind((place.addresses[family], port))
            if protocol != "udp":
                opened.listen(4096)

    def _listen(self, protocol: str, opened: socket.socket) -> socket.socket:
        opened.setblocking(False)
        self._servers[opened.fileno()] = opened
        if protocol == "udp":
            self._datagrams.register(opened, select.EPOLLIN)
        elif protocol == "sctp":
            self._associations.register(opened, select.EPOLLIN)
        else:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)
        return opened

    def ask(self, cells: Iterable[Cell], patience: float) -> dict[Cell, Outcome]:
        """All of them, by who asks. patience: seconds until nothing came back."""
        said: dict[Cell, Outcome] = {}
        rest = sorted(cells)
        while rest:
            now, rest = rest[:AT_ONCE], rest[AT_ONCE:]
            said.update(self.ask_at_once(now, patience))
        return said

    def ask_at_once(self, cells: Sequence[Cell], patience: float) -> dict[Cell, Outcome]:
        """cells: those of one source beside each other."""
        asked: list[_Asked] = []
        try:
            for source, group in groupby(cells, key=lambda cell: cell.source):
                with _visiting(self._places[source]):
                    asked += [self._open(cell) for cell in group]
            for each in asked:
                self._begin(each)
            self._settle(asked, time.monotonic() + patience)
        finally:
            for each in asked:
                each.socket.close()
            self._accept()
        return {each.cell: each.outcome or Outcome.SILENT for each in asked}

    def _open(self, cell: Cell) -> _Asked:
        family = _FAMILIES[cell.family]
        if cell.protocol == ICMP:
            opened = socket.socket(family, socket.SOCK_DGRAM, _ECHO[cell.family][0])
        else:
            opened = socket.socket(family, *_KINDS[cell.protocol])
        opened.setblocking(False)
        if cell.protocol == "sctp":
            # An association names every address its socket is bound to: bind to one, in the middle of a NAT.
            level, option = (socket.IPPROTO_IP, IP_RECVERR) if cell.family == 4 else (
                socket.IPPROTO_IPV6, IPV6_RECVERR)  # fmt: skip
            opened.setsockopt(level, option, 1)
        if cell.protocol in ("tcp", "sctp"):
            reset_on_close(opened)
        if cell.protocol != ICMP:
            self._bind(opened, self._places[cell.source].addresses[cell.family], self._unused(cell))
        return _Asked(cell, opened, next(self._numbers))

    def _unused(self, cell: Cell) -> Iterator[int]:
        """Ports from which its server was not asked for long, so that neither connection tracking nor the server itself
        knows of it: what was cut may stand there for minutes, and such a port would wait for the second INIT or SYN.
        """
        asked = (cell.source, cell.destination, cell.protocol, cell.port)
        if asked not in self._ports:
            self._ports[asked] = (
                _FIRST_PORT + number % (_LAST_PORT - _FIRST_PORT)
                for number in itertools.count(len(self._ports) * _APART)
            )
        return self._ports[asked]

    def _bind(self, opened: socket.socket, address: str, ports: Iterator[int]) -> None:
        """To the first of them that nobody has."""
        for port in ports:
            try:
                return opened.bind((address, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise

    def _begin(self, asked: _Asked) -> None:
        cell = asked.cell
        place = self._places[cell.destination]
        to = (place.service if cell.service else place.addresses)[cell.family]
        number = asked.socket.connect_ex((to, cell.port))
        if number not in (0, errno.EINPROGRESS):
            asked.outcome = _word(number)
            return
        try:
            if cell.protocol == "udp":
                asked.socket.send(struct.pack("!Q", asked.number))
            elif cell.protocol == ICMP:
                asked.socket.send(struct.pack("!BBHHH", _ECHO[cell.family][1], 0, 0, 0, asked.number & 0xFFFF))
        except OSError as error:
            asked.outcome = _word(error.errno or 0)

    def _settle(self, asked: Sequence[_Asked], deadline: float) -> None:
        """Time may pass in which nobody has a CPU: nothing is silent that was not looked at often."""
        poll = select.poll()
        pending = [each for each in asked if each.outcome is None]
        for each in pending:
            poll.register(each.socket, select.POLLIN | select.POLLOUT if _stands(each.cell) else select.POLLIN)
        for look in itertools.count(1):
            came = self._received()
            for each in pending:
                each.outcome = _look(each, came)
                if each.outcome is not None:
                    poll.unregister(each.socket)
            pending = [each for each in pending if each.outcome is None]
            if not pending or (look > _LOOKS and time.monotonic() > deadline):
                return
            poll.poll(_PAUSE)

    def _received(self) -> set[int]:
        found = set()
        for descriptor, _ in self._datagrams.poll(0):
            with contextlib.suppress(BlockingIOError):
                while True:
                    found.add(struct.unpack("!Q", self._servers[descriptor].recv(8))[0])
        return found

    def _accept(self) -> None:
        """An association that was aborted waits for it all the same, and the queue has an end."""
        while ready := self._associations.poll(0):
            for descriptor, _ in ready:
                self._servers[descriptor].accept()[0].close()


def _look(asked: _Asked, came: set[int]) -> Outcome | None:
    if asked.number in came:
        return Outcome.OPEN
    # An ICMP error that comes back while we are still inside connect() is only noted, and told to who asks for it.
    if number := asked.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        return _word(number)
    if _stands(asked.cell):
        try:
            asked.socket.getpeername()
        except OSError:
            return None
        return Outcome.OPEN
    if asked.cell.protocol == ICMP:
        try:
            return Outcome.OPEN if asked.socket.recv(64) else None
        except BlockingIOError:
            return None
        except OSError as error:
            return _word(error.errno or 0)
    return None


def _stands(cell: Cell) -> bool:
    return cell.protocol in ("tcp", "sctp")


def _word(number: int) -> Outcome:
    """EHOSTUNREACH: the other end's hardware address was asked for, and nobody answered."""
    if number == errno.EHOSTUNREACH:
        return Outcome.SILENT
    assert number in _REFUSED, os.strerror(number)
    return Outcome.REFUSED


@contextlib.contextmanager
def _visiting(place: Place) -> Iterator[None]:
    """Sockets opened meanwhile belong to that place."""
    if place.name == NODE:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _enter(place.descriptor)
        yield
    finally:
        _enter(home)
        os.close(home)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
