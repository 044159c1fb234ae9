"""Owns the policy rules that let this node's own pods look into a table of ours before main.

`ip rule add from NETWORK lookup 160 pref 15810 protocol 158`. The routes there are in kernel/pod_routes.py; the rule
that leads marked packets in has a table and a place of its own (kernel/diversions.py).
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Final

from kuberouter_py.kernel import netlink, rtnetlink_routes
from kuberouter_py.kernel.netlink_socket import Batch, NetlinkError, error_text
from kuberouter_py.kernel.rtnetlink import RTM_DELRULE, RTM_NEWRULE
from kuberouter_py.kernel.rtnetlink_routes import RuleMessage
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.names import DIVERSION_TABLE, OVERLAY_PRIORITY, ROUTE_PROTOCOL
from kuberouter_py.model.podnet import LookupRule
from kuberouter_py.model.values import cidr_text
from kuberouter_py.ports import Actual, EdgeError, Plan, Refused

# What stands there is ours, and not as we write it (twice, at another place, with a mark): equal to no table.
BROKEN: Final = 0
_NONE = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP)  # no such family
_Found = dict[LookupRule, list[RuleMessage]]


class LookupRules:
    """Table[LookupRule, int]: where packets come from -> the table that they look into."""

    name = "lookup rules"

    def __init__(self, batch: Batch) -> None:
        """batch: of NETLINK_ROUTE."""
        self._batch = batch

    def read(self) -> Actual[LookupRule, int]:
        return Actual({key: _value(key, rules) for key, rules in self._ours().items()})

    def apply(self, plan: Plan[LookupRule, int]) -> dict[LookupRule, Refused]:
        wanted: dict[LookupRule, int | None] = {**plan.add, **{key: new for key, (_, new) in plan.change.items()}}
        wanted |= dict.fromkeys(plan.remove)
        try:
            return self._bring(wanted, self._ours())
        except EdgeError as error:
            return dict.fromkeys(wanted, Refused(str(error)))

    def _ours(self) -> _Found:
        """Raises EdgeError."""
        found: _Found = {}
        for family in (4, 6):
            for payload in self._dump(family):
                rule = rtnetlink_routes.read_rule(payload)
                if rule.protocol == ROUTE_PROTOCOL and rule.table != DIVERSION_TABLE:
                    network = rule.source or bytes(4 if family == 4 else 16)
                    found.setdefault(LookupRule(network, rule.source_prefix), []).append(rule)
        return found

    def _dump(self, family: int) -> list[memoryview]:
        try:
            return list(self._batch.dump(rtnetlink_routes.all_rules(family)))
        except NetlinkError as error:
            if error.errno not in _NONE:
                raise
            return []

    def _bring(self, wanted: Mapping[LookupRule, int | None], found: _Found) -> dict[LookupRule, Refused]:
        """What is wanted comes before what is wrong goes."""
        adds = {
            key: _message(RTM_NEWRULE, key, right)
            for key, table in wanted.items()
            if table is not None and (right := _rule(key, table)) not in found.get(key, ())
        }
        refused = self._send(adds)
        stale: list[tuple[LookupRule, RuleMessage]] = []
        for key, table in wanted.items():
            standing = list(found.get(key, ()))
            if table is not None and (right := _rule(key, table)) in standing:
                standing.remove(right)  # one of them stays
            stale += [(key, rule) for rule in standing if key not in refused]
        removals = {at: _message(RTM_DELRULE, key, rule) for at, (key, rule) in enumerate(stale)}
        failed = self._batch.send(list(removals.values()))
        for at, number in failed.items():
            if number not in (errno.ENOENT, *_NONE):
                refused[stale[at][0]] = _refusal(stale[at][0], number)
        return refused

    def _send(self, messages: Mapping[LookupRule, bytes]) -> dict[LookupRule, Refused]:
        keys = list(messages)
        failed = self._batch.send(list(messages.values()))
        return {keys[at]: _refusal(keys[at], number) for at, number in failed.items()}


def _rule(key: LookupRule, table: int) -> RuleMessage:
    source = key.network if key.prefix else b""
    return RuleMessage(OVERLAY_PRIORITY, 0, 0, table, ROUTE_PROTOCOL, source, key.prefix)


def _message(kind: int, key: LookupRule, rule: RuleMessage) -> bytes:
    flags = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL if kind == RTM_NEWRULE else 0
    return rtnetlink_routes.policy_rule(kind, flags, 4 if len(key.network) == 4 else 6, rule)


def _value(key: LookupRule, rules: list[RuleMessage]) -> int:
    return rules[0].table if rules == [_rule(key, rules[0].table)] else BROKEN


def _refusal(key: LookupRule, number: int) -> Refused:
    reason = "somebody else has this very rule" if number == errno.EEXIST else error_text(number)
    return Refused(f"rule from {cidr_text(Cidr(*key))}: {reason}")
