"""Commands to the control plane from wherever a test runs: one JSON line there, one back, over TCP.

fresh    an empty cluster with {"serviceCIDRs": [...]}; answers addresses, ports and credentials
stop     the API server is gone, clients are refused; start lets it come back
inside   after stop: the API server runs again, clients are still refused (a step has something to write)
cut, slow {"seconds": S}, expire, end    as LAB describes them; `end` stops everything and keeps nothing
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

from tests.labkit.ports import LabError


@dataclass(frozen=True)
class Control:
    host: str
    port: int

    def call(self, do: str, *, timeout: float = 120.0, **arguments: Any) -> dict[str, Any]:
        try:
            with socket.create_connection((self.host, self.port), timeout=timeout) as connection:
                connection.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
                with connection.makefile("rb") as stream:
                    line = stream.readline()
        except OSError as error:
            raise LabError(f"control plane: {do}: {error}") from error
        answer: dict[str, Any] = json.loads(line) if line else {"error": "it ended"}
        if "error" in answer:
            raise LabError(f"control plane: {do}: {answer['error']}")
        return answer
