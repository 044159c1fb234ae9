"""The door between a lab's clients and its API server: a TCP forwarder that can be shut, cut and made slow."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Coroutine
from dataclasses import dataclass, field

CHUNK = 65536


@dataclass
class Door:
    """Forwards connections on (address, port) to (127.0.0.1, upstream). Port 0 becomes a free one at the first open().

    Belongs to one event loop. Kubelet and lab go through a second door that nobody shuts.
    """

    address: str
    port: int
    upstream: int
    delay: float = 0.0  # seconds by which everything from the API server to a client is late
    _server: asyncio.Server | None = None
    _clients: set[asyncio.StreamWriter] = field(default_factory=set)

    async def open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, self.address, self.port, backlog=512)
            self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """From now on connections are refused, and those that were open are reset."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        for client in list(self._clients):
            _reset(client)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await asyncio.open_connection("127.0.0.1", self.upstream)
            await _first_done(self._pump(reader, upstream, late=False), self._pump(answers, writer, late=True))
        except OSError:
            pass  # the API server is down: what follows tells the client
        finally:
            self._clients.discard(writer)
            writer.close()  # after a reset this does nothing more
            if upstream is not None:
                upstream.close()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, late: bool) -> None:
        """Late data queue up behind each other: a delay costs time, not throughput."""
        loop = asyncio.get_running_loop()
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)

        async def read() -> None:
            data = b"-"
            while data:
                data = await source.read(CHUNK)
                await line.put((loop.time() + (self.delay if late else 0.0), data))

        async def write() -> None:
            while True:
                due, data = await line.get()
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                if not data:
                    return
                target.write(data)
                await target.drain()

        async with asyncio.TaskGroup() as both:
            both.create_task(read())
            both.create_task(write())


async def _first_done(*pumps: Coroutine[None, None, None]) -> None:
    """Runs until one direction ends: TLS has no use for half a connection."""
    tasks = [asyncio.ensure_future(pump) for pump in pumps]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, AttributeError):
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
