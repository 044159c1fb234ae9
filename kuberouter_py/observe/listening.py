"""Owns the places where the HTTP server may be asked, and the listeners there."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final, NamedTuple

BACKLOG: Final = 32  # connections that wait to be taken


class Tcp(NamedTuple):
    """address "": all of both families."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address or '*'}:{self.port}"


class Unix(NamedTuple):
    """A socket file that only root may use. Its directory is made."""

    path: str

    def __str__(self) -> str:
        return self.path


Where = Tcp | Unix


def listen(where: Where) -> socket.socket:
    """A listener that does not wait. Raises OSError where that cannot be."""
    try:
        listener = _bound(where)
    except OverflowError as error:  # how bind() says that a number is no port
        raise OSError(str(error)) from error
    listener.setblocking(False)  # accept() must not wait for a client that has left between the news and the call
    return listener


def _bound(where: Where) -> socket.socket:
    if isinstance(where, Unix):
        return _listen_unix(where.path)
    if where.address:
        family = socket.AF_INET6 if ":" in where.address else socket.AF_INET
        return socket.create_server((where.address, where.port), family=family, backlog=BACKLOG)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", where.port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    return socket.create_server(("", where.port), backlog=BACKLOG)


def _listen_unix(path: str) -> socket.socket:
    """Takes the place of a socket file that nobody answers on any more; OSError where somebody does."""
    Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            Path(path).unlink(missing_ok=True)
        else:
            raise OSError("another agent answers there")
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path)
        os.chmod(path, 0o600)  # before listen: nobody can have connected yet
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
