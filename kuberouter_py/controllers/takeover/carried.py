"""What of another proxy's configuration is ours from now on, where no flag of ours says otherwise. Pure.

Two sources: kube-proxy's own configuration (KubeProxyConfiguration: kubeadm keeps it in the ConfigMap
kube-system/kube-proxy, others in a file), and what its remains show: the addresses on which it served NodePorts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from kuberouter_py.config import OPTIONS, BadOption, Config
from kuberouter_py.controllers.takeover.served import mode, node_addresses
from kuberouter_py.model.kernel import address_text, family_of
from kuberouter_py.model.others import Remains

_IPVS_IDLE = "15m0s"  # the kernel's own timeout for idle TCP connections, 900 s

Settings = Mapping[str, Any]  # a KubeProxyConfiguration


class Carried(NamedTuple):
    """options: by name, as text. notices: what changes for the node's users, which no flag has to be given for."""

    options: Mapping[str, str]
    notices: tuple[str, ...]


def carried(remains: Remains, settings: Settings, config: Config) -> Carried:
    """Only options that stand at their default are set: a flag of ours counts more."""
    how = mode(remains)
    wanted = {name: text for name, text in _options(remains, settings, how) if text}
    options: dict[str, str] = {}
    notices: list[str] = []
    for name, text in wanted.items():
        option = OPTIONS[name]
        try:
            value = option.parse([text])
        except BadOption as error:
            notices.append(f"kube-proxy's setting is not taken over: {error}")
            continue
        if getattr(config, option.field) == option.default and value != option.default:
            options[name] = text
    return Carried(options, (*notices, *_notices(settings, how, options, config)))


def _options(remains: Remains, settings: Settings, how: str) -> Iterator[tuple[str, str]]:
    yield "nodeport-addresses", _node_addresses(remains, settings, how)
    if how == "ipvs":
        ipvs = _section(settings, "ipvs")
        for key, name in (("tcpTimeout", "tcp"), ("tcpFinTimeout", "tcpfin"), ("udpTimeout", "udp")):
            yield f"service-{name}-timeout", _duration(ipvs.get(key))
        yield "excluded-cidrs", _list(ipvs.get("excludeCIDRs"))
    section = _section(settings, "nftables" if how == "nftables" else "iptables")
    yield "masquerade-all", "true" if section.get("masqueradeAll") is True else ""
    yield from _local_traffic(settings)
    conntrack = _section(settings, "conntrack")
    for key, name in (("maxPerCore", "conntrack-max-per-core"), ("min", "conntrack-min")):
        yield name, str(conntrack[key]) if isinstance(conntrack.get(key), int) else ""
    for key, name in (("tcpEstablishedTimeout", "established"), ("tcpCloseWaitTimeout", "close-wait")):
        value = conntrack.get(key)
        yield f"conntrack-tcp-timeout-{name}", value if isinstance(value, str) else ""


def _local_traffic(settings: Settings) -> Iterator[tuple[str, str]]:
    """How it told local pods. A kubelet's NodeCIDR is what we do anyway; a mode without its value says nothing."""
    how = str(settings.get("detectLocalMode") or "ClusterCIDR")
    local = _section(settings, "detectLocal")
    name, value = {
        "ClusterCIDR": ("cluster-cidr", settings.get("clusterCIDR")),
        "BridgeInterface": ("pod-bridge-interface", local.get("bridgeInterface")),
        "InterfaceNamePrefix": ("pod-interface-name-prefix", local.get("interfaceNamePrefix")),
    }.get(how, ("detect-local-mode", how))
    yield name, str(value or "")


def _node_addresses(remains: Remains, settings: Settings, how: str) -> str:
    """As it was configured; else as it was seen: where it served on every address of the node, on all from now on.

    "all" leaves out links inside the node (bridges of pods); those on which it served are named besides.
    """
    configured = settings.get("nodePortAddresses")
    if isinstance(configured, list) and configured:
        return _list(word for word in configured if word != "localhost")
    seen = sorted(node_addresses(remains))
    families = {family_of(address) for address in seen}
    possible = {address for address in remains.local if family_of(address) in families}
    named = [f"{address_text(address)}/{8 * len(address)}" for address in seen]
    if how and seen and possible <= set(seen):
        return ",".join(["all", *named])
    return ",".join(named) if len(seen) > len(families) else ""


def _notices(settings: Settings, how: str, options: Mapping[str, str], config: Config) -> Iterator[str]:
    ipvs = _section(settings, "ipvs")
    scheduler = ipvs.get("scheduler") if how == "ipvs" else ""
    if scheduler and scheduler != "rr":
        yield f"the scheduler was {scheduler} for every Service; here it is rr unless the Service's annotation says so"
    if how and not config.service_tcp_timeout and "service-tcp-timeout" not in options:
        before = "as before" if how == "ipvs" else f"in {how} mode it was conntrack's 24h"
        yield f"idle TCP connections end after {_IPVS_IDLE}, or what IPVS is set to ({before}): --service-tcp-timeout"
    if how == "ipvs" and ipvs.get("strictARP") is False and config.strict_arp:
        yield "Service addresses are not answered for on the wire (strictARP was off): --strict-arp=false"


def _section(settings: Settings, name: str) -> Settings:
    found = settings.get(name)
    return found if isinstance(found, Mapping) else {}


def _list(words: Any) -> str:
    return ",".join(map(str, words)) if isinstance(words, Iterable) and not isinstance(words, str) else ""


def _duration(value: Any) -> str:
    return value if isinstance(value, str) and value.strip("0smh.") else ""
