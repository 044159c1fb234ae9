"""DECIDE, for all that was rung: each key's share of the node, claimed at the reconciler.

Owns what decisions need of each other: the view of this node, which Nodes have tunnels, the notes. What one Node or
Service should have is decided in nodes.py, own.py, announcing.py and speaker.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence

from kuberouter_py.config import Config
from kuberouter_py.controllers.reconcile import NOTHING, Dirty, Reconciler, Share
from kuberouter_py.controllers.routing.nodes import decide_node
from kuberouter_py.controllers.routing.notes import Notes
from kuberouter_py.controllers.routing.own import own_share
from kuberouter_py.controllers.routing.rung import HERE, NODE, THIS_NODE, Rung
from kuberouter_py.controllers.routing.view import View, node_view
from kuberouter_py.model.cluster import Node, ObjectKey
from kuberouter_py.model.kernel import LinkState
from kuberouter_py.ports import RoutingOfCluster


class Decisions:
    """before_us: a sysctl's value before we first wrote it. view, notes: for who reports."""

    def __init__(
        self,
        config: Config,
        node_name: str,
        cluster: RoutingOfCluster,
        reconciler: Reconciler,
        before_us: Callable[[str], str | None],
    ) -> None:
        self._config = config
        self._own = ObjectKey("", node_name)
        self._cluster = cluster
        self._reconciler = reconciler
        self._before_us = before_us
        self._tunnelled: dict[ObjectKey, frozenset[int]] = {}  # Nodes that have tunnels -> families
        self.view = View(node_name)
        self.notes = Notes()

    def look(self, links: Sequence[LinkState]) -> bool:
        """Replace the view; whether it is another one."""
        before = self.view
        node = self._cluster.node(self._own.name)
        self.view = node_view(self._config, self._own.name, node, links, before)
        return self.view != before

    def all(self, dirty: Dirty) -> None:
        self._nodes((node.key for node in self._cluster.nodes()), dirty)
        self._here(dirty)

    def of(self, keys: Collection[Rung], moved: bool, dirty: Dirty) -> None:
        """moved: look() has found another view."""
        families = self._families()
        if moved:
            self._nodes((node.key for node in self._cluster.nodes()), dirty)
        rung = {key.key for key in keys if key.kind == NODE}
        self._nodes(rung, dirty)
        here = any(key.kind == HERE for key in keys)
        if moved or here or self._own in rung or self._families() != families:
            self._here(dirty)

    def counts(self) -> dict[str, int]:
        return {"nodes with tunnels": len(self._tunnelled)}

    # -- shares --------------------------------------------------------------------------------------------------------

    def _nodes(self, keys: Iterable[ObjectKey], dirty: Dirty) -> None:
        shares: dict[Hashable, Share] = {}
        for key in keys:
            if key == self._own:
                continue
            owner = Rung(NODE, key)
            node: Node | None = self._cluster.node(key.name)
            self._tunnelled.pop(key, None)
            if node is None:
                shares[owner] = NOTHING
                self.notes.update({owner: ()})
                continue
            decided = decide_node(self.view, node)
            shares[owner] = decided.share
            self.notes.update({owner: decided.notes})
            if decided.tunnelled:
                self._tunnelled[key] = decided.tunnelled
        self._claim(shares, dirty)

    def _here(self, dirty: Dirty) -> None:
        node = self._cluster.node(self._own.name)
        share = own_share(self._config, self.view, node, self._families(), self._before_us)
        self._claim({THIS_NODE: share}, dirty)

    def _families(self) -> frozenset[int]:
        """In which there are tunnels."""
        return frozenset().union(*self._tunnelled.values())

    def _claim(self, shares: dict[Hashable, Share], dirty: Dirty) -> None:
        for name, found in self._reconciler.claim(shares).items():
            dirty[name] |= found
