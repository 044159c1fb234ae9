"""DECIDE: which remembered UDP flows lead to nobody. Pure; rules S9.01-S9.04.

A UDP client that goes on sending from its port keeps its entry in conntrack, whoever answered first: an endpoint that
is gone by now, or nobody, where the first packet came before the Service was known. TCP and SCTP end by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

from kuberouter_py.controllers.claims import Share
from kuberouter_py.controllers.endpoints import candidates
from kuberouter_py.controllers.services.desired import SERVERS
from kuberouter_py.model.cluster import SERVING, EndpointSlice, ObjectKey, Service
from kuberouter_py.model.kernel import DestinationKey, Flow, Protocol, VirtualServerKey, family_of

Serving = Mapping[VirtualServerKey, frozenset[DestinationKey]]


def udp_serving(service: Service, slices: Sequence[EndpointSlice], share: Share) -> Serving:
    """Of each UDP frontend in the share the endpoints that may go on answering: those that serve, wherever they are
    and whatever policies say, so that a policy cuts no flow (S9.02).
    """
    found: dict[VirtualServerKey, frozenset[DestinationKey]] = {}
    for port in service.ports:
        if port.protocol != Protocol.UDP:
            continue
        serving: dict[int, frozenset[DestinationKey]] = {}
        for claim, unit in share.units.items():
            if not isinstance(claim, VirtualServerKey) or claim.protocol != port.protocol:
                continue
            if claim.port not in (port.port, port.node_port):
                continue
            if not any(item.key == claim for item in unit if item.table == SERVERS):
                continue  # returned directly: the flow is not translated, and names no endpoint
            family = family_of(claim.address)
            if family not in serving:
                every = candidates(slices, port, family, "")
                serving[family] = frozenset(key for key, one in every.items() if one.conditions & SERVING)
            found[claim] = found.get(claim, frozenset()) | serving[family]
    return found


def stale(flows: Iterable[Flow], serving: Serving) -> Iterator[Flow]:
    """Those to one of these frontends that nobody of its own answers. One without any is left alone (S9.02)."""
    for flow in flows:
        those = serving.get(VirtualServerKey(flow.protocol, flow.destination, flow.port))
        if those and DestinationKey(flow.answers, flow.answers_port) not in those:
            yield flow


class UdpFlows:
    """Which frontends to look after: those whose endpoints are others than at the last look. At first, all of them.

    in_force: the Service that has a frontend. Others may want it as well; their endpoints do not count (S9.01).
    """

    def __init__(self, in_force: Callable[[Hashable], ObjectKey | None]) -> None:
        self._in_force = in_force
        self._serving: dict[ObjectKey, Serving] = {}
        self._anew: set[VirtualServerKey] = set()  # of another Service, or with other endpoints, than before
        self._looked: dict[VirtualServerKey, frozenset[DestinationKey]] = {}  # as they were at the last look
        self._changed: dict[VirtualServerKey, frozenset[DestinationKey]] = {}

    def update(self, service: ObjectKey, serving: Serving) -> None:
        """The Service's as they are now; of a Service that is gone none, and its flows end by themselves (S9.03)."""
        before = self._serving.pop(service, {})
        self._anew.update(key for key in before.keys() | serving.keys() if before.get(key) != serving.get(key))
        if serving:
            self._serving[service] = serving

    def inherits(self, service: ObjectKey) -> None:
        """Some of its frontends were another's."""
        self._anew.update(self._serving.get(service, ()))

    def changed(self) -> Serving:
        """Asked when everybody's claims are made. Until done(), they stay changed."""
        for key in self._anew:
            now = self._of_owner(key)
            if now is not None and self._looked.get(key) == now:
                continue
            self._looked.pop(key, None)  # what comes back before the next look is news too
            self._changed.pop(key, None)
            if now is not None:
                self._changed[key] = now
        self._anew.clear()
        return self._changed

    def done(self) -> None:
        """The flows of all that had changed are as they should be."""
        self._looked.update(self._changed)
        self._changed = {}

    def _of_owner(self, key: VirtualServerKey) -> frozenset[DestinationKey] | None:
        owner = self._in_force(key)
        return self._serving.get(owner, {}).get(key) if owner is not None else None
