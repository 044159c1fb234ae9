"""DECIDE, for policy Local: who hears nothing, and whom a short circuit leads to endpoints elsewhere. Pure.

Rules S3.02, S3.09, S4.*, S6.06. What the sets do stands in chains.py, why marks in docs/decisions/004-mark-servers.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from kuberouter_py.controllers.endpoints import Chosen
from kuberouter_py.controllers.services.marks import MarkOf, MarkUser
from kuberouter_py.model.cluster import Service, ServicePort
from kuberouter_py.model.kernel import SetEntry, SetMember, VirtualServerKey, family_of
from kuberouter_py.model.names import services_set

SHORT_CIRCUIT = "shortcircuit"


def silence(frontend: VirtualServerKey, chosen: Chosen, *, external: bool) -> Iterator[SetMember]:
    """Under Local, with no endpoint here and some elsewhere: a ClusterIP is silent to everybody, an outside frontend to
    whoever is outside. With no endpoint anywhere the virtual server has no destination, and refuses.
    """
    if chosen.anywhere and not chosen.local:
        yield frontend_member("silentoutside" if external else "silent", frontend)


class ShortCircuit:
    """This node's pods and processes are served as under Cluster, as if they went out to a load balancer and came back.

    frontends: those of one Service port and family that have external policy Local; with none there is no mark.
    """

    def __init__(
        self, service: Service, port: ServicePort, frontends: Collection[VirtualServerKey], mark_of: MarkOf
    ) -> None:
        self._members = {key: frontend_member(SHORT_CIRCUIT, key) for key in frontends}
        user = MarkUser(service.key, port.name, port.protocol, SHORT_CIRCUIT)
        self.mark = mark_of(user, self._members.values()) if frontends else None

    def members(self, frontend: VirtualServerKey) -> Iterator[tuple[SetMember, int | None]]:
        """What leads to the mark's server."""
        if frontend in self._members:
            yield self._members[frontend], self.mark


def frontend_member(role: str, frontend: VirtualServerKey) -> SetMember:
    """A frontend in the set of that role (chains.py)."""
    protocol, address, port = frontend
    return SetMember(services_set(role, family_of(address)), SetEntry(address, protocol, port))
