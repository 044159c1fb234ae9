"""Options of what the controllers share on the node: kernel settings, health, metrics, the log."""

from __future__ import annotations

from dataclasses import dataclass

from kuberouter_py.config.option import BadOption, option
from kuberouter_py.model import values
from kuberouter_py.model.names import RUN_DIR

KERNEL, OBSERVE = "The node's kernel", "Health, metrics, logs"


@dataclass(frozen=True)
class OnNode:
    strict_arp: bool = option(
        values.BOOL,
        True,
        "answer ARP for an address only on the link that has it (arp_ignore, arp_announce)",
        group=KERNEL,
    )
    iptables_backend: str = option(
        values.choice("auto", "legacy", "nft"), "auto", "which iptables; auto: the one that kubelet uses", group=KERNEL
    )
    service_tcp_timeout: float = option(
        values.IPVS_TIMEOUT, 0.0, "IPVS' timeout for idle TCP connections; 0: as it is", group=KERNEL
    )
    service_tcpfin_timeout: float = option(
        values.IPVS_TIMEOUT, 0.0, "IPVS' timeout for TCP connections after a FIN; 0: as it is", group=KERNEL
    )
    service_udp_timeout: float = option(
        values.IPVS_TIMEOUT, 0.0, "IPVS' timeout for UDP flows; 0: as it is", group=KERNEL
    )
    conntrack_max_per_core: int = option(
        values.COUNT, 32768, "tracked connections per CPU core; 0: nf_conntrack_max stays as it is", group=KERNEL
    )
    conntrack_min: int = option(
        values.COUNT, 131072, "tracked connections at least, if per core is given", group=KERNEL
    )
    conntrack_tcp_timeout_established: float = option(
        values.WHOLE_SECONDS, 86400.0, "conntrack's timeout for idle TCP connections; 0: as it is", group=KERNEL
    )
    conntrack_tcp_timeout_close_wait: float = option(
        values.WHOLE_SECONDS, 3600.0, "conntrack's timeout for TCP connections in CLOSE_WAIT; 0: as it is", group=KERNEL
    )

    proc_sys: str = option(
        values.DIRECTORY,
        "/proc/sys",
        "where the kernel's settings can be written; a container sees its own read-only and mounts the node's "
        "somewhere else",
        group=KERNEL,
    )

    health_addr: str = option(values.ADDRESS, "", "address of /healthz, /livez, /readyz; empty: all", group=OBSERVE)
    health_port: int = option(values.PORT, 20244, "their port; 0: off", group=OBSERVE)
    proxy_healthz_addr: str = option(
        values.ADDRESS, "", "address where cloud load balancers ask for a Service proxy; empty: all", group=OBSERVE
    )
    proxy_healthz_port: int = option(values.PORT, 10256, "its port, kube-proxy's; 0: off", group=OBSERVE)
    metrics_addr: str = option(values.ADDRESS, "", "address of the metrics; empty: all", group=OBSERVE)
    metrics_port: int = option(values.PORT, 0, "their port; 0: off", group=OBSERVE)
    metrics_path: str = option(values.URL_PATH, "/metrics", "their path", group=OBSERVE)
    proxy_metrics_addr: str = option(
        values.ADDRESS, "127.0.0.1", "address of the metrics where kube-proxy has them; empty: all", group=OBSERVE
    )
    proxy_metrics_port: int = option(
        values.PORT, 0, "their port (kube-proxy's is 10249), with /proxyMode; 0: off", group=OBSERVE
    )
    socket: str = option(
        values.SOCKET_PATH, f"{RUN_DIR}/agent.sock", "where the commands ask the running agent", group=OBSERVE
    )
    log_format: str = option(values.choice("json", "console"), "json", "the log's form", group=OBSERVE)
    v: int = option(
        values.VERBOSITY, 0, "verbosity; from 2 on also syncs that changed nothing", group=OBSERVE, short="v"
    )


# Who listens: the port's field and the address' field.
_LISTENERS = {
    "health_port": "health_addr",
    "metrics_port": "metrics_addr",
    "proxy_healthz_port": "proxy_healthz_addr",
    "proxy_metrics_port": "proxy_metrics_addr",
}


def check_node(config: OnNode) -> None:
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
