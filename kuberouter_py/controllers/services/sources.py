"""loadBalancerSourceRanges: who may come to a Service's load-balancer addresses. Pure; rules S7.01-S7.06."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Interface, ip_interface
from typing import NamedTuple

from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model.cluster import Cidr, Service


class SourceRanges(NamedTuple):
    """by_family: the ranges of each family that is filtered; a family without an entry is open (S7.02)."""

    by_family: Mapping[int, tuple[Cidr, ...]]
    reasons: tuple[str, ...]


def source_ranges(service: Service) -> SourceRanges:
    """An item that is no range allows nobody, and closes both families: what it was meant for is not known."""
    found: dict[int, tuple[Cidr, ...]] = {}
    reasons: list[str] = []
    for text in service.source_ranges:
        try:
            written = ip_interface(text.strip())
            if isinstance(written, IPv6Interface) and written.ipv4_mapped:
                raise ValueError  # of IPv4, and of more than there is of it
        except ValueError:
            reasons.append(f"loadBalancerSourceRanges: {text.strip()!r} is no range; it allows nobody")
            continue
        network = written.network
        cidr = Cidr(network.network_address.packed, network.prefixlen)
        found[network.version] = (*found.get(network.version, ()), cidr)
    if reasons:
        found = {family: found.get(family, ()) for family in (4, 6)}
    return SourceRanges(found, tuple(reasons))


def allowed(ranges: tuple[Cidr, ...], vip: bytes, view: NodeView) -> list[Cidr]:
    """What the kernel's set holds: no /0, which is two halves. A node inside one may come as the VIP too (S7.04)."""
    found: list[Cidr] = []
    for cidr in ranges:
        found += _halves(cidr) if cidr.prefix == 0 else [cidr]
    primary = view.primary.get(4 if len(vip) == 4 else 6)
    if primary is not None and any(primary in cidr for cidr in ranges):
        found.append(Cidr(vip, 8 * len(vip)))
    return found


def _halves(cidr: Cidr) -> list[Cidr]:
    rest = bytes(len(cidr.network) - 1)
    return [Cidr(b"\x00" + rest, 1), Cidr(b"\x80" + rest, 1)]
