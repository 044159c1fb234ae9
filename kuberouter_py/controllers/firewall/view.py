"""What this node is, as far as the firewall depends on it: one frozen value. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kuberouter_py.config import Config
from kuberouter_py.model.cluster import Cidr, Node
from kuberouter_py.model.kernel import LinkState, family_of

BRIDGE_NF = {4: "net/bridge/bridge-nf-call-iptables", 6: "net/bridge/bridge-nf-call-ip6tables"}


@dataclass(frozen=True)
class View:
    """bridges: there are any, so that pods may be on one. compares_addresses: the kernel has the match for it.

    own: every address of this node, on whatever link.
    """

    families: tuple[int, ...] = (4,)
    pod_cidrs: tuple[Cidr, ...] = ()
    bridges: bool = False
    compares_addresses: bool = True
    own: frozenset[bytes] = frozenset()


def node_view(config: Config, node: Node | None, links: Sequence[LinkState], before: View) -> View:
    """IPv6 unless a flag says: where the node has, or its pods may have, an address of it."""
    pod_cidrs = node.pod_cidrs if node else before.pod_cidrs
    said = [*node.internal_ips, *(cidr.network for cidr in pod_cidrs)] if node else []
    held = [address for link in links if link.name != "lo" for address, _ in link.addresses if address[:1] != b"\xfe"]
    ipv6 = config.enable_ipv6 if config.enable_ipv6 is not None else 6 in {family_of(each) for each in (*said, *held)}
    return View(
        families=((4,) if config.enable_ipv4 else ()) + ((6,) if ipv6 else ()),
        pod_cidrs=pod_cidrs,
        bridges=any(link.kind == "bridge" for link in links),
        compares_addresses=before.compares_addresses,
        own=frozenset(address for link in links for address, _ in link.addresses),
    )
