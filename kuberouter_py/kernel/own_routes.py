"""Owns how the router's routes are found in the kernel: those with our protocol number in some tables, both families.

What they say is left to pod_routes.py and handover.py, the messages to route_codec.py.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from kuberouter_py.kernel import rtnetlink_routes
from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch, NetlinkError
from kuberouter_py.kernel.rtnetlink_routes import RouteMessage
from kuberouter_py.model.names import ROUTE_PROTOCOL
from kuberouter_py.model.podnet import RouteKey

K = TypeVar("K")
T = TypeVar("T")

_NONE = (errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP)  # no such table; no such family

# What `ip route` calls them, of those that one meets (rtnetlink.h, /etc/iproute2/rt_protos).
_PROTOCOLS = {
    2: "kernel", 3: "boot", 4: "static", 9: "ra", 11: "zebra", 12: "bird", 16: "dhcp", 17: "kube-router",
    18: "keepalived", 42: "babel", 80: "calico", 186: "bgp", 187: "isis", 188: "ospf", 189: "rip",
}  # fmt: skip


class Place(NamedTuple):
    """Where one route stands."""

    key: RouteKey
    metric: int


class OwnRoutes:
    def __init__(self, batch: Batch, tables: Sequence[int]) -> None:
        """batch: of NETLINK_ROUTE, strict."""
        self._batch = batch
        self._listing = Batch(NETLINK_ROUTE, strict=True)  # of pages(), whose dump goes on while the other one writes
        self._each = tuple((family, table) for family in (4, 6) for table in tables)

    def all(self) -> Iterator[RouteMessage]:
        """Raises EdgeError."""
        for family, table in self._each:
            request = rtnetlink_routes.routes_of_table(family, table, ROUTE_PROTOCOL)
            yield from _ours(table, _if_there(self._batch.dump, request))

    def pages(self) -> Iterator[list[RouteMessage]]:
        """A few hundred at a time. Raises EdgeError."""
        for family, table in self._each:
            request = rtnetlink_routes.routes_of_table(family, table, ROUTE_PROTOCOL)
            for page in _if_there(self._listing.pages, request):
                yield list(_ours(table, page))

    def metrics(self, keys: Collection[RouteKey]) -> dict[RouteKey, list[int]]:
        """Of all routes of ours to these prefixes. Raises EdgeError."""
        found: dict[RouteKey, list[int]] = {}
        for route in self.all() if keys else ():
            if (key := key_of(route)) in keys:
                found.setdefault(key, []).append(route.metric)
        return found

    def standing(self, places: Collection[Place]) -> dict[Place, RouteMessage]:
        """What stands there, whoever made it. Raises EdgeError."""
        asked = {(4 if len(key.network) == 4 else 6, key.table) for key, _ in places}
        found: dict[Place, RouteMessage] = {}
        for family, table in asked:
            for payload in _if_there(self._batch.dump, rtnetlink_routes.routes_of_table(family, table)):
                route = rtnetlink_routes.read_route(payload)
                if (place := Place(key_of(route), route.metric)) in places:
                    found.setdefault(place, route)
        return found

    def send(self, messages: Mapping[K, bytes]) -> dict[K, int]:
        """By key the errno of each that failed."""
        keys = list(messages)
        return {keys[at]: number for at, number in self._batch.send(list(messages.values())).items()}


def key_of(route: RouteMessage) -> RouteKey:
    return RouteKey(route.table, route.destination, route.prefix)


def protocol_name(protocol: int) -> str:
    return _PROTOCOLS.get(protocol, f"protocol {protocol}")


def _ours(table: int, payloads: Iterable[memoryview]) -> Iterator[RouteMessage]:
    """Checked once more: a kernel before 4.20 does not heed the filter. A default route is never ours."""
    for route in map(rtnetlink_routes.read_route, payloads):
        if route.protocol == ROUTE_PROTOCOL and route.table == table and route.prefix:
            yield route


def _if_there(dump: Callable[[bytes], Iterable[T]], request: bytes) -> Iterator[T]:
    try:
        yield from dump(request)
    except NetlinkError as error:
        if error.errno not in _NONE:
            raise
