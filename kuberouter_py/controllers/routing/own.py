"""DECIDE, for this node itself: sysctls, sets, chains, the pods' bridge, the CNI file, the overlay's rules. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kuberouter_py.config import Config
from kuberouter_py.controllers.claims import Item, Share
from kuberouter_py.controllers.forwarding import forwarding
from kuberouter_py.controllers.routing.chains import chains, sets
from kuberouter_py.controllers.routing.cni import Completion
from kuberouter_py.controllers.routing.nodes import members
from kuberouter_py.controllers.routing.view import View
from kuberouter_py.model.bgp import Announced
from kuberouter_py.model.cluster import Node
from kuberouter_py.model.kernel import family_of
from kuberouter_py.model.names import OVERLAY_TABLE
from kuberouter_py.model.podnet import CniFile, Listener, LookupRule, PodBridge

SYSCTLS, SETS, CHAINS = "sysctls", "ipsets", "iptables"
BRIDGES, LISTENERS, RULES, ANNOUNCED, CNI = "pod bridges", "gue ports", "lookup rules", "announced", "cni"


def own_share(
    config: Config, view: View, node: Node | None, mtu: int, cni: Completion, before_us: Callable[[str], str | None]
) -> Share:
    """One unit. mtu: of pods' links, 0: none of our business. before_us: a sysctl's value before we first wrote it,
    None where there is none.
    """
    items = [Item(SYSCTLS, key, value) for key, value in _sysctls(config, view, before_us)]
    for family in view.families:
        items += [Item(SETS, name, header) for name, header in sets(family)]
        items += [Item(CHAINS, chain, rules) for chain, rules in chains(config, view, family)]
    if config.enable_cni:
        items.append(Item(BRIDGES, cni.bridge, PodBridge(mtu)))
        if cni.text is not None:
            items.append(Item(CNI, config.cni_conf_file, CniFile(cni.text)))
    if view.overlay and view.gue_port:
        items += [Item(LISTENERS, Listener(family, view.gue_port), None) for family in view.families]
    if node is not None:
        items += members(view, node)
    for cidr in view.pod_cidrs:
        if family_of(cidr.network) in view.families:
            items.append(Item(ANNOUNCED, cidr, Announced.PODS))
            if view.overlay:
                items.append(Item(RULES, LookupRule(cidr.network, cidr.prefix), OVERLAY_TABLE))
    return Share((), {"own": tuple(items)})


def _sysctls(config: Config, view: View, before_us: Callable[[str], str | None]) -> Iterator[tuple[str, str]]:
    yield from forwarding(view.families, [link.name for link in view.links], before_us)
    if config.enable_cni:  # as kube-router does: pods of one bridge are seen by iptables
        for family, key in ((4, "bridge-nf-call-iptables"), (6, "bridge-nf-call-ip6tables")):
            if family in view.families:
                yield f"net/bridge/{key}", "1"
