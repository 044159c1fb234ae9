"""The client's side of the agent's local socket: what `status` and `plan` ask. Server and client speak HTTP over it."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from kuberouter_py.ports import EdgeError

PATIENCE = 10.0  # seconds; an agent in its first sync of 10,000 Services answers between two slices


class NoAgent(EdgeError):
    """Nobody answers on the socket, or not what was asked."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("agent", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


def ask(path: str, what: str) -> Any:
    """The decoded JSON that the agent at the socket `path` answers to `what` ("/status"). Raises NoAgent."""
    connection = _Connection(path)
    try:
        connection.request("GET", what)
        response = connection.getresponse()
        body = response.read()
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoAgent(f"no agent answers on {path}") from None
    except (OSError, http.client.HTTPException) as error:
        raise NoAgent(f"the agent on {path} does not answer: {error}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise NoAgent(f"the agent on {path} answers {what} with {response.status} {response.reason}")
    try:
        return json.loads(body)
    except ValueError as error:
        raise NoAgent(f"the agent on {path} answers {what} with something else than JSON: {error}") from None
