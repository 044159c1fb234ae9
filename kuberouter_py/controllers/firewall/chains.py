"""The firewall's fixed chains and sets: they lead a packet to the guards of its pods. Pure.

Hooks (docs/kernel.md draws them): what is forwarded shows both its ends in FORWARD. What ip_vs translates passes
OUTPUT, with the client's source and the endpoint as destination, and not FORWARD; in INPUT its destination is still the
Service's. Only a pod that speaks to its own node is judged in INPUT. Nothing here marks a packet, and nothing accepts
one: what is allowed goes on to whatever other rules there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import lru_cache

from kuberouter_py.config import Config
from kuberouter_py.controllers.firewall.guards import guard_chain, is_egress
from kuberouter_py.controllers.firewall.view import View
from kuberouter_py.model.bytecode import SAME_ADDRESS
from kuberouter_py.model.kernel import Chain, IpSet, Rules, family_of
from kuberouter_py.model.names import CONNMARK_SERVICE, FIREWALL_CHAINS, firewall_set
from kuberouter_py.model.values import cidr_text

FORWARD, INPUT, OUTPUT, PODS, CUT, FROM, TO, REFUSE, REFUSE_FROM, REFUSE_TO = (
    FIREWALL_CHAINS + name
    for name in ("FORWARD", "INPUT", "OUTPUT", "PODS", "CUT", "FROM", "TO", "REFUSE", "REFUSE-FROM", "REFUSE-TO")
)

# Roles of the fixed sets.
EGRESS_ISOLATED, INGRESS_ISOLATED = "egress", "ingress"  # local pods; their counters are the packets denied
CLOSED_EGRESS, CLOSED_INGRESS = "closed-egress", "closed-ingress"  # those of them that have no guard
CUT_FLOWS = "cut"  # (server, its port, client) of flows that were allowed once
KNOWN = "known"  # local pods that were decided, whatever for; only with --netpol-default-deny

ISOLATED, CLOSED = (EGRESS_ISOLATED, INGRESS_ISOLATED), (CLOSED_EGRESS, CLOSED_INGRESS)

SET_TYPES = {
    EGRESS_ISOLATED: "hash:ip counters",
    INGRESS_ISOLATED: "hash:ip counters",
    CLOSED_EGRESS: "hash:ip",
    CLOSED_INGRESS: "hash:ip",
    CUT_FLOWS: "hash:ip,port,ip",
}

# NFLOG group and limit as kube-router's users know them (ulogd2, tcpdump -i nflog:100).
NFLOG = "-m limit --limit 10/minute --limit-burst 10 -j NFLOG --nflog-group 100"
_REJECT = {4: "icmp-port-unreachable", 6: "icmp6-port-unreachable"}
_ESTABLISHED = "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"


def sets(config: Config, family: int) -> Iterator[tuple[str, IpSet]]:
    types = {**SET_TYPES, KNOWN: "hash:ip"} if config.netpol_default_deny else SET_TYPES
    for role, kind in types.items():
        yield firewall_set(role, family), IpSet(kind, family)


def chains(config: Config, view: View, family: int, guards: Collection[str]) -> Iterator[tuple[Chain, Rules]]:
    """guards: names of those that stand."""
    passing = (_ESTABLISHED, *_neighbours(family))
    yield Chain(family, "filter", FORWARD), Rules((*passing, f"-j {PODS}"))
    yield Chain(family, "filter", OUTPUT), Rules((_ESTABLISHED, *_output(), f"-j {PODS}"))
    yield Chain(family, "filter", INPUT), Rules((*passing, _not_ours(), f"-j {FROM}"))
    yield Chain(family, "filter", PODS), Rules(tuple(_pods(view, family)))
    yield Chain(family, "filter", CUT), Rules(("-p tcp --syn -j RETURN", f"-g {REFUSE}"))
    yield Chain(family, "filter", FROM), Rules(tuple(_dispatch(config, view, family, guards, egress=True)))
    yield Chain(family, "filter", TO), Rules(tuple(_dispatch(config, view, family, guards, egress=False)))
    for chain, role, side in ((REFUSE_FROM, EGRESS_ISOLATED, "src"), (REFUSE_TO, INGRESS_ISOLATED, "dst")):
        counted = f"-m set --match-set {firewall_set(role, family)} {side}"  # a match counts at the member
        yield Chain(family, "filter", chain), Rules((counted, f"-g {REFUSE}"))
    # A reset ends a connection that was cut. One that begins is told by ICMP: of that, ip_vs makes an answer of the
    # Service's address, and of a reset it does not.
    reset, unreachable = (
        "-p tcp ! --syn -j REJECT --reject-with tcp-reset",
        f"-j REJECT --reject-with {_REJECT[family]}",
    )
    yield Chain(family, "filter", REFUSE), Rules((NFLOG, reset, unreachable))
    for hook, target in (("FORWARD", FORWARD), ("OUTPUT", OUTPUT), ("INPUT", INPUT)):
        yield Chain(family, "filter", hook), Rules((f"-j {target}",))


def _neighbours(family: int) -> Iterator[str]:
    """Who has an address is asked and answered with the pods' own addresses, and between pods of a bridge it is seen
    here; conntrack tracks none of it. An isolated pod that may not ask reaches nobody, its gateway included.
    """
    if family == 6:
        for kind in ("neighbour-solicitation", "neighbour-advertisement"):
            yield f"-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j RETURN"


def _output() -> Iterator[str]:
    """A pod's own node may always come to it (P4.02), by what it sends itself: ip_vs sends others' packets here too.

    What the node sends inside a tunnel (IP protocols 4 and 41) is somebody's whom nobody has judged: direct return.
    """
    for protocol in (4, 41):
        yield f"-p {protocol} -m addrtype --src-type LOCAL -j {TO}"
    yield "-m addrtype --src-type LOCAL -j RETURN"


def _not_ours() -> str:
    """To a Service: ip_vs will show the endpoint in OUTPUT. The bit is the Service proxy's, of the connection."""
    return f"-m connmark --mark 0x{CONNMARK_SERVICE:x}/0x{CONNMARK_SERVICE:x} -j RETURN"


