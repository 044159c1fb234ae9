"""/proc/net/ip_vs, read: the only place that tells all destinations at once. Netlink wants one dump a server, 20 times
slower.

Bytes in, values out; the columns: net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_info_seq_show. One server:
  TCP  0A600001:0050 rr persistent 10800 FFFFFFFF
    -> 0AF40001:1F90      Masq    1      0          0
"""

from __future__ import annotations

import re
from binascii import unhexlify
from collections.abc import Iterator
from itertools import islice

from kuberouter_py.model.kernel import (
    Destination,
    DestinationKey,
    Forwarding,
    MarkServerKey,
    Protocol,
    ServerKey,
    VirtualServerKey,
)

_new = tuple.__new__

_FORWARDINGS = {b"Tunnel": Forwarding.TUNNEL, b"Route": Forwarding.DIRECT_ROUTE}
_SERVERS = re.compile(rb"\n(?=\w)")
_NAMES = {b"TCP": Protocol.TCP, b"UDP": Protocol.UDP, b"SCTP": Protocol.SCTP}

Destinations = dict[DestinationKey, Destination]


class _Ports(dict[bytes, int]):
    def __missing__(self, text: bytes) -> int:
        port = self[text] = int(text, 16)
        return port


class _Values(dict[bytes, Destination]):
    """ "Masq    1      " → one value object. Raises ValueError where a weight was cut off (seven digits or more)."""

    def __missing__(self, text: bytes) -> Destination:
        if not text.endswith(b" "):
            raise ValueError(text)
        method, weight = text.split()
        value = self[text] = Destination(int(weight), _FORWARDINGS.get(method, Forwarding.MASQUERADE))
        return value


def _blocks(data: bytes) -> Iterator[bytes]:
    """Each server's lines, one after the other: all of them at once would be the file once more, 17 MB for 250,000
    destinations.
    """
    start = 0
    for found in islice(_SERVERS.finditer(data), 1, None):  # two lines come before the first
        if start:
            yield data[start : found.start()]
        start = found.end()
    if start:
        yield data[start:].rstrip(b"\n")


def parse_table(data: bytes) -> dict[ServerKey, Destinations]:
    """Destinations by server. Raises ValueError for bytes that are no such table.

    The file does not tell the family of a firewall mark. Each such mark is there for both, with the destinations of
    that family (those of a tunnel that crosses families go to the wrong one: nothing of ours does).
    """
    ports, values = _Ports(), _Values()
    servers: dict[ServerKey, Destinations] = {}
    for block in _blocks(data):
        head, *rows = block.split(b"\n  -> ")
        try:
            # Fixed columns for IPv4: 8 of address, colon, 4 of port, 6 blank, 7 of method, 1, 6 of weight, 1. A tuple
            # made so is what DestinationKey(...) makes, at half the price: a hundred thousand of them are made here.
            found: Destinations = {
                _new(DestinationKey, (unhexlify(row[:8]), ports[row[9:13]])): values[row[19:34]] for row in rows
            }
        except ValueError:
            found = _slowly(rows, values)
        protocol, where, _ = head.split(None, 2)
        if protocol == b"FWM":
            for family, size in ((4, 4), (6, 16)):
                own = {one: value for one, value in found.items() if len(one.address) == size}
                servers.setdefault(MarkServerKey(int(where, 16), family), {}).update(own)
        else:
            servers[VirtualServerKey(_protocol(protocol), *_endpoint(where))] = found
    return servers


def _slowly(rows: list[bytes], values: _Values) -> Destinations:
    """Rows whose columns are not where IPv4 has them: IPv6, and very large weights."""
    found = {}
    for row in rows:
        where, method, weight, _ = row.split(None, 3)
        found[_endpoint(where)] = values[method + b" " + weight + b" "]
    return found


def _endpoint(text: bytes) -> DestinationKey:
    """ "0AF40001:1F90", or "[fd00:0000:...:0001]:1F90" with always all 32 digits."""
    address, _, port = text.rpartition(b":")
    packed = unhexlify(address.strip(b"[]").replace(b":", b""))
    if len(packed) not in (4, 16):
        raise ValueError(f"not an address of /proc/net/ip_vs: {text!r}")
    return DestinationKey(packed, int(port, 16))


def _protocol(name: bytes) -> int:
    return _NAMES.get(name) or int(name.removeprefix(b"IP_"))
