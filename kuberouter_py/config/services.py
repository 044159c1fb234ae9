"""Options of the Service proxy."""

from __future__ import annotations

from dataclasses import dataclass

from kuberouter_py.config.option import BadOption, option
from kuberouter_py.model import values
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.names import VIP_LINK

SERVICES, LOCAL, ADDRESSES = "Services", "Masquerading", "Addresses of Services"


@dataclass(frozen=True)
class Services:
    ipvs_sync_period: float = option(
        values.POSITIVE_DURATION, 300.0, "how often the kernel is compared with what it should hold", group=SERVICES
    )
    ipvs_min_sync_period: float = option(
        values.DURATION,
        0.0,
        "time between two syncs at least: changes are gathered meanwhile; 0: a change never waits",
        group=SERVICES,
    )
    ipvs_graceful_termination: bool = option(
        values.BOOL,
        True,
        "keep the connections of TCP endpoints that go, at weight 0, until they are gone or their time is over; off: "
        "endpoints are removed at once",
        group=SERVICES,
    )
    ipvs_graceful_period: float = option(
        values.DURATION,
        30.0,
        "how long a connection is kept so, where the pod does not say (deletionGracePeriodSeconds)",
        group=SERVICES,
    )
    ipvs_permit_all: bool = option(
        values.BOOL, True, "filter the ports of Service addresses: only their own answer on them", group=SERVICES
    )
    excluded_cidrs: tuple[Cidr, ...] = option(
        values.CIDRS, (), "virtual servers in these ranges are somebody else's, whatever is wanted", group=SERVICES
    )
    nodeport_addresses: tuple[Cidr | str, ...] = option(
        values.NODE_ADDRESSES,
        (),
        "NodePorts answer on the node's addresses in these ranges; a family without a range: on all; primary: on those "
        "of the Node object; not given: primary",
        group=SERVICES,
    )
    nodeport_bindon_all_ip: bool = option(values.BOOL, False, "the same as --nodeport-addresses=all", group=SERVICES)
    vip_link: str = option(
        values.OWN_LINK_NAME,
        VIP_LINK,
        "the link that Service addresses are bound on, made and held by the agent alone; Calico looks for kube-ipvs0",
        group=SERVICES,
    )
    vip_binding: str = option(
        values.choice("auto", "address", "route"),
        "auto",
        "what makes the kernel accept a Service address: an address on --vip-link and its route, or the route alone "
        "(scales to tens of thousands); auto: an address while there are at most 5,000",
        group=SERVICES,
    )
    ipvs_estimation: str = option(
        values.choice("auto", "on", "off"),
        "auto",
        "whether IPVS estimates rates, for which packets wait every 2 s where there are tens of thousands of entries; "
        "auto: stopped above 20,000 virtual servers and destinations",
        group=SERVICES,
    )
    ipvs_conn_tab_bits: int = option(
        values.CONN_TAB_BITS,
        0,
        "the size of IPVS' connection table as a power of 2, given when the agent loads ip_vs; 0: the kernel's own "
        "or modprobe.d's",
        group=SERVICES,
    )

    service_cluster_ip_range: tuple[Cidr, ...] = option(
        values.CIDRS,
        (),
        "the cluster's Service CIDRs, where no external address may lie; not given: ServiceCIDR objects, else the "
        "ClusterIPs seen",
        group=ADDRESSES,
    )
    service_external_ip_range: tuple[Cidr, ...] = option(
        values.CIDRS, (), "spec.externalIPs are served only inside these", group=ADDRESSES
    )
    loadbalancer_ip_range: tuple[Cidr, ...] = option(
        values.CIDRS, (), "load-balancer addresses are served only inside these; not given: all", group=ADDRESSES
    )
    strict_external_ip_validation: bool = option(
        values.BOOL,
        True,
        "externalIPs only inside their range; off: outside it too (never a cluster address)",
        group=ADDRESSES,
    )

    masquerade_all: bool = option(values.BOOL, False, "masquerade every connection to a Service", group=LOCAL)
    hairpin_mode: bool = option(
        values.BOOL,
        False,
        "accepted for kube-router's sake: a pod always reaches itself through its Service",
        group=LOCAL,
    )
    detect_local_mode: str = option(
        values.choice("auto", "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"),
        "auto",
        "how pods are told from what comes from outside and is masqueraded; auto: by whichever flag below is given, "
        "else NodeCIDR where the Node has podCIDRs",
        group=LOCAL,
    )
    cluster_cidr: tuple[Cidr, ...] = option(values.CIDRS, (), "the pods' ranges, for ClusterCIDR", group=LOCAL)
    pod_bridge_interface: str = option(values.LINK_NAME, "", "the pods' bridge, for BridgeInterface", group=LOCAL)
    pod_interface_name_prefix: str = option(
        values.LINK_NAME, "", "how the names of pods' links begin, for InterfaceNamePrefix", group=LOCAL
    )

    def local_mode(self) -> str:
        """detect_local_mode, "auto" replaced where another flag decides it; else NodeCIDR where there are podCIDRs."""
        if self.detect_local_mode != "auto":
            return self.detect_local_mode
        return next((mode for mode, needed in _LOCAL_NEEDS.items() if getattr(self, needed)), "auto")


# Which field a mode cannot do without; the order is also the one in which "auto" looks.
_LOCAL_NEEDS = {
    "ClusterCIDR": "cluster_cidr",
    "BridgeInterface": "pod_bridge_interface",
    "InterfaceNamePrefix": "pod_interface_name_prefix",
}


def check_services(config: Services) -> None:
    _check_local_mode(config)
    _check_nodeport_addresses(config)
    _check_periods(config)


def _check_local_mode(config: Services) -> None:
    needed = _LOCAL_NEEDS.get(config.detect_local_mode)
    if needed and not getattr(config, needed):
        raise BadOption(f"--detect-local-mode: {config.detect_local_mode} needs --{needed.replace('_', '-')}")


def _check_nodeport_addresses(config: Services) -> None:
    if config.nodeport_bindon_all_ip and config.nodeport_addresses not in ((), ("all",)):
        raise BadOption("--nodeport-bindon-all-ip: all addresses, but --nodeport-addresses says which")


def _check_periods(config: Services) -> None:
    shortest, period = config.ipvs_min_sync_period, config.ipvs_sync_period
    if shortest > period:
        told = values.duration_text(shortest)
        raise BadOption(f"--ipvs-min-sync-period: {told} is longer than --ipvs-sync-period")
