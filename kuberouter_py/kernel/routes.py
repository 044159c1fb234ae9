"""Owns our `local` routes in table local: the ones that make a VIP the node's own, with the node's address as source.

`ip route … local VIP dev kube-dummy-if table local src NODE proto 158`. Which source is right is the controllers'
business; the addresses themselves are in kernel/links.py. The kernel makes a route of its own to every address on a
link, with that address as source: on our links it is taken away; on anybody else's it is what makes their address work
and is never touched.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from kuberouter_py.kernel import rtnetlink, rtnetlink_routes
from kuberouter_py.kernel.links import LOOKUPS, VipLinks, find_link, lookup
from kuberouter_py.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch, error_text
from kuberouter_py.kernel.rtnetlink import RTM_DELROUTE, RTM_NEWROUTE
from kuberouter_py.kernel.rtnetlink_routes import RTN_LOCAL, RTPROT_KERNEL, RouteMessage
from kuberouter_py.model import names
from kuberouter_py.model.kernel import Route, address_text
from kuberouter_py.ports import Actual, EdgeError, Part, Plan, Refused


class Routes:
    """Table[bytes, Route]: packed address -> local route to it.

    A route of the kernel's own standing beside ours, which can hide it, reads as ours with the address itself as
    source, so it differs from anything wanted; one that stands alone is foreign (it goes with its address) and is
    replaced where ours is wanted.
    """

    name = "routes"

    def __init__(self, batch: Batch, names: Sequence[str], giving_way: Sequence[str] = ()) -> None:
        """giving_way: somebody else's links that are about to go: routes to their addresses are displaced by ours."""
        self._batch = batch
        self._giving_way = tuple(giving_way)
        self._listing = Batch(NETLINK_ROUTE, strict=True)  # of parts(), whose dump goes on while the other one writes
        self._links = VipLinks(batch, names)
        self._lock = threading.Lock()
        self._held: dict[bytes, Route] = {}  # as last read and written; see write_again

    def read(self) -> Actual[bytes, Route]:
        with self._lock:
            actual: Actual[bytes, Route] = Actual({})
            for link in self._links.all():
                for family in (4, 6):
                    self._read_link(link.name, link.index, family, actual)
            self._held = dict(actual.ours)
            return actual

    def _read_link(self, name: str, link: int, family: int, actual: Actual[bytes, Route]) -> None:
        for payload in self._batch.dump(rtnetlink_routes.local_routes(family, link)):
            _sort(rtnetlink_routes.read_route(payload), name, link, actual)

    def parts(self, known: Sequence[bytes]) -> Iterator[Part[bytes, Route]]:
        """A few hundred routes at a time. See SlicedTable."""
        whole: Actual[bytes, Route] = Actual({})
        links = self._links.all()
        for name, link, family in [(link.name, link.index, family) for link in links for family in (4, 6)]:
            for page in self._listing.pages(rtnetlink_routes.local_routes(family, link)):
                yield _part(whole, [_sort(rtnetlink_routes.read_route(payload), name, link, whole) for payload in page])
        gone = [address for address in known if address not in whole.ours and address not in whole.foreign]
        for first in range(0, len(gone), LOOKUPS):  # no more, because apply looks up so many one by one
            yield Part(gone=gone[first : first + LOOKUPS])

    def apply(self, plan: Plan[bytes, Route]) -> dict[bytes, Refused]:
        wanted = {**plan.add, **{key: new for key, (_old, new) in plan.change.items()}}
        with self._lock:
            try:
                indexes = self._links.indexes(route.link for route in [*wanted.values(), *plan.remove.values()])
                refused = self._write(wanted, indexes)
                refused.update(self._remove(plan.remove, indexes))
            except EdgeError as error:
                return dict.fromkeys([*wanted, *plan.remove], Refused(str(error)))
            self._held.update((key, route) for key, route in wanted.items() if key not in refused)
            for key in plan.remove.keys() - refused.keys():
                self._held.pop(key, None)
        return refused

    def write_again(self, link: str) -> None:
        """Puts back our IPv4 routes by way of a link, as last read and written: the kernel has dropped them all
        (links.py).
        """
        with self._lock:
            lost = {key: route for key, route in self._held.items() if route.link == link and len(key) == 4}
            found = self._links.find(link) if lost else None
            if found is not None:
                self._send_new(lost, {link: found.index}, NLM_F_CREATE | NLM_F_EXCL)

    def _write(self, wanted: Mapping[bytes, Route], indexes: Mapping[str, int]) -> dict[bytes, Refused]:
        missing = {route.link for route in wanted.values()} - indexes.keys()
        lacking = {name: Refused(self._links.lacks(name)) for name in missing}
        refused = {key: lacking[route.link] for key, route in wanted.items() if route.link in lacking}
        good = {key: route for key, route in wanted.items() if key not in refused}
        present = self._present(good)
        leaving = [found for name in self._giving_way if (found := find_link(self._batch, name))]
        ours_to_take = {*indexes.values(), *(found.index for found in leaving)}
        fresh: dict[bytes, Route] = {}
        standing: dict[bytes, Route] = {}
        for key, route in good.items():
            link = present.get(key)
            if link is None:
                fresh[key] = route
            elif link in ours_to_take:
                standing[key] = route
            else:
                refused[key] = Refused(
                    f"{address_text(key)} is an address of another link of this node, which keeps its route"
                )
        # EXCL: what has come to another link since we looked is not displaced, and is found at the next try.
        refused.update(self._send_new(fresh, indexes, NLM_F_CREATE | NLM_F_EXCL))
        refused.update(self._replace(standing, indexes))
        return refused

    def _replace(self, routes: Mapping[bytes, Route], indexes: Mapping[str, int]) -> dict[bytes, Refused]:
        """Where our link has a route already, ours or the kernel's or both.

        IPv4 `replace` takes the place of whichever stands first, and says "exists" where ours stands second; IPv6
        `replace` looks at equal metrics only. Either way the kernel's is deleted by name after ours is there.
        """
        refused = self._send_new(routes, indexes, NLM_F_CREATE | NLM_F_REPLACE, fine=errno.EEXIST)
        self._batch.send([
            rtnetlink_routes.local_route(RTM_DELROUTE, 0, indexes[route.link], key, b"", RTPROT_KERNEL)
            for key, route in routes.items()
            if key not in refused
        ])  # fmt: skip
        return refused

    def _send_new(
        self, routes: Mapping[bytes, Route], indexes: Mapping[str, int], flags: int, fine: int = 0
    ) -> dict[bytes, Refused]:
        keys = list(routes)
        failed = self._batch.send([
            rtnetlink_routes.local_route(
                RTM_NEWROUTE, flags, indexes[route.link], key, route.source, names.ROUTE_PROTOCOL
            )
            for key, route in routes.items()
        ])  # fmt: skip
        return {
            keys[at]: _refusal(keys[at], routes[keys[at]], number) for at, number in failed.items() if number != fine
        }

    def _remove(self, routes: Mapping[bytes, Route], indexes: Mapping[str, int]) -> dict[bytes, Refused]:
        """Ours only; gone with its link, or in any other way, is gone."""
        keys = [key for key, route in routes.items() if route.link in indexes]
        failed = self._batch.send([
            rtnetlink_routes.local_route(RTM_DELROUTE, 0, indexes[routes[key].link], key, b"", names.ROUTE_PROTOCOL)
            for key in keys
        ])  # fmt: skip
        gone = (errno.ESRCH, errno.ENODEV)
        return {
            keys[at]: _refusal(keys[at], routes[keys[at]], number)
            for at, number in failed.items()
            if number not in gone
        }

    def _present(self, keys: Collection[bytes]) -> dict[bytes, int]:
        """Address -> index of the link that its first local route leads to; without those that are not local."""
        if len(keys) <= LOOKUPS:
            found = {key: lookup(self._batch, key) for key in keys}
            return {key: route.link for key, route in found.items() if route is not None}
        present: dict[bytes, int] = {}
        for route in self._table({4 if len(key) == 4 else 6 for key in keys}):
            if route.destination in keys and _is_host_route(route):
                present.setdefault(route.destination, route.link)
        return present

    def _table(self, families: Collection[int]) -> Iterator[RouteMessage]:
        for family in families:
            yield from map(rtnetlink_routes.read_route, self._batch.dump(rtnetlink_routes.local_routes(family)))


