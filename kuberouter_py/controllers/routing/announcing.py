"""DECIDE, for one Service: which of its addresses this node announces, and why not the others. Pure.

An address is announced while at least one port of the Service may be served through this node. Under policy Cluster an
endpoint anywhere is enough. Under Local it has to be on this node, and one that is terminating counts only while no
node has a ready one: a router that is told in time sends new connections to where they can stay. (ip_vs goes on sending
what still comes to the terminating one.)

What is ours and not announced from here is held, so that no peer's route to it is taken: not where peers' routes to the
whole Service range are refused anyway, and not where the address is somebody else's after all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from kuberouter_py.config import Config
from kuberouter_py.controllers.addresses import holder
from kuberouter_py.controllers.admission import Admission, inside
from kuberouter_py.controllers.endpoints import candidates, in_use, is_draining
from kuberouter_py.controllers.routing.announcer import Announcer
from kuberouter_py.controllers.routing.notes import ANNOTATION_REFUSED
from kuberouter_py.controllers.routing.wishes import (
    CLUSTER,
    EXTERNAL,
    INGRESS,
    SKIP_INGRESS,
    Sort,
    Wishes,
    addresses,
    aggregates_of,
    is_local,
    unusable,
    unwanted,
    wishes,
)
from kuberouter_py.model.bgp import Announced
from kuberouter_py.model.cluster import Cidr, EndpointSlice, Service
from kuberouter_py.model.kernel import address_text, family_of
from kuberouter_py.model.report import Note
from kuberouter_py.model.values import cidr_text

NOT_ANNOUNCED = "NotAnnounced"


class Known(NamedTuple):
    """What a decision asks of others' addresses. cluster_ip: whether some Service has it as its ClusterIP; node: the
    Node whose address it is, "" for none.
    """

    cluster_ip: Callable[[bytes], bool]
    node: Callable[[bytes], str]


class Decided(NamedTuple):
    """reasons: why not, for every address that is not announced."""

    prefixes: Mapping[Cidr, Announced]
    reasons: Mapping[bytes, str]
    notes: tuple[Note, ...]


class _Verdict(NamedTuple):
    """reason: "" where the address is announced. ours: the cluster's, whether or not it is announced. told: who wants
    it announced should know.
    """

    reason: str
    ours: bool = True
    told: bool = False


def announced(
    service: Service, slices: Sequence[EndpointSlice], announcer: Announcer, config: Config, known: Known
) -> Decided:
    said = wishes(service)
    judge = _Judge(service, slices, announcer, config, known, said)
    prefixes: dict[Cidr, Announced] = {}
    reasons: dict[bytes, str] = {}
    notes = [Note("Service", service.key, ANNOTATION_REFUSED, text, event=True) for text in said.unread]
    for sort, text in unusable(service):
        if not unwanted(sort, b"", said, config):
            notes.append(_note(service, f"not announced: {text}"))
    for sort, address in addresses(service):
        prefix = Cidr(address, 8 * len(address))
        if prefixes.get(prefix) is Announced.SERVICE:  # it is of two sorts
            continue
        reason, ours, told = judge.verdict(sort, address)
        if not reason:
            prefixes[prefix] = Announced.SERVICE
            reasons.pop(address, None)
            continue
        reasons[address] = reason
        if ours and announcer.held and not (sort is CLUSTER and inside(address, announcer.service_cidrs)):
            prefixes[prefix] = Announced.HELD
        if told and not unwanted(sort, address, said, config):
            notes.append(_note(service, f"{sort.noun} {address_text(address)} is not announced: {reason}"))
        elif sort is CLUSTER and said.annotated.get(CLUSTER) is False and ours and not announcer.nothing:
            notes += [
                _note(service, f"{sort.annotation} has no effect on {address_text(address)}: {whole} is announced")
                for whole in aggregates_of(address, config)
            ]
    return Decided(prefixes, reasons, tuple(notes))


def aggregates(announcer: Announcer, config: Config) -> Mapping[Cidr, Announced]:
    """Prefixes in place of the ClusterIPs in them: a matter of the node alone."""
    found = {}
    for prefix in config.advertise_cluster_ip_range:
        if family_of(prefix.network) not in announcer.families:
            continue
        if not announcer.nothing:
            found[prefix] = Announced.SERVICE
        elif announcer.held and not _within(prefix, announcer.service_cidrs):
            found[prefix] = Announced.HELD
    return found


def _within(prefix: Cidr, others: Sequence[Cidr]) -> bool:
    return any(prefix.network in other and other.prefix <= prefix.prefix for other in others)


def _note(service: Service, message: str) -> Note:
    return Note("Service", service.key, NOT_ANNOUNCED, message)


class _Reach(NamedTuple):
    """Why a Service cannot be reached in one family, from a node's point of view; "" where it can."""

    cluster: str = ""  # policy Cluster
    local: str = ""  # policy Local


