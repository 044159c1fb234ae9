"""The client's side of the agent's local socket: what `status`, `plan` and `explain` ask. Both sides speak HTTP."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

from kuberouter_py.ports import EdgeError

MOST_FORM = 1 << 20  # bytes; an object of the API is not larger either
PATIENCE = 10.0  # seconds; an agent in its first sync of 10,000 Services answers between two slices


class NoAgent(EdgeError):
    """Nobody answers on the socket, or not what was asked."""


class NoAnswer(EdgeError):
    """The agent says why it has no answer to this question."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("agent", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


def ask(path: str, what: str, parameters: Mapping[str, str] = MappingProxyType({}), *, form: bool = False) -> Any:
    """The decoded JSON that the agent at the socket `path` answers to `what` ("/status"). form: they may be long.
    Raises NoAgent, NoAnswer.
    """
    fields = urlencode(parameters)
    if form and len(fields) > MOST_FORM:
        raise NoAnswer(f"{len(fields)} bytes are more than can be asked at once ({MOST_FORM})")
    connection = _Connection(path)
    try:
        if form:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", what, fields, headers)
        else:
            connection.request("GET", f"{what}?{fields}" if parameters else what)
        response = connection.getresponse()
        body = response.read()
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoAgent(f"no agent answers on {path}") from None
    except (OSError, http.client.HTTPException) as error:
        raise NoAgent(f"the agent on {path} does not answer: {error}") from None
    finally:
        connection.close()
    if response.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        raise NoAnswer(body.decode(errors="replace").strip())
    if response.status != 200:
        raise NoAgent(f"the agent on {path} answers {what} with {response.status} {response.reason}")
    try:
        return json.loads(body)
    except ValueError as error:
        raise NoAgent(f"the agent on {path} answers {what} with something else than JSON: {error}") from None