def _sort(route: RouteMessage, name: str, link: int, actual: Actual[bytes, Route]) -> bytes:
    """Puts it where it belongs; returns its address, b"" for one that is not meant."""
    address = route.destination
    if not _is_host_route(route) or route.link != link:
        return b""
    if route.protocol == RTPROT_KERNEL:
        if rtnetlink.is_link_local(address):
            return b""
        own = Route(name, address)
        actual.foreign[address] = own
        if address in actual.ours:
            actual.ours[address] = own
        return address
    if route.protocol == names.ROUTE_PROTOCOL:
        actual.ours[address] = actual.foreign.get(address, Route(name, route.source))
        return address
    return b""


def _part(whole: Actual[bytes, Route], addresses: Iterable[bytes]) -> Part[bytes, Route]:
    """What is known of these by now; b"" is none."""
    ours, foreign = {}, {}
    for address in addresses:
        if address in whole.ours:
            ours[address] = whole.ours[address]
        elif address:
            foreign[address] = whole.foreign[address]
    return Part(ours, foreign)


def _is_host_route(route: RouteMessage) -> bool:
    return (
        route.type == RTN_LOCAL
        and route.table == rtnetlink_routes.RT_TABLE_LOCAL
        and route.prefix == 8 * len(route.destination) > 0
    )


def _refusal(key: bytes, route: Route, number: int) -> Refused:
    reason = error_text(number)
    if number == errno.EINVAL and route.source:
        reason = f"the source {address_text(route.source)} is not an address of this node ({reason})"
    elif number == errno.EEXIST:
        reason = f"{reason}: it has just become an address of another link"
    return Refused(f"local route to {address_text(key)}: {reason}")
