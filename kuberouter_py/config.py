"""Every option of the agent, once: name, type, default, check, help. Owns no source of options.

`Config` is the table: each field is one option, and its metadata says how text becomes its value and back. The command
line, the environment and the running agent's /config are all made from it (cli/options.py, observe/socket.py). Text is
the exchange form: `Config.from_texts(config.as_texts()) == config`. Names and defaults are kube-router's where it has
the option, kube-proxy's where only that has it; docs/operations.md lists the differences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, cast

from kuberouter_py.model import values
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.names import RUN_DIR, VIP_LINK
from kuberouter_py.model.values import Kind

ENVIRONMENT_PREFIX = "KUBEROUTER_"


class BadOption(ValueError):
    """A value that makes no sense. The message starts with the flag."""


@dataclass(frozen=True)
class Option:
    """What a field of Config says of itself. `name` is the flag without its dashes."""

    name: str
    field: str
    kind: Kind[Any]
    default: Any
    help: str
    group: str
    aliases: tuple[str, ...]
    short: str
    environment: tuple[str, ...]  # variables, the first that is set and not empty counts

    @property
    def flag(self) -> str:
        return f"--{self.name}"

    @property
    def default_text(self) -> str:
        return self.kind.render(self.default)

    def parse(self, texts: Sequence[str]) -> Any:
        """The value of one or more texts: lists gather all, everything else takes the last, as Go's flags do."""
        try:
            return self.kind.parse(",".join(texts) if self.kind.gathers else texts[-1])
        except ValueError as error:
            raise BadOption(f"{self.flag}: {error}") from None


def _option(
    kind: Kind[Any],
    default: Any,
    help: str,
    *,
    group: str,
    aliases: tuple[str, ...] = (),
    short: str = "",
    environment: tuple[str, ...] = (),
) -> Any:
    about = {
        "kind": kind,
        "help": help,
        "group": group,
        "aliases": aliases,
        "short": short,
        "environment": environment,
    }
    return field(default=default, metadata=about)


RUN, TAKEOVER, CLUSTER, FAMILIES = "What to run", "Moving over", "The cluster", "Address families"
SERVICES, LOCAL, ADDRESSES = "Services", "Masquerading", "Addresses of Services"
POLICIES = "NetworkPolicy"
KERNEL, OBSERVE = "The node's kernel", "Health, metrics, logs"


