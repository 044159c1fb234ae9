"""One flow from a namespace to a server: a TCP or HTTP connection, an SCTP association, datagrams from one port, echo
requests.

What became of it is told in the words of LAB: open, refused (a reset or an ICMP unreachable, at once), silent; and
reset, for a flow that had been answered and was then cut.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from tests.labkit.traffic import sockets

Outcome = dict[str, Any]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_AT_ONCE: Final = 2.0  # neighbour discovery gives up after 3 s: that is nobody's answer
_UNREACHABLE: Final = frozenset(
    {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.ENOPROTOOPT, errno.EPROTO, errno.EOPNOTSUPP}
)
_CUT: Final = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ENOTCONN})
_LARGEST: Final = 65536
_ECHO: Final = {4: (8, 0), 6: (128, 129)}  # ICMP: the type of a request and of its reply
_PAUSE: Final = 0.02  # between looks at a socket for an error that the kernel does not wake us for

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Target:
    scheme: str
    address: str
    port: int
    path: str

    @property
    def protocol(self) -> str:
        return "tcp" if self.scheme in _DEFAULT_PORTS else self.scheme

    @property
    def family(self) -> int:
        return ip_address(self.address).version

    @staticmethod
    def of(url: str) -> Target:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
        known = parts.scheme in (*sockets.KINDS, *_DEFAULT_PORTS)
        if not known or not parts.hostname or bool(port) == (parts.scheme == "icmp"):
            raise ValueError(f"{url}: expected tcp|udp|sctp|http|https://ADDRESS:PORT or icmp://ADDRESS")
        query = f"?{parts.query}" if parts.query else ""
        return Target(parts.scheme, parts.hostname, port, (parts.path or "/") + query)


class Flow:
    """Made by `Flow(...)`, connected by the first `ask`; every `ask` wants one more answer."""

    def __init__(
        self, namespace: str, url: str, sport: int | None, *, pushed: bool = False, size: int | None = None
    ) -> None:
        """size: bytes of every question and of its answer, without headers.

        pushed: only the first question is put; the server then talks unasked, and every later `ask` wants to hear
        something that was said after it began.
        """
        self.namespace = namespace
        self.target = Target.of(url)
        self._pushed = pushed
        self._size = size
        self._loop = asyncio.get_running_loop()
        self._answered = False
        self._connected = False
        self._buffer = b""
        self._tls: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        with sockets.visiting(namespace):
            self._socket = self._open(sport)

    def _open(self, sport: int | None) -> socket.socket:
        target = self.target
        opened = sockets.open_socket(target.protocol, target.family)
        try:
            source = "::" if target.family == 6 else "0.0.0.0"
            if target.protocol == "sctp":
                # An association names every address its socket is bound to, of a node also every VIP: bind to one.
                source = _source(target) or source
                level, option = (socket.IPPROTO_IPV6, sockets.IPV6_RECVERR) if target.family == 6 else (
                    socket.IPPROTO_IP, sockets.IP_RECVERR)  # fmt: skip
                opened.setsockopt(level, option, 1)
            if sport is not None or target.protocol == "sctp":
                opened.bind((source, sport or 0))
            if sport is not None and target.protocol not in ("udp", "icmp"):
                sockets.reset_on_close(opened)
        except OSError:
            opened.close()
            raise
        return opened

    def close(self) -> None:
        if self._tls is not None:
            self._tls[1].transport.abort()
        self._socket.close()

    def cut(self) -> None:
        """Ends it with a reset, as a process that is killed with its pod does not wait for anybody."""
        if self.target.protocol != "udp" and self._socket.fileno() >= 0:
            sockets.reset_on_close(self._socket)
        self.close()

    async def ask(self, timeout: float) -> Outcome:
        """One question: what came of it, and how long that took."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                outcome = await self._ask()
                self._answered = True
        except TimeoutError:
            outcome = {"outcome": "silent"}
        except (OSError, EOFError, ssl.SSLError) as error:
            if isinstance(error, EOFError) and not self._answered and self.target.scheme in sockets.KINDS:
                # A server that wants other words than ours (a TLS one) took the connection, read them and closed it in
                # good order. Nobody but a server does that: it is reached.
                self._answered = True
                return {**_opened({}), "seconds": time.monotonic() - began}
            outcome = {"outcome": self._word_for(error, time.monotonic() - began)}
            if outcome["outcome"] == "silent":
                await asyncio.sleep(max(0.0, began + timeout - time.monotonic()))
        outcome["seconds"] = time.monotonic() - began
        return outcome

    def _word_for(self, error: Exception, seconds: float) -> str:
        if self._answered and self.target.protocol != "udp":
            return "reset"
        number = error.errno if isinstance(error, OSError) else errno.ECONNRESET
        if isinstance(error, ssl.SSLError) or number in _CUT or (number in _UNREACHABLE and seconds < _AT_ONCE):
            return "refused"
        return "silent"

    async def _ask(self) -> Outcome:
        if not self._connected:
            await self._connect()
            self._connected = True
        if self.target.scheme in _DEFAULT_PORTS:
            return await self._ask_http()
        if self.target.scheme == "icmp":
            return await self._ask_echo()
        if self._pushed and self._answered:
            return await self._listen(time.monotonic())
        if self._size is not None:
            return await self._ask_sized(self._size)
        asked = f"lab {next(_numbers)}" + (sockets.PUSH if self._pushed else "")
        await self._send(asked.encode() + b"\n")
        while True:
            answer = _json(await self._line())
            if answer.get("echo", asked) == asked or self.target.protocol == "udp":
                return _opened(answer)

    async def _ask_sized(self, size: int) -> Outcome:
        """All of the question must have come, and all of an answer of its length."""
        head = f"lab {next(_numbers)} size {size} "
        await self._send(head.encode().ljust(size - 1, b"x") + b"\n")
        while True:
            line = await self._line()
            answer = _json(line)
            came = len(line.removesuffix(b"\n")) + 1
            if (answer.get("echo"), answer.get("heard"), came) == (head, size - 1, size):
                return _opened(answer)

    async def _listen(self, since: float) -> Outcome:
        """All processes of a lab have one clock."""
        while True:
            said = _json(await self._line())
            if said.get("at", 0.0) >= since:
                return _opened(said)

    async def _ask_echo(self) -> Outcome:
        request, reply = _ECHO[self.target.family]
        number = next(_numbers) & 0xFFFF
        payload = b"lab" if self._size is None else b"lab".ljust(self._size, b"x")
        await self._send(struct.pack("!BBHHH", request, 0, 0, 0, number) + payload)
        while True:
            packet = await self._loop.sock_recv(self._socket, _LARGEST)
            kind, _, _, _, answered = struct.unpack("!BBHHH", packet[:8])
            if (kind, answered, packet[8:]) == (reply, number, payload):
                return _opened({})

    async def _connect(self) -> None:
        """Looks for soft errors meanwhile. All machines of the lab share a CPU, so an ICMP error comes back while the
        caller is still inside connect(); the kernel then only notes it, and tells at the next retransmission or never.
        """
        number = self._socket.connect_ex((self.target.address, self.target.port))
        if number not in (0, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))
        if number == 0:
            return
        writable: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(self._socket, _settle, writable)
        try:
            while True:
                if number := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(number, os.strerror(number))
                if writable.done():
                    return
                await asyncio.wait({writable}, timeout=_PAUSE)
        finally:
            self._loop.remove_writer(self._socket)

    async def _send(self, data: bytes) -> None:
        while True:
            try:
                return await self._loop.sock_sendall(self._socket, data)
            except PermissionError:
                # The firewall of our own machine: REJECT leaves its answer as the socket's next error, DROP nothing.
                if self.target.protocol not in ("udp", "icmp"):
                    raise
                await self._wait_for_error()

    async def _wait_for_error(self) -> None:
        while True:
            if number := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(number, "answered by ICMP")
            await asyncio.sleep(_PAUSE)

    async def _line(self) -> bytes:
        if self.target.protocol == "udp":
            return await self._loop.sock_recv(self._socket, _LARGEST)
        while not self._buffer or (self._buffer.startswith(b"{") and b"\n" not in self._buffer):
            await self._more()
        if not self._buffer.startswith(b"{"):  # none of our servers; whatever it says is an answer
            said, self._buffer = self._buffer, b""
            return said
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    async def _more(self) -> None:
        data = await (self._tls[0].read(_LARGEST) if self._tls else self._loop.sock_recv(self._socket, _LARGEST))
        if not data:
            raise EOFError("closed by the other side")
        self._buffer += data

    async def _ask_http(self) -> Outcome:
        target = self.target
        if target.scheme == "https" and self._tls is None:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self._tls = await asyncio.open_connection(sock=self._socket, ssl=context, server_hostname=target.address)
        host = f"[{target.address}]" if target.family == 6 else target.address
        request = f"GET {target.path} HTTP/1.1\r\nHost: {host}:{target.port}\r\nUser-Agent: lab\r\n\r\n".encode()
        if self._tls is not None:
            self._tls[1].write(request)
        else:
            await self._loop.sock_sendall(self._socket, request)
        while b"\r\n\r\n" not in self._buffer:
            await self._more()
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self._body(headers)
        answer = _json(body)
        close = headers.get("connection", "").lower() == "close"
        return {**_opened(answer), "status": int(first.split()[1]), "body": body, "close": close}

    async def _body(self, headers: dict[str, str]) -> str:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return (await self._chunks()).decode(errors="replace")
        length = headers.get("content-length")
        try:
            while length is None or len(self._buffer) < int(length):
                await self._more()
        except EOFError:
            if length is not None:
                raise
        size = len(self._buffer) if length is None else int(length)
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return body.decode(errors="replace")

    async def _chunks(self) -> bytes:
        whole = b""
        while True:
            while b"\r\n" not in self._buffer:
                await self._more()
            size, self._buffer = self._buffer.split(b"\r\n", 1)
            length = int(size.split(b";")[0], 16)
            while len(self._buffer) < length + 2:
                await self._more()
            whole, self._buffer = whole + self._buffer[:length], self._buffer[length + 2 :]
            if length == 0:
                return whole


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _source(target: Target) -> str | None:
    try:
        return sockets.source_towards(target.address, target.family)
    except OSError:
        return None  # no route: connecting will say so


def _json(body: str | bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _opened(answer: dict[str, Any]) -> Outcome:
    """Our own servers say who they are; of others only that they answered."""
    return {
        "outcome": "open",
        "backend": str(answer.get("name", "")),
        "source": str(answer.get("source", "")),
        "source_port": answer.get("source_port", 0),
    }
