"""One node's routing controller over a cluster in memory and tables in memory, stepped by hand.

The tables keep what the order of writing leans on: a member needs its set, a rule its sets, a route its tunnel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kuberouter_py.config import Config
from kuberouter_py.controllers.history import Clocks
from kuberouter_py.controllers.routing.controller import RoutingController
from kuberouter_py.controllers.routing.rung import NODE, SERVICE, THIS_NODE, Rung
from kuberouter_py.model.cluster import EndpointSlice, Node, Service, ServiceCidr
from kuberouter_py.model.kernel import LinkState
from kuberouter_py.model.names import TUNNEL_PREFIX
from kuberouter_py.model.podnet import CniSeen
from kuberouter_py.model.report import Note, SyncReport
from kuberouter_py.ports import EdgeError
from kuberouter_py.watchers.cache import Cache, kind_of
from tests.fakes.kernel import FakeTable
from tests.fakes.objects import BRIDGE, ETH0, LOOPBACK, NODE_NAME

Heard = Node | Service | EndpointSlice | ServiceCidr

TABLES = (
    "sysctls",
    "ipsets",
    "set members",
    "iptables",
    "pod bridges",
    "gue ports",
    "tunnels",
    "pod routes",
    "lookup rules",
    "announced",
    "bgp",
    "cni",
)
_SETS = re.compile(r"--match-set (\S+)")


class RoutingKernel:
    """content: by table. tables: to be made to refuse, or to be unreadable."""

    def __init__(self) -> None:
        self.content: dict[str, dict[Any, Any]] = {name: {} for name in TABLES}
        self.tables = {name: self._table(name) for name in TABLES}

    def _table(self, name: str) -> FakeTable[Any, Any]:
        content = self.content[name]

        def write(key: Any, value: Any) -> str:
            if lacks := self._lacks(name, key, value):
                return lacks
            content[key] = value
            return ""

        def remove(key: Any) -> str:
            content.pop(key, None)
            return ""

        return FakeTable(name, lambda: content, write, remove)

    def _lacks(self, table: str, key: Any, value: Any) -> str:
        if table == "set members" and key.set not in self.content["ipsets"]:
            return f"set {key.set} is not there"
        if table == "iptables":
            named = {name for rule in value.rules for name in _SETS.findall(rule)}
            if missing := named - self.content["ipsets"].keys():
                return f"sets {missing} are not there"
        if table == "pod routes" and value.link.startswith(TUNNEL_PREFIX) and value.link not in self.content["tunnels"]:
            return f"link {value.link} is not there"
        return ""


class FakeRouting:
    """links: what is on the node. kernel: what an earlier one left. reports, notes: of every sync so far."""

    def __init__(
        self,
        *objects: Heard,
        links: Sequence[LinkState] = (LOOPBACK, ETH0, BRIDGE),
        config: Config | None = None,
        kernel: RoutingKernel | None = None,
    ) -> None:
        self.kernel = kernel or RoutingKernel()
        self.cache = Cache()
        self.links_here: Sequence[LinkState] = links
        self.unseen = ""
        self.passwords = ""
        self.cni_seen = CniSeen()
        self.no_cni = ""
        self.reports: list[SyncReport] = []
        self.notes: list[Note] = []
        self._rung: set[Rung] = set()
        self.now = 0.0
        for each in objects:
            self.hear(each)
        self.controller = RoutingController(
            config or Config(),
            NODE_NAME,
            self.cache,
            self,
            list(self.kernel.tables.values()),
            Clocks(lambda: self.now, lambda: self.now),
            self._reported,
            lambda: 0,
        )

    # -- ports.RoutingFacts --------------------------------------------------------------------------------------------

    def links(self) -> Sequence[LinkState]:
        if self.unseen:
            raise EdgeError(self.unseen)
        return self.links_here

    def sysctl_before_us(self, key: str) -> str | None:
        return None if key.endswith("accept_ra") else "0"

    def password_file(self) -> str:
        return self.passwords

    def cni(self) -> CniSeen:
        if self.no_cni:
            raise EdgeError(self.no_cni)
        return self.cni_seen

    # -- steps ---------------------------------------------------------------------------------------------------------

    def hear(self, *objects: Heard) -> None:
        for each in objects:
            self.cache.put(kind_of(type(each)), each.key, each)
            self._ring(each)

    def lose(self, *objects: Heard) -> None:
        for each in objects:
            self.cache.delete(kind_of(type(each)), each.key)
            self._ring(each)

    def _ring(self, each: Heard) -> None:
        if isinstance(each, Node):
            self._rung.add(Rung(NODE, each.key))
        elif isinstance(each, EndpointSlice):
            self._rung.add(Rung(SERVICE, each.service))
        elif isinstance(each, Service):
            self._rung.add(Rung(SERVICE, each.key))

    def start(self) -> bool:
        self._rung.clear()
        return self.controller.first_sync()

    def sync(self) -> bool:
        keys, self._rung = self._rung, set()
        return self.controller.sync(keys)

    def look(self, *links: LinkState) -> bool:
        """The kernel's news: these are the links now."""
        self.links_here = links
        self._rung.add(THIS_NODE)
        return self.sync()

    def table(self, name: str) -> Mapping[Any, Any]:
        return self.kernel.content[name]

    def _reported(self, report: SyncReport, notes: Sequence[Note]) -> None:
        self.reports.append(report)
        self.notes += notes
