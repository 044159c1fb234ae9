"""A kernel in memory behind the services controller's tables, for decisions without root and for failures on demand.

It keeps the rules that the controller's order leans on: a member needs its set, a rule its sets, an address and a route
their link, a route's source must be on the node; deleting an IPv4 address takes its route along, whoever made it. What
it must do as every table does is in laws.py, and tested in tests/unit/fakes. Packets do not exist here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from kuberouter_py.model.healthcheck import HealthCheck, HealthCheckPort
from kuberouter_py.model.kernel import (
    Address,
    Chain,
    DestinationKey,
    Diversion,
    Flow,
    IpSet,
    Link,
    LinkState,
    MarkServerKey,
    PodAddress,
    Route,
    Rules,
    ServerKey,
    SetEntry,
    SetMember,
    VirtualServer,
    family_of,
)
from kuberouter_py.model.names import SERVICES_CHAINS, SERVICES_SETS, VIP_LINK, is_balancing_mark, services_set
from kuberouter_py.ports import Actual, EdgeError, Part, Plan, Refused, Table

K = TypeVar("K")
V = TypeVar("V")

_SET_IN_RULE = re.compile(r"--(?:match|map)-set (\S+)")
_BUILT_IN = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")


class FakeTable(Generic[K, V]):
    """refuse: answers to give for these keys while they stand here. unreadable: what read() says no with."""

    def __init__(
        self,
        name: str,
        content: Callable[[], Mapping[K, V]],
        write: Callable[[K, V], str],
        remove: Callable[[K], str],
        ours: Callable[[K], bool] = lambda key: True,
    ) -> None:
        self.name = name
        self._content, self._write, self._remove, self._ours = content, write, remove, ours
        self.refuse: dict[K, Refused] = {}
        self.unreadable = ""
        self.reads = 0
        self.journal: list[tuple[str, str, Any]] = []  # shared by all tables of a kernel: (table, verb, key)

    def read(self) -> Actual[K, V]:
        self.reads += 1
        if self.unreadable:
            raise EdgeError(self.unreadable)
        content = self._content()
        return Actual(
            {key: value for key, value in content.items() if self._ours(key)},
            {key: value for key, value in content.items() if not self._ours(key)},
        )

    def parts(self, known: Sequence[K]) -> Iterator[Part[K, V]]:
        """One key at a time, as it is when its turn comes."""
        self.reads += 1
        for key in [*self._content()]:
            if self.unreadable:
                raise EdgeError(self.unreadable)
            content = self._content()
            if key in content:
                found = {key: content[key]}
                yield Part(found) if self._ours(key) else Part(foreign=found)
        for key in known:
            if self.unreadable:
                raise EdgeError(self.unreadable)
            if key not in self._content():
                yield Part(gone=[key])

    def apply(self, plan: Plan[K, V]) -> dict[K, Refused]:
        refused: dict[K, Refused] = {}
        wanted = {**plan.add, **{key: new for key, (_, new) in plan.change.items()}}
        for verb, keys in (("write", wanted), ("remove", plan.remove)):
            for key in keys:
                self.journal.append((self.name, verb, key))
                answer = self.refuse.get(key)
                if answer is None:
                    reason = self._write(key, wanted[key]) if verb == "write" else self._remove(key)
                    answer = Refused(reason) if reason else None
                if answer is not None:
                    refused[key] = answer
        return refused


class FakeKernel:
    """others: links that are not ours, with their addresses. sysctls: what /proc/sys says at boot."""

    def __init__(self, others: Iterable[LinkState] = (), sysctls: Mapping[str, str] | None = None) -> None:
        self.others = list(others)
        self.sysctls = dict(sysctls or {})
        self.former: dict[str, str | None] = {}
        self.sets: dict[str, IpSet] = {}
        self.members: dict[SetMember, int | None] = {}
        self.chains: dict[Chain, Rules] = {}
        self.diversions: dict[int, Diversion] = {}
        self.pod_addresses: dict[PodAddress, None] = {}
        self.servers: dict[ServerKey, VirtualServer] = {}
        self.connections: dict[tuple[ServerKey, DestinationKey], int] = {}  # open ones; absent: none
        self.flows: list[Flow] = []  # that conntrack remembers
        self.flow_looks = 0
        self.no_flows = ""  # what every question about them is refused with
        self.links: dict[str, Link] = {}
        self.addresses: dict[Address, None] = {}
        self.routes: dict[bytes, Route] = {}
        self.kernel_routes: set[bytes] = set()  # those of self.routes that the kernel made for an address
        self.hairpin: dict[str, bool] = {}
        self.health_checks: dict[HealthCheckPort, HealthCheck] = {}
        self.journal: list[tuple[str, str, Any]] = []
        self._tables = self._make_tables()

    def table(self, name: str) -> FakeTable[Any, Any]:
        return self._tables[name]

    def tables(self) -> list[Table[Any, Any]]:
        """In the order in which they grow."""
        return list(self._tables.values())

    def state(self) -> dict[str, dict[Any, Any]]:
        """Everything of ours by table."""
        return {name: table.read().ours for name, table in self._tables.items()}

    def _make_tables(self) -> dict[str, FakeTable[Any, Any]]:
        tables: list[FakeTable[Any, Any]] = [
            FakeTable("sysctls", self._our_sysctls, self._write_sysctl, self._give_back_sysctl),
            FakeTable("ipsets", lambda: self.sets, self._make_set, self._destroy_set, _our_set),
            FakeTable(
                "set members",
                lambda: self.members,
                self._add_member,
                lambda key: _drop(self.members, key),
                lambda key: _our_set(key.set),
            ),
            FakeTable(
                "iptables", lambda: self.chains, self._write_chain, lambda key: _drop(self.chains, key), _our_chain
            ),
            _plain("diversions", self.diversions),
            _plain("pod addresses", self.pod_addresses),
            FakeTable(
                "virtual servers",
                lambda: self.servers,
                lambda key, value: _put(self.servers, key, value),
                lambda key: _drop(self.servers, key),
                self._our_server,
            ),
            FakeTable("links", lambda: self.links, lambda key, value: _put(self.links, key, value), self._delete_link),
            FakeTable("bridge ports", lambda: self.hairpin, self._set_hairpin, lambda key: _drop(self.hairpin, key)),
            FakeTable("addresses", lambda: self.addresses, self._add_address, self._delete_address),
            FakeTable(
                "routes",
                lambda: self.routes,
                self._replace_route,
                lambda key: _drop(self.routes, key),
                self._our_route,
            ),
            FakeTable(
                "health checks",
                lambda: self.health_checks,
                lambda key, value: _put(self.health_checks, key, value),
                lambda key: _drop(self.health_checks, key),
            ),
        ]
        for table in tables:
            table.journal = self.journal
        return {table.name: table for table in tables}

    # -- sysctls: ours is what we wrote and have not given back ------------------------------------------------------

    def sysctl_before_us(self, key: str) -> str | None:
        return self.former.get(key, self.sysctls.get(key))

    def _our_sysctls(self) -> dict[str, str]:
        return {key: self.sysctls.get(key, "") for key in self.former}

    def _write_sysctl(self, key: str, value: str) -> str:
        self.former.setdefault(key, self.sysctls.get(key))
        return _put(self.sysctls, key, value)

    def _give_back_sysctl(self, key: str) -> str:
        before = self.former.pop(key, None)
        if before is None:
            self.sysctls.pop(key, None)
        else:
            self.sysctls[key] = before
        return ""

    # -- conntrack ----------------------------------------------------------------------------------------------------

    def udp_flows(self, family: int) -> list[Flow]:
        self.flow_looks += 1
        if self.no_flows:
            raise EdgeError(self.no_flows)
        return [flow for flow in self.flows if family_of(flow.source) == family]

    def forget(self, flows: Iterable[Flow]) -> None:
        for flow in flows:
            self.flows.remove(flow)

    # -- ipsets and chains -------------------------------------------------------------------------------------------

    def _make_set(self, key: str, value: IpSet) -> str:
        return _put(self.sets, key, value)

    def _destroy_set(self, key: str) -> str:
        if any(key in _SET_IN_RULE.findall(rule) for rules in self.chains.values() for rule in rules.rules):
            return "Set cannot be destroyed: it is in use by a kernel component"
        for member in [member for member in self.members if member.set == key]:
            del self.members[member]
        return _drop(self.sets, key)

    def _add_member(self, key: SetMember, value: int | None) -> str:
        return _put(self.members, key, value) if key.set in self.sets else f"no set {key.set}"

    def _write_chain(self, key: Chain, value: Rules) -> str:
        missing = {name for rule in value.rules for name in _SET_IN_RULE.findall(rule)} - self.sets.keys()
        return f"Set {min(missing)} doesn't exist" if missing else _put(self.chains, key, value)

    # -- ip_vs: ours is what the set names, what answers on our own link, and our marks ------------------------------

    def _our_server(self, key: ServerKey) -> bool:
        if isinstance(key, MarkServerKey):
            return is_balancing_mark(key.mark)
        owned = SetMember(services_set("owned", family_of(key.address)), SetEntry(key.address, key.protocol, key.port))
        ours_to_answer = Address(VIP_LINK, key.address) in self.addresses or self._our_route(key.address)
        return owned in self.members or ours_to_answer

    # -- links, addresses, routes ------------------------------------------------------------------------------------

    def link_states(self) -> list[LinkState]:
        """Every link of the node, ours among them."""
        ours = [
            LinkState(
                1000 + number,
                name,
                link.kind,
                link.up,
                "",
                tuple((key.address, 8 * len(key.address)) for key in self.addresses if key.link == name),
                alias=link.alias,
            )
            for number, (name, link) in enumerate(self.links.items())
        ]
        return [*self.others, *ours]

    def _delete_link(self, name: str) -> str:
        self.addresses = {key: None for key in self.addresses if key.link != name}
        for address in [address for address, route in self.routes.items() if route.link == name]:
            self._forget_route(address)
        return _drop(self.links, name)

    def _set_hairpin(self, key: str, value: bool) -> str:
        return _put(self.hairpin, key, value) if any(link.name == key for link in self.others) else f"no link {key}"

    def _add_address(self, key: Address, value: None) -> str:
        if key.link not in self.links:
            return f"no link {key.link}"
        if key.address not in self.routes:
            self.routes[key.address] = Route(key.link, key.address)
            self.kernel_routes.add(key.address)
        return _put(self.addresses, key, value)

    def _delete_address(self, key: Address) -> str:
        if key in self.addresses and (len(key.address) == 4 or key.address in self.kernel_routes):
            self._forget_route(key.address)
        return _drop(self.addresses, key)

    def _replace_route(self, address: bytes, route: Route) -> str:
        if route.link not in self.links:
            return f"no link {route.link}"
        sources = {held for link in self.link_states() for held, _ in link.addresses}
        if route.source and route.source not in sources:
            return "Invalid argument"
        self.kernel_routes.discard(address)
        return _put(self.routes, address, route)

    def _our_route(self, address: bytes) -> bool:
        return address in self.routes and address not in self.kernel_routes

    def _forget_route(self, address: bytes) -> None:
        self.routes.pop(address, None)
        self.kernel_routes.discard(address)


def _plain(name: str, content: dict[K, V]) -> FakeTable[K, V]:
    """One that asks nothing of the others."""
    return FakeTable(
        name, lambda: content, lambda key, value: _put(content, key, value), lambda key: _drop(content, key)
    )


def _put(content: dict[K, V], key: K, value: V) -> str:
    content[key] = value
    return ""


def _drop(content: dict[K, Any], key: K) -> str:
    content.pop(key, None)
    return ""


def _our_set(name: str) -> bool:
    return name.startswith(SERVICES_SETS)


def _our_chain(key: Chain) -> bool:
    return key.chain.startswith(SERVICES_CHAINS) or key.chain in _BUILT_IN
