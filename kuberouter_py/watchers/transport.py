"""What lies under api.py: the lines of an open watch, the sockets, and what breaks there in our words (api_errors.py).

Only what urllib3 does is known here; it is imported when the first client is made.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

from kuberouter_py.watchers.api_errors import ApiError, Unreachable, Untrusted

READ_SIZE = 1 << 16

# A dead peer shows within 45 s (M1.05): probes after 30 s idle, then every 5 s, three of them; TCP_USER_TIMEOUT (ms)
# does the same while something of ours is unacknowledged, when keepalive is silent (tcp(7)). A server that hangs, or is
# dead behind a load balancer, shows by neither: the kernel, or the balancer, acknowledges. That is LineStream.expect's.
SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 45_000),
]


class LineStream:
    """One open watch: iterate over its lines, each a whole JSON text however it was cut into chunks (M1.15).

    The iteration ends when the server ends the stream or close() is called, and raises Unreachable when it breaks. A
    last line without its newline is half an event and is dropped.
    """

    def __init__(self, response: Any, asked: str) -> None:
        self._response = response
        self._asked = asked
        self._closed = threading.Event()
        self._silence = 0.0  # seconds

    def expect(self, seconds: float) -> None:
        """From now on so much silence breaks the stream. For the thread that iterates."""
        self._silence = seconds
        if connection := self._response.connection:  # None: all of it is here
            with contextlib.suppress(OSError):  # so it is, and the socket is closed
                connection.opened.settimeout(seconds)

    def __iter__(self) -> Iterator[bytes]:
        parts: list[bytes] = []
        try:
            for chunk in self._response.stream(READ_SIZE, decode_content=False):
                *lines, rest = chunk.split(b"\n")
                for line in lines:
                    parts.append(line)
                    whole, parts = b"".join(parts), []
                    if whole:
                        yield whole
                if rest:
                    parts.append(rest)
        except Exception as error:
            if not self._closed.is_set():
                raise self._broken(error) from None
        finally:
            self._response.close()

    def _broken(self, error: Exception) -> ApiError:
        from urllib3.exceptions import ReadTimeoutError

        if isinstance(error, ReadTimeoutError):
            return Unreachable(f"{self._asked}: timed out, nothing was heard for {self._silence:g} s")
        return transport_error(error, self._asked)

    def close(self) -> None:
        """From any thread; whoever iterates comes back at once."""
        self._closed.set()
        try:
            self._response.shutdown()
        except (ValueError, RuntimeError, OSError, AttributeError):
            pass  # it had ended already, or its reader is closing it now


def transport_error(error: Exception, asked: str) -> ApiError:
    """What urllib3, http.client, ssl or a socket closed under it raise, all of it. An ApiError stays what it is."""
    from urllib3.exceptions import SSLError

    if isinstance(error, ApiError):
        return error
    reason = getattr(error, "reason", None) or error
    kind = Untrusted if isinstance(error, SSLError) or isinstance(reason, SSLError) else Unreachable
    return kind(f"{asked}: {type(error).__name__}: {error}"[:500])


def register_sockets(pool_manager: Any, sockets: WeakSet[socket.socket]) -> None:
    """Let every connection that the pool makes show its socket, so that close() reaches a request in another thread,
    and LineStream.expect the socket of a response that the connection was handed over to (http.client's will_close).
    """
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    def showing(pool: Any) -> type:
        base = pool.ConnectionCls

        def connect(self: Any) -> None:
            base.connect(self)
            self.opened = self.sock
            sockets.add(self.sock)

        return type(pool.__name__, (pool,), {"ConnectionCls": type(base.__name__, (base,), {"connect": connect})})

    pool_manager.pool_classes_by_scheme = {
        "http": showing(HTTPConnectionPool),
        "https": showing(HTTPSConnectionPool),
    }
