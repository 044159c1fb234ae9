"""DECIDE: which remembered UDP flows lead to nobody. Pure; rules S9.01-S9.04.

A UDP client that goes on sending from its port keeps its entry in conntrack, whoever answered first: an endpoint that
is gone by now, or nobody, where the first packet came before the Service was known. TCP and SCTP end by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

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
    """Which frontends to look after: those whose endpoints are others than at the last look. At first, all of them."""

    def __init__(self) -> None:
        self._known: dict[ObjectKey, Serving] = {}
        self._changed: dict[VirtualServerKey, frozenset[DestinationKey]] = {}

    def update(self, service: ObjectKey, serving: Serving) -> None:
        """The Service's as they are now; of a Service that is gone none, and its flows end by themselves (S9.03)."""
        before = self._known.get(service, {})
        self._changed.update({key: those for key, those in serving.items() if before.get(key) != those})
        for key in before.keys() - serving.keys():
            self._changed.pop(key, None)
        if serving:
            self._known[service] = serving
        else:
            self._known.pop(service, None)

    def changed(self) -> Serving:
        return self._changed

    def done(self) -> None:
        """The flows of all that had changed are as they should be."""
        self._changed = {}