@dataclass(frozen=True)
class Config:
    """Durations are seconds as float; 0 where the help says so means "leave as it is" or "off"."""

    run_service_proxy: bool = _option(values.BOOL, True, "Services through IPVS", group=RUN)
    run_router: bool = _option(
        values.BOOL, True, "routes between the nodes' pods; not in this version, which logs that", group=RUN
    )
    run_firewall: bool = _option(values.BOOL, True, "NetworkPolicy, for the pods of this node", group=RUN)
    cleanup: bool = _option(
        values.BOOL, False, "remove everything of ours from this node and exit", group=RUN, aliases=("cleanup-config",)
    )

    takeover: bool = _option(
        values.BOOL,
        False,
        "once this node's kube-proxy or kube-router has ended: adopt what is the same, put ours in place, then remove "
        "what they left; off: theirs stays, and nothing is written while one of them is alive",
        group=TAKEOVER,
    )
    accept_differences: bool = _option(
        values.BOOL,
        False,
        "take over although some addresses that the other proxy served will not be served; they are listed first",
        group=TAKEOVER,
    )
    kube_proxy_config: str = _option(
        values.FILE,
        "",
        "the file that kube-proxy was configured by, if it is not the ConfigMap kube-system/kube-proxy; what of it "
        "applies is taken over where no flag here says otherwise",
        group=TAKEOVER,
    )

    kubeconfig: str = _option(values.FILE, "", "kubeconfig file; without it the pod's own credentials", group=CLUSTER)
    master: str = _option(
        values.URL,
        "",
        "the API server's address; overrides what the kubeconfig or the pod's environment says",
        group=CLUSTER,
    )
    manifests: str = _option(
        values.FOLDER, "", "read the cluster from the YAML files of this directory; no API server", group=CLUSTER
    )
    hostname_override: str = _option(
        values.NODE_NAME,
        "",
        "the name of this node's Node object; without it the host's name",
        group=CLUSTER,
        environment=("NODE_NAME",),
    )
    cache_sync_timeout: float = _option(
        values.POSITIVE_DURATION, 60.0, "how long the first lists may take before the agent gives up", group=CLUSTER
    )

    enable_ipv4: bool = _option(values.BOOL, True, "IPv4", group=FAMILIES)
    enable_ipv6: bool | None = _option(
        values.TRISTATE, None, "IPv6; auto: where the Node has an IPv6 address", group=FAMILIES
    )

    ipvs_sync_period: float = _option(
        values.POSITIVE_DURATION, 300.0, "how often the kernel is compared with what it should hold", group=SERVICES
    )
    ipvs_min_sync_period: float = _option(
        values.DURATION,
        0.0,
        "time between two syncs at least: changes are gathered meanwhile; 0: a change never waits",
        group=SERVICES,
    )
    ipvs_graceful_termination: bool = _option(
        values.BOOL,
        True,
        "keep the connections of TCP endpoints that go, at weight 0, until they are gone or their time is over; off: "
        "endpoints are removed at once",
        group=SERVICES,
    )
    ipvs_graceful_period: float = _option(
        values.DURATION,
        30.0,
        "how long a connection is kept so, where the pod does not say (deletionGracePeriodSeconds)",
        group=SERVICES,
    )
    ipvs_permit_all: bool = _option(
        values.BOOL, True, "guard Service addresses: only their own ports answer on them", group=SERVICES
    )
    excluded_cidrs: tuple[Cidr, ...] = _option(
        values.CIDRS, (), "virtual servers in these ranges are somebody else's, whatever is wanted", group=SERVICES
    )
    nodeport_addresses: tuple[Cidr | str, ...] = _option(
        values.NODE_ADDRESSES,
        (),
        "NodePorts answer on the node's addresses in these ranges; a family without a range: on all; primary: on those "
        "of the Node object; not given: primary",
        group=SERVICES,
    )
    nodeport_bindon_all_ip: bool = _option(values.BOOL, False, "the same as --nodeport-addresses=all", group=SERVICES)
    vip_link: str = _option(
        values.OWN_LINK_NAME,
        VIP_LINK,
        "the link that Service addresses are bound on, made and held by the agent alone; Calico looks for kube-ipvs0",
        group=SERVICES,
    )
    vip_binding: str = _option(
        values.choice("auto", "address", "route"),
        "auto",
        "what makes the kernel accept a Service address: an address on --vip-link and its route, or the route alone "
        "(scales to tens of thousands); auto: an address while there are at most 5,000",
        group=SERVICES,
    )
    ipvs_estimation: str = _option(
        values.choice("auto", "on", "off"),
        "auto",
        "whether IPVS estimates rates, for which packets wait every 2 s where there are tens of thousands of entries; "
        "auto: stopped above 20,000 virtual servers and destinations",
        group=SERVICES,
    )
    ipvs_conn_tab_bits: int = _option(
        values.CONN_TAB_BITS,
        0,
        "the size of IPVS' connection table as a power of 2, given when the agent loads ip_vs; 0: the kernel's own "
        "or modprobe.d's",
        group=SERVICES,
    )

    service_cluster_ip_range: tuple[Cidr, ...] = _option(
        values.CIDRS,
        (),
        "the cluster's Service CIDRs, where no external address may lie; not given: ServiceCIDR objects, else the "
        "ClusterIPs seen",
        group=ADDRESSES,
    )
    service_external_ip_range: tuple[Cidr, ...] = _option(
        values.CIDRS, (), "spec.externalIPs are served only inside these", group=ADDRESSES
    )
    loadbalancer_ip_range: tuple[Cidr, ...] = _option(
        values.CIDRS, (), "load-balancer addresses are served only inside these; not given: all", group=ADDRESSES
    )
    strict_external_ip_validation: bool = _option(
        values.BOOL,
        True,
        "externalIPs only inside their range; off: outside it too (never a cluster address)",
        group=ADDRESSES,
    )

    masquerade_all: bool = _option(values.BOOL, False, "masquerade every connection to a Service", group=LOCAL)
    hairpin_mode: bool = _option(
        values.BOOL,
        False,
        "accepted for kube-router's sake: a pod always reaches itself through its Service",
        group=LOCAL,
    )
    detect_local_mode: str = _option(
        values.choice("auto", "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"),
        "auto",
        "how pods are told from what comes from outside and is masqueraded; auto: by whichever flag below is given, "
        "else NodeCIDR where the Node has podCIDRs",
        group=LOCAL,
    )
    cluster_cidr: tuple[Cidr, ...] = _option(values.CIDRS, (), "the pods' ranges, for ClusterCIDR", group=LOCAL)
    pod_bridge_interface: str = _option(values.LINK_NAME, "", "the pods' bridge, for BridgeInterface", group=LOCAL)
    pod_interface_name_prefix: str = _option(
        values.LINK_NAME, "", "how the names of pods' links begin, for InterfaceNamePrefix", group=LOCAL
    )

    netpol_default_deny: bool = _option(
        values.BOOL,
        False,
        "a local pod's address is closed until the policies that select the pod are in force; off: open until then",
        group=POLICIES,
    )
    netpol_cut_established: bool = _option(
        values.BOOL,
        True,
        "end the connections that a changed policy allows no longer; off: only new ones are judged by it",
        group=POLICIES,
    )
    iptables_sync_period: float = _option(
        values.SECOND_OR_MORE,
        300.0,
        "how often the kernel is compared with what the policies ask for",
        group=POLICIES,
    )
    service_node_port_range: str = _option(
        values.TEXT,
        "",
        "accepted for kube-router's sake: whatever ports the Services have are NodePorts",
        group=POLICIES,
    )
    use_nftables_for_netpol: bool = _option(
        values.BOOL,
        False,
        "accepted for kube-router's sake: rules are written by iptables, which --iptables-backend chooses",
        group=POLICIES,
    )

    strict_arp: bool = _option(
        values.BOOL,
        True,
        "answer ARP for an address only on the link that has it (arp_ignore, arp_announce)",
        group=KERNEL,
    )
    iptables_backend: str = _option(
        values.choice("auto", "legacy", "nft"), "auto", "which iptables; auto: the one that kubelet uses", group=KERNEL
    )
    service_tcp_timeout: float = _option(
        values.IPVS_TIMEOUT, 0.0, "IPVS' timeout for idle TCP connections; 0: as it is", group=KERNEL
    )
    service_tcpfin_timeout: float = _option(
        values.IPVS_TIMEOUT, 0.0, "IPVS' timeout for TCP connections after a FIN; 0: as it is", group=KERNEL
    )
    service_udp_timeout: float = _option(
        values.IPVS_TIMEOUT, 0.0, "IPVS' timeout for UDP flows; 0: as it is", group=KERNEL
    )
    conntrack_max_per_core: int = _option(
        values.COUNT, 32768, "tracked connections per CPU core; 0: nf_conntrack_max stays as it is", group=KERNEL
    )
    conntrack_min: int = _option(
        values.COUNT, 131072, "tracked connections at least, if per core is given", group=KERNEL
    )
    conntrack_tcp_timeout_established: float = _option(
        values.WHOLE_SECONDS, 86400.0, "conntrack's timeout for idle TCP connections; 0: as it is", group=KERNEL
    )
    conntrack_tcp_timeout_close_wait: float = _option(
        values.WHOLE_SECONDS, 3600.0, "conntrack's timeout for TCP connections in CLOSE_WAIT; 0: as it is", group=KERNEL
    )

    proc_sys: str = _option(
        values.DIRECTORY,
        "/proc/sys",
        "where the kernel's settings can be written; a container sees its own read-only and mounts the node's "
        "somewhere else",
        group=KERNEL,
    )

    health_addr: str = _option(values.ADDRESS, "", "address of /healthz, /livez, /readyz; empty: all", group=OBSERVE)
    health_port: int = _option(values.PORT, 20244, "their port; 0: off", group=OBSERVE)
    proxy_healthz_addr: str = _option(
        values.ADDRESS, "", "address where cloud load balancers ask for a Service proxy; empty: all", group=OBSERVE
    )
    proxy_healthz_port: int = _option(values.PORT, 10256, "its port, kube-proxy's; 0: off", group=OBSERVE)
    metrics_addr: str = _option(values.ADDRESS, "", "address of the metrics; empty: all", group=OBSERVE)
    metrics_port: int = _option(values.PORT, 0, "their port; 0: off", group=OBSERVE)
    metrics_path: str = _option(values.URL_PATH, "/metrics", "their path", group=OBSERVE)
    proxy_metrics_addr: str = _option(
        values.ADDRESS, "127.0.0.1", "address of the metrics where kube-proxy has them; empty: all", group=OBSERVE
    )
    proxy_metrics_port: int = _option(
        values.PORT, 0, "their port (kube-proxy's is 10249), with /proxyMode; 0: off", group=OBSERVE
    )
    socket: str = _option(
        values.SOCKET_PATH, f"{RUN_DIR}/agent.sock", "where the commands ask the running agent", group=OBSERVE
    )
    log_format: str = _option(values.choice("json", "console"), "json", "the log's form", group=OBSERVE)
    v: int = _option(
        values.VERBOSITY, 0, "verbosity; from 2 on also syncs that changed nothing", group=OBSERVE, short="v"
    )

    @classmethod
    def from_texts(cls, texts: Mapping[str, Sequence[str]]) -> Config:
        """The configuration of these texts by option name; BadOption for an unknown name, a bad value, a bad pair."""
        given = {}
        for name, several in texts.items():
            option = OPTIONS.get(name)
            if option is None:
                raise BadOption(f"--{name}: no such option")
            given[option.field] = option.parse(several)
        config = cls(**given)
        _check_pairs(config)
        return config

    def as_texts(self) -> dict[str, str]:
        """Every option's value as text, by option name."""
        return {name: option.kind.render(getattr(self, option.field)) for name, option in OPTIONS.items()}

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


