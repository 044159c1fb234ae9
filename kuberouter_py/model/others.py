"""The other Service proxies that a node may have had, kube-proxy and kube-router: what they call their things in the
kernel, and what was found of them.

Names are theirs (kube-proxy 1.5 to 1.36, kube-router 2.x). Owning them means to know them exactly: whatever is not
listed here is somebody else's. Kubelet's chains look alike and are told apart here too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from kuberouter_py.model.kernel import ServerKey, SetEntry, VirtualServerKey
from kuberouter_py.model.names import KUBE_PROXY_LINK


class Other(StrEnum):
    KUBE_PROXY = "kube-proxy"
    KUBE_ROUTER = "kube-router"


class Part(StrEnum):
    """What a thing of theirs is for. Not routing: the pods' network hangs on it, and a Service proxy is no router. (A
    tunnel of kube-router's goes when our router puts its own in its place.)
    """

    SERVICES = "services"
    POLICIES = "policies"


class Owner(NamedTuple):
    other: Other
    part: Part


PROXY = Owner(Other.KUBE_PROXY, Part.SERVICES)
ROUTER_SERVICES = Owner(Other.KUBE_ROUTER, Part.SERVICES)
ROUTER_POLICIES = Owner(Other.KUBE_ROUTER, Part.POLICIES)

IPVS_LINK = KUBE_PROXY_LINK  # kube-router's is named as ours
NFT_TABLE = "kube-proxy"
ACCOUNTS = ("ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts")  # kube-proxy's, in iptables mode
POLICY_TABLES = {4: "kube-router-filter-ipv4", 6: "kube-router-filter-ipv6"}  # kube-router's in nf_tables
DSR_RULE, EXTERNAL_RULE = (32764, 78), (32765, 79)  # (priority, table) of kube-router's direct server return

# What a kubelet before 1.28 keeps in table nat as well, in the same words (KEP-3178). Who masquerades by a mark of
# theirs (portmap of the CNI plugins can be told to) needs all three.
SHARED_CHAINS = frozenset({"KUBE-MARK-MASQ", "KUBE-MARK-DROP", "KUBE-POSTROUTING"})
KUBELET_GAVE_UP = (1, 28)  # the minor version from which kubelet has no such chains

_PROXY_CHAINS = SHARED_CHAINS | {
    "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-NODE-PORT", "KUBE-FORWARD", "KUBE-PROXY-CANARY",
    "KUBE-PROXY-FIREWALL", "KUBE-LOAD-BALANCER", "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER", "KUBE-PORTALS-CONTAINER", "KUBE-PORTALS-HOST", "KUBE-NODEPORT-CONTAINER",
    "KUBE-NODEPORT-HOST", "KUBE-NODEPORT-NON-LOCAL",
}  # fmt: skip
_PROXY_HEADS = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-", "KUBE-SEP-")
_ROUTER_CHAINS = {
    "KUBE-ROUTER-SERVICES": ROUTER_SERVICES, "KUBE-ROUTER-HAIRPIN": ROUTER_SERVICES,
    "KUBE-ROUTER-INPUT": ROUTER_POLICIES, "KUBE-ROUTER-FORWARD": ROUTER_POLICIES,
    "KUBE-ROUTER-OUTPUT": ROUTER_POLICIES,
}  # fmt: skip
_ROUTER_HEADS = ("KUBE-POD-FW-", "KUBE-NWPLCY-")

_PROXY_ROLES = (
    "LOOP-BACK", "CLUSTER-IP", "EXTERNAL-IP", "EXTERNAL-IP-LOCAL", "LOAD-BALANCER", "LOAD-BALANCER-LOCAL",
    "LOAD-BALANCER-FW", "LOAD-BALANCER-SOURCE-IP", "LOAD-BALANCER-SOURCE-CIDR", "NODE-PORT-TCP", "NODE-PORT-LOCAL-TCP",
    "NODE-PORT-UDP", "NODE-PORT-LOCAL-UDP", "NODE-PORT-SCTP-HASH", "NODE-PORT-LOCAL-SCTP-HASH",
    "HEALTH-CHECK-NODE-PORT", "IPVS-IPS",
)  # fmt: skip
# An ipset's name has 31 bytes at most: some of IPv6 are cut.
_PROXY_SETS = frozenset(f"KUBE-{family}{role}"[:31] for role in _PROXY_ROLES for family in ("", "6-"))
_ROUTER_SETS = frozenset({"kube-router-local-ips", "kube-router-svip", "kube-router-svip-prt"})
_ROUTER_TUNNEL = re.compile(r"tun-[0-9a-f]{11}")
_POLICY_SETS = ("KUBE-SRC-", "KUBE-DST-", "kube-router-local-pods")


def is_router_tunnel(name: str) -> bool:
    """Whether it is named as kube-router's tunnels to other nodes are: "tun-" and eleven digits of a hash."""
    return _ROUTER_TUNNEL.fullmatch(name) is not None


