"""Persistence templates: where ip_vs keeps the clients of a virtual server with affinity.

They are rows of ip_vs' connection table whose client port is 0; the table is only to be had as a whole, as text
(ip_vs_conn_seq_show).
"""

from __future__ import annotations

from kuberouter_py.model.kernel import DestinationKey, MarkServerKey, ServerKey
from kuberouter_py.model.notation_servers import protocol_text
from kuberouter_py.ports import Affinity, Unavailable

_TABLE = "/proc/thread-self/net/ip_vs_conn"  # thread-self: see ipvs.py


def template(key: ServerKey, client: bytes) -> Affinity | None:
    """Raises Unavailable without ip_vs."""
    try:
        with open(_TABLE, "rb", buffering=0) as table:
            return find_template(table.readall(), key, client)
    except OSError as error:
        raise Unavailable(f"{_TABLE}: {error.strerror}") from error


def find_template(table: bytes, key: ServerKey, client: bytes) -> Affinity | None:
    """ "TCP 0AF40109 0000 0A60000A 0050 0AF40102 1F90 NONE             42": 42 seconds are left."""
    if isinstance(key, MarkServerKey):
        return None  # its templates name the mark in the place of an address, and nothing of ours makes any
    head = f"\n{protocol_text(key.protocol).upper():3} {_hex(client)} 0000 {_hex(key.address)} {key.port:04X} "
    _, found, rest = table.partition(head.encode())
    if not found:
        return None
    address, port, _state, expires = rest.split(None, 4)[:4]
    return Affinity(DestinationKey(bytes.fromhex(address.replace(b":", b"").decode()), int(port, 16)), int(expires))


def _hex(address: bytes) -> str:
    """ "0A60000A", "fd00:0010:0096:0000:0000:0000:0000:0010"."""
    text = address.hex()
    return text.upper() if len(address) == 4 else ":".join(text[at : at + 4] for at in range(0, 32, 4))
