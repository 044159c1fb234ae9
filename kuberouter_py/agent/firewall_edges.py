"""The firewall's edges: which tables, in which order, and what it asks of the node besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from kuberouter_py.config import Config
from kuberouter_py.kernel import command
from kuberouter_py.kernel.conntrack import Conntrack
from kuberouter_py.kernel.ipset import Members, Sets
from kuberouter_py.kernel.iptables import Chains
from kuberouter_py.kernel.links import link_states
from kuberouter_py.kernel.looking import LookingAtRules
from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch
from kuberouter_py.kernel.sysctl import Sysctls
from kuberouter_py.model.kernel import LinkState, SetMember
from kuberouter_py.model.names import FIREWALL_CHAINS, FIREWALL_SETS, firewall_set
from kuberouter_py.ports import Table

# What the firewall leans on. A kernel may have any of them built in; what is truly missing shows when it is used.
MODULES = (
    "br_netfilter",  # first: it brings the sysctls that lead pods of one bridge to each other by way of FORWARD
    "nf_conntrack",
    "nf_conntrack_netlink",
    "nfnetlink_log",
    "xt_set",
    "ip_set_hash_ip",
    "ip_set_hash_ipport",
    "ip_set_hash_ipportip",
    "ip_set_hash_net",
    "xt_addrtype",
    "xt_bpf",
    "xt_comment",
    "xt_connmark",
    "xt_conntrack",
    "xt_limit",
    "xt_multiport",
    "xt_NFLOG",
    "ipt_REJECT",
    "ip6t_REJECT",
)
ISOLATION = {
    firewall_set(direction, family): direction for direction in ("egress", "ingress") for family in (4, 6)
}  # its members' counters are the packets that were denied


class FirewallEdges:
    """tables: growth order: a rule speaks of sets, and a pod's guard stands before the pod is led into it.

    It is ports.FirewallFacts too.
    """

    def __init__(self, config: Config, *, load_modules: bool = True, run: Callable[..., str] = command.run) -> None:
        """run: starts the programs of iptables."""
        self.missing_modules = command.load_modules(MODULES) if load_modules else {}
        self.sysctls = Sysctls("firewall", root=Path(config.proc_sys))
        self.sets = Sets(FIREWALL_SETS)
        self.members = Members(FIREWALL_SETS, counting=ISOLATION)
        self.chains = Chains(FIREWALL_CHAINS, cast(Any, config.iptables_backend), run=run)
        self.looking = LookingAtRules(self.chains, FIREWALL_SETS)
        self.conntrack = Conntrack()
        self._route_socket = Batch(NETLINK_ROUTE, strict=True)
        self.tables: Sequence[Table[Any, Any]] = (self.sysctls, self.sets, self.members, self.chains)

    def links(self) -> Sequence[LinkState]:
        return link_states(self._route_socket)

    def messages(self) -> int:
        """Netlink messages sent and programs run since the start."""
        sockets = (self.sets, self.members, self._route_socket, self.conntrack)
        return sum(each.sent for each in sockets) + command.programs_run()

    def denied(self) -> Mapping[SetMember, tuple[int, int]]:
        """Packets and bytes that were denied to and from each isolated pod's address. Raises EdgeError."""
        return self.members.counters(ISOLATION)

    def facts(self) -> Mapping[str, str]:
        """What `status` adds of the edges."""
        said = {"iptables": self.chains.flavour or "not read yet"}
        if self.missing_modules:
            said["kernel modules not loaded"] = "; ".join(self.missing_modules.values())
        return said

    def problems(self) -> Iterator[str]:
        if self.chains.rules_in_both:
            yield "both flavours of iptables hold rules of other programs; both apply"
