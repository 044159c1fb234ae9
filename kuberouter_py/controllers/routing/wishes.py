"""Which of its addresses a Service's owner and the operator want announced: flags, and annotations that say otherwise.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kuberouter_py.config import Config
from kuberouter_py.controllers.admission import inside
from kuberouter_py.model.cluster import Service
from kuberouter_py.model.values import cidr_text, parse_bool

PREFIX = "kube-router.io/service."
LOCAL, SKIP_INGRESS = f"{PREFIX}local", f"{PREFIX}skiplbips"


class Sort(NamedTuple):
    """What kind of address it is. field: where it stands in a Service, as decoding names it. option: the field of
    Config; annotation: what counts before it for one Service.
    """

    noun: str
    field: str
    option: str
    annotation: str

    @property
    def flag(self) -> str:
        return "--" + self.option.replace("_", "-")


CLUSTER = Sort("ClusterIP", "spec.clusterIPs", "advertise_cluster_ip", f"{PREFIX}advertise.clusterip")
EXTERNAL = Sort("externalIP", "spec.externalIPs", "advertise_external_ip", f"{PREFIX}advertise.externalip")
INGRESS = Sort(
    "load-balancer address",
    "status.loadBalancer.ingress",
    "advertise_loadbalancer_ip",
    f"{PREFIX}advertise.loadbalancerip",
)
SORTS = (CLUSTER, EXTERNAL, INGRESS)


class Wishes(NamedTuple):
    """annotated: what annotations say, by sort. unread: annotations that say nothing that can be understood."""

    annotated: Mapping[Sort, bool]
    unread: tuple[str, ...] = ()


_NONE = Wishes({})


def wishes(service: Service) -> Wishes:
    if not service.annotations:
        return _NONE
    annotated, unread = {}, []
    for sort in SORTS:
        text = service.annotations.get(sort.annotation)
        if text is None:
            continue
        try:
            annotated[sort] = parse_bool(text)
        except ValueError as error:
            unread.append(f"{sort.annotation}: {error}; {sort.flag} counts")
    return Wishes(annotated, tuple(unread))


def unwanted(sort: Sort, address: bytes, said: Wishes, config: Config) -> str:
    """Why nobody wants the address announced; "" where somebody does.

    An aggregate is a wish for every ClusterIP in it.
    """
    annotated = said.annotated.get(sort)
    if annotated is not None:
        return "" if annotated else f"{sort.annotation} says no"
    if getattr(config, sort.option):
        return ""
    if sort is CLUSTER and inside(address, config.advertise_cluster_ip_range):
        return ""
    return f"{sort.flag} is off"


def addresses(service: Service) -> Iterator[tuple[Sort, bytes]]:
    for sort, found in zip(SORTS, (service.cluster_ips, service.external_ips, service.ingress_ips), strict=True):
        for address in found:
            yield sort, address


def unusable(service: Service) -> Iterator[tuple[Sort, str]]:
    """What stands where an address should, and is none."""
    for sort in SORTS:
        for text in service.unusable:
            if text.startswith(sort.field):
                yield sort, text


def is_local(service: Service, sort: Sort) -> bool:
    """Whether only this node's endpoints count for it. `service.local` is about traffic from outside."""
    if sort is CLUSTER:
        return service.internal_local
    return service.external_local or service.annotations.get(LOCAL) == "true"


def aggregates_of(address: bytes, config: Config) -> Iterator[str]:
    """Those that a ClusterIP is in."""
    return (cidr_text(whole) for whole in config.advertise_cluster_ip_range if address in whole)
