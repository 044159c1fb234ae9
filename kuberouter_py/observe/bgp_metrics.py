"""BGP sessions as Prometheus reads them: kube-router's name where it has one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from kuberouter_py.model.bgp import ESTABLISHED, PeerState
from kuberouter_py.model.kernel import address_text

if TYPE_CHECKING:
    from prometheus_client.core import Metric


class SessionCounters(NamedTuple):
    """flaps: how often the session went down since the agent began."""

    peer: PeerState
    flaps: int


def bgp_metrics(sessions: Iterable[SessionCounters]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    info = GaugeMetricFamily(
        "kube_router_bgp_peer_info", "always 1; a peer and its session", labels=("address", "type", "asn", "state")
    )
    up = GaugeMetricFamily("kuberouter_py_bgp_session_up", "1: the session is established", labels=("address", "node"))
    routes = GaugeMetricFamily(
        "kuberouter_py_bgp_routes",
        "routes that a peer gave (received), of them used (accepted), and got (announced)",
        labels=("address", "family", "direction"),
    )
    flaps = CounterMetricFamily(
        "kuberouter_py_bgp_session_flaps", "how often an established session went down", labels=("address", "node")
    )
    for peer, count in sessions:
        address = address_text(peer.address)
        info.add_metric((address, "internal" if peer.node else "external", str(peer.asn), peer.state), 1)
        up.add_metric((address, peer.node), float(peer.state == ESTABLISHED))
        flaps.add_metric((address, peer.node), count)
        for direction in ("received", "accepted", "announced"):
            for family, number in sorted(getattr(peer, direction).items()):
                routes.add_metric((address, f"IPv{family}", direction), number)
    yield from (info, up, routes, flaps)
