"""ports.Lookups and ports.FirewallLookups over the kernel: the few questions of somebody who wants to know, on sockets
of their own.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from kuberouter_py.kernel.ipset import Members
from kuberouter_py.kernel.iptables import Chains
from kuberouter_py.kernel.ipvs import VirtualServers
from kuberouter_py.kernel.ipvs_templates import template
from kuberouter_py.kernel.links import way_to
from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch
from kuberouter_py.kernel.rtnetlink_routes import RTN_LOCAL
from kuberouter_py.model.kernel import Chain, Rules, ServerKey, SetMember, VirtualServer
from kuberouter_py.model.names import SERVICES_SETS
from kuberouter_py.ports import Affinity, Hop


class LookingAtRules:
    """ports.FirewallLookups. chains: the table that is written elsewhere; what is asked of it here waits for no write.
    prefix: of the sets.
    """

    def __init__(self, chains: Chains, prefix: str) -> None:
        self._chains = chains
        self._members = Members(prefix)

    def holds(self, member: SetMember) -> bool:
        return bool(self._members.holds([member]))

    def chains(self) -> Mapping[Chain, Rules]:
        """As a comparison in parts reads them, so that a write does not wait for the programs."""
        return {chain: rules for part in self._chains.parts(()) for chain, rules in part.ours.items()}


class Looking(LookingAtRules):
    """servers: written elsewhere too."""

    def __init__(self, servers: VirtualServers, chains: Chains) -> None:
        super().__init__(chains, SERVICES_SETS)
        self._servers = servers
        self._routes = Batch(NETLINK_ROUTE, strict=True)

    def toward(self, address: bytes) -> Hop | None:
        route = way_to(self._routes, address)
        if route is None or not route.link:
            return None
        return Hop(socket.if_indextoname(route.link), route.source)

    def is_local(self, address: bytes, mark: int = 0) -> bool:
        route = way_to(self._routes, address, mark)
        return route is not None and route.type == RTN_LOCAL

    def server(self, key: ServerKey) -> VirtualServer | None:
        return self._servers.look_at(key)

    def affinity(self, key: ServerKey, client: bytes) -> Affinity | None:
        return template(key, client)

    def mark(self, member: SetMember) -> int:
        return self._members.mark_of(member) or 0
