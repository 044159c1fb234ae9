"""DECIDE, for all that was rung: each key's share of the node, claimed at the reconciler.

Owns what decisions of one Service need of the others (addresses, marks, sizes), what drains, and the notes. What one
Service should have is decided in desired.py and the modules that pass over its share after it: dsr.py, weights.py,
drain.py. Comparing and writing are reconcile.py's.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any

from kuberouter_py.config import Config
from kuberouter_py.controllers.claims import NOTHING, Share
from kuberouter_py.controllers.reconcile import Reconciler
from kuberouter_py.controllers.services.addressbook import ServicesBook
from kuberouter_py.controllers.services.desired import ADDRESSES, MEMBERS, ROUTES, SERVERS, decide
from kuberouter_py.controllers.services.drain import Drains, pod_periods
from kuberouter_py.controllers.services.dsr import DIVERSIONS, return_directly
from kuberouter_py.controllers.services.flows import UdpFlows, udp_serving
from kuberouter_py.controllers.services.marks import Marks
from kuberouter_py.controllers.services.notes import Notes
from kuberouter_py.controllers.services.orphans import left_behind
from kuberouter_py.controllers.services.scale import Scale
from kuberouter_py.controllers.services.sight import NODE, Sight
from kuberouter_py.controllers.services.weights import weighted
from kuberouter_py.model.cluster import EndpointSlice, ObjectKey, Service
from kuberouter_py.model.report import Note
from kuberouter_py.ports import ServicesOfCluster

# Whose share it is what an earlier process left of Services that have gone since; no object has such a name.
LEFT_BEHIND = ObjectKey("", "(left behind)")
NOT_DECIDED = "NotDecided"
# Shares that are claimed at a time: each claim frees the copy of it that a first sync has read.
A_CLAIM = 200

Dirty = dict[str, set[Any]]


class Decisions:
    """now: monotonic seconds, for what drains. addresses, drains, udp, scale, notes: for who reports and writes."""

    def __init__(
        self,
        config: Config,
        cluster: ServicesOfCluster,
        sight: Sight,
        reconciler: Reconciler,
        now: Callable[[], float],
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._sight = sight
        self._reconciler = reconciler
        self._now = now
        held, wanted = reconciler.held, reconciler.wanted
        self._marks = Marks(lambda: held(MEMBERS), lambda: (held(SERVERS), wanted(SERVERS)))
        self.addresses = ServicesBook()
        self.scale = Scale(config, wanted, held)
        self.drains = Drains(config.ipvs_graceful_period) if config.ipvs_graceful_termination else None
        self.udp = UdpFlows(self.in_force)
        self.notes = Notes(reconciler.claims.contested)

    def all(self, dirty: Dirty) -> list[Note]:
        """Every Service and the node; and what an earlier process left of Services that are gone drains."""
        news = self.of({*self._cluster.service_keys(), NODE}, dirty)
        held, wanted = self._reconciler.held, self._reconciler.wanted(SERVERS)
        link = self._config.vip_link
        bound = {address: route for address, route in held(ROUTES).items() if route.link == link}

        def given_up(address: bytes) -> bool:
            gone = address in bound and not self.addresses.holders(address)
            return not gone and address not in self._sight.view.nodeport_addresses

        behind = left_behind(held(SERVERS), wanted, held(MEMBERS), held(ADDRESSES), bound, given_up)
        self._claim({LEFT_BEHIND: self._drained(LEFT_BEHIND, NOTHING, behind, gone=True)}, dirty)
        return news

    def of(self, keys: Collection[ObjectKey], dirty: Dirty) -> list[Note]:
        """Decide the keys anew, claim the result; adds what may differ to `dirty`, returns the notes that are new."""
        services = {key: self._cluster.service(key) for key in keys if key != NODE}
        for key in self.addresses.update(services) - services.keys():  # those whose addresses changed hands
            services[key] = self._cluster.service(key)
        self._sight.probe(service for service in services.values() if service is not None)
        if NODE in keys:
            self.node(dirty)
        notes: dict[ObjectKey, tuple[Note, ...]] = {}
        shares: dict[Hashable, Share] = {}
        for key, service in services.items():
            share, notes[key] = self._share(key, service)
            if share is not None:
                shares[key] = share
            if len(shares) >= A_CLAIM:
                self._claim(shares, dirty)
                shares.clear()
        self._claim(shares, dirty)
        # Who takes over a server takes over what drains in it as well.
        for heir in self._reconciler.claims.heirs():
            assert isinstance(heir, ObjectKey)
            share, notes[heir] = self._share(heir, self._cluster.service(heir))
            if share is not None:
                self._claim({heir: share}, dirty)
            self.udp.inherits(heir)
        direct = bool(self._reconciler.wanted(DIVERSIONS))
        if direct != self._sight.view.direct_return:  # what it takes stands on the node while anything is led in
            self._sight.told(direct_return=direct)
            self.node(dirty)
        return self.notes.update(notes)

    def node(self, dirty: Dirty) -> None:
        """The node's own share."""
        self._claim({NODE: self._sight.share(self.scale.estimates())}, dirty)

    def in_force(self, key: Hashable) -> ObjectKey | None:
        """The Service that has a virtual server or a port. One look into a mapping: no sync is waited for."""
        owner = self._reconciler.claims.owner_of(key)
        return owner if isinstance(owner, ObjectKey) else None

    def services(self) -> int:
        """Those that are there; what only drains is none."""
        shares = [self._reconciler.claims.share(owner) for owner in self._reconciler.claims.owners() if owner != NODE]
        return sum(len(share.draining) < len(share.units) for share in shares)

    def _claim(self, shares: Mapping[Hashable, Share], dirty: Dirty) -> None:
        for name, found in self._reconciler.claim(shares).items():
            dirty[name] |= found

    def _share(self, key: ObjectKey, service: Service | None) -> tuple[Share | None, tuple[Note, ...]]:
        """None: as it was."""
        before = self._reconciler.claims.share(key)
        if service is None:
            self._marks.keep(key, ())
            self.udp.update(key, {})
            return self._drained(key, NOTHING, before, gone=True), ()
        slices = self._cluster.slices_of(key)
        config = self.scale.config_for(service, len(self.addresses))
        book, view = self.addresses, self._sight.view
        try:
            with self._marks.deciding(key) as mark_of:
                decided = decide(service, slices, view, config, book.is_cluster_ip, mark_of)
                decided = return_directly(decided, service, slices, view, book.is_direct, mark_of)
            self.udp.update(key, udp_serving(service, slices, decided.share))
            share, notes = weighted(service, slices, decided.share, self._cluster.pods())
            return self._drained(key, share, before, slices, gone=False), (*decided.notes, *notes)
        except Exception as error:  # our fault, whatever it is: one Service stays as it was, the others go on
            message = f"left as it was, it could not be decided: {type(error).__name__}: {error}"
            return None, (Note("Service", key, NOT_DECIDED, message),)

    def _drained(
        self, owner: ObjectKey, decided: Share, before: Share, slices: Sequence[EndpointSlice] = (), *, gone: bool
    ) -> Share:
        if self.drains is None:
            return decided
        return self.drains.share(
            owner,
            decided,
            before,
            ChainMap(self._reconciler.held(SERVERS), self._reconciler.foreign(SERVERS)),
            self._now(),
            gone=gone,
            in_force=lambda claim: self._reconciler.claims.owner_of(claim) in (None, owner),
            period=pod_periods(slices, self._cluster.pods()),
        )
