"""What a packet meets in the filter chains of a FilterKernel: the few matches and targets that our rules are made of.

A rule with a word that is not known here is an error, never a miss.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from ipaddress import ip_network
from typing import NamedTuple

from kuberouter_py.model.kernel import NOMATCH, Chain, Protocol, SetEntry, SetMember, family_of
from tests.fakes.firewall import FilterKernel

PROTOCOLS = {"tcp": Protocol.TCP, "udp": Protocol.UDP, "sctp": Protocol.SCTP, "ipv6-icmp": 58}


class Packet(NamedTuple):
    """local: this node sends it itself. service: it goes to a frontend of the Service proxy. state: conntrack's.
    icmp: its type.
    """

    source: bytes
    destination: bytes
    protocol: int = Protocol.TCP
    port: int = 80
    source_port: int = 40000
    local: bool = False
    service: bool = False
    syn: bool = True
    state: str = "NEW"
    icmp: str = ""


def passes(kernel: FilterKernel, packet: Packet, hook: str = "FORWARD") -> bool:
    """Whether it gets through our rules at that hook."""
    family = family_of(packet.source)
    return _walk(kernel, packet, Chain(family, "filter", hook)) != "REJECT"


def _walk(kernel: FilterKernel, packet: Packet, start: Chain) -> str:
    """ "REJECT", or "" for whoever comes after us."""
    stack: list[tuple[Chain, int]] = [(start, 0)]
    for _ in range(10_000):
        if not stack:
            return ""
        chain, at = stack.pop()
        rules = kernel.chains[chain].rules if chain in kernel.chains else ()
        if at >= len(rules):
            continue
        verb, target = _judge(kernel, packet, chain.family, rules[at])
        if verb is None or target in ("", "NFLOG"):
            stack.append((chain, at + 1))
        elif target == "REJECT":
            return "REJECT"
        elif target != "RETURN":
            if verb == "-j":
                stack.append((chain, at + 1))
            stack.append((chain._replace(chain=target), 0))
    raise AssertionError("the rules lead round in a circle")


@cache
def _spoken(rule: str) -> Sequence[str]:
    return shlex.split(rule)


def _judge(kernel: FilterKernel, packet: Packet, family: int, rule: str) -> tuple[str | None, str]:
    """The verb and target of a rule that matches; None: it does not."""
    words = iter(_spoken(rule))
    matched, verb, target, negated = True, "-j", "", False
    for word in words:
        if word == "!":
            negated = True
            continue
        if word in ("-j", "-g"):
            verb, target = word, next(words)
            if target in ("REJECT", "NFLOG"):
                list(words)
            continue
        if word in ("-m", "--comment", "--limit", "--limit-burst"):
            next(words)
            continue
        if word == "--update-counters":
            negated = False
            continue
        matched = (_MATCHES[word](kernel, packet, family, words) != negated) and matched
        negated = False
    return (verb if matched else None), target


Matcher = Callable[[FilterKernel, Packet, int, Iterator[str]], bool]


def _in_set(kernel: FilterKernel, packet: Packet, family: int, words: Iterator[str]) -> bool:
    name, sides = next(words), next(words).split(",")
    assert name in kernel.sets, f"no set {name}"
    kind = kernel.sets[name].type.partition(" ")[0]
    addresses = {"src": packet.source, "dst": packet.destination}
    first = addresses[sides[0]]
    if kind == "hash:net":
        return _in_net(kernel, name, first)
    if kind == "hash:ip":
        return SetMember(name, SetEntry(first)) in kernel.members
    number = packet.port if sides[1] == "dst" else packet.source_port
    entry = SetEntry(first, packet.protocol, number, addresses[sides[2]] if len(sides) == 3 else b"")
    return SetMember(name, entry) in kernel.members


def holds(kernel: FilterKernel, member: SetMember) -> bool:
    """As the kernel answers `ipset test`."""
    kind = kernel.sets[member.set].type if member.set in kernel.sets else ""
    if kind == "hash:net":
        return _in_net(kernel, member.set, member.entry.address)
    return member in kernel.members


def _in_net(kernel: FilterKernel, name: str, address: bytes) -> bool:
    """The longest prefix decides, as in ip_set_hash_netX."""
    found = [
        (member.entry.prefix, value)
        for member, value in kernel.members.items()
        if member.set == name and _holds(member.entry.address, member.entry.prefix, address)
    ]
    return bool(found) and max(found, key=lambda pair: pair[0])[1] != NOMATCH


def _holds(network: bytes, prefix: int, address: bytes) -> bool:
    if len(network) != len(address):
        return False
    shift = 8 * len(network) - prefix
    return int.from_bytes(network, "big") >> shift == int.from_bytes(address, "big") >> shift


def _in_cidr(text: str, address: bytes) -> bool:
    network = ip_network(text)
    return _holds(network.network_address.packed, network.prefixlen, address)


def _ports(kernel: FilterKernel, packet: Packet, family: int, words: Iterator[str]) -> bool:
    ranges = [[int(part) for part in each.split(":")] for each in next(words).split(",")]
    return any(each[0] <= packet.port <= each[-1] for each in ranges)


def _protocol(kernel: FilterKernel, packet: Packet, family: int, words: Iterator[str]) -> bool:
    word = next(words)
    return packet.protocol == (int(word) if word.isdigit() else PROTOCOLS[word])


def _icmp_type(kernel: FilterKernel, packet: Packet, family: int, words: Iterator[str]) -> bool:
    return packet.icmp == next(words)


def _connection_mark(kernel: FilterKernel, packet: Packet, family: int, words: Iterator[str]) -> bool:
    next(words)
    return packet.service


def _same_address(kernel: FilterKernel, packet: Packet, family: int, words: Iterator[str]) -> bool:
    next(words)
    return packet.source == packet.destination


def _source_type(kernel: FilterKernel, packet: Packet, family: int, words: Iterator[str]) -> bool:
    assert next(words) == "LOCAL"
    return packet.local


_MATCHES: dict[str, Matcher] = {
    "--match-set": _in_set,
    "--ctstate": lambda kernel, packet, family, words: packet.state in next(words).split(","),
    "--src-type": _source_type,
    "--mark": _connection_mark,
    "--bytecode": _same_address,
    "--dports": _ports,
    "--syn": lambda kernel, packet, family, words: packet.syn,
    "-p": _protocol,
    "--icmpv6-type": _icmp_type,
    "-s": lambda kernel, packet, family, words: _in_cidr(next(words), packet.source),
    "-d": lambda kernel, packet, family, words: _in_cidr(next(words), packet.destination),
}
