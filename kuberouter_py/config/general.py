"""Options of the whole agent: what to run, moving over, where the cluster is, address families."""

from __future__ import annotations

from dataclasses import dataclass

from kuberouter_py.config.option import BadOption, option
from kuberouter_py.model import values

RUN, TAKEOVER, CLUSTER, FAMILIES = "What to run", "Moving over", "The cluster", "Address families"


@dataclass(frozen=True)
class General:
    run_service_proxy: bool = option(values.BOOL, True, "Services through IPVS", group=RUN)
    run_router: bool = option(
        values.BOOL,
        True,
        "the pod network of this node, routes to the other nodes' pods, Services announced by BGP",
        group=RUN,
    )
    run_firewall: bool = option(values.BOOL, True, "NetworkPolicy, for the pods of this node", group=RUN)
    cleanup: bool = option(
        values.BOOL, False, "remove everything of ours from this node and exit", group=RUN, aliases=("cleanup-config",)
    )

    takeover: bool = option(
        values.BOOL,
        False,
        "once this node's kube-proxy or kube-router has ended: adopt what is the same, put ours in place, then remove "
        "what they left; off: theirs stays, and nothing is written while one of them is alive",
        group=TAKEOVER,
    )
    accept_differences: bool = option(
        values.BOOL,
        False,
        "take over although some addresses that the other proxy served will not be served; they are listed first",
        group=TAKEOVER,
    )
    kube_proxy_config: str = option(
        values.FILE,
        "",
        "the file that kube-proxy was configured by, if it is not the ConfigMap kube-system/kube-proxy; what of it "
        "applies is taken over where no flag here says otherwise",
        group=TAKEOVER,
    )

    kubeconfig: str = option(values.FILE, "", "kubeconfig file; without it the pod's own credentials", group=CLUSTER)
    master: str = option(
        values.URL,
        "",
        "the API server's address; overrides what the kubeconfig or the pod's environment says",
        group=CLUSTER,
    )
    manifests: str = option(
        values.FOLDER, "", "read the cluster from the YAML files of this directory; no API server", group=CLUSTER
    )
    hostname_override: str = option(
        values.NODE_NAME,
        "",
        "the name of this node's Node object; without it the host's name",
        group=CLUSTER,
        environment=("NODE_NAME",),
    )
    cache_sync_timeout: float = option(
        values.POSITIVE_DURATION, 60.0, "how long the first lists may take before the agent gives up", group=CLUSTER
    )

    enable_ipv4: bool = option(values.BOOL, True, "IPv4", group=FAMILIES)
    enable_ipv6: bool | None = option(
        values.TRISTATE, None, "IPv6; auto: where the Node has an IPv6 address", group=FAMILIES
    )


def check_general(config: General) -> None:
    for name in ("kubeconfig", "master"):
        if config.manifests and getattr(config, name):
            raise BadOption(f"--manifests: the cluster cannot come from a directory and from --{name} at once")
