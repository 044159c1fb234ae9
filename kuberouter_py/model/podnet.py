"""The nouns of the pod network: routes to other nodes' pods, tunnels, the pods' bridge, announced prefixes.

As in kernel.py: addresses are packed bytes, tables are mappings of frozen keys to frozen values.
"""

from __future__ import annotations

from typing import NamedTuple


class RouteKey(NamedTuple):
    """Key of the pod routes: one prefix in one routing table (254 is main)."""

    table: int
    network: bytes
    prefix: int


class PodRoute(NamedTuple):
    """`ip route … PREFIX [via GATEWAY] dev LINK [src SOURCE] proto 158 metric …`. gateway, source: b"": not named."""

    link: str
    gateway: bytes = b""
    source: bytes = b""


class Tunnel(NamedTuple):
    """A link that leads to one other node; its key in the table is its name (names.tunnel_name).

    family: of its outer addresses, and of what it carries. port: UDP destination port of Generic UDP Encapsulation;
    0: plain ipip or ip6ip6. mtu: of what goes in; 0: as the kernel made it.
    """

    family: int
    local: bytes
    remote: bytes
    port: int = 0
    mtu: int = 0


class Listener(NamedTuple):
    """Key of the table of ports where encapsulated packets (GUE) of one family are taken in. Its value is None."""

    family: int
    port: int


class LookupRule(NamedTuple):
    """Key of the policy rules: `ip rule from NETWORK lookup TABLE`. Its value is the table's number."""

    network: bytes
    prefix: int


class PodBridge(NamedTuple):
    """The pods' bridge; its key in the table is its name. mtu: 0: as it is."""

    mtu: int = 0


class CniFile(NamedTuple):
    """A CNI configuration as it shall be; its key in the table is its path. text: the whole file."""

    text: str


class CniSeen(NamedTuple):
    """What is known of a CNI configuration. there: None where there is no file. ours: what we wrote last, and before:
    what had been there; "" where we wrote nothing, and where there had been none.
    """

    there: str | None = None
    ours: str = ""
    before: str = ""
