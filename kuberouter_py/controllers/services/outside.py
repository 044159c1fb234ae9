"""DECIDE, for one Service: which of its external addresses are served, and why the others are not. Pure.

Rules S2.03, S2.04, S10.05; what may be served at all is in controllers/admission.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from kuberouter_py.controllers.admission import Admission
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model.cluster import Service
from kuberouter_py.model.kernel import address_text, family_of
from kuberouter_py.model.report import Note

ADDRESS_REFUSED = "AddressRefused"  # the reason of a note


def service_note(service: Service, reason: str, message: str, *, event: bool = False) -> Note:
    return Note("Service", service.key, reason, message, event)


def external_addresses(
    service: Service, family: int, view: NodeView, admission: Admission, notes: list[Note]
) -> dict[bytes, bool]:
    """Served external addresses of the family -> whether the VIP is ours to bind (S2.03, S2.04, S10.05).

    One that another link of this node has is not: it is the node's own, or kube-vip or keepalived brought it and
    decides over it. Nor is another node's: bound here, it would cut this node off from that one (K3s' ServiceLB writes
    every node's address into the status).
    """
    served: dict[bytes, bool] = {}
    for address, what, reason in _asked(service, family, admission):
        if reason:
            notes.append(_not_served(service, address, what, reason))
        else:
            served[address] = address not in view.local and address not in view.elsewhere
    return served


def without_cluster_ip(service: Service, view: NodeView, admission: Admission) -> Iterator[Note]:
    """External addresses of a family that the Service itself is not of (S1.05), or of one that is headless."""
    whole = "" if service.cluster_ips else "the Service has no ClusterIP"
    for family in sorted({*view.families}.difference(map(family_of, service.cluster_ips))):
        for address, what, reason in _asked(service, family, admission):
            reason = reason or whole or f"the Service has no IPv{family} ClusterIP"
            yield _not_served(service, address, what, reason)


def _asked(service: Service, family: int, admission: Admission) -> Iterator[tuple[bytes, str, str]]:
    """Each external address of the family, what it is, and why it may not be served; both kinds where it is both."""
    asked = [(address, "externalIP", admission.refuse_external) for address in service.external_ips]
    asked += [(address, "load-balancer address", admission.refuse_ingress) for address in service.ingress_ips]
    may: set[bytes] = set()
    for address, what, refuse in asked:
        if family_of(address) == family and address not in may:
            if not (reason := refuse(address)):
                may.add(address)
            yield address, what, reason


def _not_served(service: Service, address: bytes, what: str, reason: str) -> Note:
    message = f"{what} {address_text(address)} is not served: {reason}"
    return service_note(service, ADDRESS_REFUSED, message, event=True)