def _to_option(each: Field[Any]) -> Option:
    name = each.name.replace("_", "-")
    about = each.metadata
    return Option(
        name=name,
        field=each.name,
        kind=cast(Kind[Any], about["kind"]),
        default=each.default,
        help=about["help"],
        group=about["group"],
        aliases=about["aliases"],
        short=about["short"],
        environment=(ENVIRONMENT_PREFIX + each.name.upper(), *about["environment"]),
    )


OPTIONS: Mapping[str, Option] = {option.name: option for option in map(_to_option, fields(Config))}


def texts_of_environment(environment: Mapping[str, str]) -> dict[str, list[str]]:
    """What the environment says, by option name. An empty variable says nothing; unknown ones are not ours to judge."""
    found = {}
    for name, option in OPTIONS.items():
        text = next((environment[each] for each in option.environment if environment.get(each)), None)
        if text is not None:
            found[name] = [text]
    return found


def _check_pairs(config: Config) -> None:
    """What single values cannot show. Raises BadOption naming the flag that has to go or to come."""
    checks: tuple[Callable[[Config], None], ...] = (
        _check_sources,
        _check_families,
        _check_local_mode,
        _check_nodeport_addresses,
        _check_periods,
        _check_ports,
    )
    for check in checks:
        check(config)


def _check_sources(config: Config) -> None:
    for name in ("kubeconfig", "master"):
        if config.manifests and getattr(config, name):
            raise BadOption(f"--manifests: the cluster cannot come from a directory and from --{name} at once")


