"""Netlink for bulk: many messages a send, one acknowledgement a batch, every failure laid at its own message.

Owns the sockets, sequence numbers, acknowledgements and dumps. A caller builds whole messages with
`netlink.message(...)` (their sequence number is filled in when they are sent) and hands them to a `Batch`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

from kuberouter_py.kernel import netlink
from kuberouter_py.ports import Busy, EdgeError, Unavailable

# Protocols of AF_NETLINK sockets (include/uapi/linux/netlink.h).
NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12
NETLINK_GENERIC = 16

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10  # an error repeats the failed message's header only
_NETLINK_GET_STRICT_CHK = 12  # dumps heed the filters in their request (rtnetlink)
_SO_RCVBUFFORCE = 33

_SEQUENCE = struct.Struct("=I")
_FLAGS = struct.Struct("=H")
_ERROR = struct.Struct("=i")

# A batch: the kernel works on the whole send under one call, and queues one answer for each failure in it. 400 answers
# of about 1 KB of kernel memory each fit any receive buffer; 128 KiB fits the default send buffer (212,992 bytes).
BATCH_MESSAGES = 400
BATCH_BYTES = 128 << 10
_RECEIVE_QUEUE = 4 << 20
_RECEIVE = 64 << 10  # the kernel fills a dump's datagrams up to the size that we offered, at most 32 KiB
_ANSWER_WITHIN = 30  # seconds. The kernel has answered when send returns; only a lost answer takes this long
_DUMP_ATTEMPTS = 8


class NetlinkError(EdgeError):
    """The kernel refused one request; `errno` is its number (ipset's own numbers lie above 4,096)."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"{what}: {error_text(number)}")
        self.errno = number


def error_text(number: int) -> str:
    return os.strerror(number) if number < 4096 else f"error {number}"


class _Interrupted(Busy):
    """A change came between two parts of a dump."""


class Batch:
    """One netlink socket of one protocol (NETLINK_ROUTE ...), opened at first use, in that thread's network namespace.

    Safe to share between threads: one exchange at a time. strict: route dumps heed their filters (Linux 4.20).
    """

    def __init__(self, protocol: int, *, strict: bool = False) -> None:
        self._protocol = protocol
        self._strict = strict
        self._lock = threading.Lock()
        self._open: socket.socket | None = None
        self._sequence = 0
        self._sent = 0
        self._buffer = bytearray(_RECEIVE)

    @property
    def port_id(self) -> int:
        """Our address in netlink: notifications that this socket's own messages caused carry it in their header."""
        with self._lock:
            return int(self._socket().getsockname()[0])

    @property
    def sent(self) -> int:
        """Messages sent since the start, dump requests included."""
        return self._sent

    def close(self) -> None:
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None

    def send(self, messages: Sequence[bytes], details: dict[int, bytes] | None = None) -> dict[int, int]:
        """Send all, in order; index → errno of those that failed. The others are done. Never raises for one of them.

        details: takes, for each failed one, what the kernel's answer repeats of it (struct nlmsgerr after the number).

        A failure of the socket itself counts for every message it concerns. Where answers got lost (ENOBUFS), messages
        are sent a second time: they must be idempotent up to EEXIST and ENOENT, which a caller has to expect anyway.
        """
        failed: dict[int, int] = {}
        with self._lock:
            first = 0
            while first < len(messages):
                last = _end_of_batch(messages, first, BATCH_MESSAGES)
                self._send_safely(messages, first, last, failed, details)
                first = last
        return failed

    def request(self, request: bytes) -> list[memoryview]:
        """Answers to one message, each without its netlink header. Raises NetlinkError, Busy, Unavailable."""
        with self._lock:
            return self._ask(request, netlink.NLM_F_ACK)

    def dump(self, request: bytes) -> Iterator[memoryview]:
        """Every object of a table, each without its netlink header (so that genl's or rtnetlink's own comes first).

        Taken whole before the first is handed out: a dump that a change interrupted (NLM_F_DUMP_INTR) is taken again,
        8 times at most, then Busy. Raises NetlinkError, Busy, Unavailable.
        """
        with self._lock:
            for _ in range(_DUMP_ATTEMPTS):
                try:
                    return iter(self._ask(request, netlink.NLM_F_DUMP))
                except _Interrupted:
                    continue
        raise Busy(f"netlink dump of protocol {self._protocol} was interrupted {_DUMP_ATTEMPTS} times by changes")

    def pages(self, request: bytes) -> Iterator[list[memoryview]]:
        """A dump one piece (up to 32 KiB) at a time; the kernel looks at the next piece when it is asked for.

        Until the last one the socket can do nothing else: it has to be one that nobody else uses. What changes
        meanwhile may be missed or told twice. Raises NetlinkError, Busy, Unavailable.
        """
        ended = False
        try:
            number = self._begin(request, netlink.NLM_F_DUMP)
            while not ended:
                answers: list[memoryview] = []
                ended, _ = self._take(number, answers)
                yield answers
        finally:
            if not ended:
                self.close()

    # -- one exchange; all of this under the lock --

    def _socket(self) -> socket.socket:
        if self._open is None:
            try:
                self._open = _connect(self._protocol, self._strict)
            except OSError as error:
                raise Unavailable(f"netlink protocol {self._protocol}: {error.strerror}") from error
        return self._open

    def _send_safely(
        self, messages: Sequence[bytes], first: int, last: int, failed: dict[int, int], details: dict[int, bytes] | None
    ) -> None:
        try:
            for index, code, repeated in self._exchange(messages, first, last):
                failed[index] = code
                if details is not None:
                    details[index] = repeated
        except Unavailable:
            failed.update(dict.fromkeys(range(first, last), errno.EPROTONOSUPPORT))
        except OSError as error:
            number = error.errno or errno.EIO
            if number == errno.ENOBUFS and last - first > 1:
                self._drain()
                for index in range(first, last):
                    failed.pop(index, None)
                middle = (first + last) // 2
                self._send_safely(messages, first, middle, failed, details)
                self._send_safely(messages, middle, last, failed, details)
            else:
                failed.update(dict.fromkeys(range(first, last), number))

    def _drain(self) -> None:
        """What is left of an exchange that lost answers would fill the queue for the next one."""
        channel = self._socket()
        with contextlib.suppress(OSError):  # EAGAIN: empty
            while True:
                channel.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)

    def _exchange(self, messages: Sequence[bytes], first: int, last: int) -> Iterator[tuple[int, int, bytes]]:
        """Those that failed, as (index, errno, what the answer repeats of the message)."""
        channel = self._socket()
        base = self._take_sequence(last - first)
        data = bytearray().join(messages[first:last])
        put, offset, start = _SEQUENCE.pack_into, 0, 0
        for number, one in enumerate(messages[first:last], base):
            put(data, offset + 8, number)
            start, offset = offset, offset + len(one)
        _FLAGS.pack_into(data, start + 6, _FLAGS.unpack_from(data, start + 6)[0] | netlink.NLM_F_ACK)
        channel.send(data)
        self._sent += last - first
        final = base + last - first - 1
        while True:
            for kind, _, number, payload in self._receive(channel):
                if kind != netlink.NLMSG_ERROR or not base <= number <= final:
                    continue
                code = -_ERROR.unpack_from(payload)[0]
                if code:
                    yield first + number - base, code, bytes(payload[4:])
                if number == final:
                    return

    def _ask(self, request: bytes, flag: int) -> list[memoryview]:
        number = self._begin(request, flag)
        answers: list[memoryview] = []
        ended = interrupted = False
        while not ended:
            ended, changed = self._take(number, answers)
            interrupted = interrupted or changed
        if interrupted:
            raise _Interrupted
        return answers

    def _begin(self, request: bytes, flag: int) -> int:
        """Send it; the sequence number of its answers."""
        channel = self._socket()
        number = self._take_sequence(1)
        data = bytearray(request)
        _SEQUENCE.pack_into(data, 8, number)
        _FLAGS.pack_into(data, 6, _FLAGS.unpack_from(data, 6)[0] | flag)
        try:
            channel.send(data)
        except OSError as error:
            raise self._busy(error) from error
        self._sent += 1
        return number

    def _busy(self, error: OSError) -> Busy:
        return Busy(f"netlink protocol {self._protocol}: {error.strerror}")

    def _take(self, number: int, answers: list[memoryview]) -> tuple[bool, bool]:
        """One datagram's answers; whether it was the last, and whether a change interrupted the dump."""
        ended = interrupted = False
        try:
            datagram = self._receive(self._socket(), keep=True)
        except OSError as error:
            raise self._busy(error) from error
        for kind, flags, sequence, payload in datagram:
            if sequence != number:
                continue
            interrupted = interrupted or bool(flags & netlink.NLM_F_DUMP_INTR)
            if kind in (netlink.NLMSG_ERROR, netlink.NLMSG_DONE):
                code = -_ERROR.unpack_from(payload)[0] if len(payload) >= 4 else 0
                if code:
                    raise NetlinkError(code, f"netlink protocol {self._protocol}")
                ended = True
            else:
                answers.append(payload)
        return ended, interrupted

    def _receive(self, channel: socket.socket, keep: bool = False) -> Iterator[tuple[int, int, int, memoryview]]:
        """One datagram as (type, flags, sequence, payload). keep: payloads outlive the next call. Raises OSError."""
        size = channel.recv_into(self._buffer)
        return netlink.messages(memoryview(bytes(memoryview(self._buffer)[:size]) if keep else self._buffer), size)

    def _take_sequence(self, count: int) -> int:
        """The first of `count` numbers in a row; never across the 32-bit end, and never 0."""
        if self._sequence + count > 0xFFFF_FFF0:
            self._sequence = 0
        first = self._sequence + 1
        self._sequence += count
        return first


def _end_of_batch(messages: Sequence[bytes], first: int, most: int) -> int:
    sizes = [*accumulate(map(len, messages[first : first + most]))]
    return first + max(1, bisect_right(sizes, BATCH_BYTES))


def _connect(protocol: int, strict: bool) -> socket.socket:
    channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        channel.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        if strict:
            channel.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        try:
            channel.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_QUEUE)
        except PermissionError:
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_QUEUE)
        # A timeout of the kernel's own (struct timeval) costs no system call per receive, unlike settimeout.
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _ANSWER_WITHIN, 0))
        channel.bind((0, 0))
    except OSError:
        channel.close()
        raise
    return channel
