"""A router that only listens: one BGP session, and a line for each UPDATE with the moment at which it came.

    python -m tests.bench.bgp_listener PEER OWN_ADDRESS OWN_AS

Lines are JSON: [seconds of the monotonic clock, prefixes announced, prefixes withdrawn]; the first, without any prefix,
says that the session is up. IPv4 alone, as RFC 4271 has it in the UPDATE itself.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final

PORT: Final = 179
OPEN, UPDATE, NOTIFICATION, KEEPALIVE = 1, 2, 3, 4
HOLD_TIME: Final = 90
_HEADER: Final = struct.Struct(">16sHB")
_MARKER: Final = b"\xff" * 16
# Capability 1: multiprotocol, IPv4 unicast (RFC 4760); 65: four bytes of AS (RFC 6793).
_MULTIPROTOCOL: Final = b"\1\4\0\1\0\1"


def message(kind: int, body: bytes = b"") -> bytes:
    return _HEADER.pack(_MARKER, _HEADER.size + len(body), kind) + body


def opening(asn: int, router_id: bytes) -> bytes:
    capabilities = _MULTIPROTOCOL + b"\x41\4" + struct.pack(">I", asn)
    parameters = bytes((2, len(capabilities))) + capabilities
    body = struct.pack(">BHH4sB", 4, asn, HOLD_TIME, router_id, len(parameters)) + parameters
    return message(OPEN, body)


def prefixes(field: bytes) -> Iterator[str]:
    """Length in bits, then as many bytes as those need."""
    at = 0
    while at < len(field):
        bits = field[at]
        size = (bits + 7) // 8
        yield f"{socket.inet_ntoa(field[at + 1 : at + 1 + size].ljust(4, bytes(1)))}/{bits}"
        at += 1 + size


def update(body: bytes) -> tuple[list[str], list[str]]:
    """(announced, withdrawn)"""
    withdrawn = int.from_bytes(body[:2], "big")
    attributes = int.from_bytes(body[2 + withdrawn : 4 + withdrawn], "big")
    return [*prefixes(body[4 + withdrawn + attributes :])], [*prefixes(body[2 : 2 + withdrawn])]


def main() -> int:
    peer, own, own_as = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with socket.create_connection((peer, PORT), timeout=HOLD_TIME, source_address=(own, 0)) as session:
        session.sendall(opening(own_as, socket.inet_aton(own)))
        stream = session.makefile("rb")
        while head := stream.read(_HEADER.size):
            now = time.monotonic()
            _, size, kind = _HEADER.unpack(head)
            body = stream.read(size - _HEADER.size)
            if kind == OPEN:
                session.sendall(message(KEEPALIVE))
                threading.Thread(target=_keep_alive, args=(session,), daemon=True).start()
                print(json.dumps([now, [], []]), flush=True)
            elif kind == UPDATE:
                print(json.dumps([now, *update(body)]), flush=True)
            elif kind == NOTIFICATION:
                raise SystemExit(f"the session was ended: {body.hex()}")
    return 0


def _keep_alive(session: socket.socket) -> None:
    while True:
        time.sleep(HOLD_TIME / 3)
        session.sendall(message(KEEPALIVE))


if __name__ == "__main__":
    sys.exit(main())
