"""Owns the policy rules and the routing table that lead packets with our marks in, though their address is not ours.

`ip rule add fwmark MARK/MASK lookup 158` and `ip route add local default dev lo table 158`, in each family. ip_vs sees
only what is local; an address that pods answer on themselves (direct server return) must not be local, or their answers
would come from one of the node's own addresses and be dropped. What is marked is the controllers' business.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kuberouter_py.kernel import netlink, rtnetlink, rtnetlink_routes
from kuberouter_py.kernel.links import find_link
from kuberouter_py.kernel.netlink_socket import Batch, NetlinkError, error_text
from kuberouter_py.kernel.rtnetlink_routes import RTN_LOCAL, RouteMessage, RuleMessage
from kuberouter_py.model.kernel import Diversion
from kuberouter_py.model.names import DIVERSION_PRIORITY, DIVERSION_TABLE, ROUTE_PROTOCOL
from kuberouter_py.ports import Actual, EdgeError, Plan, Refused

# What stands there is ours, and not what it should be: equal to nothing that is wanted.
BROKEN = Diversion(0, 0)
_NONE = (errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP)  # no such table; no such family
_GONE = (errno.ENOENT, errno.ESRCH, errno.EAFNOSUPPORT, errno.EOPNOTSUPP)


class _Found(NamedTuple):
    """What carries our protocol number in our table."""

    rules: list[RuleMessage]
    routes: list[RouteMessage]


class Diversions:
    """Table[int, Diversion]: family (4, 6) -> which marks are led in."""

    name = "diversions"

    def __init__(self, batch: Batch) -> None:
        """batch: of NETLINK_ROUTE, strict."""
        self._batch = batch

    def read(self) -> Actual[int, Diversion]:
        found = {family: self._look(family) for family in (4, 6)}
        return Actual({family: self._value(each) for family, each in found.items() if each.rules or each.routes})

    def apply(self, plan: Plan[int, Diversion]) -> dict[int, Refused]:
        wanted: dict[int, Diversion | None] = {**plan.add, **{key: new for key, (_, new) in plan.change.items()}}
        wanted |= dict.fromkeys(plan.remove)
        refused: dict[int, Refused] = {}
        for family, diversion in wanted.items():
            try:
                reason = self._bring(family, diversion)
            except EdgeError as error:
                reason = str(error)
            if reason:
                refused[family] = Refused(reason)
        return refused

    def _look(self, family: int) -> _Found:
        rules = [rtnetlink_routes.read_rule(each) for each in self._dump(rtnetlink_routes.all_rules(family))]
        routes = [
            rtnetlink_routes.read_route(each)
            for each in self._dump(rtnetlink_routes.routes_of_table(family, DIVERSION_TABLE))
        ]
        return _Found(
            [rule for rule in rules if (rule.table, rule.protocol) == (DIVERSION_TABLE, ROUTE_PROTOCOL)],
            [
                route
                for route in routes
                if (route.table, route.protocol) == (DIVERSION_TABLE, ROUTE_PROTOCOL) and _is_default(route)
            ],
        )

    def _dump(self, request: bytes) -> Iterator[memoryview]:
        try:
            yield from self._batch.dump(request)
        except NetlinkError as error:
            if error.errno not in _NONE:
                raise

    def _value(self, found: _Found) -> Diversion:
        if not found.routes or len(found.rules) != 1:
            return BROKEN
        [rule] = found.rules
        return Diversion(rule.mark, rule.mask) if rule.priority == DIVERSION_PRIORITY else BROKEN

    def _bring(self, family: int, wanted: Diversion | None) -> str:
        """Why not; "" when it is done. The table stands before a rule leads there, and goes after it."""
        found = self._look(family)
        loopback = find_link(self._batch, "lo")
        if loopback is None:
            return "there is no link lo"
        add = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
        route = (family, DIVERSION_TABLE, loopback.index, ROUTE_PROTOCOL)
        right = _rule(wanted) if wanted else None
        messages = []
        if wanted and not found.routes:
            messages.append(rtnetlink_routes.local_default(rtnetlink.RTM_NEWROUTE, add, *route))
        if right and right not in found.rules:
            messages.append(rtnetlink_routes.policy_rule(rtnetlink.RTM_NEWRULE, add, family, right))
        reason = self._send(family, messages, errno.EEXIST)
        if reason:
            return reason
        stale = [rule for rule in found.rules if rule != right]
        messages = [rtnetlink_routes.policy_rule(rtnetlink.RTM_DELRULE, 0, family, rule) for rule in stale]
        if wanted is None and found.routes:
            messages.append(rtnetlink_routes.local_default(rtnetlink.RTM_DELROUTE, 0, *route))
        return self._send(family, messages, *_GONE)

    def _send(self, family: int, messages: Sequence[bytes], *fine: int) -> str:
        failed = self._batch.send(messages).values()
        number = next((number for number in failed if number not in fine), 0)
        return f"IPv{family} rule or route of table {DIVERSION_TABLE}: {error_text(number)}" if number else ""


def _rule(wanted: Diversion) -> RuleMessage:
    return RuleMessage(DIVERSION_PRIORITY, wanted.mark, wanted.mask, DIVERSION_TABLE, ROUTE_PROTOCOL)


def _is_default(route: RouteMessage) -> bool:
    return route.type == RTN_LOCAL and route.prefix == 0
