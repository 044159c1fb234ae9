"""Owns the routes to other nodes' pods, and those that only this node's pods use, in both families.

`ip route … PREFIX [via GATEWAY] dev LINK [src SOURCE] proto 158 metric 1580` in tables main and 160. Which way is right
is the controllers' business. A route of anybody else's to the same prefix with another metric stands beside ours; with
our metric it is theirs, and ours is refused.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from kuberouter_py.kernel import route_codec
from kuberouter_py.kernel.netlink_socket import Batch, error_text
from kuberouter_py.kernel.own_routes import OwnRoutes, Place, key_of, protocol_name
from kuberouter_py.kernel.rtnetlink_routes import RouteMessage
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.kernel import address_text
from kuberouter_py.model.names import MAIN_TABLE, OVERLAY_TABLE, POD_ROUTE_METRIC, ROUTE_PROTOCOL
from kuberouter_py.model.podnet import PodRoute, RouteKey
from kuberouter_py.model.values import cidr_text
from kuberouter_py.ports import Actual, EdgeError, Part, Plan, Refused

# What stands there is ours, and not as we write it (several, or with another metric): equal to nothing that is wanted.
BROKEN: Final = PodRoute("")
# While a route is changed the new one stands here too, so that no packet finds none.
STAND_IN_METRIC: Final = POD_ROUTE_METRIC + 1
_GONE_AT_ONCE = 64  # keys: reconciling applies so many at a time when a part says that they are gone


class PodRoutes:
    """Table[RouteKey, PodRoute]: prefix in one routing table -> the way there.

    `replace` is not used for a change: in IPv4 it takes whatever stands first, also a route of others, and in IPv6 it
    looks at whether both have a gateway. Instead the new one is put beside the old one with the next metric, the old
    one goes, the new one gets its place, and what was beside goes: four messages, no moment without a route.
    """

    name = "pod routes"

    def __init__(self, batch: Batch) -> None:
        """batch: of NETLINK_ROUTE, strict."""
        self._own = OwnRoutes(batch, (MAIN_TABLE, OVERLAY_TABLE))

    def read(self) -> Actual[RouteKey, PodRoute]:
        ours: dict[RouteKey, PodRoute] = {}
        _sort(self._own.all(), _link_names(), ours)
        return Actual(ours)

    def parts(self, known: Sequence[RouteKey]) -> Iterator[Part[RouteKey, PodRoute]]:
        """A few hundred routes at a time. See SlicedTable."""
        whole: dict[RouteKey, PodRoute] = {}
        links = _link_names()
        for page in self._own.pages():
            seen = _sort(page, links, whole)
            yield Part({key: whole[key] for key in seen})
        gone = [key for key in known if key not in whole]
        for first in range(0, len(gone), _GONE_AT_ONCE):
            yield Part(gone=gone[first : first + _GONE_AT_ONCE])

    def apply(self, plan: Plan[RouteKey, PodRoute]) -> dict[RouteKey, Refused]:
        try:
            return self._apply(plan)
        except EdgeError as error:
            return dict.fromkeys([*plan.add, *plan.change, *plan.remove], Refused(str(error)))

    def _apply(self, plan: Plan[RouteKey, PodRoute]) -> dict[RouteKey, Refused]:
        wanted = {**plan.add, **{key: new for key, (_old, new) in plan.change.items()}}
        links = _link_indexes(route.link for route in wanted.values())
        refused = {
            key: Refused(f"link {route.link} is not there") for key, route in wanted.items() if route.link not in links
        }
        fresh = {key: route for key, route in plan.add.items() if key not in refused}
        moves = {key: pair for key, pair in plan.change.items() if key not in refused}
        failed = self._put(fresh, links, POD_ROUTE_METRIC)
        taken, others = self._taken(failed, fresh)
        refused.update(others)
        refused.update(self._move({**moves, **taken}, links))
        refused.update(self._remove(plan.remove))
        return refused

    def _put(self, routes: Mapping[RouteKey, PodRoute], links: Mapping[str, int], metric: int) -> dict[RouteKey, int]:
        """By key the errno of what failed. An address of ours need not come with a route to its network (noprefixroute,
        as NetworkManager and some clouds have it): where none says that the gateway is on the link, ours does.
        """
        failed = self._own.send({
            key: route_codec.new_pod_route(key, metric, links[route.link], route) for key, route in routes.items()
        })  # fmt: skip
        unknown = {
            key: routes[key] for key, number in failed.items() if _is_unreachable(number) and routes[key].gateway
        }
        again = self._own.send({
            key: route_codec.new_pod_route(key, metric, links[route.link], route, onlink=True)
            for key, route in unknown.items()
        })  # fmt: skip
        return {key: number for key, number in failed.items() if key not in unknown} | again

    def _taken(
        self, failed: Mapping[RouteKey, int], wanted: Mapping[RouteKey, PodRoute]
    ) -> tuple[dict[RouteKey, tuple[PodRoute, PodRoute]], dict[RouteKey, Refused]]:
        """Of those that could not be put: changes to make where one of ours stands there after all, as another one than
        is wanted; and the rest, each with its reason.
        """
        exist = {Place(key, POD_ROUTE_METRIC) for key, number in failed.items() if number == errno.EEXIST}
        standing = self._own.standing(exist) if exist else {}
        names = _link_names() if standing else {}
        moves: dict[RouteKey, tuple[PodRoute, PodRoute]] = {}
        refused: dict[RouteKey, Refused] = {}
        for key, number in failed.items():
            there = standing.get(Place(key, POD_ROUTE_METRIC))
            if there is None:
                refused[key] = _refusal(key, wanted[key], number)
            elif there.protocol != ROUTE_PROTOCOL:
                refused[key] = Refused(
                    f"{_text(key)} has a route of {protocol_name(there.protocol)} with metric {POD_ROUTE_METRIC}"
                )
            elif (old := _value(there, names)) != wanted[key]:
                moves[key] = (old, wanted[key])
        return moves, refused

    def _move(
        self, changes: Mapping[RouteKey, tuple[PodRoute, PodRoute]], links: Mapping[str, int]
    ) -> dict[RouteKey, Refused]:
        """The stand-in of what could not be put in place at last stays, and reads as broken."""
        wanted = {key: new for key, (_old, new) in changes.items()}
        strays = self._own.metrics({key for key, (old, _new) in changes.items() if old == BROKEN})
        failed = self._put(wanted, links, STAND_IN_METRIC)
        refused = {key: _refusal(key, wanted[key], number) for key, number in failed.items() if number != errno.EEXIST}
        ready = {key: pair for key, pair in changes.items() if key not in refused}
        self._own.send({
            key: route_codec.delete_route(key, POD_ROUTE_METRIC, old.gateway) for key, (old, _new) in ready.items()
        })  # fmt: skip
        failed = self._put({key: wanted[key] for key in ready}, links, POD_ROUTE_METRIC)
        moves, others = self._taken(failed, wanted)
        others.update(dict.fromkeys(moves, Refused("another route of ours came in between")))
        over = [Place(key, STAND_IN_METRIC) for key in ready if failed.get(key, errno.EEXIST) == errno.EEXIST]
        over += [Place(key, metric) for key in ready for metric in strays.get(key, ()) if metric != POD_ROUTE_METRIC]
        self._own.send({place: route_codec.delete_route(*place) for place in over})
        return refused | others

    def _remove(self, routes: Mapping[RouteKey, PodRoute]) -> dict[RouteKey, Refused]:
        """Ours only; gone with its link, or in any other way, is gone."""
        strays = self._own.metrics({key for key, route in routes.items() if route == BROKEN})
        places = {Place(key, POD_ROUTE_METRIC): route.gateway for key, route in routes.items() if key not in strays}
        places |= {Place(key, metric): b"" for key, metrics in strays.items() for metric in metrics}
        failed = self._own.send({
            place: route_codec.delete_route(*place, gateway) for place, gateway in places.items()
        })  # fmt: skip
        return {
            place.key: Refused(f"route to {_text(place.key)}: {error_text(number)}")
            for place, number in failed.items()
            if number not in (errno.ESRCH, errno.ENODEV)
        }


def _sort(
    routes: Iterable[RouteMessage], links: Mapping[int, str], into: dict[RouteKey, PodRoute]
) -> Collection[RouteKey]:
    """Puts them where they belong; returns their keys."""
    seen: dict[RouteKey, None] = {}
    for route in routes:
        key = key_of(route)
        value = _value(route, links) if route.metric == POD_ROUTE_METRIC else BROKEN
        into[key] = value if into.get(key, value) == value else BROKEN
        seen[key] = None
    return seen


def _value(route: RouteMessage, links: Mapping[int, str]) -> PodRoute:
    return PodRoute(links.get(route.link, ""), route.gateway, route.source)


def _link_names() -> dict[int, str]:
    return dict(socket.if_nameindex())


def _link_indexes(names: Iterable[str]) -> dict[str, int]:
    """Of those that are there."""
    found: dict[str, int] = {}
    for name in set(names):
        try:
            found[name] = socket.if_nametoindex(name)
        except OSError:
            continue
    return found


def _is_unreachable(number: int) -> bool:
    return number in (errno.ENETUNREACH, errno.EHOSTUNREACH)


def _text(key: RouteKey) -> str:
    return cidr_text(Cidr(key.network, key.prefix))


def _refusal(key: RouteKey, route: PodRoute, number: int) -> Refused:
    reason = error_text(number)
    if number == errno.ENETDOWN:
        reason = f"link {route.link} is down"
    elif _is_unreachable(number) and route.gateway:
        reason = f"gateway {address_text(route.gateway)} is not to be reached by way of {route.link} ({reason})"
    elif number == errno.EINVAL and route.source:
        reason = f"the source {address_text(route.source)} is not an address of this node, or the gateway is ({reason})"
    return Refused(f"route to {_text(key)}: {reason}")
