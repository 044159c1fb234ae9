"""Every name, number and mark bit that we put into the kernel, its length limit, and how a later process knows it for
ours.

No chain, set, table number or mark here equals one of kube-proxy's (KUBE-*, 0x4000, 0x8000) or kube-router's
(KUBE-ROUTER-*, kube-router-*, 0x10000, 0x20000, tables 77-79); only the link names kube-dummy-if and kube-bridge are
shared on purpose.
"""

from __future__ import annotations

from functools import cache

# Links (IFNAMSIZ: at most 15 characters).
VIP_LINK = "kube-dummy-if"
POD_BRIDGE = "kube-bridge"

# Chains: at most 28 characters (XT_EXTENSION_MAXNAMELEN less the revision byte). One prefix per controller.
CHAIN_PREFIX = "KRPY-"
SERVICES_CHAINS = "KRPY-SVC-"

# ipsets: at most 31 characters (IPSET_MAXNAMELEN 32 with the NUL).
SET_PREFIX = "krpy-"
SERVICES_SETS = "krpy-svc-"

# Every rule of ours carries a comment that starts so; a hash over the rule and those before it follows.
RULE_COMMENT = "krpy:"

# Routes: our protocol number (rtnetlink.h leaves 5..255 to routing daemons; 17 is kube-router's, 186-192 FRR's, 12
# BIRD's).
ROUTE_PROTOCOL = 158

# Mark bits. Connection marks only: nothing of ours marks a packet between mangle and ip_vs (it compares the whole
# mark).
CONNMARK_MASQUERADE = 0x0100_0000  # nat: masquerade this connection in POSTROUTING
CONNMARK_SERVICE = 0x0200_0000  # this connection goes to a frontend of ours: FORWARD lets its replies pass

# Directory of what must outlive the process but not the machine: the agent's socket, former values of sysctls.
RUN_DIR = "/run/kuberouter-py"


@cache
def services_set(role: str, family: int) -> str:
    """ "krpy-svc-vips-4"; role: see controllers/services/chains.py."""
    return f"{SERVICES_SETS}{role}-{family}"
