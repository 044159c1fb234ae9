"""Options of NetworkPolicy."""

from __future__ import annotations

from dataclasses import dataclass

from kuberouter_py.config.option import option
from kuberouter_py.model import values

POLICIES = "NetworkPolicy"


@dataclass(frozen=True)
class Firewall:
    netpol_default_deny: bool = option(
        values.BOOL,
        False,
        "a local pod's address is closed until the policies that select the pod are in force; off: open until then",
        group=POLICIES,
    )
    netpol_cut_established: bool = option(
        values.BOOL,
        True,
        "end the connections that a changed policy allows no longer; off: only new ones are judged by it",
        group=POLICIES,
    )
    iptables_sync_period: float = option(
        values.SECOND_OR_MORE,
        300.0,
        "how often the kernel is compared with what the policies ask for",
        group=POLICIES,
    )
    service_node_port_range: str = option(
        values.PORT_RANGE,
        "",
        "accepted for kube-router's sake: whatever ports the Services have are NodePorts",
        group=POLICIES,
    )
    use_nftables_for_netpol: bool = option(
        values.BOOL,
        False,
        "accepted for kube-router's sake: rules are written by iptables, which --iptables-backend chooses",
        group=POLICIES,
    )
