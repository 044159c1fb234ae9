"""Owns the links that we make and the addresses on them, and tells what links and addresses the node has besides.

The routes to those addresses are left to kernel/routes.py, the pods' bridge ports to kernel/bridge.py.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final

from kuberouter_py.kernel import rtnetlink, rtnetlink_routes
from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch, NetlinkError, error_text
from kuberouter_py.kernel.rtnetlink import IFF_PROMISC, IFF_UP, LinkMessage
from kuberouter_py.kernel.rtnetlink_routes import RTPROT_KERNEL
from kuberouter_py.model.kernel import Address, Link, LinkState, address_text
from kuberouter_py.model.names import is_vip_link
from kuberouter_py.ports import Actual, EdgeError, Part, Plan, Refused

_SIOCGIFADDR = 0x8915
# Up to here each address is looked up by itself (30 µs); beyond, one dump of the table (some 10 µs a row) tells all.
LOOKUPS: Final = 64
# The kernel makes the route of a new IPv6 address in a work queue: microseconds later, when it has the time for it.
_SETTLED_WITHIN: Final = 0.5  # seconds


def find_link(batch: Batch, name: str) -> LinkMessage | None:
    """A link by its name; None where there is none. Raises EdgeError."""
    try:
        answers = batch.request(rtnetlink.get_link(name))
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return None
        raise EdgeError(f"link {name}: {error_text(error.errno)}") from error
    return rtnetlink.read_link(answers[0]) if answers else None


def link_states(batch: Batch) -> list[LinkState]:
    """Every link of the node with its addresses, whoever made them, by index. promiscuous: switched on by an operator
    (or a CNI), not by a packet capture. Raises EdgeError.
    """
    found = [rtnetlink.read_link(payload) for payload in batch.dump(rtnetlink.all_links())]
    names = {link.index: link.name for link in found}
    addresses: dict[int, list[tuple[bytes, int]]] = {}
    for payload in batch.dump(rtnetlink.all_addresses()):
        one = rtnetlink.read_address(payload)
        addresses.setdefault(one.link, []).append((one.address, one.prefix))
    return [
        LinkState(
            index=link.index,
            name=link.name,
            kind=link.kind,
            up=bool(link.flags & IFF_UP),
            master=names.get(link.master, ""),
            addresses=tuple(addresses.get(link.index, ())),
            promiscuous=bool(link.flags & IFF_PROMISC),
            alias=link.alias,
            mtu=link.mtu,
        )
        for link in sorted(found, key=lambda link: link.index)
    ]


class VipLinks:
    """Which links are ours to bind VIPs on: see names.is_vip_link."""

    def __init__(self, batch: Batch, names: Sequence[str]) -> None:
        """names: those that make a dummy link ours by themselves."""
        self._batch = batch
        self.names = tuple(names)
        self._seen: tuple[str, ...] = ()

    def all(self) -> list[LinkMessage]:
        """Those that are there. Raises EdgeError."""
        found = [rtnetlink.read_link(payload) for payload in self._batch.dump(rtnetlink.all_links())]
        ours = [link for link in found if self.has(link)]
        self._seen = tuple(link.name for link in ours)
        return ours

    def has(self, link: LinkMessage) -> bool:
        return is_vip_link(link.name, link.kind, link.alias, self.names)

    def find(self, name: str) -> LinkMessage | None:
        """The link by that name if it is there and ours. Raises EdgeError."""
        found = find_link(self._batch, name)
        return found if found is not None and self.has(found) else None

    def indexes(self, names: Iterable[str]) -> dict[str, int]:
        """Of these, and of those that the last look at all of them found. Raises EdgeError."""
        found = map(self.find, dict.fromkeys((*names, *self._seen)))
        return {link.name: link.index for link in found if link is not None}

    def lacks(self, name: str) -> str:
        """Why find(name) finds none."""
        there = find_link(self._batch, name)
        return f"link {name} is not there" if there is None else f"link {name} is not ours, but {_described(there)}"


def _described(link: LinkMessage) -> str:
    return f"of kind {link.kind or 'hardware'}"


class Links:
    """Table[str, Link]: links of ours (VipLinks). One of another kind by one of our names is foreign, and is left
    alone.
    """

    name = "links"

    def __init__(self, batch: Batch, names: Sequence[str]) -> None:
        self._batch = batch
        self._links = VipLinks(batch, names)

    def read(self) -> Actual[str, Link]:
        ours = {link.name: _link(link) for link in self._links.all()}
        others = {name: find_link(self._batch, name) for name in self._links.names if name not in ours}
        return Actual(ours, {name: _link(found) for name, found in others.items() if found is not None})

    def apply(self, plan: Plan[str, Link]) -> dict[str, Refused]:
        wanted: dict[str, Link | None] = {**plan.add, **{key: new for key, (_old, new) in plan.change.items()}}
        wanted.update(dict.fromkeys(plan.remove))
        refused: dict[str, Refused] = {}
        for name, link in wanted.items():
            try:
                reason = self._apply_one(name, link)
            except EdgeError as error:
                reason = Refused(str(error))
            if reason is not None:
                refused[name] = reason
        return refused

    def _apply_one(self, name: str, link: Link | None) -> Refused | None:
        found = find_link(self._batch, name)
        if found is not None and not self._links.has(found):
            return Refused(f"link {name} is there already, and {_described(found)}") if link else None
        if link is None:
            messages = [rtnetlink.delete_link(found.index)] if found else []
        elif found is None:
            if name not in self._links.names:
                return Refused(f"link {name} is not one of ours")
            # In two messages: the kernel takes no alias where it makes a link.
            messages = [rtnetlink.new_link(name, link.kind, link.up), rtnetlink.describe(name, link.alias)]
        else:
            messages = [rtnetlink.describe(name, link.alias)] if found.alias != link.alias else []
            if bool(found.flags & IFF_UP) != link.up:
                messages.append(rtnetlink.set_up(found.index, link.up))
        failed = self._batch.send(messages)
        number = next(iter(failed.values()), 0)
        if not number or (link is None and number == errno.ENODEV):
            return None
        missing = number in (errno.EOPNOTSUPP, errno.EPERM)
        hint = "; on the host, try: modprobe dummy" if number == errno.EOPNOTSUPP else ""
        return Refused(f"link {name}: {error_text(number)}{hint}", missing)


def _link(found: LinkMessage) -> Link:
    return Link(found.kind, bool(found.flags & IFF_UP), found.alias)


class Addresses:
    """Table[Address, None]: single addresses (/32, /128) on links of ours. IPv6 link-local ones are the kernel's.

    The last IPv4 address that leaves a link takes all of the link's IPv4 routes with it, and the kernel announces none
    of that (fib_frontend.c, fib_disable_ip): then `routes_lost` is called with the link's name, before apply returns.
    """

    name = "addresses"

    def __init__(
        self, batch: Batch, names: Sequence[str], routes_lost: Callable[[str], None] = lambda link: None
    ) -> None:
        self._batch = batch
        self._listing = Batch(NETLINK_ROUTE, strict=True)  # of parts(), whose dump goes on while the other one writes
        self._links = VipLinks(batch, names)
        self._routes_lost = routes_lost
        self._lock = threading.Lock()
        self._held: set[bytes] = set()

    def holds(self, address: bytes) -> bool:
        """As far as this process knows (last read, and written since) the address is on one of our links. Takes no
        lock.
        """
        return address in self._held

    def read(self) -> Actual[Address, None]:
        ours: dict[Address, None] = {}
        with self._lock:  # what is written meanwhile would be missing in `held`
            for link in self._links.all():
                answers = self._batch.dump(rtnetlink.all_addresses(link.index))
                ours.update(dict.fromkeys(_ours(answers, link.name, link.index)))
            self._held = {key.address for key in ours}
        return Actual(ours)

    def parts(self, known: Sequence[Address]) -> Iterator[Part[Address, None]]:
        """A few hundred addresses at a time. See SlicedTable."""
        unseen = set(known)
        for link in self._links.all():
            for page in self._listing.pages(rtnetlink.all_addresses(link.index)):
                found = dict.fromkeys(_ours(page, link.name, link.index))
                unseen.difference_update(found)
                yield Part(found)
        gone = tuple(unseen)
        for first in range(0, len(gone), LOOKUPS):
            yield Part(gone=gone[first : first + LOOKUPS])

    def apply(self, plan: Plan[Address, None]) -> dict[Address, Refused]:
        refused: dict[Address, Refused] = {}
        with self._lock:
            for name in dict.fromkeys(key.link for key in [*plan.add, *plan.change, *plan.remove]):
                adds = [key for key in [*plan.add, *plan.change] if key.link == name]
                removes = [key for key in plan.remove if key.link == name]
                try:
                    refused.update(self._apply_link(name, adds, removes))
                except EdgeError as error:
                    refused.update(dict.fromkeys([*adds, *removes], Refused(str(error))))
        return refused

    def _apply_link(self, name: str, adds: Sequence[Address], removes: Sequence[Address]) -> dict[Address, Refused]:
        link = self._links.find(name)
        if link is None:
            return dict.fromkeys(adds, Refused(self._links.lacks(name)))
        refused = self._add(link, adds)
        self._held.difference_update(key.address for key in removes)
        failed = self._batch.send([rtnetlink.delete_address(link.index, key.address) for key in removes])
        for at, number in failed.items():
            if number not in (errno.EADDRNOTAVAIL, errno.ENODEV):
                refused[removes[at]] = _refusal(removes[at], number)
                self._held.add(removes[at].address)
        if any(len(key.address) == 4 for key in removes) and not _has_ipv4(name):
            self._routes_lost(name)
        return refused

    def _add(self, link: LinkMessage, keys: Sequence[Address]) -> dict[Address, Refused]:
        new = {key.address for key in keys} - self._held
        self._held |= new  # before the kernel is told: it announces IPv6 addresses as if they were nobody's doing
        failed = self._batch.send([rtnetlink.new_address(link.index, key.address) for key in keys])
        refused = {keys[at]: _refusal(keys[at], number) for at, number in failed.items() if number != errno.EEXIST}
        self._held.difference_update(new & {key.address for key in refused})
        if link.flags & IFF_UP:
            done = (key.address for at, key in enumerate(keys) if at not in failed)
            self._settle({address for address in done if len(address) == 16})
        return refused

    def _settle(self, addresses: Collection[bytes]) -> None:
        """Waits until the kernel has made its own routes to new IPv6 addresses, so that who deletes them deletes them
        once.
        """
        deadline = time.monotonic() + _SETTLED_WITHIN
        waiting = set(addresses)
        while waiting:
            waiting -= self._routed(waiting)
            if not waiting or time.monotonic() > deadline:
                return
            time.sleep(0.001)

    def _routed(self, addresses: Collection[bytes]) -> set[bytes]:
        """Those that table local has the kernel's own entry for; it comes before any of ours."""
        if len(addresses) > LOOKUPS:
            routes = map(rtnetlink_routes.read_route, self._batch.dump(rtnetlink_routes.local_routes(6)))
            return {route.destination for route in routes if route.protocol == RTPROT_KERNEL} & set(addresses)
        found = {address: lookup(self._batch, address) for address in addresses}
        return {address for address, route in found.items() if route is not None and route.protocol == RTPROT_KERNEL}


