"""Which frontends another proxy's remains serve on this node: by virtual servers (IPVS), by rules (iptables mode) or by
elements of nftables' maps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_network

from kuberouter_py.model.kernel import MarkServerKey, Protocol, ServerKey, VirtualServerKey, family_of
from kuberouter_py.model.others import (
    PROXY,
    ROUTER_POLICIES,
    ROUTER_SERVICES,
    Frontends,
    Owner,
    Remains,
    marking,
    owner_of_chain,
    owner_of_set,
)

LOOPBACK = bytes((127, 0, 0, 1))  # stands for 127.0.0.0/8

_PROTOCOLS = {"tcp": Protocol.TCP, "udp": Protocol.UDP, "sctp": Protocol.SCTP}
_RULE = re.compile(r"^-A (KUBE-SERVICES|KUBE-NODEPORTS) (.*)$", re.MULTILINE)
_DESTINATION = re.compile(r"(?:^|(?<!!)\s)-d (\S+)")
_PORT = re.compile(r"(?:^|\s)-p (tcp|udp|sctp) .*--dport (\d+)")
_SERVES = re.compile(r"-j KUBE-(?:SVC|SVL|EXT|FW|XLB)-")
_DESCRIBED = re.compile(r'--comment "[^"]*"')


def owners(remains: Remains) -> frozenset[Owner]:
    """Of whom there is anything."""
    found = {owner_of_set(name) for name in remains.sets}
    for text in remains.rules.values():
        found.update(owner_of_chain(table, chain) for table, chain, _ in rules_of(text))
    if remains.nft or remains.ipvs_link is not None:
        found.add(PROXY)
    if direct_return_marks(remains):
        found.add(ROUTER_SERVICES)
    if remains.policy_tables:
        found.add(ROUTER_POLICIES)
    return frozenset(owner for owner in found if owner is not None)


def rules_of(saved: str) -> Iterator[tuple[str, str, str]]:
    """(table, chain, rule) of each line of iptables-save; a chain itself comes with an empty rule."""
    table = ""
    for line in saved.splitlines():
        if line.startswith("-A "):
            _, chain, rule = (*line.split(" ", 2), "")[:3]
            if rule:
                yield table, chain, rule
        elif line.startswith(":"):
            yield table, line[1:].split(" ", 1)[0], ""
        elif line.startswith("*"):
            table = line[1:].strip()


def mode(remains: Remains) -> str:
    """How kube-proxy served: "ipvs", "iptables", "nftables", by what is there; "" where it did not."""
    if remains.ipvs_link is not None or any(owner_of_set(name) == PROXY for name in remains.sets):
        return "ipvs"
    if remains.nft:
        return "nftables"
    return "iptables" if any("KUBE-SERVICES" in text for text in remains.rules.values()) else ""


def served(remains: Remains) -> frozenset[VirtualServerKey]:
    """Every frontend of theirs. That of 127.0.0.0/8 (iptables mode) is LOOPBACK."""
    found = set(virtual_servers(remains))
    for (_flavour, family), text in remains.rules.items():
        found.update(_of_rules(text, family, remains))
    for family, frontends in remains.nft.items():
        found.update(frontends.services, _of_nft(frontends, family, remains))
    return frozenset(found)


def node_addresses(remains: Remains) -> frozenset[bytes]:
    """Addresses of the node on which NodePorts were served."""
    _, ports = _named_by_sets(remains)
    keys = [key for key in virtual_servers(remains) if (key.protocol, key.port) in ports]
    for name, entries in remains.sets.items():  # of kube-router's the VIPs are on no link of the node's own
        if name.endswith(("NODE-PORT-SCTP-HASH", "kube-router-svip-prt")):
            keys += [VirtualServerKey(entry.protocol, entry.address, entry.port) for entry in entries]
    for (_flavour, family), text in remains.rules.items():
        keys += _of_rules(text, family, remains, node_ports_only=True)
    for family, frontends in remains.nft.items():
        keys += _of_nft(frontends, family, remains)
    return frozenset(key.address for key in keys if key.address in remains.local)


def policy_chains(remains: Remains) -> dict[str, int]:
    """How many chains of kube-router's policy controller there are, by how their names begin."""
    counts: dict[str, int] = {}
    for text in remains.rules.values():
        for table, chain, rule in rules_of(text):
            if not rule and owner_of_chain(table, chain) == ROUTER_POLICIES:
                head = next((head for head in ("KUBE-POD-FW-", "KUBE-NWPLCY-") if chain.startswith(head)), chain)
                counts[head] = counts.get(head, 0) + 1
    return counts


