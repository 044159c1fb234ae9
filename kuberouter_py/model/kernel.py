"""The kernel's nouns: virtual servers, ipsets, chains, links, addresses, routes, sysctls.

Addresses are packed (`bytes`, 4 or 16, network order), because a hundred thousand of them live at once; the family
follows from the length. Every table is a mapping of frozen keys to frozen values; the value types here are compared
with `==`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum
from ipaddress import ip_address
from typing import Final, NamedTuple

from kuberouter_py.model.names import VIP_LINK_ALIAS


class Protocol(IntEnum):
    """IP protocol numbers of the three protocols a Service port can have (IANA)."""

    TCP = 6
    UDP = 17
    SCTP = 132


class Forwarding(IntEnum):
    """How IPVS hands a packet to a destination (include/uapi/linux/ip_vs.h, IP_VS_CONN_F_FWD_MASK)."""

    MASQUERADE = 0
    TUNNEL = 2
    DIRECT_ROUTE = 3


# Scheduler flag bits of a virtual server (ip_vs.h IP_VS_SVC_F_SCHED1..3); for sh and mh 1 means fallback and 2 means
# port.
SCHED_FLAG_1 = 0x0008
SCHED_FLAG_2 = 0x0010
SCHED_FLAG_3 = 0x0020
PERSISTENT = 0x0001
ONE_PACKET = 0x0004  # of other people's servers; nothing of ours sets it


class VirtualServerKey(NamedTuple):
    protocol: int
    address: bytes
    port: int


class MarkServerKey(NamedTuple):
    """A virtual server for every packet of one family that carries just this firewall mark, whatever its address.

    ip_vs looks at marks before it looks at addresses, and compares all 32 bits.
    """

    mark: int
    family: int


ServerKey = VirtualServerKey | MarkServerKey


class DestinationKey(NamedTuple):
    address: bytes
    port: int


class Destination(NamedTuple):
    weight: int = 1
    forwarding: Forwarding = Forwarding.MASQUERADE


class VirtualServer(NamedTuple):
    """One IPVS service with all its destinations.

    flags: scheduler flag bits and PERSISTENT, nothing else. timeout: seconds a persistence template lives; 0 without
    PERSISTENT. destinations: the frontends of one Service port share one mapping, so ten thousand VIPs of it cost no
    copy.
    """

    scheduler: str
    flags: int
    timeout: int
    destinations: Mapping[DestinationKey, Destination]


class IpSet(NamedTuple):
    """An ipset's header. type: "hash:ip", "hash:ip,port", "hash:ip,port,ip", "hash:ip,port,net" or "hash:net"; family 4
    or 6. With " skbinfo" behind its type, each member holds a packet mark for `-j SET --map-set`; with " counters" the
    kernel counts the packets that match it.
    """

    type: str
    family: int
    maxelem: int = 1 << 20  # the kernel's own default of 65,536 is too small for 45,000 Services


class SetEntry(NamedTuple):
    """One member, for every set type: the parts that the type does not have stay at their default."""

    address: bytes
    protocol: int = 0
    port: int = 0
    address2: bytes = b""
    prefix: int = -1  # of the net in hash:net and hash:ip,port,net


class SetMember(NamedTuple):
    """Key of the members table. Its value is a MemberValue."""

    set: str
    entry: SetEntry


class NoMatch(Enum):
    """What a network in a set holds that is an exception: what lies in it and in no smaller member does not match."""

    NOMATCH = "nomatch"


NOMATCH: Final = NoMatch.NOMATCH

# The mark that a member of a set with skbinfo holds; NOMATCH; None for every other member.
MemberValue = int | NoMatch | None


class Chain(NamedTuple):
    """Key of the chains table. A built-in chain (PREROUTING ...) as `chain` holds our jumps out of it, nothing else."""

    family: int
    table: str
    chain: str


class Rules(NamedTuple):
    """A chain's content. Each rule is iptables-save syntax without `-A CHAIN` and without our ownership comment; words
    for the reader come first (`-m comment --comment "..."`, at most 230 bytes) and stand in the same comment.

    For a built-in chain: the jumps of ours that must stand there; `first` says that no rule of others may stand before
    them, else none may stand behind them.
    """

    rules: tuple[str, ...]
    first: bool = True


class Link(NamedTuple):
    """A link of ours. kind: "dummy". alias: what says so to a later process with another --vip-link."""

    kind: str
    up: bool = True
    alias: str = VIP_LINK_ALIAS


class Address(NamedTuple):
    """Key of the addresses table: a /32 or /128 on a link of ours."""

    link: str
    address: bytes


class Route(NamedTuple):
    """A `local` route to one address in table local, over a link of ours. source: b"" where the node has none yet."""

    link: str
    source: bytes


class Diversion(NamedTuple):
    """Packets with this mark, as far as the mask looks, are taken in as this node's own, whatever their address.

    Its key in the table is the family.
    """

    mark: int
    mask: int


class PodAddress(NamedTuple):
    """Key of the pods' addresses: one that a pod answers on for what comes to it inside a tunnel, ending at `pod`.

    uid: the pod's. pod: its own address, of the same family.
    """

    uid: str
    pod: bytes
    address: bytes


class LinkState(NamedTuple):
    """What is on the node whoever made it: one link, its master and its addresses (packed, with prefix length)."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody misses here
    name: str
    kind: str
    up: bool
    master: str
    addresses: tuple[tuple[bytes, int], ...]
    promiscuous: bool = False
    alias: str = ""
    mtu: int = 1500


class Flow(NamedTuple):
    """A connection that conntrack remembers: who asked whom, and who answers (after translation).

    source is the client also where it was masqueraded: replies_to is what its address became. identity and zone: with
    the rest they name this very entry.
    """

    protocol: int
    source: bytes
    source_port: int
    destination: bytes
    port: int
    answers: bytes
    answers_port: int
    identity: int = 0
    zone: int = 0
    replies_to: bytes = b""
    replies_to_port: int = 0


def address_text(packed: bytes) -> str:
    """ "10.96.0.1" or "fd00::1" (RFC 5952)."""
    return str(ip_address(packed))


def family_of(packed: bytes) -> int:
    return 4 if len(packed) == 4 else 6


def server_family(key: ServerKey) -> int:
    return key.family if isinstance(key, MarkServerKey) else family_of(key.address)
