"""DECIDE, for all that was rung: each key's share of the node, claimed at the reconciler.

Owns what decisions need of each other: the view of this node, the roster of all Nodes, which of them have tunnels, the
notes. What one Node or Service should have is decided in nodes.py, own.py, announcing.py and speaker.py.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from pathlib import PurePath

from kuberouter_py.config import Config
from kuberouter_py.controllers.claims import NOTHING, Item, Share
from kuberouter_py.controllers.reconcile import Dirty, Reconciler
from kuberouter_py.controllers.routing.announcements import Announcements
from kuberouter_py.controllers.routing.announcer import announcer
from kuberouter_py.controllers.routing.cni import Completion, complete
from kuberouter_py.controllers.routing.nodes import Decided, contested_notes, decide_node
from kuberouter_py.controllers.routing.notes import Notes, object_notes, undecided
from kuberouter_py.controllers.routing.own import CNI, own_share
from kuberouter_py.controllers.routing.roster import Roster
from kuberouter_py.controllers.routing.rung import HERE, NODE, SERVICE, THIS_NODE, Rung
from kuberouter_py.controllers.routing.speaker import Around, flag_passwords, speaker
from kuberouter_py.controllers.routing.view import View, node_view
from kuberouter_py.model.bgp import Password, Speaker
from kuberouter_py.model.cluster import Node, ObjectKey
from kuberouter_py.model.kernel import LinkState
from kuberouter_py.model.report import Note
from kuberouter_py.ports import EdgeError, RoutingFacts, RoutingOfCluster

CNI_NOT_COMPLETED = "CniNotCompleted"
BGP, SPEAKER = "bgp", "speaker"  # a table, its one key, which is an owner too
CONTESTED = "contested"  # whose notes say what one Node has in another's place


class Decisions:
    """view, notes: for who reports."""

    def __init__(
        self,
        config: Config,
        node_name: str,
        cluster: RoutingOfCluster,
        reconciler: Reconciler,
        facts: RoutingFacts,
    ) -> None:
        self._config = config
        self._own = ObjectKey("", node_name)
        self._cluster = cluster
        self._reconciler = reconciler
        self._facts = facts
        self._links: Sequence[LinkState] = ()
        self._cni = Completion(None)
        self._roster = Roster(node_name)
        self.announcements = Announcements(config, node_name, cluster)
        self._tunnelled: dict[ObjectKey, frozenset[int]] = {}  # Nodes that have tunnels -> families
        self.view = View(node_name)
        self.notes = Notes()

    def look(self) -> bool:
        """Replace the view; whether it is another one. Raises EdgeError."""
        before = self.view
        node = self._cluster.node(self._own.name)
        self._links = self._facts.links()
        self.view = node_view(self._config, self._own.name, node, self._links, before)
        return self.view != before

    def all(self, dirty: Dirty) -> None:
        keys = [node.key for node in self._cluster.nodes()]
        self._hear(keys)
        self._nodes(keys, dirty)
        self._here(dirty)
        self._speaker(dirty)
        self._services({*self._cluster.service_keys(), *self._announcer()}, dirty)

    def of(self, keys: Collection[Rung], moved: bool, dirty: Dirty) -> None:
        """moved: look() has found another view."""
        families = self._families()
        rung = {key.key for key in keys if key.kind == NODE}
        services = {key.key for key in keys if key.kind == SERVICE}
        heard, concerned = self._hear(rung)
        self._nodes([*rung, *(node.key for node in self._cluster.nodes())] if moved else rung, dirty)
        here = moved or any(key.kind == HERE for key in keys)
        if here or self._own in rung or self._families() != families:
            self._here(dirty)
        if here or heard:
            self._speaker(dirty)
        anew = here or heard or self._own in rung
        services |= concerned | (self._announcer() if anew else set())
        if services or anew:  # the aggregates are this node's
            self._services(services, dirty)

    def _hear(self, keys: Iterable[ObjectKey]) -> tuple[bool, set[ObjectKey]]:
        """Take in Nodes as they are now: whether something is new that this node as a speaker depends on, and which
        Services it concerns.
        """
        nodes = {key: self._cluster.node(key.name) for key in keys}
        heard = [self._roster.hear(key.name, node) for key, node in nodes.items()]
        return any(heard), self.announcements.nodes(nodes)

    def _announcer(self) -> set[ObjectKey]:
        """Take in this node as one that announces; which Services that concerns."""
        seen = announcer(
            self._config,
            self._own.name,
            self._cluster.node(self._own.name),
            self._links,
            self.view.families,
            tuple(self._cluster.service_cidrs()),
            peered=SPEAKER in self._reconciler.wanted(BGP),
        )
        return self.announcements.here(seen)

    # -- shares --------------------------------------------------------------------------------------------------------

    def _nodes(self, keys: Iterable[ObjectKey], dirty: Dirty) -> None:
        shares: dict[Hashable, Share] = {}
        for key in keys:
            if key == self._own:
                continue
            owner = Rung(NODE, key)
            node: Node | None = self._cluster.node(key.name)
            try:
                decided = decide_node(self.view, node) if node else Decided(NOTHING)
            except Exception as error:  # our fault, whatever it is: one Node stays as it was, the others go on
                self.notes.update({owner: (undecided("Node", key, error),)})
                continue
            self._tunnelled.pop(key, None)
            shares[owner] = decided.share
            self.notes.update({owner: decided.notes})
            if decided.tunnelled:
                self._tunnelled[key] = decided.tunnelled
        self._claim(shares, dirty)
        self.notes.update({CONTESTED: contested_notes(self._reconciler.claims.contested())})

    def _here(self, dirty: Dirty) -> None:
        node = self._cluster.node(self._own.name)
        mtu = self.view.pod_mtu(sorted(self._families())) if self._config.auto_mtu else 0
        cni = self._completed(mtu) if self._config.enable_cni else Completion(None)
        share = own_share(self._config, self.view, node, mtu, cni, self._facts.sysctl_before_us)
        self._claim({THIS_NODE: share}, dirty)
        self.notes.update({THIS_NODE: object_notes(node, event=True) if node else ()})

    def _completed(self, mtu: int) -> Completion:
        """The CNI configuration; one that cannot be read is left as it was decided last."""
        path = self._config.cni_conf_file
        try:
            completed = complete(self._facts.cni(), PurePath(path).suffix, self.view.pod_cidrs, mtu)
        except EdgeError as error:
            completed = self._cni._replace(reason=str(error))
        self._cni = completed
        told = (Note("Node", self._own, CNI_NOT_COMPLETED, f"{path}: {completed.reason}", event=True),)
        self.notes.update({CNI: told if completed.reason else ()})
        return completed

    def _speaker(self, dirty: Dirty) -> None:
        """A Node object that is gone leaves BGP as it was."""
        if self._roster.own is None:
            return
        held: Speaker | None = self._reconciler.held(BGP).get(SPEAKER)
        passwords, lacking = self._passwords(held)
        around = Around(
            families=self.view.families,
            primary=self.view.primary,
            local=self.view.local,
            links=tuple(self._links),
            pod_cidrs=self.view.pod_cidrs,
            service_cidrs=tuple(self._cluster.service_cidrs()),
            passwords=passwords,
            no_passwords=lacking,
            held={peer.address: peer.password for peer in held.peers} if held else {},
        )
        decided = speaker(self._config, self._roster, around)
        self.notes.update({SPEAKER: decided.notes})
        units = {SPEAKER: (Item(BGP, SPEAKER, decided.speaker),)} if decided.speaker else {}
        self._claim({SPEAKER: Share((), units)}, dirty)

    def _services(self, keys: Collection[ObjectKey], dirty: Dirty) -> None:
        """And the aggregates."""
        decided = self.announcements.of(keys)
        self.notes.update({Rung(SERVICE, key): notes for key, notes in decided.notes.items()})
        self._claim(decided.shares, dirty)

    def _passwords(self, held: Speaker | None) -> tuple[tuple[Password | None, ...], str]:
        """Of the peers that flags name; why they are not known."""
        try:
            return flag_passwords(self._config, self._facts.password_file(), held), ""
        except (EdgeError, ValueError) as error:
            return (), str(error)

    def _families(self) -> frozenset[int]:
        """In which there are tunnels."""
        return frozenset().union(*self._tunnelled.values())

    def _claim(self, shares: Mapping[Hashable, Share], dirty: Dirty) -> None:
        for name, found in self._reconciler.claim(shares).items():
            dirty[name] |= found
