"""Owns what of the kernel's own news concerns the router: its routes, rules and tunnels, and the links that carry them.

Listening is in announcements.py; what to do about it is left to who is called. A link that goes down takes its IPv4
routes with it, and its last IPv4 address takes them too, without a word about any of them (fib_frontend.c,
fib_disable_ip): so news of a link are news of the routes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from kuberouter_py.kernel import netlink, rtnetlink, rtnetlink_routes
from kuberouter_py.kernel.announcements import RECEIVE_QUEUE, Announcements
from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch
from kuberouter_py.kernel.rtnetlink import AF_BRIDGE, IFF_UP, LinkMessage
from kuberouter_py.model.names import (
    DIVERSION_TABLE,
    HANDOVER_TABLE,
    MAIN_TABLE,
    OVERLAY_TABLE,
    POD_ROUTE_METRIC,
    ROUTE_PROTOCOL,
    is_tunnel,
    is_vip_link,
)
from kuberouter_py.model.others import is_router_tunnel

# Each but the first is the name of the table that it is about.
LINK_NEWS: Final = "links"  # came, went, up, down, MTU, addresses: of those that have addresses
POD_ROUTE_NEWS: Final = "pod routes"
RULE_NEWS: Final = "lookup rules"
ANNOUNCED_NEWS: Final = "announced"
TUNNEL_NEWS: Final = "tunnels"  # one went, or went down; one of kube-router's went
BRIDGE_NEWS: Final = "pod bridges"  # came, went, up, down, MTU
EVERYTHING: Final = frozenset({LINK_NEWS, POD_ROUTE_NEWS, RULE_NEWS, ANNOUNCED_NEWS, TUNNEL_NEWS, BRIDGE_NEWS})

_NOTHING: Final[tuple[str, ...]] = ()
_LINK_AND_ROUTES: Final = (LINK_NEWS, POD_ROUTE_NEWS)


class RouterNews(Announcements):
    """vip_links: names of links with addresses of Services, which are none of the node's (see names.is_vip_link).
    bridges: names of the pods' bridges. holds: whether a tunnel is there as far as we know: the kernel announces links
    without a port id. Where announcements were lost, on_news is called with EVERYTHING.
    """

    everything = EVERYTHING

    def __init__(
        self,
        vip_links: Collection[str],
        bridges: Collection[str],
        on_news: Callable[[frozenset[str]], None],
        own_ports: Callable[[], Collection[int]],
        holds: Callable[[str], bool] = lambda tunnel: True,
        receive_queue: int = RECEIVE_QUEUE,
    ) -> None:
        super().__init__(on_news, own_ports, receive_queue)
        self._vip_links = frozenset(vip_links)
        self._bridges = frozenset(bridges)
        self._holds = holds
        self._links: dict[int, LinkMessage] = {}
        self._addresses: dict[int, dict[tuple[bytes, int], bool]] = {}  # by link -> tentative
        self._lost: set[str] = set()  # tunnels that were up and went: when they are up again, their routes are not

    def _take_stock(self) -> None:
        batch = Batch(NETLINK_ROUTE, strict=True)
        try:
            self._links = {link.index: link for link in map(rtnetlink.read_link, batch.dump(rtnetlink.all_links()))}
            self._addresses = {}
            for one in map(rtnetlink.read_address, batch.dump(rtnetlink.all_addresses())):
                if not rtnetlink.is_link_local(one.address):
                    self._addresses.setdefault(one.link, {})[one.address, one.prefix] = one.tentative
        finally:
            batch.close()

    def _judge(self, kind: int, flags: int, own: bool, payload: memoryview) -> Collection[str]:
        if kind in (rtnetlink.RTM_NEWLINK, rtnetlink.RTM_DELLINK):
            return self._judge_link(kind == rtnetlink.RTM_NEWLINK, rtnetlink.read_link(payload))
        if kind in (rtnetlink.RTM_NEWADDR, rtnetlink.RTM_DELADDR):
            return self._judge_address(kind == rtnetlink.RTM_NEWADDR, payload)
        if own:
            return _NOTHING
        if kind in (rtnetlink.RTM_NEWROUTE, rtnetlink.RTM_DELROUTE):
            return _judge_route(flags, payload)
        if kind in (rtnetlink.RTM_NEWRULE, rtnetlink.RTM_DELRULE):
            rule = rtnetlink_routes.read_rule(payload)
            return (RULE_NEWS,) if rule.protocol == ROUTE_PROTOCOL and rule.table != DIVERSION_TABLE else _NOTHING
        return _NOTHING

    def _judge_link(self, new: bool, link: LinkMessage) -> Collection[str]:
        if link.family == AF_BRIDGE:
            return _NOTHING
        before = self._links.pop(link.index, None)
        if new:
            self._links[link.index] = link
        if self._is_vip_link(link):
            return _NOTHING
        if any(is_tunnel(each.name, each.alias) for each in (link, before) if each):
            return self._judge_tunnel(new, link, before)
        if not new and is_router_tunnel(link.name):
            return TUNNEL_NEWS, POD_ROUTE_NEWS  # it may have stood where ours belongs
        same = new and before is not None and _face(link) == _face(before)
        if same and before is not None and link.mtu == before.mtu:
            return _NOTHING
        if link.name in self._bridges:
            return (BRIDGE_NEWS,)
        addressed = self._addresses.get(link.index) if new else self._addresses.pop(link.index, None)
        if not addressed:
            return _NOTHING
        return (LINK_NEWS,) if same else _LINK_AND_ROUTES

    def _judge_tunnel(self, new: bool, link: LinkMessage, before: LinkMessage | None) -> Collection[str]:
        """A deletion is told in two steps: down, then gone."""
        if new and link.flags & IFF_UP:
            was_lost = link.name in self._lost
            self._lost.discard(link.name)
            return (POD_ROUTE_NEWS,) if was_lost else _NOTHING
        was_up = before is not None and bool(before.flags & IFF_UP)
        if was_up:
            self._lost.add(link.name)
        if (was_up or not new) and self._holds(link.name):
            return TUNNEL_NEWS, POD_ROUTE_NEWS
        return _NOTHING

    def _judge_address(self, new: bool, payload: memoryview) -> Collection[str]:
        """IPv6 addresses are announced over and over (each router advertisement, the end of duplicate detection)."""
        one = rtnetlink.read_address(payload)
        link = self._links.get(one.link)
        if rtnetlink.is_link_local(one.address) or (link is not None and self._is_vip_link(link)):
            return _NOTHING
        known = self._addresses.setdefault(one.link, {})
        key = (one.address, one.prefix)
        if not new:
            known.pop(key, None)
        elif known.get(key) == one.tentative:
            return _NOTHING
        else:
            known[key] = one.tentative
        return _LINK_AND_ROUTES

    def _is_vip_link(self, link: LinkMessage) -> bool:
        return is_vip_link(link.name, link.kind, link.alias, self._vip_links)


def _face(link: LinkMessage) -> tuple[str, int, int]:
    """What routes by way of it depend on."""
    return link.name, link.flags & IFF_UP, link.master


def _judge_route(flags: int, payload: memoryview) -> Collection[str]:
    """A replacement can have taken the place of one of ours without a word about it. Where a router's whole table comes
    in, it is by the hundred thousand.
    """
    table, protocol = payload[4], payload[5]
    if table == HANDOVER_TABLE:
        return (ANNOUNCED_NEWS,) if protocol == ROUTE_PROTOCOL or flags & netlink.NLM_F_REPLACE else _NOTHING
    if table not in (MAIN_TABLE, OVERLAY_TABLE):
        return _NOTHING
    if protocol == ROUTE_PROTOCOL or rtnetlink_routes.read_route(payload).metric == POD_ROUTE_METRIC:
        return (POD_ROUTE_NEWS,)
    return _NOTHING
