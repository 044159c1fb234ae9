"""The services controller's edges: which tables, in which order, and who tells whom what is ours."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from kuberouter_py.config import Config
from kuberouter_py.controllers.services.nodestate import ESTIMATION
from kuberouter_py.kernel import command
from kuberouter_py.kernel.bridge import BridgePorts
from kuberouter_py.kernel.conntrack import Conntrack
from kuberouter_py.kernel.diversions import Diversions
from kuberouter_py.kernel.ipset import Members, Sets
from kuberouter_py.kernel.iptables import Chains
from kuberouter_py.kernel.ipvs import VirtualServers
from kuberouter_py.kernel.links import Addresses, Links, find_link, link_states, lookup
from kuberouter_py.kernel.looking import Looking
from kuberouter_py.kernel.namespaces import ProcNamespaces
from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch
from kuberouter_py.kernel.pod_addresses import PodAddresses
from kuberouter_py.kernel.routes import Routes
from kuberouter_py.kernel.sysctl import Sysctls
from kuberouter_py.model.kernel import DestinationKey, LinkState, SetEntry, SetMember, VirtualServerKey, family_of
from kuberouter_py.model.names import KUBE_PROXY_LINK, SERVICES_CHAINS, SERVICES_SETS, VIP_LINK, services_set
from kuberouter_py.observe.healthchecks import HealthChecks
from kuberouter_py.ports import Table

# What the services controller leans on. A kernel may have any of them built in; what is truly missing shows when it
# is used.
MODULES = (
    "ip_vs",
    "ip_vs_rr",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "xt_set",
    "ip_set_hash_ip",
    "ip_set_hash_ipport",
    "ip_set_hash_ipportip",
    "ip_set_hash_ipportnet",
    "xt_conntrack",
    "xt_connmark",
    "xt_mark",
    "xt_addrtype",
    "xt_comment",
    "dummy",
    "br_netfilter",
)


class ServicesEdges:
    """tables: growth order: what a Service leans on stands before its first VIP does (S10.11), and a load balancer is
    told last. proxy_healthy: what it is told of the proxy itself.
    """

    def __init__(
        self, config: Config, *, load_modules: bool = True, proxy_healthy: Callable[[], bool] = lambda: True
    ) -> None:
        self._conn_tab_bits = config.ipvs_conn_tab_bits
        if load_modules and self._conn_tab_bits:
            command.load_modules(("ip_vs",), parameters=(f"conn_tab_bits={self._conn_tab_bits}",))
        self.missing_modules = command.load_modules(MODULES) if load_modules else {}
        self.sysctls = Sysctls("services", root=Path(config.proc_sys))
        self.sets = Sets(SERVICES_SETS)
        self.members = Members(SERVICES_SETS)
        self.chains = Chains(SERVICES_CHAINS, cast(Any, config.iptables_backend))
        self.route_socket = Batch(NETLINK_ROUTE, strict=True)
        self._vip_link = config.vip_link
        self.vip_links = (config.vip_link, VIP_LINK)  # the default one is ours whatever the flag says
        self.links = Links(self.route_socket, self.vip_links)
        self.routes = Routes(self.route_socket, self.vip_links, (KUBE_PROXY_LINK,) if config.takeover else ())
        self.addresses = Addresses(self.route_socket, self.vip_links, self.routes.write_again)
        self.bridge_ports = BridgePorts(self.route_socket)
        self.servers = VirtualServers(self._owned, self._vip_addresses, config.excluded_cidrs, self._marked)
        self.health_checks = HealthChecks(proxy_healthy)
        self.looking = Looking(self.servers, self.chains)
        self.conntrack = Conntrack()
        self.tables: Sequence[Table[Any, Any]] = (
            self.sysctls,
            self.sets,
            self.members,
            self.chains,
            Diversions(self.route_socket),
            PodAddresses(ProcNamespaces()),
            self.servers,
            self.links,
            self.addresses,
            self.routes,
            self.bridge_ports,
            self.health_checks,
        )

    def _owned(self) -> set[tuple[bytes, int, int]]:
        names = {services_set("owned", family) for family in (4, 6)}
        return {
            (member.entry.address, member.entry.protocol, member.entry.port)
            for member in self.members.read().ours
            if member.set in names
        }

    def _vip_addresses(self) -> set[bytes]:
        return {each.address for each in self.addresses.read().ours} | set(self.routes.read().ours)

    def _marked(self, keys: Sequence[VirtualServerKey]) -> list[VirtualServerKey]:
        """Which of these few the ownership set names, or have their address on our link."""
        members = [
            SetMember(services_set("owned", family_of(key.address)), SetEntry(key.address, key.protocol, key.port))
            for key in keys
        ]
        named = {member.entry for member in self.members.holds(members)}
        ours = find_link(self.route_socket, self._vip_link)
        found = []
        for key, member in zip(keys, members, strict=True):
            route = lookup(self.route_socket, key.address) if ours and member.entry not in named else None
            if member.entry in named or (ours and route and route.link == ours.index):
                found.append(key)
        return found

    def messages(self) -> int:
        """Netlink messages sent and programs run since the start."""
        sockets = (self.sets, self.members, self.servers, self.route_socket, self.conntrack)
        return sum(each.sent for each in sockets) + command.programs_run()

    def port_ids(self) -> frozenset[int]:
        """Our route socket: news that it caused are none to us."""
        return frozenset({self.route_socket.port_id})

    def facts(self) -> Mapping[str, str]:
        """What `status` adds of the edges."""
        said = {"iptables": self.chains.flavour or "not read yet", "connection table": self._connection_table()}
        if self.chains.rules_in_both:
            said["iptables warning"] = "both flavours hold rules of others; both apply"
        if self.missing_modules:
            said["kernel modules not loaded"] = "; ".join(self.missing_modules.values())
        return said

    def problems(self) -> Iterator[str]:
        if self.chains.rules_in_both:
            yield "both flavours of iptables hold rules of other programs; both apply"

    def _connection_table(self) -> str:
        bits = command.module_parameter("ip_vs", "conn_tab_bits")
        if not bits:
            return "size not known: ip_vs is not a module of this kernel, or not loaded"
        said = f"2^{bits} rows"
        if self._conn_tab_bits and bits != str(self._conn_tab_bits):
            said += f", not 2^{self._conn_tab_bits} as asked: ip_vs was loaded before (takes effect once it is anew)"
        return said

    def estimates_rates(self) -> bool:
        """Whether IPVS estimates rates now; where they stand still they are no rates."""
        return self.sysctls.current(ESTIMATION) != "0"


class Node:
    """ports.NodeFacts over the real node. looking_only: nothing is written to find an answer."""

    def __init__(self, edges: ServicesEdges, *, looking_only: bool = False) -> None:
        self._edges = edges
        self._looking_only = looking_only

    def links(self) -> Sequence[LinkState]:
        return link_states(self._edges.route_socket)

    def sysctl_before_us(self, key: str) -> str | None:
        return self._edges.sysctls.before_us(key)

    def can_set_sysctl(self, key: str) -> bool:
        return self._edges.sysctls.can_set(key)

    def has_scheduler(self, name: str) -> bool:
        if self._looking_only:
            return command.could_load(f"ip_vs_{name}")
        command.load_modules((f"ip_vs_{name}",))
        return self._edges.servers.probe_scheduler(name)

    def connections(self, servers: Sequence[Any]) -> Mapping[Any, Mapping[DestinationKey, int]]:
        counters = self._edges.servers.connections(servers)
        return {
            server: {where: each.active + each.inactive for where, each in destinations.items()}
            for server, destinations in counters.items()
        }

    def kernel_version(self) -> tuple[int, int]:
        found = re.match(r"(\d+)\.(\d+)", platform.release())
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def processors(self) -> int:
        return os.cpu_count() or 1
