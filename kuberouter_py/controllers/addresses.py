"""Whose an address is that a Service names: a Node's, or a link's of this node. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kuberouter_py.config import Config
from kuberouter_py.model.cluster import Node
from kuberouter_py.model.kernel import LinkState
from kuberouter_py.model.names import KUBE_PROXY_LINK, VIP_LINK, is_vip_link


def addresses_of(node: Node) -> tuple[bytes, ...]:
    """Internal ones first: the first of each family is what the node is known by."""
    return (*node.internal_ips, *node.external_ips)


def is_link_local(address: bytes) -> bool:
    """An address that means something on one link (or inside this node) only."""
    if len(address) == 4:
        return address[:2] == b"\xa9\xfe" or address[0] == 127
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80


def is_ours(config: Config, link: LinkState) -> bool:
    """Whether a link holds our VIPs."""
    return is_vip_link(link.name, link.kind, link.alias, (config.vip_link, VIP_LINK))


def on_other_links(config: Config, links: Sequence[LinkState]) -> dict[bytes, str]:
    """Every address on a link that is not ours -> that link's name.

    Where two links have one address, another proxy's is the one that counts less; and not at all where it goes.
    """
    others = [link for link in links if not is_ours(config, link)]
    others.sort(key=lambda link: link.name != KUBE_PROXY_LINK)
    if config.takeover:
        others = [link for link in others if link.name != KUBE_PROXY_LINK]
    return {address: link.name for link in others for address, _ in link.addresses}


def holder(local: Mapping[bytes, str], cluster_ip: bytes) -> str:
    """The link by which somebody else answers for a ClusterIP on this node; "" where nobody does.

    A node-local DNS cache binds the DNS Service's. What kube-proxy has bound is what we are here to serve.
    """
    link = local.get(cluster_ip, "")
    return "" if link == KUBE_PROXY_LINK else link
