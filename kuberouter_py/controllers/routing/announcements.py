"""DECIDE, for all Services that were rung: which addresses this node announces, as shares for the reconciler.

Owns what one Service's decision needs of others (who has which address), and which Services a change of a Node, of this
node or of another Service concerns. What one Service gives is decided in announcing.py. Pure bookkeeping.

One address may be several Services': it is announced as long as one of them has it announced, and held as long as one
has it at all. So every Service makes its claims as two owners, and who announces is senior to all who hold.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from kuberouter_py.config import Config
from kuberouter_py.controllers.addressbook import AddressBook, Index, exchange
from kuberouter_py.controllers.addresses import addresses_of
from kuberouter_py.controllers.claims import Item, Share
from kuberouter_py.controllers.routing.announcer import Announcer
from kuberouter_py.controllers.routing.announcing import Decided, Known, aggregates, announced
from kuberouter_py.controllers.routing.notes import undecided
from kuberouter_py.controllers.routing.wishes import unusable
from kuberouter_py.model.bgp import Announced
from kuberouter_py.model.cluster import Cidr, EndpointSlice, Node, ObjectKey, Service
from kuberouter_py.model.kernel import address_text
from kuberouter_py.model.report import Note

ANNOUNCED = "announced"


class Announcing(Protocol):
    """What is asked of the cache. Every answer is the newest object."""

    def service_keys(self) -> Collection[ObjectKey]: ...

    def service(self, key: ObjectKey) -> Service | None: ...

    def slices_of(self, service: ObjectKey) -> Sequence[EndpointSlice]: ...


class Claimant(NamedTuple):
    """Owner of a share: a Service, with what it has announced or only holds. No name: the node's aggregates."""

    service: ObjectKey
    held: bool


AGGREGATES = ObjectKey("", "")


class Told(NamedTuple):
    """Of one address: why it is not announced from here, "" if it is. what: the address, or where one should stand."""

    what: str
    reason: str


class Decisions(NamedTuple):
    """shares: by Claimant. notes: of every Service that was decided."""

    shares: Mapping[Hashable, Share]
    notes: Mapping[ObjectKey, tuple[Note, ...]]


class Announcements:
    def __init__(self, config: Config, node: str, cluster: Announcing) -> None:
        self._config = config
        self._cluster = cluster
        self._announcer = Announcer(node, nothing="this node has not been looked at")
        self._book = AddressBook()
        self._nodes: Index = {}  # address -> Nodes
        self._node_addresses: dict[ObjectKey, tuple[bytes, ...]] = {}
        self._known = Known(self._book.is_cluster_ip, self._node_with)

    # -- which Services a change concerns ------------------------------------------------------------------------------

    def here(self, announcer: Announcer) -> set[ObjectKey]:
        """This node is seen as this from now on; the Services to decide again."""
        before, self._announcer = self._announcer, announcer
        if before == announcer:
            return set()
        if (before.families, before.service_cidrs, before.nothing, before.held) != (
            announcer.families,
            announcer.service_cidrs,
            announcer.nothing,
            announcer.held,
        ):
            return {*self._cluster.service_keys()}
        moved = {address for address, _ in before.local.items() ^ announcer.local.items()}
        concerned = {key for address in moved for key in self._book.holders(address)}
        if before.no_external != announcer.no_external:
            concerned |= self._book.outside()
        return concerned

    def nodes(self, nodes: Mapping[ObjectKey, Node | None]) -> set[ObjectKey]:
        """These Nodes, this one among them, are so now, or gone; the Services to decide again."""
        moved: set[bytes] = set()
        for key, node in nodes.items():
            before = self._node_addresses.get(key, ())
            after = addresses_of(node) if node else ()
            if before == after:
                continue
            moved |= {*before} ^ {*after}
            exchange(self._nodes, key, before, after)
            if after:
                self._node_addresses[key] = after
            else:
                del self._node_addresses[key]
        return {key for address in moved for key in self._book.holders(address)}

    def _node_with(self, address: bytes) -> str:
        holders = self._nodes.get(address)
        return holders[0].name if holders else ""

    # -- shares --------------------------------------------------------------------------------------------------------

    def of(self, keys: Iterable[ObjectKey]) -> Decisions:
        """These Services, and those that depend on them; the aggregates with any of them."""
        services = {key: self._cluster.service(key) for key in keys}
        for key in self._book.update(services) - services.keys():  # a ClusterIP came or went that they have as external
            services[key] = self._cluster.service(key)
        whole = self._share(None, aggregates(self._announcer, self._config))
        shares: dict[Hashable, Share] = {Claimant(AGGREGATES, held=False): whole}
        notes: dict[ObjectKey, tuple[Note, ...]] = {}
        for key, service in services.items():
            try:
                decided = self._decide(service) if service else Decided({}, {}, ())
            except Exception as error:  # our fault, whatever it is: one Service stays as it was, the others go on
                notes[key] = (undecided("Service", key, error),)
                continue
            for value in (Announced.SERVICE, Announced.HELD):
                prefixes = {prefix: said for prefix, said in decided.prefixes.items() if said is value}
                shares[Claimant(key, value is Announced.HELD)] = self._share(service, prefixes)
            notes[key] = decided.notes
        return Decisions(shares, notes)

    def _decide(self, service: Service) -> Decided:
        slices = self._cluster.slices_of(service.key)
        return announced(service, slices, self._announcer, self._config, self._known)

    def _share(self, service: Service | None, prefixes: Mapping[Cidr, Announced]) -> Share:
        """All values of it are the same, but for the aggregates'."""
        holds = Announced.HELD in prefixes.values()
        seniority = (holds, service.created, *service.key) if service else (holds, 0.0, *AGGREGATES)
        return Share(seniority, {prefix: (Item(ANNOUNCED, prefix, value),) for prefix, value in prefixes.items()})

    # -- what may be asked ---------------------------------------------------------------------------------------------

    def why(self, key: ObjectKey) -> Sequence[Told] | None:
        """Of each address of a Service; None: there is no such Service."""
        service = self._cluster.service(key)
        if service is None:
            return None
        reasons = self._decide(service).reasons
        each = dict.fromkeys((*service.cluster_ips, *service.external_ips, *service.ingress_ips))
        told = [Told(address_text(address), reasons.get(address, "")) for address in each]
        return [*told, *(Told(sort.field, text.removeprefix(f"{sort.field}: ")) for sort, text in unusable(service))]
