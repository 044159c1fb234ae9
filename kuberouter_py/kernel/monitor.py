"""Owns the kernel's own news: it listens to rtnetlink's announcements and says which part of the node changed under us.

What to do about it is left to who is called; news carry no content, the reader asks the kernel what is there. What this
process does itself is no news: it is told by the port id that an announcement carries, or by knowing already what is
announced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Collection
from typing import Final

from kuberouter_py.kernel import netlink, rtnetlink
from kuberouter_py.kernel.rtnetlink import AF_BRIDGE, IFF_PROMISC, IFF_UP, LinkMessage
from kuberouter_py.model.names import DIVERSION_TABLE, ROUTE_PROTOCOL, is_vip_link
from kuberouter_py.ports import Busy, EdgeError, Unavailable

VIP_LINK_NEWS: Final = "vip link"  # our link, an address on it or a route by way of it
NODE_ADDRESS_NEWS: Final = "node addresses"  # an address of another link
PORT_NEWS: Final = "ports"  # a bridge port came or lost its hairpin mode, or a bridge's promiscuous mode changed
DIVERSION_NEWS: Final = "diversions"  # our policy rule or the table that it leads to (systemd-networkd takes both away)
EVERYTHING: Final = frozenset({VIP_LINK_NEWS, NODE_ADDRESS_NEWS, PORT_NEWS, DIVERSION_NEWS})

# RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE: bits 1, 5, 7, 8, 9, 11 and 19,
# counted from one (rtnetlink.h).
_GROUPS = 1 << 0 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18
_COALESCE = 0.05  # seconds: one cause brings several announcements (a link that goes down: its addresses, its routes)
_RECEIVE_QUEUE = 8 << 20  # bytes: what ten thousand addresses written by ourselves announce
_SO_RCVBUFFORCE = 33
_HEADER = struct.Struct("=IHHII")


class Monitor:
    """One thread's work: open() (or run()) begins to listen, run() calls on_news until stop().

    on_news: called from run's thread with the kinds of news, at most every 50 ms. Where announcements were lost
    (ENOBUFS) it is called with EVERYTHING. vip_links: names of our links (see names.is_vip_link). own_ports: port ids
    of this process's sockets. holds: whether an address is on our links as far as we know (Addresses.holds): the
    kernel announces IPv6 addresses without a port id.
    """

    def __init__(
        self,
        vip_links: Collection[str],
        on_news: Callable[[frozenset[str]], None],
        own_ports: Callable[[], Collection[int]],
        holds: Callable[[bytes], bool] = lambda address: False,
        receive_queue: int = _RECEIVE_QUEUE,
    ) -> None:
        self._vip_links = frozenset(vip_links)
        self._on_news = on_news
        self._own_ports = own_ports
        self._holds = holds
        self._receive_queue = receive_queue
        self._socket: socket.socket | None = None
        self._outdated = False  # the three below could not be read when they should have been
        self._links: dict[int, LinkMessage] = {}
        self._hairpin: dict[int, bool] = {}
        self._addresses: dict[tuple[int, bytes], bool] = {}  # of other links -> tentative
        self._waker, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def open(self) -> None:
        """Begins to listen: what changes from now on is told by run(). Raises EdgeError."""
        if self._socket is not None:
            return
        try:
            channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, netlink.NETLINK_ROUTE)
            try:
                channel.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, self._receive_queue)
            except PermissionError:
                channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_queue)
            channel.setblocking(False)
            channel.bind((0, _GROUPS))
        except OSError as error:
            raise Unavailable(f"kernel news: {error.strerror}") from error
        self._socket = channel
        self._stocktaking()

    def stop(self) -> None:
        """From any thread, or a signal handler: run() returns, also one that has not begun."""
        with contextlib.suppress(OSError):  # it has returned already
            os.write(self._wake, b"x")

    def run(self) -> None:
        """Raises EdgeError when the kernel cannot be asked; whatever on_news raises ends it too."""
        self.open()
        assert self._socket is not None
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._waker, select.POLLIN)
        pending: set[str] = set()
        due = 0.0
        try:
            while True:
                timeout = max(0.0, due - time.monotonic()) * 1000 if pending else None
                ready = dict(poll.poll(timeout))
                if self._waker in ready:
                    return
                before = bool(pending)
                if ready:
                    pending |= self._hear()
                if pending and not before:
                    due = time.monotonic() + _COALESCE
                if pending and time.monotonic() >= due:
                    news, pending = frozenset(pending), set()
                    self._on_news(news)
        finally:
            self._close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        os.close(self._waker)
        os.close(self._wake)

    def _stocktaking(self) -> None:
        """On a node where links come and go all the time it may take several attempts: the next news bring the next."""
        self._outdated = True
        with contextlib.suppress(Busy):
            self._take_stock()
            self._outdated = False

    def _take_stock(self) -> None:
        """What there is now, so that an announcement that repeats it is known for what it is."""
        batch = netlink.Batch(netlink.NETLINK_ROUTE, strict=True)
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

    def _hear(self) -> set[str]:
        """Everything that has arrived."""
        assert self._socket is not None
        news: set[str] = set()
        own = frozenset(self._own_ports())
        if self._outdated:
            self._stocktaking()
            news |= EVERYTHING
        while True:
            try:
                data = memoryview(self._socket.recv(64 << 10))
            except BlockingIOError:
                return news
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise EdgeError(f"kernel news: {error.strerror}") from error
                self._stocktaking()
                news |= EVERYTHING
                continue
            offset = 0
            while offset + 16 <= len(data):
                length, kind, flags, _, port = _HEADER.unpack_from(data, offset)
                if length < 16:
                    break
                kind_of_news = self._judge(kind, flags, port in own, data[offset + 16 : offset + length])
                if kind_of_news:
                    news.add(kind_of_news)
                offset += (length + 3) & ~3

    def _judge(self, kind: int, flags: int, own: bool, payload: memoryview) -> str:
        if kind in (rtnetlink.RTM_NEWLINK, rtnetlink.RTM_DELLINK):
            return self._judge_link(kind == rtnetlink.RTM_NEWLINK, rtnetlink.read_link(payload))
        if kind in (rtnetlink.RTM_NEWADDR, rtnetlink.RTM_DELADDR):
            return self._judge_address(kind == rtnetlink.RTM_NEWADDR, payload)
        if kind in (rtnetlink.RTM_NEWROUTE, rtnetlink.RTM_DELROUTE) and not own:
            return self._judge_route(flags, payload)
        if kind in (rtnetlink.RTM_NEWRULE, rtnetlink.RTM_DELRULE) and not own:
            rule = rtnetlink.read_rule(payload)
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
        if len(one.address) == 16 and one.address[0] == 0xFE and one.address[1] & 0xC0 == 0x80:
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
        route = rtnetlink.read_route(payload)
        if (route.table, route.protocol) == (DIVERSION_TABLE, ROUTE_PROTOCOL):
            return DIVERSION_NEWS
        if route.table != rtnetlink.RT_TABLE_LOCAL or route.protocol == rtnetlink.RTPROT_KERNEL:
            return ""
        if self._is_vip_link(route.link) or flags & netlink.NLM_F_REPLACE:
            return VIP_LINK_NEWS
        return ""
