"""Every name, number and mark bit that we put into the kernel, its length limit, and how a later process knows it for
ours.

No chain, set, table number or mark here equals one of kube-proxy's (KUBE-*, 0x4000, 0x8000) or kube-router's
(KUBE-ROUTER-*, kube-router-*, 0x10000, 0x20000, tables 77-79); only the link names kube-dummy-if and kube-bridge are
shared on purpose.
"""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Collection
from functools import cache
from hashlib import blake2b

# Links (IFNAMSIZ: at most 15 characters).
VIP_LINK = "kube-dummy-if"  # unless --vip-link says otherwise
VIP_LINK_ALIAS = "kuberouter-py: addresses of Services"  # of whatever name: `ip link` shows it
POD_BRIDGE = "kube-bridge"
POD_BRIDGE_ALIAS = "kuberouter-py: pods"
TUNNEL_PREFIX = "krt"
TUNNEL_ALIAS = "kuberouter-py: pods of other nodes"
KUBE_PROXY_LINK = "kube-ipvs0"  # kube-proxy's, in IPVS mode

# Chains: at most 28 characters (XT_EXTENSION_MAXNAMELEN less the revision byte). One prefix per controller.
CHAIN_PREFIX = "KRPY-"
SERVICES_CHAINS = "KRPY-SVC-"
FIREWALL_CHAINS = "KRPY-FW-"
ROUTING_CHAINS = "KRPY-RT-"

# ipsets: at most 31 characters (IPSET_MAXNAMELEN 32 with the NUL).
SET_PREFIX = "krpy-"
SERVICES_SETS = "krpy-svc-"
FIREWALL_SETS = "krpy-fw-"
ROUTING_SETS = "krpy-rt-"

# Every rule of ours carries a comment that starts so; a hash over the rule and those before it follows.
RULE_COMMENT = "krpy:"

# Routes: our protocol number (rtnetlink.h leaves 5..255 to routing daemons; 17 is kube-router's, 186-192 FRR's, 12
# BIRD's).
ROUTE_PROTOCOL = 158

# What leads marked packets in (kernel/diversions.py): our table, and the rule's place before main's 32766. Calico's and
# Cilium's rules stand up to 110, kube-router's at 32764 and 32765.
DIVERSION_TABLE = 158
DIVERSION_PRIORITY = 15800

# Routes to other nodes' pods stand in main with a metric that loses to BIRD's 32: what an external peer announces
# takes their place, and they are there again when it does not any more.
MAIN_TABLE = 254
POD_ROUTE_METRIC = 1580
# Where BIRD learns what to announce: no rule leads packets there.
HANDOVER_TABLE = 159
# What this node's pods use besides main: addresses of Nodes that only a tunnel leads to.
OVERLAY_TABLE = 160
OVERLAY_PRIORITY = 15810

# In pods' own namespaces (kernel/pod_addresses.py), beside an alias with the pod's UID that starts with RULE_COMMENT.
POD_TUNNELS = {4: "krpy-dsr-4", 6: "krpy-dsr-6"}

# Bits of the connection mark.
CONNMARK_MASQUERADE = 0x0100_0000  # nat: masquerade this connection in POSTROUTING
CONNMARK_SERVICE = 0x0200_0000  # this connection goes to a frontend of ours: FORWARD lets its replies pass

# Packet marks that choose a virtual server. ip_vs compares the whole mark, so it is set last before ip_vs, whole, and
# nothing else of ours marks a packet before ip_vs. What tells one of ours is that bit 30 is set and that no bit is
# which somebody else reads: 8 to 11 Cilium, 14 and 15 kubelet and kube-proxy, 16 to 19 kube-router and Calico.
BALANCING_MARK, BALANCING_MASK = 0x4000_0000, 0xC00F_FF00
# What is left for the number: bits 0 to 7 and 20 to 29. No server stands on the last one: it only leads in what has an
# address that is not this node's.
BALANCING_MARKS = (1 << 18) - 1
DIVERTED_MARK = 0x7FF0_00FF

# Directory of what must outlive the process but not the machine: the agent's socket, former values of sysctls.
RUN_DIR = "/run/kuberouter-py"


def balancing_mark(number: int) -> int:
    """The packet mark with this number. Raises ValueError outside 0 ... BALANCING_MARKS - 1."""
    if not 0 <= number < BALANCING_MARKS:
        raise ValueError(f"no balancing mark has number {number}")
    return BALANCING_MARK | (number & ~0xFF) << 12 | number & 0xFF


def balancing_number(mark: int) -> int:
    """The number of a mark of ours."""
    return mark >> 12 & (BALANCING_MARKS - 1) & ~0xFF | mark & 0xFF


def is_balancing_mark(mark: int) -> bool:
    """Whether it is one of ours: so is then the virtual server on it, which has no address to be known by."""
    return mark & BALANCING_MASK == BALANCING_MARK


def is_vip_link(name: str, kind: str, alias: str, names: Collection[str]) -> bool:
    """Whether a link is ours: a dummy one with one of these names (--vip-link's, the default one, whoever made it), or
    one that an agent with another --vip-link left behind. kube-proxy's kube-ipvs0 is not, unless the flag names it.
    """
    return kind == "dummy" and (name in names or alias == VIP_LINK_ALIAS)


def is_tunnel(name: str, alias: str) -> bool:
    """Whether a link is one of ours to another node."""
    return name.startswith(TUNNEL_PREFIX) and alias == TUNNEL_ALIAS


@cache
def services_set(role: str, family: int) -> str:
    """ "krpy-svc-vips-4"; role: see controllers/services/chains.py."""
    return f"{SERVICES_SETS}{role}-{family}"


@cache
def firewall_set(role: str, family: int) -> str:
    """ "krpy-fw-egress-4"; role: see controllers/firewall/chains.py and sets.py."""
    return f"{FIREWALL_SETS}{role}-{family}"


@cache
def routing_set(role: str, family: int) -> str:
    """ "krpy-rt-pods-4"; role: see controllers/routing/chains.py."""
    return f"{ROUTING_SETS}{role}-{family}"


@cache
def tunnel_name(remote: bytes) -> str:
    """The link to that node address: "krt4-c000020c" spells an IPv4 address out; of IPv6 it has 50 bits of a hash."""
    if len(remote) == 4:
        return f"{TUNNEL_PREFIX}4-{remote.hex()}"
    return f"{TUNNEL_PREFIX}6-{fingerprint(remote.hex())[:10]}"


def fingerprint(*parts: str) -> str:
    """16 letters and digits that stand for these texts, in this order, each for itself: ("a", "bc") is not ("ab", "c").

    80 bits: among a million names no two meet.
    """
    digest = blake2b("\0".join(parts).encode(), digest_size=10).digest()
    return b32encode(digest).decode().lower()
