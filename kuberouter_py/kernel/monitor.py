"""Owns the kernel's own news for Services and policies: which part of the node changed under us.

Listening is in announcements.py, what concerns the router in router_news.py. What to do about it is left to who is
called; news carry no content, the reader asks the kernel what is there. What this process does itself is no news: it is
told by the port id that an announcement carries, or by knowing already what is announced.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from kuberouter_py.kernel import netlink, rtnetlink, rtnetlink_routes
from kuberouter_py.kernel.announcements import RECEIVE_QUEUE, Announcements
from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch
from kuberouter_py.kernel.rtnetlink import AF_BRIDGE, IFF_PROMISC, IFF_UP, LinkMessage
from kuberouter_py.model.names import DIVERSION_TABLE, ROUTE_PROTOCOL, is_vip_link

VIP_LINK_NEWS: Final = "vip link"  # our link, an address on it or a route by way of it
NODE_ADDRESS_NEWS: Final = "node addresses"  # an address of another link
PORT_NEWS: Final = "ports"  # a bridge port came or lost its hairpin mode, or a bridge's promiscuous mode changed
DIVERSION_NEWS: Final = "diversions"  # our policy rule or the table that it leads to (systemd-networkd takes both away)
EVERYTHING: Final = frozenset({VIP_LINK_NEWS, NODE_ADDRESS_NEWS, PORT_NEWS, DIVERSION_NEWS})


class Monitor(Announcements):
    """Where announcements were lost, on_news is called with EVERYTHING. vip_links: names of our links (see
    names.is_vip_link). holds: whether an address is on our links as far as we know (Addresses.holds): the kernel
    announces IPv6 addresses without a port id.
    """

    everything = EVERYTHING

    def __init__(
        self,
        vip_links: Collection[str],
        on_news: Callable[[frozenset[str]], None],
        own_ports: Callable[[], Collection[int]],
        holds: Callable[[bytes], bool] = lambda address: False,
        receive_queue: int = RECEIVE_QUEUE,
    ) -> None:
        super().__init__(on_news, own_ports, receive_queue)
        self._vip_links = frozenset(vip_links)
        self._holds = holds
        self._links: dict[int, LinkMessage] = {}
        self._hairpin: dict[int, bool] = {}
        self._addresses: dict[tuple[int, bytes], bool] = {}  # of other links -> tentative

    def _take_stock(self) -> None:
        batch = Batch(NETLINK_ROUTE, strict=True)
        try:
            self._links = {link.index: link for link in map(rtnetlink.read_link, batch.dump(rtnetlink.all_links()))}
            ports = map(rtnetlink.read_link, batch.dump(rtnetlink.all_links(AF_BRIDGE)))
            self._hairpin = {port.index: port.hairpin for port in ports if port.hairpin is not None}
            addresses = map(rtnetlink.read_address, batch.dump(rtnetlink.all_addresses()))
            self._addresses = {
                (one.link, one.address): one.tentative for one in addresses if not self._is_vip_link(one.link)
            }
        finally:
            batch.close()

    def _is_vip_link(self, index: int) -> bool:
        link = self._links.get(index)
        return link is not None and self._is_ours(link)

    def _is_ours(self, link: LinkMessage) -> bool:
        return is_vip_link(link.name, link.kind, link.alias, self._vip_links)

    def _judge(self, kind: int, flags: int, own: bool, payload: memoryview) -> Collection[str]:
        news = self._news(kind, flags, own, payload)
        return (news,) if news else ()

    def _news(self, kind: int, flags: int, own: bool, payload: memoryview) -> str:
        if kind in (rtnetlink.RTM_NEWLINK, rtnetlink.RTM_DELLINK):
            return self._judge_link(kind == rtnetlink.RTM_NEWLINK, rtnetlink.read_link(payload))
        if kind in (rtnetlink.RTM_NEWADDR, rtnetlink.RTM_DELADDR):
            return self._judge_address(kind == rtnetlink.RTM_NEWADDR, payload)
        if kind in (rtnetlink.RTM_NEWROUTE, rtnetlink.RTM_DELROUTE) and not own:
            return self._judge_route(flags, payload)
        if kind in (rtnetlink.RTM_NEWRULE, rtnetlink.RTM_DELRULE) and not own:
            rule = rtnetlink_routes.read_rule(payload)
            return DIVERSION_NEWS if (rule.table, rule.protocol) == (DIVERSION_TABLE, ROUTE_PROTOCOL) else ""
        return ""

    def _judge_link(self, new: bool, link: LinkMessage) -> str:
        if link.family == AF_BRIDGE:
            return self._judge_port(new, link)
        before = self._links.pop(link.index, None)
        if new:
            self._links[link.index] = link
        if self._is_ours(link) or (before is not None and self._is_ours(before)):
            same = new and before is not None and before.name == link.name and not (before.flags ^ link.flags) & IFF_UP
            return "" if same else VIP_LINK_NEWS
        if new and before is not None and (before.flags ^ link.flags) & IFF_PROMISC and link.kind == "bridge":
            return PORT_NEWS
        return PORT_NEWS if new and link.master and (before is None or before.master != link.master) else ""

    def _judge_port(self, new: bool, port: LinkMessage) -> str:
        """Hairpin mode switched on is what we do ourselves (announced without a port id); off is a loss."""
        known = self._hairpin.pop(port.index, None)
        if not new or port.hairpin is None:
            return ""
        self._hairpin[port.index] = port.hairpin
        return PORT_NEWS if not port.hairpin and known is not False else ""

    def _judge_address(self, new: bool, payload: memoryview) -> str:
        """IPv6 addresses are announced over and over (each router advertisement, the end of duplicate detection)."""
        one = rtnetlink.read_address(payload)
        if rtnetlink.is_link_local(one.address):
            return ""
        if self._is_vip_link(one.link):
            return VIP_LINK_NEWS if self._holds(one.address) != new else ""
        key = (one.link, one.address)
        if not new:
            self._addresses.pop(key, None)
            return NODE_ADDRESS_NEWS
        if self._addresses.get(key) == one.tentative:
            return ""
        self._addresses[key] = one.tentative
        return NODE_ADDRESS_NEWS

    def _judge_route(self, flags: int, payload: memoryview) -> str:
        """The kernel's own routes follow its addresses and links, which are announced themselves. A replacement by way
        of another link can have taken the place of one of ours without a word about it.
        """
        route = rtnetlink_routes.read_route(payload)
        if (route.table, route.protocol) == (DIVERSION_TABLE, ROUTE_PROTOCOL):
            return DIVERSION_NEWS
        if route.table != rtnetlink_routes.RT_TABLE_LOCAL or route.protocol == rtnetlink_routes.RTPROT_KERNEL:
            return ""
        if self._is_vip_link(route.link) or flags & netlink.NLM_F_REPLACE:
            return VIP_LINK_NEWS
        return ""
