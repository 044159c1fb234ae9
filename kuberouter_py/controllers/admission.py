"""Which external addresses of a Service may be served, and why not the others. Pure.

externalIPs are written by users, load-balancer ingress addresses by controllers; neither may take a cluster address
(the attack of CVE-2020-8554 by another name), and users' ones only what the operator allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kuberouter_py.config import Config
from kuberouter_py.controllers.addresses import is_link_local
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.values import cidr_text


def inside(address: bytes, cidrs: Sequence[Cidr]) -> Cidr | None:
    """The first of them that holds the address."""
    return next((cidr for cidr in cidrs if address in cidr), None)


class Admission:
    """cluster_ip: whether an address is some Service's ClusterIP."""

    def __init__(self, config: Config, service_cidrs: Sequence[Cidr], cluster_ip: Callable[[bytes], bool]) -> None:
        self._config = config
        self._service_cidrs = service_cidrs
        self._cluster_ip = cluster_ip

    def refuse_external(self, address: bytes) -> str:
        """Why this externalIP is not served; "" when it is."""
        reason = self._refuse_any(address)
        if not reason and is_link_local(address):
            reason = "a link-local address"  # as the API server says; a cloud's metadata service is one
        if reason or not self._config.strict_external_ip_validation:
            return reason
        ranges = self._config.service_external_ip_range
        if inside(address, ranges):
            return ""
        return f"outside --service-external-ip-range ({self._listed(ranges)})"

    def refuse_ingress(self, address: bytes) -> str:
        """Why this load-balancer address is not served; "" when it is."""
        reason = self._refuse_any(address)
        ranges = self._config.loadbalancer_ip_range
        if reason or not ranges or inside(address, ranges):
            return reason
        return f"outside --loadbalancer-ip-range ({self._listed(ranges)})"

    def _refuse_any(self, address: bytes) -> str:
        if (address[0] == 127 and len(address) == 4) or address == bytes(15) + b"\1":
            return "a loopback address"
        if not any(address):
            return "the unspecified address"
        multicast = address[0] >= 224 if len(address) == 4 else address[0] == 0xFF
        if multicast:
            return "no unicast address"
        held = inside(address, self._service_cidrs)
        if held:
            return f"inside the Service CIDR {cidr_text(held)}"
        if self._cluster_ip(address):  # also where CIDRs are known: they may be of the other family, or not all of them
            return "a ClusterIP of this cluster"
        return ""

    def _listed(self, ranges: Sequence[Cidr]) -> str:
        return ", ".join(map(cidr_text, ranges)) or "none given"