def owner_of_chain(table: str, chain: str) -> Owner | None:
    """Whose chain it is. The shared ones count as kube-proxy's here: who runs beside it has to be asked."""
    if chain in _ROUTER_CHAINS:
        return _ROUTER_CHAINS[chain]
    if chain.startswith(_ROUTER_HEADS):
        return ROUTER_POLICIES
    # Up to 1.25 IPVS mode filtered source ranges in nat by a chain that kubelet has in filter.
    if chain in _PROXY_CHAINS or chain.startswith(_PROXY_HEADS) or (table, chain) == ("nat", "KUBE-FIREWALL"):
        return PROXY
    return None


def owner_of_set(name: str) -> Owner | None:
    bare = name.removeprefix("inet6:")
    if bare in _ROUTER_SETS:
        return ROUTER_SERVICES
    if bare.startswith(_POLICY_SETS):
        return ROUTER_POLICIES
    return PROXY if name in _PROXY_SETS else None


def owner_of_rule(table: str, chain: str, rule: str, marks: Collection[int]) -> Owner | None:
    """Rules of theirs that stand in a chain of the kernel's and lead to no chain of theirs: kube-router has some. By
    themselves they prove nothing, others may have the like. marks: those of its direct server return on this node.
    """
    masquerades = ("-m ipvs", "--vdir ORIGINAL", "--vmethod MASQ", '--comment ""', "-j SNAT --to-source")
    clamps = ("-i kube-bridge", "--sport", "-j TCPMSS --set-mss")
    theirs = {
        ("nat", "POSTROUTING"): all(word in rule for word in masquerades),
        ("mangle", "PREROUTING"): marking(rule) in marks or (bool(marks) and all(word in rule for word in clamps)),
        ("mangle", "OUTPUT"): marking(rule) in marks,
    }
    return ROUTER_SERVICES if theirs.get((table, chain)) else None


def marking(rule: str) -> int:
    """The firewall mark that a rule of kube-router's gives to a frontend of direct server return; 0: it is no such
    rule. `-d VIP/32 -p tcp -m tcp --dport 80 -j MARK --set-xmark 0xce2/0xffffffff`, a mark of 14 bits.
    """
    words = rule.split()
    if words[:1] != ["-d"] or "--dport" not in words or words[-4:-1] != ["-j", "MARK", "--set-xmark"]:
        return 0
    mark, _, mask = words[-1].partition("/")
    return int(mark, 16) if mask == "0xffffffff" and 0 < int(mark, 16) < 0x4000 else 0


class Process(NamedTuple):
    """A running program of this node's network namespace. arguments: as in /proc/PID/cmdline, and what a configuration
    file of k3s or RKE2 adds in the form `--key=value`.
    """

    pid: int
    name: str
    arguments: tuple[str, ...]


class Listener(NamedTuple):
    """Something that is not ours answered an HTTP request on a port of kube-proxy's."""

    port: int
    path: str
    answer: str


class Sign(NamedTuple):
    """That one of them is alive, and how it was found."""

    owner: Owner
    how: str

    def __str__(self) -> str:
        what = f"{self.owner.other}'s policy controller" if self.owner.part is Part.POLICIES else self.owner.other
        return f"{what} is alive: {self.how}"


class MarkRule(NamedTuple):
    """A policy rule of kube-router's: packets with this mark (0: all) look into this table."""

    family: int
    priority: int
    table: int
    mark: int


class Frontends(NamedTuple):
    """What nftables mode serves. node_ports: (protocol, port), on each of `addresses` (all zeros: on every one)."""

    services: frozenset[VirtualServerKey]
    node_ports: frozenset[tuple[int, int]]
    addresses: frozenset[bytes]


@dataclass(frozen=True)
class Remains:
    """What the kernel holds of them at one moment.

    rules: iptables-save's text by flavour and family. sets: theirs, with members. ipvs_link: the addresses on
    kube-ipvs0; None where there is no such link. servers: the whole IPVS table. mark_rules: kube-router's policy rules.
    policy_tables: families of its nf_tables. local: the node's own addresses on which a NodePort could answer. unread:
    what could not be looked at, and why.
    """

    rules: Mapping[tuple[str, int], str] = field(default_factory=dict)
    sets: Mapping[str, frozenset[SetEntry]] = field(default_factory=dict)
    nft: Mapping[int, Frontends] = field(default_factory=dict)
    ipvs_link: frozenset[bytes] | None = None
    servers: frozenset[ServerKey] = frozenset()
    mark_rules: frozenset[MarkRule] = frozenset()
    policy_tables: frozenset[int] = frozenset()
    local: frozenset[bytes] = frozenset()
    unread: tuple[str, ...] = ()


class Away(NamedTuple):
    """What shall go: whatever the owners have, these virtual servers, kube-router's direct server return by its marks,
    and no chain (of nat) that is kept; why it is.
    """

    owners: frozenset[Owner]
    servers: frozenset[ServerKey] = frozenset()
    marks: frozenset[int] = frozenset()
    keep: Mapping[str, str] = {}


@dataclass
class Gone:
    """done: what was removed, counted by kind. kept: their chains that stay, and why. failed: what would not go."""

    done: dict[str, int] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
