"""A small client of a Kubernetes API server for the lab's own use: requests, and one watch. Standard library only.

The lab needs it inside its kernel, where memory is dear, and on the host. The agent under test has its own (watchers/).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MERGE_PATCH = "application/merge-patch+json"


class ApiError(Exception):
    """The API server said no: `code` is the HTTP status, the message its own words."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Unreachable(Exception):
    """No API server answered."""


@dataclass(frozen=True)
class Credentials:
    """PEM texts; the client certificate is an administrator's."""

    ca: str
    certificate: str
    key: str


class ApiClient:
    """Requests over one connection, kept open and made again when the server closed it; safe between threads."""

    def __init__(self, host: str, port: int, credentials: Credentials, directory: Path) -> None:
        self.host, self.port = host, port
        self._context = ssl.create_default_context(cadata=credentials.ca)
        pair = directory / "lab-client.pem"  # the ssl module takes client certificates from files only
        pair.touch(mode=0o600)
        pair.write_text(credentials.certificate + credentials.key)
        self._context.load_cert_chain(pair)
        self._lock = threading.Lock()
        self._connection: http.client.HTTPSConnection | None = None

    def request(self, method: str, path: str, body: Any = None, *, patch: bool = False, timeout: float = 30.0) -> Any:
        """The answer's JSON. ApiError when the server refuses, Unreachable when there is none."""
        data = None if body is None else json.dumps(body)
        headers = {"Accept": "application/json"}
        if data is not None:
            headers["Content-Type"] = MERGE_PATCH if patch else "application/json"
        with self._lock:
            status, text = self._exchange(method, path, data, headers, timeout)
        if status >= 400:
            raise ApiError(status, _message(text))
        with contextlib.suppress(ValueError):
            return json.loads(text)
        return text.decode(errors="replace")

    def get(self, path: str) -> Any:
        """The same for reading; None for what does not exist."""
        try:
            return self.request("GET", path)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def watch(self, path: str, *, resource_version: str, seconds: int) -> Iterator[dict[str, Any]]:
        """Events of one watch request until the server ends it; Unreachable when the connection breaks."""
        connection = self._connect(timeout=seconds + 10.0)
        query = f"watch=1&allowWatchBookmarks=true&resourceVersion={resource_version}&timeoutSeconds={seconds}"
        try:
            connection.request("GET", f"{path}?{query}", headers={"Accept": "application/json"})
            response = connection.getresponse()
            if response.status >= 400:
                raise ApiError(response.status, _message(response.read()))
            while line := response.readline():
                yield json.loads(line)
            if getattr(response, "chunk_left", None) is not None:  # http.client takes a broken stream for its end
                raise Unreachable(f"watch {path}: the stream broke off")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unreachable(f"watch {path}: {error}") from error
        finally:
            connection.close()

    def _exchange(
        self, method: str, path: str, data: str | None, headers: dict[str, str], timeout: float
    ) -> tuple[int, bytes]:
        fresh = self._connection is None
        connection = self._connection or self._connect(timeout)
        self._connection = connection
        try:
            if connection.sock is not None:
                connection.sock.settimeout(timeout)
            connection.request(method, path, body=data, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection = None
            connection.close()
            if fresh or isinstance(error, TimeoutError):
                raise Unreachable(f"{method} {path}: {error}") from error
        return self._exchange(method, path, data, headers, timeout)  # an idle connection that the server had closed

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self._context)


def _message(text: bytes) -> str:
    try:
        status = json.loads(text)
        return str(status["message"])
    except (ValueError, KeyError, TypeError):
        return text.decode(errors="replace")[:500]
