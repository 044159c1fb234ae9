"""The firewall as a part of the running agent: its loop, and the kernel's news for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterable, Mapping

from kuberouter_py.agent.controllers import firewall_controller
from kuberouter_py.agent.explaining_matrix import MatrixExplaining
from kuberouter_py.agent.explaining_policies import PolicyExplaining
from kuberouter_py.agent.firewall_edges import ISOLATION, FirewallEdges
from kuberouter_py.agent.part import Part
from kuberouter_py.agent.source import Source, node_name
from kuberouter_py.agent.telling import Telling
from kuberouter_py.config import Config
from kuberouter_py.controllers.course import OnReport
from kuberouter_py.controllers.firewall.rung import NAMESPACE, POD, POLICY, THIS_NODE, Rung
from kuberouter_py.controllers.outcome import Outcome
from kuberouter_py.kernel.monitor import NODE_ADDRESS_NEWS, PORT_NEWS, Monitor
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.names import VIP_LINK
from kuberouter_py.model.report import ControllerStatus
from kuberouter_py.observe.denied import DeniedCounters, DeniedTotals
from kuberouter_py.observe.http import Question
from kuberouter_py.ports import EdgeError


class FirewallPart(Part):
    """See part.Part."""

    name = "firewall"

    def __init__(self, config: Config, source: Source, telling: Telling, on_report: OnReport) -> None:
        self._node = ObjectKey("", node_name(config))
        self._source = source
        self._edges = FirewallEdges(config, load_modules=config.run_firewall)
        self._controller = firewall_controller(config, self._edges, source.cache, on_report)
        self._matrix = MatrixExplaining(self._node.name, self._controller)
        self.explaining = PolicyExplaining(self._node.name, self._controller, source.cache, self._edges.looking)
        self._denied = DeniedTotals()
        self._denied_lock = threading.Lock()
        super().__init__(
            config.run_firewall,
            self._controller,
            # Addresses of Services come and go by the thousand; whether the node has any of them makes no difference.
            Monitor((config.vip_link, VIP_LINK), self._kernel_news, frozenset, lambda _address: True),
            telling.health,
            period=config.iptables_sync_period,
        )

    # -- from start to end -------------------------------------------------------------------------------------------

    def stand_by(self) -> Outcome:
        return self._controller.cleanup()

    def subscribe(self) -> None:
        for kind in (POD, NAMESPACE, POLICY):
            self._source.subscribe(kind, self._bell(kind))
        self._source.subscribe("Node", self._ring_node)

    # -- bells -------------------------------------------------------------------------------------------------------

    def _bell(self, kind: str) -> Callable[[Collection[ObjectKey]], None]:
        return lambda keys: self._runner.ring(Rung(kind, key) for key in keys)

    def _ring_node(self, keys: Collection[ObjectKey]) -> None:
        if self._node in keys:
            self._runner.ring([THIS_NODE])

    def _kernel_news(self, what: frozenset[str]) -> None:
        """A bridge that comes has an address, or a port: the two are announced."""
        if what & {NODE_ADDRESS_NEWS, PORT_NEWS}:
            self._runner.ring([THIS_NODE])

    # -- what may be asked, from any thread ---------------------------------------------------------------------------

    def status(self) -> ControllerStatus:
        return self._controller.status(self._edges.facts())

    def unenforced(self) -> str:
        """Why it does not enforce all policies (yet); "" where it does."""
        status = self.status()
        if not status.synced:
            return "the firewall has not done its first sync yet"
        if not status.counts:
            return "the firewall is in the middle of a sync"
        return f"{status.failures} entries of the firewall are refused or unreadable" if status.failures else ""

    def problems(self) -> Iterable[str]:
        return self._edges.problems()

    def questions(self) -> Mapping[str, Question]:
        return {"/matrix": self._matrix.answer}

    def denied(self) -> list[DeniedCounters]:
        """Until now. What cannot be read stays as it was told last."""
        owners = {
            address: pod.key
            for pod in sorted(self._source.cache.pods_in_full(), key=lambda pod: pod.deleting, reverse=True)
            if pod.node == self._node.name and not pod.host_network
            for address in pod.ips
        }
        with self._denied_lock:
            with contextlib.suppress(EdgeError):  # it is among the controller's failures
                counted = self._edges.denied()
                found = {(ISOLATION[member.set], member.entry.address): each for member, each in counted.items()}
                self._denied.take(found, owners)
            return self._denied.of({*owners.values()})
