"""DECIDE, for direct server return: pods that answer clients themselves, from the Service's address. Pure.

`kube-router.io/service.dsr: tunnel` concerns a Service's external and load-balancer addresses. IPVS sends what comes to
them to the pods inside another IP packet, unchanged; the pod has the address too, on the end of a tunnel, and its
answer goes straight to the client. The director must not hold the address: an answer of a pod of its own would come
from an address of its own, and be dropped. So such an address is not bound to this node; what comes to it is marked and
led in (dsr_chains.py), whichever Service's it is, and a virtual server on a mark stands for address and port.

Why a port cannot be returned directly is a reason; it is masqueraded then, like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from kuberouter_py.controllers.addressbook import outside_addresses
from kuberouter_py.controllers.claims import Item, Unit
from kuberouter_py.controllers.endpoints import Candidates, candidates
from kuberouter_py.controllers.services.desired import ADDRESSES, MEMBERS, ROUTES, SERVERS, Decision
from kuberouter_py.controllers.services.dsr_chains import FRONTENDS, VIPS
from kuberouter_py.controllers.services.marks import MarkOf, MarkUser
from kuberouter_py.controllers.services.policies import SHORT_CIRCUIT, frontend_member
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model.cluster import EndpointSlice, Service, ServicePort
from kuberouter_py.model.kernel import (
    Diversion,
    Forwarding,
    MarkServerKey,
    PodAddress,
    Protocol,
    SetEntry,
    SetMember,
    VirtualServer,
    VirtualServerKey,
    address_text,
    family_of,
)
from kuberouter_py.model.names import BALANCING_MARK, BALANCING_MASK, DIVERTED_MARK, services_set
from kuberouter_py.model.report import Note

ANNOTATION, TUNNEL = "kube-router.io/service.dsr", "tunnel"
POD_ADDRESSES, DIVERSIONS, SYSCTLS = "pod addresses", "diversions", "sysctls"
REFUSED = "DirectReturnRefused"

# With mh all nodes send a client to the same pod: one may take over another's connection in its middle, if ip_vs lets
# more than a SYN begin one.
_SLOPPY = Item(SYSCTLS, "net/ipv4/vs/sloppy_tcp", "1")
_LED_IN = Diversion(BALANCING_MARK, BALANCING_MASK)
# Sets in which only an address of the node's own, or a masqueraded one, has a place.
_OF_BOUND, _OF_MASQUERADED = ("vips",), ("owned", "external", "hairpin")


def is_asked(service: Service) -> bool:
    return service.annotations.get(ANNOTATION) == TUNNEL


def return_directly(
    decision: Decision,
    service: Service,
    slices: Sequence[EndpointSlice],
    view: NodeView,
    is_direct: Callable[[bytes], bool],
    mark_of: MarkOf,
) -> Decision:
    """The decision, with what comes to addresses of direct return led in by marks. is_direct: whether any Service has
    asked for it for that address.
    """
    outside = {address for address in outside_addresses(service) if is_direct(address)}
    if not outside and ANNOTATION not in service.annotations:
        return decision
    led = [key for key in decision.share.units if isinstance(key, VirtualServerKey) and key.address in outside]
    ports = _Ports(service, slices, view, led, mark_of)
    units = dict(decision.share.units)
    for key in led:
        if ports.may_be_led(key):
            direct = ports.direct(key)
            units[key] = ports.direct_unit(key, units[key], direct) if direct else _led_unit(key, units[key])
    return Decision(decision.share._replace(units=units), (*decision.notes, *ports.notes))


class _Direct(NamedTuple):
    """A Service port of one family that is returned directly. pods: those of this node, by UID and own address."""

    mark: int
    pods: tuple[tuple[str, bytes], ...]


class _Ports:
    """Which of a Service's ports are returned directly, each family by itself. notes: why others are not."""

    def __init__(
        self,
        service: Service,
        slices: Sequence[EndpointSlice],
        view: NodeView,
        frontends: Collection[VirtualServerKey],
        mark_of: MarkOf,
    ) -> None:
        self._service = service
        self._slices = slices
        self._view = view
        self._frontends = frontends
        self._mark_of = mark_of
        self._asked = is_asked(service)
        self._ports = {(port.protocol, port.port): port for port in service.ports}
        self._directs: dict[tuple[int, int, int], _Direct | None] = {}
        self._servers: dict[int, VirtualServer] = {}  # all addresses of a port share one, as they do elsewhere
        self.notes: dict[Note, None] = {}
        word = service.annotations.get(ANNOTATION, TUNNEL)
        if word != TUNNEL:
            self._refuse(f"{ANNOTATION} is {word!r}, and only {TUNNEL!r} is known")

    def may_be_led(self, key: VirtualServerKey) -> bool:
        """Not where a node has the address: such a frontend is left as it is."""
        if key.address in self._view.local:
            reason = f"link {self._view.local[key.address]} of this node has it"
        elif key.address in self._view.elsewhere:
            reason = "another node has it"
        else:
            return True
        if self._asked:
            self._refuse(f"{address_text(key.address)}: {reason}", event=False)
        return False

    def direct(self, key: VirtualServerKey) -> _Direct | None:
        where = (key.protocol, key.port, family_of(key.address))
        if where not in self._directs:
            self._directs[where] = self._decide(key) if self._asked else None
        return self._directs[where]

    def _decide(self, key: VirtualServerKey) -> _Direct | None:
        port = self._ports[key.protocol, key.port]
        found = candidates(self._slices, port, family_of(key.address), self._view.name)
        if reason := _refusal(port, found, self._view):
            self._refuse(f"{Protocol(port.protocol).name} port {port.port}: {reason}; masqueraded as usual")
            return None
        alike = [one for one in self._frontends if (one.protocol, one.port) == (key.protocol, key.port)]
        user = MarkUser(self._service.key, port.name, port.protocol, FRONTENDS)
        pods = tuple((one.pod, one.address) for one in found.values() if one.node == self._view.name)
        return _Direct(self._mark_of(user, [frontend_member(FRONTENDS, one) for one in alike]), pods)

    def direct_unit(self, key: VirtualServerKey, unit: Unit, direct: _Direct) -> Unit:
        """The pods' items first: who is sent a client has the address by then."""
        kept = [Item(POD_ADDRESSES, PodAddress(uid, address, key.address), None) for uid, address in direct.pods]
        mark = DIVERTED_MARK
        for item in unit:
            if item.table == SERVERS:
                server = self._servers.setdefault(id(item.value), _tunnelled(item.value))
                mark = direct.mark if server.destinations else DIVERTED_MARK
                kept.append(Item(SERVERS, MarkServerKey(direct.mark, family_of(key.address)), server))
                kept += [_SLOPPY] if server.scheduler == "mh" else []
            elif not _is_member(item, _OF_MASQUERADED):
                kept.append(item)
        return _led_unit(key, tuple(kept), mark)

    def _refuse(self, message: str, *, event: bool = True) -> None:
        note = Note("Service", self._service.key, REFUSED, f"not returned directly: {message}", event)
        self.notes[note] = None


