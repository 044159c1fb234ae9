"""What this node is, as far as a Service's share depends on it: one frozen value. Pure.

Built from the Node object, the node's links and the configuration. When it changes, the controller compares old and
new and rings what depends on the difference; a Node heartbeat changes nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kuberouter_py.config import Config
from kuberouter_py.controllers.addresses import addresses_of, holder, is_link_local, is_ours, on_other_links
from kuberouter_py.model.cluster import Cidr, Node
from kuberouter_py.model.kernel import LinkState, family_of
from kuberouter_py.model.names import KUBE_PROXY_LINK, POD_BRIDGE

ZONE_LABEL = "topology.kubernetes.io/zone"

# Links whose addresses are nobody's NodePort address: kube-router leaves out the same three heads. By whatever name,
# dummy links carry what is not on the wire (a node-local DNS cache's addresses).
_INTERNAL_HEADS = ("dummy", "kube", "docker")
_LOOPBACK6 = bytes(15) + b"\1"


@dataclass(frozen=True)
class NodeView:
    """primary: the node's own address by family, the source of routes; absent while the node has none.

    told: families of which the Node object has an address, or had one. local: every address on a link that is
    not ours -> the link's name. elsewhere: addresses of the other nodes. detector: how local pods are told (S8.02).
    """

    name: str
    zone: str = ""  # label topology.kubernetes.io/zone
    families: tuple[int, ...] = (4,)
    primary: Mapping[int, bytes] = field(default_factory=dict)
    told: frozenset[int] = frozenset()
    local: Mapping[bytes, str] = field(default_factory=dict)
    elsewhere: frozenset[bytes] = frozenset()
    nodeport_addresses: tuple[bytes, ...] = ()
    pod_cidrs: tuple[Cidr, ...] = ()
    service_cidrs: tuple[Cidr, ...] = ()  # as the operator says, else the cluster
    allocated_cidrs: tuple[Cidr, ...] = ()  # as the cluster says: what ClusterIPs are given from, and nothing else
    detector: str = "none"
    detector_cidrs: tuple[Cidr, ...] = ()
    detector_interface: str = ""
    bridges: tuple[str, ...] = ()  # bridges that hold this node's pods
    uplinks: tuple[str, ...] = ()  # links that carry a primary address
    missing_schedulers: frozenset[str] = frozenset()
    mtu: int = 1500  # the smallest of any link that packets may leave by
    direct_return: bool = False  # something is led in for it (dsr.py)
    aside: bool = False  # another proxy's DNAT rules go on working until all of ours stands

    def holder(self, cluster_ip: bytes) -> str:
        """The link by which somebody else answers for a ClusterIP on this node; "" where nobody does."""
        return holder(self.local, cluster_ip)


def node_view(
    config: Config,
    name: str,
    node: Node | None,
    links: Sequence[LinkState],
    service_cidrs: tuple[Cidr, ...],
    missing_schedulers: frozenset[str] = frozenset(),
    others: Iterable[Node] = (),
    before: NodeView | None = None,
) -> NodeView:
    """node None: not known (yet); then its addresses are guessed from its links, so that ClusterIPs work at once.

    others: the other nodes. before: the view until now. A Node that loses an address for a moment (kubelet or the cloud
    provider restarts) keeps it for as long as a link has it, and the family until the Node object goes.
    """
    local = on_other_links(config, links)
    said = addresses_of(node) if node else _guessed(links)
    known = before.told if before and node else frozenset()
    kept = [before.primary[family] for family in known if before.primary.get(family) in local] if before else []
    primary = _first_of_each_family([*said, *kept])
    told = known | set(map(family_of, said)) if node else known
    pod_cidrs = node.pod_cidrs if node else ()
    bridges = _bridges(config, links, pod_cidrs)
    detector, detector_cidrs, detector_interface = _detector(config, pod_cidrs)
    return NodeView(
        name=name,
        zone=node.labels.get(ZONE_LABEL, "") if node else "",
        families=_families(config, told or {*primary, *map(family_of, _guessed(links))}),
        primary=primary,
        told=told,
        local=local,
        elsewhere=frozenset(address for other in others for address in addresses_of(other)),
        nodeport_addresses=_nodeport_addresses(config, primary, links),
        pod_cidrs=pod_cidrs,
        service_cidrs=config.service_cluster_ip_range or service_cidrs,
        allocated_cidrs=service_cidrs,
        detector=detector,
        detector_cidrs=detector_cidrs,
        detector_interface=detector_interface,
        bridges=bridges,
        uplinks=tuple(sorted({local[address] for address in primary.values() if address in local})),
        missing_schedulers=missing_schedulers,
        mtu=min((link.mtu for link in links if link.up and link.kind != "dummy"), default=1500),
        direct_return=before.direct_return if before else False,
    )


def _internal(link: LinkState) -> bool:
    return link.name == "lo" or link.kind == "dummy" or link.name.startswith(_INTERNAL_HEADS)


def _guessed(links: Sequence[LinkState]) -> list[bytes]:
    """Global addresses of links that may lead out of the node."""
    return [
        address
        for link in links
        if link.up and not _internal(link) and link.kind != "bridge"
        for address, _ in link.addresses
        if not is_link_local(address)
    ]


def _first_of_each_family(addresses: Sequence[bytes]) -> dict[int, bytes]:
    first: dict[int, bytes] = {}
    for address in addresses:
        first.setdefault(family_of(address), address)
    return first


def _families(config: Config, seen: Iterable[int]) -> tuple[int, ...]:
    """--enable-ipv6 unset: on where the Node has or had an IPv6 address, or may have once it has any."""
    ipv6 = config.enable_ipv6 if config.enable_ipv6 is not None else 6 in seen
    return ((4,) if config.enable_ipv4 else ()) + ((6,) if ipv6 else ())


def _nodeport_addresses(config: Config, primary: Mapping[int, bytes], links: Sequence[LinkState]) -> tuple[bytes, ...]:
    """S6.01-S6.04: each family by itself; never on loopback, nor on the VIPs' own link (S2.11)."""
    asked = ("all",) if config.nodeport_bindon_all_ip else config.nodeport_addresses or ("primary",)
    words = {one for one in asked if isinstance(one, str)}
    held = [
        (address, link)
        for link in links
        if not is_ours(config, link) and link.name != KUBE_PROXY_LINK
        for address, _ in link.addresses
        if not is_link_local(address) and address != _LOOPBACK6
    ]
    found: dict[bytes, None] = {}
    for family, size in ((4, 4), (6, 16)):
        cidrs = [one for one in asked if isinstance(one, Cidr) and len(one.network) == size]
        every = "all" in words or not (words or cidrs) or any(cidr.prefix == 0 for cidr in cidrs)
        if (every or "primary" in words) and family in primary:
            found[primary[family]] = None
        for address, link in held:
            named = any(address in cidr for cidr in cidrs if cidr.prefix)
            if len(address) == size and (named or (every and not _internal(link))):
                found[address] = None
    return tuple(found)


