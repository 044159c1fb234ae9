"""The fixed rules of the services controller: O(1) in Services, the addresses are in sets. Pure.

Hooks (docs/kernel.md draws them): ip_vs works in LOCAL_IN after filter INPUT and, for the node's own packets, in
LOCAL_OUT after nat OUTPUT; what it forwards passes POSTROUTING with the endpoint as destination. So the original
frontend is seen in nat PREROUTING and OUTPUT, where a bit of the *connection* mark remembers what POSTROUTING has to
do. The packet mark stays as it is until mangle INPUT and OUTPUT: ip_vs compares the whole of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from kuberouter_py.config import Config
from kuberouter_py.controllers.services import dsr_chains
from kuberouter_py.controllers.services.policies import SHORT_CIRCUIT
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model.kernel import Chain, IpSet, Rules, address_text, family_of
from kuberouter_py.model.names import (
    BALANCING_MARK,
    BALANCING_MASK,
    CONNMARK_MASQUERADE,
    CONNMARK_SERVICE,
    SERVICES_CHAINS,
    TUNNEL_PREFIX,
    services_set,
)
from kuberouter_py.model.values import cidr_text

NAT, MASQUERADE, INPUT, FORWARD, OUTPUT, SILENT, MARK, UNMARK = (
    SERVICES_CHAINS + name for name in ("NAT", "MASQ", "INPUT", "FORWARD", "OUTPUT", "SILENT", "MARK", "UNMARK")
)
DIRECT, SEGMENT_SIZE = (SERVICES_CHAINS + name for name in ("DSR", "DSR-MSS"))

SET_TYPES = {
    "owned": "hash:ip,port",  # our virtual servers: how a later process knows them
    "frontends": "hash:ip,port",  # every address and port we answer on: the port filter's known pairs
    "clusterips": "hash:ip,port",  # policy of inside traffic
    # NodePorts, externalIPs, load-balancer addresses with policy Cluster: masqueraded (S4.02)
    "external": "hash:ip,port",
    # where health checks of load balancers come in: (address, healthCheckNodePort) of policy Local (S10.08, S12.07)
    "healthchecks": "hash:ip,port",
    # load-balancer frontends with loadBalancerSourceRanges, and who may come to them (S7.01-S7.06)
    "ranged": "hash:ip,port",
    "sources": "hash:ip,port,net",
    # frontends of policy Local without an endpoint on this node, while there are some elsewhere: ClusterIPs, which
    # nobody hears from, and the others, which nobody outside hears from (S3.09)
    "silent": "hash:ip,port",
    "silentoutside": "hash:ip,port",
    # NodePorts, externalIPs, load-balancer addresses with policy Local -> the mark whose virtual server has the
    # endpoints of policy Cluster, for this node's pods and processes
    SHORT_CIRCUIT: "hash:ip,port skbinfo",
    "vips": "hash:ip",  # addresses bound by us: anything else on them is refused (S10.08)
    "hairpin": "hash:ip,port,ip",  # (local endpoint, port, same endpoint)
}

# What a VIP must let through whatever the port: path MTU discovery and echo; in IPv6 neighbour discovery as well (RFC
# 4890).
_ICMP = {
    4: tuple(
        f"-p icmp -m icmp --icmp-type {kind}"
        for kind in ("destination-unreachable", "time-exceeded", "parameter-problem", "echo-request", "echo-reply")
    ),
    6: tuple(
        f"-p ipv6-icmp -m icmp6 --icmpv6-type {kind}"
        for kind in (
            "destination-unreachable",
            "packet-too-big",
            "time-exceeded",
            "parameter-problem",
            "echo-request",
            "echo-reply",
            "neighbour-solicitation",
            "neighbour-advertisement",
            "router-solicitation",
            "router-advertisement",
        )
    ),
}
_REJECT = {4: "icmp-port-unreachable", 6: "icmp6-port-unreachable"}


def sets(view: NodeView, family: int) -> Iterator[tuple[str, IpSet]]:
    types = {**SET_TYPES, **dsr_chains.SET_TYPES} if view.direct_return else SET_TYPES
    for role, kind in types.items():
        yield services_set(role, family), IpSet(kind, family)


def chains(config: Config, view: NodeView, family: int) -> Iterator[tuple[Chain, Rules]]:
    """Every chain and jump of one family."""
    yield Chain(family, "nat", NAT), Rules(tuple(_nat(config, view, family)))
    yield Chain(family, "nat", MASQUERADE), Rules(tuple(_masquerade(config, view, family)))
    yield Chain(family, "filter", INPUT), Rules(tuple(_input(config, family)))
    unallocated = tuple(_unallocated(config, view, family))
    yield Chain(family, "filter", FORWARD), Rules((*_forward(view, family), *unallocated))
    not_here = ("-m addrtype --dst-type LOCAL -j RETURN", *unallocated) if unallocated else ()
    not_led_in = (dsr_chains.refuse_rest(family, _REJECT[family]),) if view.direct_return else ()
    yield Chain(family, "filter", OUTPUT), Rules((*not_led_in, *not_here))
    yield Chain(family, "mangle", SILENT), Rules(tuple(_silent(view, family)))
    yield Chain(family, "mangle", MARK), Rules(tuple(_mark(view, family)))
    yield Chain(family, "mangle", UNMARK), Rules((_unmark(),))
    # Last, where a mark is set: bits that somebody else sets behind would hide it from ip_vs.
    yield Chain(family, "mangle", "INPUT"), Rules((f"-j {MARK}",), first=False)
    # What ip_vs has forwarded comes by OUTPUT again, and would be led in again if nat routes it anew.
    out = (SILENT, UNMARK, MARK) if view.direct_return else (SILENT, MARK)
    yield Chain(family, "mangle", "OUTPUT"), Rules(tuple(f"-j {chain}" for chain in out), first=False)
    before_routing = (SILENT, DIRECT) if view.direct_return else (SILENT,)
    yield Chain(family, "mangle", "PREROUTING"), Rules(tuple(f"-j {chain}" for chain in before_routing))
    if view.direct_return:
        yield from _direct_return(view, family)
    for table, hook, target in (
        ("mangle", "POSTROUTING", UNMARK),
        ("nat", "PREROUTING", NAT),
        ("nat", "OUTPUT", NAT),
        ("nat", "POSTROUTING", MASQUERADE),
        ("filter", "INPUT", INPUT),
        ("filter", "FORWARD", FORWARD),
        ("filter", "OUTPUT", OUTPUT),
    ):
        if not (view.aside and target == NAT):
            yield Chain(family, table, hook), Rules((f"-j {target}",))


def _direct_return(view: NodeView, family: int) -> Iterator[tuple[Chain, Rules]]:
    yield Chain(family, "mangle", DIRECT), Rules(tuple(dsr_chains.marks(family)))
    yield Chain(family, "mangle", SEGMENT_SIZE), Rules((dsr_chains.segment_size(family, view.mtu),))
    yield Chain(family, "mangle", "FORWARD"), Rules((f"-j {SEGMENT_SIZE}",))


def _match(role: str, family: int, directions: str, *, unless: bool = False) -> str:
    return f"-m set {'! ' if unless else ''}--match-set {services_set(role, family)} {directions}"


def _nat(config: Config, view: NodeView, family: int) -> Iterator[str]:
    """First packet of each connection to a frontend. The last ACCEPT keeps other programs' DNAT off it."""
    service = f"0x{CONNMARK_SERVICE:x}"
    masquerade = f"-j CONNMARK --set-xmark 0x{CONNMARK_MASQUERADE:x}/0x{CONNMARK_MASQUERADE:x}"
    yield f"{_match('frontends', family, 'dst,dst', unless=True)} -j RETURN"
    yield f"-j CONNMARK --set-xmark {service}/{service}"
    yield f"{_match('external', family, 'dst,dst')} {masquerade}"
    inside = _match("clusterips", family, "dst,dst")
    if config.masquerade_all:
        yield f"{inside} {masquerade}"
    elif view.detector in ("NodeCIDR", "ClusterCIDR"):
        local = [cidr for cidr in view.detector_cidrs if family_of(cidr.network) == family]
        for cidr in local:
            yield f"-s {cidr_text(cidr)} -j ACCEPT"
        if local:
            yield f"{inside} {masquerade}"
    elif view.detector in ("BridgeInterface", "InterfaceNamePrefix"):
        yield f"! -i {view.detector_interface} {inside} {masquerade}"
    yield "-j ACCEPT"


