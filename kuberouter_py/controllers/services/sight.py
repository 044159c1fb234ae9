"""What is known of this node: looked at again when news come, and compared with what it was.

Owns the view (view.py), which schedulers the kernel was found to have, and why the node could not be looked at. What a
change of it means for Services is concern.py's; all calls come from the controller's thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from kuberouter_py.config import Config
from kuberouter_py.controllers.claims import Share
from kuberouter_py.controllers.services.addressbook import ServicesBook
from kuberouter_py.controllers.services.concern import Concern, concern
from kuberouter_py.controllers.services.nodestate import Kernel, node_share
from kuberouter_py.controllers.services.scheduling import DEFAULT, schedulers_needed
from kuberouter_py.controllers.services.view import NodeView, node_view
from kuberouter_py.model.cluster import ObjectKey, Service
from kuberouter_py.model.kernel import LinkState
from kuberouter_py.ports import EdgeError, NodeFacts, ServicesOfCluster

NODE = ObjectKey("", "")  # the key that stands for the node itself


class Sight:
    """view: the node as it was when last looked at."""

    def __init__(self, config: Config, name: str, cluster: ServicesOfCluster, node_facts: NodeFacts) -> None:
        self._config = config
        self._name = name
        self._cluster = cluster
        self._node_facts = node_facts
        self._links: Sequence[LinkState] = ()
        self._schedulers: dict[str, bool] = {DEFAULT: True}
        self.view = NodeView(name, families=())

    def look(self) -> NodeView:
        """Replace the view; returns the one before. Raises EdgeError."""
        before = self.view
        self._links = self._node_facts.links()
        self.view = node_view(
            self._config,
            self._name,
            self._cluster.node(self._name),
            self._links,
            tuple(self._cluster.service_cidrs()),
            self._missing(),
            [other for other in self._cluster.nodes() if other.key.name != self._name],
            before,
        )
        return before

    def changed(self, addresses: ServicesBook) -> Concern:
        """Look again; which Services that concerns. Raises EdgeError."""
        before = self.look()
        if before == self.view:
            return Concern(set(), set())
        services = filter(None, map(self._cluster.service, self._cluster.service_keys()))
        return concern(before, self.view, services, addresses.holders, addresses.direct())

    def told(self, **fields: Any) -> None:
        """What is not seen by looking: fields of NodeView."""
        self.view = replace(self.view, **fields)

    def share(self, estimates: bool | None) -> Share:
        """What the node itself should hold. estimates: see Kernel. Raises EdgeError."""
        facts = self._node_facts
        kernel = Kernel(facts.kernel_version(), facts.processors(), facts.sysctl_before_us, estimates)
        return node_share(self._config, self.view, self._links, kernel)

    # -- schedulers ----------------------------------------------------------------------------------------------------

    def probe(self, services: Iterable[Service]) -> None:
        """Ask the kernel for those that these Services need and that it was not asked for yet."""
        for name in set().union(*map(schedulers_needed, services)) - self._schedulers.keys():
            self._probe(name)
        if self._missing() != self.view.missing_schedulers:
            self.told(missing_schedulers=self._missing())

    def probe_again(self) -> None:
        """Ask for those that were missing: a module may have come since."""
        for name in self.view.missing_schedulers:
            self._probe(name)

    def _probe(self, name: str) -> None:
        try:
            self._schedulers[name] = self._node_facts.has_scheduler(name)
        except EdgeError:  # no answer is not a no; what is wrong shows where virtual servers are written
            self._schedulers.pop(name, None)

    def _missing(self) -> frozenset[str]:
        return frozenset(name for name, there in self._schedulers.items() if not there)
