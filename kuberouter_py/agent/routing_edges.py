"""The routing controller's edges: which tables, in which order, and what it asks of the node besides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from kuberouter_py.bgp.engine import Engine
from kuberouter_py.config import Config
from kuberouter_py.controllers.takeover.alive import router
from kuberouter_py.kernel import command
from kuberouter_py.kernel.cni_file import CniFiles
from kuberouter_py.kernel.gue import Listeners
from kuberouter_py.kernel.handover import Handover
from kuberouter_py.kernel.ipset import Members, Sets
from kuberouter_py.kernel.iptables import Chains
from kuberouter_py.kernel.links import link_states
from kuberouter_py.kernel.lookup_rules import LookupRules
from kuberouter_py.kernel.netlink_socket import NETLINK_GENERIC, NETLINK_ROUTE, Batch
from kuberouter_py.kernel.pod_bridge import PodBridges
from kuberouter_py.kernel.pod_routes import PodRoutes
from kuberouter_py.kernel.processes import Processes
from kuberouter_py.kernel.sysctl import Sysctls
from kuberouter_py.kernel.tunnels import Tunnels
from kuberouter_py.model.kernel import LinkState
from kuberouter_py.model.names import ROUTING_CHAINS, ROUTING_SETS
from kuberouter_py.model.others import Other
from kuberouter_py.model.podnet import CniSeen
from kuberouter_py.ports import EdgeError, Table

# What routing leans on. A kernel may have any of them built in; what is truly missing shows when it is used.
MODULES = ("bridge", "br_netfilter", "ipip", "ip6_tunnel", "xt_set", "ip_set_hash_ip", "ip_set_hash_net")
GUE_MODULES = ("fou", "fou6")


class RoutingEdges:
    """tables: growth order: a tunnel stands before the routes by way of it, and BGP tells of what is there.

    It is ports.RoutingFacts too.
    """

    def __init__(self, config: Config, *, load_modules: bool = True) -> None:
        modules = MODULES + (GUE_MODULES if config.enable_overlay and config.overlay_encap == "fou" else ())
        self.missing_modules = command.load_modules(modules) if load_modules else {}
        self._password_file = config.peer_router_passwords_file
        self.sysctls = Sysctls("routing", root=Path(config.proc_sys))
        self.sets = Sets(ROUTING_SETS)
        self.members = Members(ROUTING_SETS)
        self.chains = Chains(ROUTING_CHAINS, cast(Any, config.iptables_backend))
        self.engine = Engine(command.run, config.bird_socket)
        self.route_socket = Batch(NETLINK_ROUTE, strict=True)
        self._cni_path = config.cni_conf_file
        self.cni_files = CniFiles(config.cni_conf_file)
        self.tunnels = Tunnels(self.route_socket, lambda: _tunnels_stay(config.takeover))
        self.tables: Sequence[Table[Any, Any]] = (
            self.sysctls,
            self.sets,
            self.members,
            self.chains,
            PodBridges(self.route_socket),
            Listeners(Batch(NETLINK_GENERIC)),
            self.tunnels,
            PodRoutes(self.route_socket),
            LookupRules(self.route_socket),
            Handover(self.route_socket),
            self.engine,
            self.cni_files,
        )

    def links(self) -> Sequence[LinkState]:
        return link_states(self.route_socket)

    def sysctl_before_us(self, key: str) -> str | None:
        return self.sysctls.before_us(key)

    def password_file(self) -> str:
        try:
            return Path(self._password_file).read_text() if self._password_file else ""
        except (OSError, UnicodeError) as error:
            raise EdgeError(f"{self._password_file}: {getattr(error, 'strerror', 'no text')}") from error

    def cni(self) -> CniSeen:
        return self.cni_files.seen(self._cni_path)

    def messages(self) -> int:
        """Netlink messages sent and programs run since the start."""
        return sum(each.sent for each in (self.sets, self.members, self.route_socket)) + command.programs_run()

    def port_ids(self) -> frozenset[int]:
        """Our route socket: news that it caused are none to us."""
        return frozenset({self.route_socket.port_id})

    def facts(self) -> Mapping[str, str]:
        """What `status` adds of the edges."""
        said = {"iptables": self.chains.flavour or "not read yet"}
        if self.missing_modules:
            said["kernel modules not loaded"] = "; ".join(self.missing_modules.values())
        return said


def _tunnels_stay(takeover: bool) -> str:
    """Why kube-router's tunnels are not replaced by ours; "": they are."""
    if not takeover:
        return "goes with --takeover"
    found = router(Processes((Other.KUBE_ROUTER,)).read())
    return f"goes when that has ended: {found}" if found else ""