def _masquerade(config: Config, view: NodeView, family: int) -> Iterator[str]:
    """What leaves with the address of the link by which it leaves, so that the answer comes back by it too."""
    masquerade, service = f"0x{CONNMARK_MASQUERADE:x}", f"0x{CONNMARK_SERVICE:x}"
    yield f"{_match('hairpin', family, 'dst,dst,src')} -j MASQUERADE --random-fully"
    for connection in (
        f"-m connmark --mark {masquerade}/{masquerade}",
        # The node's own: its source is that of the way to the VIP (the primary address; the VIP itself, where another
        # link has it), and ip_vs may send it out by a tunnel.
        f"-m connmark --mark {service}/{service} -m addrtype --src-type LOCAL ! --dst-type LOCAL",
        # To anybody, from a VIP that it took as its source anyway (a program bound to it): S8.02.
        f"{_match('vips', family, 'src')} -m addrtype ! --dst-type LOCAL",
    ):
        for leaving, target in _leaving(config, view, family):
            yield f"{leaving}{connection} -j {target} --random-fully"


def _leaving(config: Config, view: NodeView, family: int) -> Iterator[tuple[str, str]]:
    """MASQUERADE, and not SNAT to the primary address whatever the link: see above. In IPv6 it takes any address of the
    link, the newest one for instance, and that may be a VIP that failed over to here (kube-vip, keepalived): where the
    link has the node's own address it is that one. Of a tunnel of our router, which has no address, it takes one of
    another link, the pods' bridge for instance; in IPv4 it takes what the route names, which is the node's.
    """
    primary = view.primary.get(family, b"")
    if family == 6 and primary in view.local:
        yield f"-o {view.local[primary]} ", f"SNAT --to-source {address_text(primary)}"
        if config.run_router and config.enable_overlay:
            yield f"-o {TUNNEL_PREFIX}{family}-+ ", f"SNAT --to-source {address_text(primary)}"
    yield "", "MASQUERADE"