def _pods(view: View, family: int) -> Iterator[str]:
    if view.compares_addresses:  # a pod that reaches itself through a Service (P4.08)
        yield f'-m bpf --bytecode "{SAME_ADDRESS[family]}" -j RETURN'
    # A flow that was cut may not be picked up again from its server's side, as if that had begun it.
    yield f"-m set --match-set {firewall_set(CUT_FLOWS, family)} src,src,dst -j {CUT}"
    yield f"-j {FROM}"
    yield f"-j {TO}"


@lru_cache(maxsize=1 << 12)  # one guard more, and all the others are told again
def _way(guard: str, family: int, side: str) -> str:
    return f"-m set --match-set {firewall_set(guard, family)} {side} -j {guard_chain(guard)}"


def _dispatch(config: Config, view: View, family: int, guards: Collection[str], *, egress: bool) -> Iterator[str]:
    side, option, refuse = ("src", "-s", REFUSE_FROM) if egress else ("dst", "-d", REFUSE_TO)
    if config.netpol_default_deny:
        known = firewall_set(KNOWN, family)
        for cidr in view.pod_cidrs:
            if family_of(cidr.network) == family:
                yield f"{option} {cidr_text(cidr)} -m set ! --match-set {known} {side} -g {REFUSE}"
    isolated = firewall_set(EGRESS_ISOLATED if egress else INGRESS_ISOLATED, family)
    yield f"-m set ! --match-set {isolated} {side} ! --update-counters -j RETURN"
    closed = firewall_set(CLOSED_EGRESS if egress else CLOSED_INGRESS, family)
    yield f"-m set --match-set {closed} {side} -g {refuse}"
    # A pod that goes from one guard to another is in both for a moment, and both must allow.
    yield from (_way(name, family, side) for name in sorted(name for name in guards if is_egress(name) == egress))
