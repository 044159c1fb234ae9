"""Requests and answers between the lab and its traffic processes: one JSON document a line over a socket pair."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from tests.labkit.ports import LabError

Handler = Callable[[dict[str, Any]], Awaitable[Any]]

_NICENESS: Final = -10  # what is measured is the packets' delay, not who else wanted the CPU
_END_WITHIN: Final = 5.0
_CLEARED_WITHIN: Final = 10.0
_LONGEST_LINE: Final = 64 << 20


@dataclass(frozen=True)
class Traffic:
    """The two traffic processes; worlds that follow each other in a kernel share them, for starting them is slow."""

    servers: Peer
    prober: Peer

    @staticmethod
    def start() -> Traffic:
        return Traffic(Peer("tests.labkit.traffic.server"), Peer("tests.labkit.traffic.prober"))

    def clear(self) -> None:
        """Everything is closed, held or not; of a process that has died nothing is open."""
        for peer in (self.servers, self.prober):
            peer.call("clear", timeout=_CLEARED_WITHIN)

    def end(self) -> None:
        self.servers.end()
        self.prober.end()


class Peer:
    """The lab's side: starts `python -m MODULE`, and calls it from any thread."""

    def __init__(self, module: str) -> None:
        ours, theirs = socket.socketpair()
        self._module = module
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        command = [sys.executable, "-m", module, str(theirs.fileno())]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        theirs.close()
        self._socket = ours
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def call(self, do: str, *, timeout: float, **arguments: Any) -> Any:
        """The answer to one request; LabError when the other side raised one, or says nothing for `timeout` seconds."""
        number = next(self._numbers)
        future: Future[Any] = Future()
        with self._lock:
            self._waiting[number] = future
            self._socket.sendall(json.dumps({"id": number, "do": do, **arguments}).encode() + b"\n")
        try:
            return future.result(timeout)
        except TimeoutError:
            raise LabError(f"{self._module} does not answer") from None

    def end(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(_END_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._socket.close()

    def _read(self) -> None:
        with self._socket.makefile("rb") as lines:
            for line in lines:
                answer = json.loads(line)
                future = self._waiting.pop(answer["id"])
                if "error" in answer:
                    future.set_exception(LabError(answer["error"]))
                else:
                    future.set_result(answer["result"])
        for future in self._waiting.values():
            future.set_exception(LabError(f"{self._module} ended"))


def serve(handlers: dict[str, Handler]) -> None:
    """The process's side: answers until the lab hangs up. Requests are worked on side by side."""
    try:
        os.nice(_NICENESS)
    except PermissionError:
        pass
    asyncio.run(_serve(handlers, socket.socket(fileno=int(sys.argv[1]))))


async def _serve(handlers: dict[str, Handler], channel: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=channel, limit=_LONGEST_LINE)
    running: set[asyncio.Task[None]] = set()

    async def answer(request: dict[str, Any]) -> None:
        number, do = request.pop("id"), request.pop("do")
        try:
            reply = {"id": number, "result": await handlers[do](request)}
        except Exception as error:
            reply = {"id": number, "error": f"{do}: {error or type(error).__name__}"}
        writer.write(json.dumps(reply).encode() + b"\n")

    while line := await reader.readline():
        task = asyncio.create_task(answer(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)