def virtual_servers(remains: Remains) -> frozenset[VirtualServerKey]:
    """Of the IPVS table, those that were made by one of them: on kube-ipvs0, or named by a set of theirs."""
    named, ports = _named_by_sets(remains)
    link = remains.ipvs_link or frozenset()
    return frozenset(
        key
        for key in remains.servers
        if isinstance(key, VirtualServerKey)
        and (
            key.address in link or key in named or ((key.protocol, key.port) in ports and key.address in remains.local)
        )
    )


def direct_return_marks(remains: Remains) -> frozenset[int]:
    """Marks of kube-router's direct server return: a rule of iptables gives them, and a policy rule of its own reads
    them.
    """
    given = {
        marking(rule)
        for text in remains.rules.values()
        for table, chain, rule in rules_of(text)
        if rule and table == "mangle" and chain in ("PREROUTING", "OUTPUT")
    }
    return frozenset(rule.mark for rule in remains.mark_rules if rule.mark) & given


def mark_servers(remains: Remains) -> frozenset[ServerKey]:
    """kube-router's virtual servers of direct server return."""
    marks = direct_return_marks(remains)
    return frozenset(key for key in remains.servers if isinstance(key, MarkServerKey) and key.mark in marks)


def _named_by_sets(remains: Remains) -> tuple[set[VirtualServerKey], set[tuple[int, int]]]:
    named: set[VirtualServerKey] = set()
    ports: set[tuple[int, int]] = set()
    for name, entries in remains.sets.items():
        role = name.removeprefix("KUBE-").removeprefix("6-").removeprefix("inet6:")
        if role in ("CLUSTER-IP", "EXTERNAL-IP", "LOAD-BALANCER", "NODE-PORT-SCTP-HASH", "kube-router-svip-prt"):
            named.update(VirtualServerKey(entry.protocol, entry.address, entry.port) for entry in entries)
        elif role in ("NODE-PORT-TCP", "NODE-PORT-UDP"):
            protocol = _PROTOCOLS[role.rsplit("-", 1)[-1].lower()]
            ports.update((protocol, entry.port) for entry in entries)
    return named, ports


def _of_rules(text: str, family: int, remains: Remains, *, node_ports_only: bool = False) -> Iterator[VirtualServerKey]:
    node_ports: list[tuple[int, int, str]] = []
    places: set[str] = set()  # destinations that lead to the node ports; "": every address of the node
    for match in _RULE.finditer(text):
        chain, rule = match[1], _DESCRIBED.sub("", match[2])
        where = (_DESTINATION.search(rule) or ("", ""))[1]
        port = _PORT.search(rule)
        if chain == "KUBE-SERVICES" and "-j KUBE-NODEPORTS" in rule:
            places.add(where)
        elif port is None or not _SERVES.search(rule):
            continue
        elif chain == "KUBE-NODEPORTS":
            node_ports.append((_PROTOCOLS[port[1]], int(port[2]), where))
        elif where and not node_ports_only:
            yield VirtualServerKey(_PROTOCOLS[port[1]], ip_network(where).network_address.packed, int(port[2]))
    for protocol, number, narrowed in node_ports:
        for address in _node_addresses({narrowed} if narrowed else places, family, remains.local):
            yield VirtualServerKey(protocol, address, number)


def _of_nft(frontends: Frontends, family: int, remains: Remains) -> Iterator[VirtualServerKey]:
    everywhere = any(not any(address) for address in frontends.addresses)
    addresses = _node_addresses({""}, family, remains.local) if everywhere else frontends.addresses
    for protocol, number in frontends.node_ports:
        for address in addresses:
            yield VirtualServerKey(protocol, address, number)


def _node_addresses(places: set[str], family: int, local: frozenset[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    for place in places:
        if place == "127.0.0.0/8":
            found.add(LOOPBACK)
        elif place:
            found.update(address for address in local if _inside(address, place))
        else:
            found.update(address for address in local if family_of(address) == family)
    return found


def _inside(address: bytes, cidr: str) -> bool:
    network = ip_network(cidr)
    packed = network.network_address.packed
    return len(address) == len(packed) and int.from_bytes(address) & int(network.netmask) == int.from_bytes(packed)