def _bridges(config: Config, links: Sequence[LinkState], pod_cidrs: Sequence[Cidr]) -> tuple[str, ...]:
    """The bridge named by flag; else kube-bridge and every bridge that has an address of this node's podCIDRs."""
    if config.pod_bridge_interface:
        return (config.pod_bridge_interface,)
    return tuple(
        sorted(
            link.name
            for link in links
            if link.kind == "bridge"
            and (link.name == POD_BRIDGE or any(address in cidr for address, _ in link.addresses for cidr in pod_cidrs))
        )
    )


def _detector(config: Config, pod_cidrs: tuple[Cidr, ...]) -> tuple[str, tuple[Cidr, ...], str]:
    """How local pods are told (S8.02), and by which ranges, or which links ("veth+"). Where no flag says how, NodeCIDR
    if the Node has podCIDRs.
    """
    mode = config.local_mode()
    if mode == "auto":
        mode = "NodeCIDR" if pod_cidrs else "none"
    cidrs = {"NodeCIDR": pod_cidrs, "ClusterCIDR": config.cluster_cidr}.get(mode, ())
    links = {
        "BridgeInterface": config.pod_bridge_interface,
        "InterfaceNamePrefix": f"{config.pod_interface_name_prefix}+",
    }
    return mode, tuple(cidrs), links.get(mode, "")
