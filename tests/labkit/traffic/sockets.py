"""Opening sockets in a network namespace named as `ip netns` does: a visit, the socket stays there."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
from collections.abc import Iterator
from typing import Final

from tests.labkit import namespaces

KINDS: Final = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, 132),
    "icmp": (socket.SOCK_DGRAM, socket.IPPROTO_ICMP),  # the kernel's own ping sockets: identifier and checksum are its
}
SIZE: Final = re.compile(rb"lab \d+ size (\d+) ")  # begins a question of that length, which wants such an answer
PUSH: Final = " push"  # the end of a question after which the server goes on talking unasked
IP_RECVERR: Final = 11
IPV6_RECVERR: Final = 25
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time to linger

_home = os.open("/proc/self/ns/net", os.O_RDONLY)


@contextlib.contextmanager
def visiting(namespace: str) -> Iterator[None]:
    """Sockets opened meanwhile belong to that namespace. Never await in here: the whole process is away."""
    descriptor = os.open(namespaces.NETNS / namespace, os.O_RDONLY)
    try:
        namespaces.setns(descriptor)
    finally:
        os.close(descriptor)
    try:
        yield
    finally:
        namespaces.setns(_home)


def open_socket(protocol: str, family: int) -> socket.socket:
    kind, number = KINDS[protocol]
    if protocol == "icmp" and family == 6:
        number = socket.IPPROTO_ICMPV6
    opened = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind, number)
    opened.setblocking(False)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return opened


def reset_on_close(opened: socket.socket) -> None:
    """Closing it frees its port at once: the other side gets a reset (SCTP: an abort)."""
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def source_towards(address: str, family: int) -> str:
    """The source address that the kernel chooses for what goes to `address`. Call it while visiting."""
    with socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as opened:
        opened.connect((address, 9))
        return str(opened.getsockname()[0])
