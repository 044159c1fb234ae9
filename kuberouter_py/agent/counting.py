"""What IPVS has counted until now, by Service: for metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kuberouter_py.agent.edges import ServicesEdges
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import MarkServerKey, ServerKey, address_text
from kuberouter_py.model.notation_servers import protocol_text
from kuberouter_py.observe.service_metrics import ServiceCounters


def service_counters(edges: ServicesEdges, owner_of: Callable[[Any], ObjectKey | None]) -> Iterator[ServiceCounters]:
    """Virtual servers that belong to no Service are left out. Raises EdgeError."""
    rates = edges.estimates_rates()
    for key, counted in edges.servers.statistics().items():
        owner = owner_of(key)
        if owner is None:
            continue
        vip, protocol, port = _labels(key)
        yield ServiceCounters(
            namespace=owner.namespace,
            service=owner.name,
            vip=vip,
            protocol=protocol,
            port=port,
            connections=counted.connections,
            packets_in=counted.packets_in,
            packets_out=counted.packets_out,
            bytes_in=counted.bytes_in,
            bytes_out=counted.bytes_out,
            connection_rate=counted.connections_rate if rates else None,
            packet_rate_in=counted.packets_in_rate if rates else None,
            packet_rate_out=counted.packets_out_rate if rates else None,
            byte_rate_in=counted.bytes_in_rate if rates else None,
            byte_rate_out=counted.bytes_out_rate if rates else None,
        )


def _labels(key: ServerKey) -> tuple[str, str, int]:
    """Address, protocol and port in metrics. Of a server on a mark, as `ipvsadm -L` has it: the mark (the two families'
    share it: "1073741824 IPv6"), "fwm" and 0.
    """
    if isinstance(key, MarkServerKey):
        return f"{key.mark} IPv6" if key.family == 6 else str(key.mark), "fwm", 0
    return address_text(key.address), protocol_text(key.protocol), key.port
