"""One node's services controller over a cluster in memory and a kernel in memory, stepped by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kuberouter_py.config import Config
from kuberouter_py.controllers.history import Clocks
from kuberouter_py.controllers.services.controller import ServicesController
from kuberouter_py.controllers.services.drain import SOON
from kuberouter_py.controllers.services.sight import NODE
from kuberouter_py.model.cluster import EndpointSlice, Node, ObjectKey, PodMetadata, Service, ServiceCidr
from kuberouter_py.model.kernel import LinkState
from kuberouter_py.model.report import Note, SyncReport
from kuberouter_py.watchers.cache import Cache, kind_of
from tests.fakes.kernel import FakeKernel
from tests.fakes.node import FakeNode
from tests.fakes.objects import BRIDGE, ETH0, LOOPBACK, NODE_NAME, VETH

LINKS = (LOOPBACK, ETH0, BRIDGE, VETH)
SERVED = Service | EndpointSlice | Node | ServiceCidr | PodMetadata


class FakeAgent:
    """Rings as the agent does: a Service's key for it and its slices, NODE for everything else.

    put and delete change the cluster and return what rings; `tell` syncs that at once. Reports and notes are kept.
    """

    def __init__(
        self,
        *objects: SERVED,
        config: Config | None = None,
        kernel: FakeKernel | None = None,
        links: Iterable[LinkState] = LINKS,
        node_name: str = NODE_NAME,
    ) -> None:
        self.cache = Cache()
        self.kernel = kernel or FakeKernel(links)
        self.node = FakeNode(self.kernel)
        self.now = 1_000_000.0
        self.reports: list[SyncReport] = []
        self.news: list[Note] = []
        for one in objects:
            self.put(one)
        self.controller = self._made(config or Config(), node_name)

    def _made(self, config: Config, node_name: str) -> ServicesController:
        return ServicesController(
            config,
            node_name,
            self.cache,
            self.node,
            self.kernel.tables(),
            self.kernel,
            Clocks(lambda: self.now, lambda: self.now),
            self._reported,
            messages=lambda: len(self.kernel.journal),
        )

    def _reported(self, report: SyncReport, news: Sequence[Note]) -> None:
        self.reports.append(report)
        self.news += news

    def put(self, *objects: SERVED) -> set[ObjectKey]:
        rung: set[ObjectKey] = set()
        for one in objects:
            rung |= _rung(one, self.cache.put(kind_of(type(one)), one.key, one))
        return rung

    def delete(self, *objects: SERVED) -> set[ObjectKey]:
        rung: set[ObjectKey] = set()
        for one in objects:
            rung |= _rung(one, self.cache.delete(kind_of(type(one)), one.key))
        return rung

    def start(self) -> bool:
        return self.controller.first_sync() and self.look()

    def tell(self, *objects: SERVED) -> bool:
        return self.controller.sync(self.put(*objects)) and self.look()

    def tell_gone(self, *objects: SERVED) -> bool:
        return self.controller.sync(self.delete(*objects)) and self.look()

    def rewire(self, *links: LinkState) -> bool:
        """The node's own links change, and the kernel's news rings."""
        self.kernel.others = list(links)
        return self.controller.sync({NODE}) and self.look()

    def look(self) -> bool:
        """What the runner does soon after a sync: the connections of what has just begun to drain are counted."""
        done: list[bool] = []
        while (due := self.controller.due()) is not None and due <= self.now + SOON:
            self.now = max(self.now, due)
            done.append(self.controller.background() is not False)
            assert len(done) < 1000, "looks without end"
        return all(done)

    def drain(self) -> list[bool]:
        """Every slice of background work that there is."""
        done: list[bool] = []
        while (good := self.controller.background()) is not None:
            done.append(good)
            assert len(done) < 1000
        return done

    def compare(self) -> list[bool]:
        self.controller.begin_compare(())
        return self.drain()

    def writes(self) -> list[tuple[str, str, object]]:
        """What was written since the last call: (table, "write" or "remove", key)."""
        found = list(self.kernel.journal)
        self.kernel.journal.clear()
        return found

    def notes(self) -> list[Note]:
        return list(self.controller.status({}, ()).notes)

    def with_schedulers(self, *names: str) -> None:
        self.node.schedulers = frozenset(names)

    def restarted(self, config: Config | None = None) -> FakeAgent:
        """A new process over the same cluster and kernel, which remembers nothing."""
        again = FakeAgent(config=config, kernel=self.kernel)
        again.cache, again.node = self.cache, replace(self.node)
        again.controller = again._made(config or Config(), NODE_NAME)
        return again


def _rung(one: SERVED, keys: set[ObjectKey]) -> set[ObjectKey]:
    if not keys or isinstance(one, Service | EndpointSlice | PodMetadata):
        return keys
    return {NODE}