def _refusal(port: ServicePort, found: Candidates, view: NodeView) -> str:
    """Why these endpoints cannot answer by themselves; "" when they can."""
    others = sorted({where.port for where in found} - {port.port})
    if others:
        return f"its endpoints listen on {', '.join(map(str, others))}, and what is in a tunnel keeps its port"
    for endpoint in found.values():
        if endpoint.address in view.local or endpoint.address in view.elsewhere:
            return f"endpoint {address_text(endpoint.address)} is in its node's network"
        if not endpoint.pod:
            return f"endpoint {address_text(endpoint.address)} is no pod, so nobody would give it the Service's address"
    return ""


def _led_unit(key: VirtualServerKey, unit: Unit, mark: int = DIVERTED_MARK) -> Unit:
    """Not bound; marked instead. A frontend that nobody serves is not led in: what leads out again is refused."""
    kept = [item for item in unit if item.table not in (ADDRESSES, ROUTES) and not _is_member(item, _OF_BOUND)]
    family = family_of(key.address)
    items = [Item(DIVERSIONS, family, _LED_IN)]
    items.append(Item(MEMBERS, SetMember(services_set(VIPS, family), SetEntry(key.address)), None))
    served = any(item.table == SERVERS and item.value.destinations for item in kept)
    if served or any(_is_member(item, (SHORT_CIRCUIT,)) for item in kept):
        items.append(Item(MEMBERS, frontend_member(FRONTENDS, key), mark))
    return (*items, *kept)


def _tunnelled(server: VirtualServer) -> VirtualServer:
    return server._replace(
        destinations={key: one._replace(forwarding=Forwarding.TUNNEL) for key, one in server.destinations.items()}
    )


def _is_member(item: Item, roles: Collection[str]) -> bool:
    return item.table == MEMBERS and any(
        item.key.set == services_set(role, family) for role in roles for family in (4, 6)
    )
