"""DECIDE, for the node itself: sysctls, sets, chains, the VIP link, hairpin mode of the pods' ports. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from kuberouter_py.config import Config
from kuberouter_py.controllers.claims import Item, Share
from kuberouter_py.controllers.forwarding import forwarding
from kuberouter_py.controllers.services.chains import chains, sets
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model.kernel import Link, LinkState

ESTIMATION = "net/ipv4/vs/run_estimation"  # older kernels have no such switch
SYSCTLS, SETS, CHAINS, LINKS, BRIDGE_PORTS = "sysctls", "ipsets", "iptables", "links", "bridge ports"


class Kernel(NamedTuple):
    """before_us: a sysctl's value before we first wrote it, None where there is none. estimates: see scale.py."""

    version: tuple[int, int]
    processors: int
    before_us: Callable[[str], str | None]
    estimates: bool | None = None


def node_share(config: Config, view: NodeView, links: Sequence[LinkState], kernel: Kernel) -> Share:
    """One unit: what every Service on this node leans on."""
    items = [Item(SYSCTLS, key, value) for key, value in _sysctls(config, view, kernel)]
    for family in view.families:
        items += [Item(SETS, name, header) for name, header in sets(view, family)]
        items += [Item(CHAINS, chain, rules) for chain, rules in chains(config, view, family)]
    items.append(Item(LINKS, config.vip_link, Link("dummy", up=True)))
    items += [Item(BRIDGE_PORTS, port, True) for port in _hairpin_ports(view, links)]
    return Share((), {"node": tuple(items)})


def _hairpin_ports(view: NodeView, links: Sequence[LinkState]) -> Iterator[str]:
    """Ports of the pods' bridges; a promiscuous bridge reflects by itself, hairpin mode would double that."""
    promiscuous = {link.name for link in links if link.promiscuous}
    for link in links:
        if link.master in view.bridges and link.master not in promiscuous:
            yield link.name


def _sysctls(config: Config, view: NodeView, kernel: Kernel) -> Iterator[tuple[str, str]]:
    yield from _ipvs_sysctls(kernel)
    if view.direct_return:
        # A full packet does not fit the tunnel, and ip_vs cannot tell its sender so from an address that is not local.
        yield "net/ipv4/vs/pmtu_disc", "0"
    yield from forwarding(view.families, view.uplinks, kernel.before_us)
    if config.strict_arp and 4 in view.families:  # S10.02: VIPs on a dummy link must not be answered for on the wire
        yield "net/ipv4/conf/all/arp_ignore", "1"
        yield "net/ipv4/conf/all/arp_announce", "2"
    # Strict reverse path filtering drops answers that IPVS sends another way; loose keeps martians out (1 -> 2, never
    # 0).
    for link in ("all", config.vip_link, *view.bridges, *view.uplinks):
        key = f"net/ipv4/conf/{link}/rp_filter"
        if kernel.before_us(key) == "1":
            yield key, "2"
    if view.bridges:  # pod to VIP to pod over one bridge: the answer must pass the node's IP layer to be rewritten
        yield "net/bridge/bridge-nf-call-iptables", "1"
        if 6 in view.families:
            yield "net/bridge/bridge-nf-call-ip6tables", "1"
    yield from _conntrack_sysctls(config, kernel)


def _ipvs_sysctls(kernel: Kernel) -> Iterator[tuple[str, str]]:
    """S10.01. conntrack: masquerade needs it. The other two let clients of a vanished destination be scheduled anew."""
    yield "net/ipv4/vs/conntrack", "1"
    yield "net/ipv4/vs/expire_nodest_conn", "1"
    yield "net/ipv4/vs/expire_quiescent_template", "1"
    if kernel.estimates is not None and kernel.before_us(ESTIMATION) is not None:
        yield ESTIMATION, str(int(kernel.estimates))
    reuse = "net/ipv4/vs/conn_reuse_mode"
    if (4, 1) <= kernel.version < (5, 9):
        yield reuse, "0"
    elif kernel.before_us(reuse) == "0":  # another proxy's: from 5.9 on it sends a port used again to who is gone
        yield reuse, "1"


def _conntrack_sysctls(config: Config, kernel: Kernel) -> Iterator[tuple[str, str]]:
    """S9.07; 0 leaves a value as it is."""
    if config.conntrack_max_per_core:
        limit = max(config.conntrack_max_per_core * kernel.processors, config.conntrack_min)
        yield "net/netfilter/nf_conntrack_max", str(limit)
    for key, seconds in (
        ("nf_conntrack_tcp_timeout_established", config.conntrack_tcp_timeout_established),
        ("nf_conntrack_tcp_timeout_close_wait", config.conntrack_tcp_timeout_close_wait),
    ):
        if seconds:
            yield f"net/netfilter/{key}", str(int(seconds))
