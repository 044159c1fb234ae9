"""The routing controller's rules: O(1) in Nodes, their networks and addresses are in sets. Pure.

Hooks (docs/kernel.md draws them): packets of pods are forwarded also where the node's policy for FORWARD is DROP
(Docker sets it). The jump stands behind all other rules there: what the firewall, or anybody else, wants refused is
refused before. Packets of pods that leave the cluster carry the node's address from nat POSTROUTING on.
"""

from __future__ import annotations

from collections.abc import Iterator

from kuberouter_py.config import Config
from kuberouter_py.controllers.routing.nodes import NODES, PODS
from kuberouter_py.controllers.routing.view import View
from kuberouter_py.model.kernel import Chain, IpSet, Rules, address_text
from kuberouter_py.model.names import ROUTING_CHAINS, routing_set

FORWARD, EGRESS = ROUTING_CHAINS + "FORWARD", ROUTING_CHAINS + "EGRESS"


def sets(family: int) -> Iterator[tuple[str, IpSet]]:
    yield routing_set(PODS, family), IpSet("hash:net", family)
    yield routing_set(NODES, family), IpSet("hash:ip", family)


def chains(config: Config, view: View, family: int) -> Iterator[tuple[Chain, Rules]]:
    pods = routing_set(PODS, family)
    accept = tuple(f"-m set --match-set {pods} {side} -j ACCEPT" for side in ("src", "dst"))
    yield Chain(family, "filter", FORWARD), Rules(accept)
    yield Chain(family, "filter", "FORWARD"), Rules((f"-j {FORWARD}",), first=False)
    if config.enable_pod_egress:
        yield Chain(family, "nat", EGRESS), Rules(tuple(_egress(view, family)))
        yield Chain(family, "nat", "POSTROUTING"), Rules((f"-j {EGRESS}",))


def _egress(view: View, family: int) -> Iterator[str]:
    """In IPv6 MASQUERADE takes any address of the link, the newest one first, which may be somebody's VIP; in IPv4 it
    takes the one that the route names.
    """
    pods, nodes = routing_set(PODS, family), routing_set(NODES, family)
    ends = f"-m set ! --match-set {pods} dst -m set ! --match-set {nodes} dst"
    leaves = f"-m set --match-set {pods} src {ends}"
    own = view.primary.get(family)
    if family == 6 and own is not None:
        for link in view.links:
            if any(address == own for address, _ in link.addresses):
                yield f"-o {link.name} {leaves} -j SNAT --to-source {address_text(own)} --random-fully"
    yield f"{leaves} -j MASQUERADE --random-fully"