def _ours(answers: Iterable[memoryview], name: str, link: int) -> Iterator[Address]:
    for one in map(rtnetlink.read_address, answers):
        if one.link == link and one.prefix == 8 * len(one.address) and not rtnetlink.is_link_local(one.address):
            yield Address(name, one.address)


def lookup(batch: Batch, address: bytes) -> rtnetlink_routes.RouteMessage | None:
    """The local route to just this address that packets meet first; None where there is none. Raises EdgeError."""
    route = _route(batch, rtnetlink_routes.route_to(address))
    is_host_route = route is not None and route.type == rtnetlink_routes.RTN_LOCAL and route.destination == address
    return route if is_host_route else None


def way_to(batch: Batch, address: bytes, mark: int = 0) -> rtnetlink_routes.RouteMessage | None:
    """How a packet of this node with that mark would go there; None: no route leads there. Raises EdgeError."""
    return _route(batch, rtnetlink_routes.way_to(address, mark))


def _route(batch: Batch, question: bytes) -> rtnetlink_routes.RouteMessage | None:
    try:
        answers = batch.request(question)
    except NetlinkError as error:
        if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ESRCH, errno.EINVAL, errno.EACCES):
            return None
        raise
    return rtnetlink_routes.read_route(answers[0]) if answers else None


def _has_ipv4(name: str) -> bool:
    """Asks for the link's first address: as cheap for ten thousand as for one (netdevice(7), SIOCGIFADDR)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        try:
            fcntl.ioctl(channel, _SIOCGIFADDR, struct.pack("16s24x", name.encode()))
        except OSError:
            return False
    return True


def _refusal(key: Address, number: int) -> Refused:
    hint = ""
    if len(key.address) == 16 and number in (errno.EACCES, errno.EPERM):
        hint = f" (is net/ipv6/conf/{key.link}/disable_ipv6 set?)"
    return Refused(f"address {address_text(key.address)} on {key.link}: {error_text(number)}{hint}")
