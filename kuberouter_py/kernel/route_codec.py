"""Owns the layout of the router's own routes in rtnetlink's messages, and their mark: our protocol number.

Pure, as rtnetlink_routes.py, which reads them. A route is named by table, prefix and metric: at most one stands there
for each family, whoever made it, unless somebody has appended another one.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Final

from kuberouter_py.kernel import netlink, rtnetlink, rtnetlink_routes
from kuberouter_py.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST
from kuberouter_py.kernel.rtnetlink import RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, RTM_DELROUTE, RTM_NEWROUTE
from kuberouter_py.model.names import ROUTE_PROTOCOL
from kuberouter_py.model.podnet import PodRoute, RouteKey

_RTN_ANY, _RTN_UNICAST, _RTN_BLACKHOLE = 0, 1, 6
_RT_SCOPE_ANY: Final = 255  # RT_SCOPE_NOWHERE: in a deletion whatever the scope
_RTNH_F_ONLINK: Final = 4


@cache
def _layout(size: int) -> struct.Struct:
    return struct.Struct(f"=IHHII8BIHH{size}sHHI")


def new_pod_route(key: RouteKey, metric: int, link: int, route: PodRoute, *, onlink: bool = False) -> bytes:
    """EEXIST where one stands by that prefix and metric, whoever made it. onlink: the gateway is asked for on the link
    though no route says that it is there.
    """
    more = netlink.u32(rtnetlink_routes.RTA_OIF, link)
    if route.gateway:
        more += netlink.attribute(rtnetlink_routes.RTA_GATEWAY, route.gateway)
    if route.source:
        more += netlink.attribute(rtnetlink_routes.RTA_PREFSRC, route.source)
    scope = RT_SCOPE_UNIVERSE if route.gateway or len(key.network) == 16 else RT_SCOPE_LINK
    flags = _RTNH_F_ONLINK if onlink and route.gateway else 0
    return _pack(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, key, metric, _RTN_UNICAST, scope, flags, more)


def new_blackhole(key: RouteKey, metric: int) -> bytes:
    """EEXIST where one stands by that prefix and metric, whoever made it."""
    return _pack(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, key, metric, _RTN_BLACKHOLE, RT_SCOPE_UNIVERSE)


def delete_route(key: RouteKey, metric: int, gateway: bytes = b"") -> bytes:
    """One with our protocol number only; ESRCH where there is none. gateway: only if it leads there. IPv6 joins
    gateways of one metric to one route, and without naming ours the others would go too.
    """
    more = netlink.attribute(rtnetlink_routes.RTA_GATEWAY, gateway) if gateway else b""
    return _pack(RTM_DELROUTE, 0, key, metric, _RTN_ANY, _RT_SCOPE_ANY, 0, more)


def _pack(
    kind: int, flags: int, key: RouteKey, metric: int, type_: int, scope: int, route_flags: int = 0, more: bytes = b""
) -> bytes:
    table, network, prefix = key
    size = len(network)
    layout = _layout(size)
    return layout.pack(
        layout.size + len(more), kind, flags | NLM_F_REQUEST, 0, 0,
        rtnetlink.AF_INET if size == 4 else rtnetlink.AF_INET6,
        prefix, 0, 0, table, ROUTE_PROTOCOL, scope, type_, route_flags,
        4 + size, rtnetlink_routes.RTA_DST, network, 8, rtnetlink_routes.RTA_PRIORITY, metric,
    ) + more  # fmt: skip
