"""Owns the routing table by which BIRD is handed what to announce; no rule leads packets there.

`ip route … blackhole PREFIX table 159 proto 158 metric N`, where N says who gets it (model/bgp.py, Announced). One
prefix more costs one message, and BIRD learns of it by the kernel's announcement. Routes of others in that table are
left alone, and BIRD's filters pass them by.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from kuberouter_py.kernel import route_codec
from kuberouter_py.kernel.netlink_socket import Batch, error_text
from kuberouter_py.kernel.own_routes import OwnRoutes, Place, protocol_name
from kuberouter_py.kernel.rtnetlink_routes import RouteMessage
from kuberouter_py.model.bgp import Announced
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.names import HANDOVER_TABLE, ROUTE_PROTOCOL
from kuberouter_py.model.podnet import RouteKey
from kuberouter_py.model.values import cidr_text
from kuberouter_py.ports import Actual, EdgeError, Part, Plan, Refused

_VALUES: Mapping[int, Announced] = {one.value: one for one in Announced}
_GONE_AT_ONCE = 400


class Handover:
    """Table[Cidr, Announced | None]: prefix -> who gets it. None: ours, and not one route with one of these metrics.

    A prefix that changes its value has both for a moment: the new one comes before the old one goes.
    """

    name = "announced"

    def __init__(self, batch: Batch) -> None:
        """batch: of NETLINK_ROUTE, strict."""
        self._own = OwnRoutes(batch, (HANDOVER_TABLE,))

    def read(self) -> Actual[Cidr, Announced | None]:
        ours: dict[Cidr, Announced | None] = {}
        _sort(self._own.all(), ours)
        return Actual(ours)

    def parts(self, known: Sequence[Cidr]) -> Iterator[Part[Cidr, Announced | None]]:
        """A few hundred prefixes at a time. See SlicedTable."""
        whole: dict[Cidr, Announced | None] = {}
        for page in self._own.pages():
            seen = _sort(page, whole)
            yield Part({cidr: whole[cidr] for cidr in seen})
        gone = [cidr for cidr in known if cidr not in whole]
        for first in range(0, len(gone), _GONE_AT_ONCE):
            yield Part(gone=gone[first : first + _GONE_AT_ONCE])

    def apply(self, plan: Plan[Cidr, Announced | None]) -> dict[Cidr, Refused]:
        try:
            return self._apply(plan)
        except EdgeError as error:
            return dict.fromkeys([*plan.add, *plan.change, *plan.remove], Refused(str(error)))

    def _apply(self, plan: Plan[Cidr, Announced | None]) -> dict[Cidr, Refused]:
        leaving = {**plan.remove, **{cidr: old for cidr, (old, _new) in plan.change.items()}}
        strays = self._own.metrics({_key(cidr) for cidr, old in leaving.items() if old is None})
        wanted = {**plan.add, **{cidr: new for cidr, (_old, new) in plan.change.items()}}
        refused = self._put({cidr: value for cidr, value in wanted.items() if value is not None})
        over: dict[Place, Cidr] = {}
        for cidr, old in leaving.items():
            metrics = strays.get(_key(cidr), ()) if old is None else (old.value,)
            stays = wanted.get(cidr)
            if cidr not in refused:
                over |= {Place(_key(cidr), each): cidr for each in metrics if not stays or each != stays.value}
        failed = self._own.send({place: route_codec.delete_route(*place) for place in over})
        return refused | {
            over[place]: Refused(f"route to {cidr_text(over[place])}: {error_text(number)}")
            for place, number in failed.items()
            if number != errno.ESRCH
        }

    def _put(self, wanted: Mapping[Cidr, Announced]) -> dict[Cidr, Refused]:
        failed = self._own.send({
            cidr: route_codec.new_blackhole(_key(cidr), value.value) for cidr, value in wanted.items()
        })  # fmt: skip
        exist = {Place(_key(cidr), wanted[cidr].value) for cidr, number in failed.items() if number == errno.EEXIST}
        standing = self._own.standing(exist) if exist else {}
        refused: dict[Cidr, Refused] = {}
        for cidr, number in failed.items():
            there = standing.get(Place(_key(cidr), wanted[cidr].value))
            if there is None:
                refused[cidr] = Refused(f"route to {cidr_text(cidr)}: {error_text(number)}")
            elif there.protocol != ROUTE_PROTOCOL:
                refused[cidr] = Refused(
                    f"{cidr_text(cidr)} has a route of {protocol_name(there.protocol)} in table {HANDOVER_TABLE}"
                )
        return refused


def _key(cidr: Cidr) -> RouteKey:
    return RouteKey(HANDOVER_TABLE, cidr.network, cidr.prefix)


def _sort(routes: Iterable[RouteMessage], into: dict[Cidr, Announced | None]) -> Collection[Cidr]:
    """Puts them where they belong; returns their prefixes."""
    seen: dict[Cidr, None] = {}
    for route in routes:
        cidr, value = Cidr(route.destination, route.prefix), _VALUES.get(route.metric)
        into[cidr] = value if into.get(cidr, value) == value else None
        seen[cidr] = None
    return seen
