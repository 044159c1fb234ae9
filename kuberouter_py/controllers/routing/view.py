"""What this node is, as far as routing depends on it: one frozen value. Pure.

Built from the Node object, the node's links and the configuration. Where it changes, every Node is decided anew; a
heartbeat, or a pod that comes, changes nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kuberouter_py.config import Config
from kuberouter_py.controllers.addresses import addresses_of
from kuberouter_py.model.cluster import Cidr, Node
from kuberouter_py.model.kernel import LinkState, family_of
from kuberouter_py.model.names import POD_BRIDGE, VIP_LINK, is_tunnel, is_vip_link

# What an encapsulation adds to a packet, in bytes: an IPv4 header has 20, an IPv6 header 40; UDP (8) and GUE (4) come
# between them and the packet (draft-ietf-intarea-gue-09, 3).
HEADERS = {4: 20, 6: 40}
GUE_HEADERS = 8 + 4


@dataclass(frozen=True)
class View:
    """primary: the node's own address by family, absent while it has none. links: those that lead out of the node.
    local: every address of this node, on whatever link. overlay: "" (no tunnels), "subnet", "full". gue_port: 0: ipip.
    mtus: by family, of the link that carries the primary address. known: there is (or was) a Node object.
    """

    name: str
    known: bool = False
    families: tuple[int, ...] = (4,)
    primary: Mapping[int, bytes] = field(default_factory=dict)
    links: tuple[LinkState, ...] = ()
    local: frozenset[bytes] = frozenset()
    pod_cidrs: tuple[Cidr, ...] = ()
    overlay: str = ""
    gue_port: int = 0
    mtus: Mapping[int, int] = field(default_factory=dict)

    def overhead(self, family: int) -> int:
        """Bytes that a tunnel of this family takes."""
        return HEADERS[family] + (GUE_HEADERS if self.gue_port else 0)

    def tunnel_mtu(self, family: int) -> int:
        return self.mtus.get(family, 1500) - self.overhead(family)

    def pod_mtu(self, tunnelled: Sequence[int]) -> int:
        """The MTU of pods' links: what fits whichever way their packets go. tunnelled: families that have tunnels."""
        fits = [mtu - (self.overhead(family) if family in tunnelled else 0) for family, mtu in self.mtus.items()]
        return min(fits, default=1500)


def node_view(config: Config, name: str, node: Node | None, links: Sequence[LinkState], before: View) -> View:
    """Of each family the first InternalIP, else the first ExternalIP, as kube-router has it. A Node that loses an
    address for a moment (kubelet or the cloud provider restarts) keeps it as long as a link has it.
    """
    local = frozenset(address for link in links for address, _ in link.addresses)
    leading = tuple(link for link in links if leads_out(config, link))
    said = addresses_of(node) if node else ()
    kept = [address for address in before.primary.values() if address in local]
    primary: dict[int, bytes] = {}
    for address in (*said, *kept):
        primary.setdefault(family_of(address), address)
    pod_cidrs = node.pod_cidrs if node else before.pod_cidrs
    seen = {*primary, *(family_of(cidr.network) for cidr in pod_cidrs)}
    ipv6 = config.enable_ipv6 if config.enable_ipv6 is not None else 6 in seen
    return View(
        name=name,
        known=before.known or node is not None,
        families=((4,) if config.enable_ipv4 else ()) + ((6,) if ipv6 else ()),
        primary=primary,
        links=leading,
        local=local,
        pod_cidrs=pod_cidrs,
        overlay=config.overlay_type if config.enable_overlay else "",
        gue_port=config.overlay_encap_port if config.overlay_encap == "fou" else 0,
        mtus={family: _mtu(leading, address) for family, address in primary.items()},
    )


def leads_out(config: Config, link: LinkState) -> bool:
    """Other nodes may be behind it: it has addresses, and is not the VIPs', not the pods', no tunnel of ours."""
    if link.name == "lo" or link.kind == "dummy" or link.name == POD_BRIDGE or is_tunnel(link.name, link.alias):
        return False
    if is_vip_link(link.name, link.kind, link.alias, (config.vip_link, VIP_LINK)):
        return False
    return any(not _link_local(address) for address, _ in link.addresses)


def _link_local(address: bytes) -> bool:
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80 if len(address) == 16 else address[:2] == b"\xa9\xfe"


def _mtu(links: Sequence[LinkState], address: bytes) -> int:
    return next((link.mtu for link in links if any(address == each for each, _ in link.addresses)), 1500)
