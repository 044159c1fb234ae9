"""One node's firewall over a cluster in memory and a kernel in memory, stepped by hand.

The kernel keeps what the order of writing leans on: a member needs its set, a rule its sets and its chains, and neither
goes while a rule speaks of it. Chains of one family change all at once, members one by one; `watch` is called after
each such step, so that a test can look at what packets would see.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kuberouter_py.config import Config
from kuberouter_py.controllers.firewall.controller import FirewallController
from kuberouter_py.controllers.firewall.rung import POD, THIS_NODE, Rung
from kuberouter_py.controllers.history import Clocks
from kuberouter_py.model.cluster import Namespace, Node, ObjectKey, Pod
from kuberouter_py.model.kernel import Chain, Flow, IpSet, LinkState, Rules, SetMember, family_of
from kuberouter_py.model.policies import NetworkPolicy
from kuberouter_py.model.report import Note, SyncReport
from kuberouter_py.ports import Actual, EdgeError, Plan, Refused, Table
from kuberouter_py.watchers.cache import Cache, kind_of
from tests.fakes.objects import BRIDGE, ETH0, LOOPBACK, NODE_NAME

HEARD = Namespace | Node | Pod | NetworkPolicy

_SETS = re.compile(r"--match-set (\S+)")
_LEADS = re.compile(r"-[jg] (KRPY-\S+)")


class FilterKernel:
    """sysctls, sets, members, chains. refuse: by table and key, what a write is answered with; restore_fails: every
    write of chains. watch: see above.
    """

    def __init__(self) -> None:
        self.sysctls: dict[str, str] = {}
        self.sets: dict[str, IpSet] = {}
        self.members: dict[SetMember, Any] = {}
        self.chains: dict[Chain, Rules] = {}
        self.tracked: list[Flow] = []
        self.refuse: dict[tuple[str, Any], Refused] = {}
        self.restore_fails = False
        self.journal: list[tuple[str, str, Any]] = []
        self.watch: Callable[[], None] = lambda: None
        self.lacks: Sequence[str] = ()  # match modules
        self.no_flows = ""  # what every question about them is refused with

    def tables(self) -> Sequence[Table[Any, Any]]:
        return [FilterTable(self, name) for name in ("sysctls", "ipsets", "set members", "iptables")]

    def content(self, table: str) -> dict[Any, Any]:
        tables: dict[str, dict[Any, Any]] = {
            "sysctls": self.sysctls,
            "ipsets": self.sets,
            "set members": self.members,
            "iptables": self.chains,
        }
        return tables[table]

    def write(self, table: str, key: Any, value: Any) -> str:
        if table == "set members" and key.set not in self.sets:
            return f"set {key.set} is missing"
        self.content(table)[key] = value
        return ""

    def remove(self, table: str, key: Any) -> str:
        if table == "ipsets":
            if key in _words(_SETS, self.chains.values()):
                return "in use"
            for member in [member for member in self.members if member.set == key]:
                del self.members[member]
        self.content(table).pop(key, None)
        return ""

    def restore(self, wanted: Mapping[Chain, Rules | None]) -> dict[Chain, Refused]:
        """Of one family, at once; who speaks of what is not there is refused, and who speaks of those."""
        if self.restore_fails:
            return dict.fromkeys(wanted, Refused("exit status 4"))
        refused = {key: self.refuse["iptables", key] for key in wanted if ("iptables", key) in self.refuse}
        while True:
            after = {**self.chains, **{key: rules for key, rules in wanted.items() if key not in refused}}
            chains = {key for key, rules in after.items() if rules is not None}
            news = {
                key: reason for key in wanted.keys() - refused.keys() if (reason := self._lacks(key, after, chains))
            }
            if not news:
                break
            refused.update(news)
        self.chains = {key: rules for key, rules in after.items() if rules is not None}
        return refused

    def _lacks(self, key: Chain, after: Mapping[Chain, Rules | None], chains: set[Chain]) -> Refused | None:
        rules = after[key]
        if rules is None:
            users = [other for other in chains if other.family == key.family and self._leads(after[other], key.chain)]
            return Refused(f"{users[0].chain} leads to it") if users else None
        for rule in rules.rules:
            for module in self.lacks:
                if f"-m {module} " in rule:
                    return Refused(f"Couldn't load match `{module}'", missing=True)
            for name in _SETS.findall(rule):
                if name not in self.sets:
                    return Refused(f"Set {name} doesn't exist")
            for chain in _LEADS.findall(rule):
                if key._replace(chain=chain) not in chains:
                    return Refused(f"no chain {chain}")
        return None

    @staticmethod
    def _leads(rules: Rules | None, chain: str) -> bool:
        return rules is not None and chain in _words(_LEADS, [rules])

    # ports.TrackedFlows

    def flows(self, family: int) -> list[Flow]:
        if self.no_flows:
            raise EdgeError(self.no_flows)
        return [flow for flow in self.tracked if family_of(flow.source) == family]

    def forget(self, flows: Iterable[Flow]) -> None:
        for flow in flows:
            self.tracked.remove(flow)


class FilterTable:
    """ports.Table over one table of a FilterKernel. unreadable: what read() says no with."""

    def __init__(self, kernel: FilterKernel, name: str) -> None:
        self.name = name
        self.unreadable = ""
        self._kernel = kernel

    def read(self) -> Actual[Any, Any]:
        if self.unreadable:
            raise EdgeError(self.unreadable)
        return Actual(dict(self._kernel.content(self.name)))

    def apply(self, plan: Plan[Any, Any]) -> dict[Any, Refused]:
        kernel = self._kernel
        wanted: dict[Any, Any] = {**plan.add, **{key: new for key, (_, new) in plan.change.items()}}
        if self.name == "iptables":
            return self._restored({**wanted, **dict.fromkeys(plan.remove)})
        refused: dict[Any, Refused] = {}
        for verb, keys in (("write", wanted), ("remove", plan.remove)):
            for key in keys:
                kernel.journal.append((self.name, verb, key))
                answer = kernel.refuse.get((self.name, key))
                if answer is None:
                    reason = (
                        kernel.write(self.name, key, wanted[key]) if verb == "write" else kernel.remove(self.name, key)
                    )
                    answer = Refused(reason) if reason else None
                if answer is not None:
                    refused[key] = answer
                kernel.watch()
        return refused

    def _restored(self, wanted: Mapping[Chain, Rules | None]) -> dict[Chain, Refused]:
        refused: dict[Chain, Refused] = {}
        for family in (4, 6):
            part = {key: rules for key, rules in wanted.items() if key.family == family}
            if part:
                self._kernel.journal += [("iptables", "write" if part[key] else "remove", key) for key in part]
                refused.update(self._kernel.restore(part))
                self._kernel.watch()
        return refused


class FakeFirewall:
    """Rings as the agent does. put and delete change the cluster and return what rings; `tell` syncs that at once."""

    def __init__(
        self,
        *objects: HEARD,
        config: Config | None = None,
        kernel: FilterKernel | None = None,
        links: Sequence[LinkState] = (LOOPBACK, ETH0, BRIDGE),
        cache: Cache | None = None,
    ) -> None:
        self.cache = cache or Cache()
        self.kernel = kernel or FilterKernel()
        self.all_links = list(links)
        self.now = 1_000_000.0
        self.reports: list[SyncReport] = []
        self.news: list[Note] = []
        self.config = config or Config()
        self.put(*objects)
        self.tables = self.kernel.tables()
        self.controller = FirewallController(
            self.config,
            NODE_NAME,
            self.cache,
            self,
            self.tables,
            self.kernel,
            Clocks(lambda: self.now, lambda: self.now),
            self._reported,
            messages=lambda: len(self.kernel.journal),
        )

    def links(self) -> Sequence[LinkState]:
        """ports.FirewallFacts"""
        return self.all_links

    def _reported(self, report: SyncReport, news: Sequence[Note]) -> None:
        self.reports.append(report)
        self.news += news

    def put(self, *objects: HEARD) -> set[Rung]:
        return {one for each in objects for one in _rung(each, self.cache.put(kind_of(type(each)), each.key, each))}

    def delete(self, *objects: HEARD) -> set[Rung]:
        return {one for each in objects for one in _rung(each, self.cache.delete(kind_of(type(each)), each.key))}

    def start(self) -> bool:
        return self.controller.first_sync() and self.settle()

    def tell(self, *objects: HEARD) -> bool:
        return self.controller.sync(self.put(*objects)) and self.settle()

    def tell_gone(self, *objects: HEARD) -> bool:
        return self.controller.sync(self.delete(*objects)) and self.settle()

    def settle(self) -> bool:
        """Every slice of background work that there is."""
        done: list[bool] = []
        while (good := self.controller.background()) is not None:
            done.append(good)
            assert len(done) < 1000, "background work without end"
        return all(done)

    def compare(self) -> bool:
        self.controller.begin_compare(())
        return self.settle()

    def writes(self) -> list[tuple[str, str, Any]]:
        """What was written since the last call: (table, "write" or "remove", key)."""
        found = list(self.kernel.journal)
        self.kernel.journal.clear()
        return found

    def notes(self) -> list[Note]:
        return list(self.controller.status({}).notes)

    def restarted(self, config: Config | None = None) -> FakeFirewall:
        """A new process over the same cluster and kernel, which remembers nothing."""
        return FakeFirewall(config=config or self.config, kernel=self.kernel, links=self.all_links, cache=self.cache)


def _words(pattern: re.Pattern[str], chains: Iterable[Rules]) -> set[str]:
    return {word for rules in chains for rule in rules.rules for word in pattern.findall(rule)}


def _rung(one: HEARD, keys: Iterable[ObjectKey]) -> Iterable[Rung]:
    if isinstance(one, Node):
        return [THIS_NODE] if keys else []
    return [Rung(POD if isinstance(one, Pod) else kind_of(type(one)), key) for key in keys]