class _Judge:
    def __init__(
        self,
        service: Service,
        slices: Sequence[EndpointSlice],
        announcer: Announcer,
        config: Config,
        known: Known,
        said: Wishes,
    ) -> None:
        self._service = service
        self._slices = slices
        self._announcer = announcer
        self._config = config
        self._known = known
        self._said = said
        self._admission = Admission(config, announcer.service_cidrs, known.cluster_ip)
        self._families = {family_of(address) for address in service.cluster_ips}
        self._reach: dict[int, _Reach] = {}

    def verdict(self, sort: Sort, address: bytes) -> _Verdict:
        if reason := self._without(sort, address):
            return _Verdict(reason, ours=False)
        if reason := self._refused(sort, address):
            return _Verdict(reason, ours=False, told=True)
        local = is_local(self._service, sort)
        if reason := unwanted(sort, address, self._said, self._config):
            return _Verdict(reason)
        if reason := self._announcer.nothing or ("" if sort is CLUSTER else self._announcer.no_external):
            return _Verdict(reason)
        if sort is CLUSTER and not local and (whole := [*aggregates_of(address, self._config)]):
            return _Verdict(f"{whole[0]}, which it is in, is announced in its place")
        reach = self._reached(family_of(address))
        return _Verdict(reach.local if local else reach.cluster)

    def _without(self, sort: Sort, address: bytes) -> str:
        """Why the address is none that this node serves, as it was meant to be; "" where it may be."""
        family = family_of(address)
        if family not in self._announcer.families:
            return f"this node does without IPv{family}"
        if family not in self._families:
            return f"the Service has no IPv{family} ClusterIP"
        if held := inside(address, self._config.excluded_cidrs):
            return f"inside --excluded-cidrs ({cidr_text(held)})"
        if sort is INGRESS and self._service.type != "LoadBalancer":
            return f"the Service is of type {self._service.type}"
        if sort is INGRESS and SKIP_INGRESS in self._service.annotations:
            return f"{SKIP_INGRESS} is set"
        return ""

    def _refused(self, sort: Sort, address: bytes) -> str:
        """Why the address is not the Service's to have; "" where it is."""
        if node := self._known.node(address):
            return f"it is an address of Node {node}"
        if sort is CLUSTER:
            link = holder(self._announcer.local, address)
            return f"link {link} of this node has it" if link else ""
        return self._admission.refuse_external(address) if sort is EXTERNAL else self._admission.refuse_ingress(address)

    def _reached(self, family: int) -> _Reach:
        if family not in self._reach:
            self._reach[family] = _reach(self._service, self._slices, family, self._announcer.node)
        return self._reach[family]


def _reach(service: Service, slices: Sequence[EndpointSlice], family: int, node: str) -> _Reach:
    """By all ports together: one that may be served is enough."""
    if not slices:
        return _Reach("it has no EndpointSlice", "it has no EndpointSlice")
    anywhere = leaving = False
    for port in service.ports:
        found = candidates(slices, port, family, node)
        used = in_use(found)
        anywhere = anywhere or bool(used)
        if any(node and one.node == node for one in used.values()):
            return _Reach()
        leaving = leaving or any(one.node == node and is_draining(one) for one in found.values())
    if not anywhere:
        return _Reach("no endpoint is ready on any node", "no endpoint is ready on any node")
    if leaving:
        return _Reach(local="policy Local, and what is on this node is terminating while others are ready")
    return _Reach(local="policy Local and no ready endpoint on this node")