def _input(config: Config, family: int) -> Iterator[str]:
    """The port filter (S10.08): a VIP answers on its Services' ports, and a host process on 0.0.0.0 does not."""
    yield f"{_match('frontends', family, 'dst,dst')} -j ACCEPT"
    yield f"{_match('healthchecks', family, 'dst,dst')} -j ACCEPT"
    if not config.ipvs_permit_all:
        return
    yield f"{_match('vips', family, 'dst', unless=True)} -j RETURN"
    for icmp in _ICMP[family]:
        yield f"{icmp} -j RETURN"
    yield f"-m conntrack --ctstate NEW,UNTRACKED -j REJECT --reject-with {_REJECT[family]}"


def _forward(view: NodeView, family: int) -> Iterator[str]:
    """Endpoints' answers pass FORWARD before ip_vs rewrites them (S8.07); only those of our connections."""
    mark = f"0x{CONNMARK_SERVICE:x}"
    yield f"-m connmark --mark {mark}/{mark} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    if family == 6 and view.bridges:
        # bridge-nf-call-ip6tables, which we set, brings here what pods of one bridge find each other by; no router
        # forwards these.
        for kind in ("neighbour-solicitation", "neighbour-advertisement"):
            yield f"-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j ACCEPT"
    if view.direct_return:
        yield dsr_chains.refuse_rest(family, _REJECT[family])
        yield from dsr_chains.answers(family, view.uplinks)


def _unallocated(config: Config, view: NodeView, family: int) -> Iterator[str]:
    """Addresses that ClusterIPs are given from and no Service has, or none that we know yet: routed on, a packet may
    come back to us, again and again. What --excluded-cidrs gives to somebody else is his.
    """
    allocated = [cidr for cidr in view.allocated_cidrs if family_of(cidr.network) == family]
    excluded = [cidr for cidr in config.excluded_cidrs if family_of(cidr.network) == family]
    for cidr in excluded if allocated else ():
        yield f"-d {cidr_text(cidr)} -j RETURN"
    for cidr in allocated:
        yield f"-d {cidr_text(cidr)} -m conntrack --ctstate NEW,UNTRACKED -j DROP"


def _silent(view: NodeView, family: int) -> Iterator[str]:
    """Who is not answered at all, on the original addresses (S7.03, S3.09); of NEW alone, so that what lives goes on
    (S4.04). In mangle: ip_vs takes the node's own packets before filter OUTPUT.
    """
    yield "-m conntrack ! --ctstate NEW,UNTRACKED -j RETURN"
    yield f"{_match('ranged', family, 'dst,dst')} {_match('sources', family, 'dst,dst,src', unless=True)} -j DROP"
    yield f"{_match('silent', family, 'dst,dst')} -j DROP"
    yield f"{_match('silentoutside', family, 'dst,dst', unless=True)} -j RETURN"
    for source in _from_here(view, family):
        yield f"{source} -j RETURN"
    yield "-j DROP"


def _mark(view: NodeView, family: int) -> Iterator[str]:
    """The short circuit. As late as can be, in mangle INPUT and OUTPUT: ip_vs compares the whole mark, and whoever
    routes by marks of his own has routed.
    """
    if view.direct_return:
        yield f"-j {DIRECT}"
    yield f"{_match(SHORT_CIRCUIT, family, 'dst,dst', unless=True)} -j RETURN"
    for source in _from_here(view, family):
        yield f"{source} -j SET --map-set {services_set(SHORT_CIRCUIT, family)} dst,dst --map-mark"


def _unmark() -> str:
    """What ip_vs has chosen by, nobody else need see."""
    return f"-m mark --mark 0x{BALANCING_MARK:x}/0x{BALANCING_MASK:x} -j MARK --set-xmark 0x0/0xffffffff"


def _from_here(view: NodeView, family: int) -> Iterator[str]:
    """Processes and pods of this node. Where ranges tell pods, the Node's own ones: a pod of another node that comes
    here is outside, its answers would not pass here again.
    """
    yield "-m addrtype --src-type LOCAL"
    if view.detector in ("NodeCIDR", "ClusterCIDR"):
        for cidr in view.pod_cidrs or view.detector_cidrs:
            if family_of(cidr.network) == family:
                yield f"-s {cidr_text(cidr)}"
    elif view.detector_interface:
        yield f"-i {view.detector_interface}"
