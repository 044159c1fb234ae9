"""How conductor and witness talk: one JSON line there, one back, over the wire between host and lab kernel."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

PORT: Final = 6450
CONNECT_WITHIN: Final = 60.0


class WitnessFailed(Exception):
    """What the witness could not do, in its words."""


class Witness:
    """The host's end. offset: what its clock is ahead of ours, in seconds."""

    def __init__(self, address: str, alive: Callable[[], bool]) -> None:
        self._stream = _connected(address, alive)
        self._file = self._stream.makefile("rb")
        self.offset = self._measure_offset()

    def call(self, do: str, *, timeout: float = 60.0, **arguments: Any) -> Any:
        self._stream.settimeout(timeout)
        self._stream.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
        line = self._file.readline()
        if not line:
            raise WitnessFailed(f"{do}: the lab kernel is gone")
        answer = json.loads(line)
        if "error" in answer:
            raise WitnessFailed(f"{do}: {answer['error']}")
        return answer["value"]

    def close(self) -> None:
        self._file.close()
        self._stream.close()

    def _measure_offset(self) -> float:
        """Of twenty exchanges the quickest tells best."""
        best = (1e9, 0.0)
        for _ in range(20):
            began = time.time()
            there = self.call("clock")
            ended = time.time()
            best = min(best, (ended - began, there - (began + ended) / 2))
        return best[1]


def _connected(address: str, alive: Callable[[], bool]) -> socket.socket:
    deadline = time.monotonic() + CONNECT_WITHIN
    while True:
        try:
            return socket.create_connection((address, PORT), timeout=5.0)
        except OSError as error:
            if not alive() or time.monotonic() > deadline:
                raise WitnessFailed(f"no witness in the lab kernel: {error}") from error
            time.sleep(0.1)


def serve(address: str, actions: Mapping[str, Callable[..., Any]]) -> None:
    """The lab kernel's end: answers one conductor, until it goes."""
    with socket.create_server((address, PORT)) as server:
        stream, _ = server.accept()
    threading.Thread(target=_end_with, args=(stream,), daemon=True).start()
    with stream, stream.makefile("rb") as lines:
        for line in lines:
            command = json.loads(line)
            try:
                reply = {"value": actions[command.pop("do")](**command)}
            except Exception as error:
                reply = {"error": f"{type(error).__name__}: {error}"}
            stream.sendall(json.dumps(reply).encode() + b"\n")


def _end_with(stream: socket.socket) -> None:
    """The conductor may give up while an action goes on: the lab kernel, and its address, are the next peer's then."""
    gone = select.poll()
    gone.register(stream, select.POLLRDHUP)
    gone.poll()
    os._exit(0)