def _check_families(config: Config) -> None:
    if not config.enable_ipv4 and config.enable_ipv6 is False:
        raise BadOption("--enable-ipv4: false, and --enable-ipv6 too: no address family is left")
    off = {4: not config.enable_ipv4, 16: config.enable_ipv6 is False}
    for name in ("service_cluster_ip_range", "service_external_ip_range", "loadbalancer_ip_range"):
        for cidr in getattr(config, name):
            if off[len(cidr.network)]:
                family = 4 if len(cidr.network) == 4 else 6
                flag = name.replace("_", "-")
                raise BadOption(f"--{flag}: {values.cidr_text(cidr)}, but --enable-ipv{family}=false")


def _check_local_mode(config: Config) -> None:
    needed = _LOCAL_NEEDS.get(config.detect_local_mode)
    if needed and not getattr(config, needed):
        raise BadOption(f"--detect-local-mode: {config.detect_local_mode} needs --{needed.replace('_', '-')}")


def _check_nodeport_addresses(config: Config) -> None:
    if config.nodeport_bindon_all_ip and config.nodeport_addresses not in ((), ("all",)):
        raise BadOption("--nodeport-bindon-all-ip: all addresses, but --nodeport-addresses says which")


def _check_periods(config: Config) -> None:
    shortest, period = config.ipvs_min_sync_period, config.ipvs_sync_period
    if shortest > period:
        told = values.duration_text(shortest)
        raise BadOption(f"--ipvs-min-sync-period: {told} is longer than --ipvs-sync-period")


# Who listens: the port's field and the address' field.
_LISTENERS = {
    "health_port": "health_addr",
    "metrics_port": "metrics_addr",
    "proxy_healthz_port": "proxy_healthz_addr",
    "proxy_metrics_port": "proxy_metrics_addr",
}


def _check_ports(config: Config) -> None:
    """One port may carry metrics beside probes, but not two different answers to /healthz, and not two sockets."""
    seen: dict[int, str] = {}
    for field_name, address in _LISTENERS.items():
        port = getattr(config, field_name)
        first = seen.setdefault(port, field_name) if port else field_name
        if first == field_name:
            continue
        here, there = getattr(config, address), getattr(config, _LISTENERS[first])
        both_probe = first == "health_port" and field_name.startswith("proxy_")
        if both_probe or (here != there and not (here and there)):
            flag, other = field_name.replace("_", "-"), first.replace("_", "-")
            raise BadOption(f"--{flag}: {port} is the port of --{other} already")
