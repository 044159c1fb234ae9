"""The sets that rules speak of: pods that a selector selects, named ports, ipBlocks with excepts. Pure.

A set is named after what it stands for, so that every policy that means the same shares it, and a later process finds
it again. Who is in a set of pods is peers.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.kernel import NOMATCH, IpSet, NoMatch, SetEntry, SetMember, family_of
from kuberouter_py.model.names import FIREWALL_SETS, fingerprint, firewall_set
from kuberouter_py.model.policies import IpBlock, Selector
from kuberouter_py.model.values import cidr_text


class PodsOf(NamedTuple):
    """Pods that `pods` selects, of one namespace, or of all that `namespaces` selects (P1.07)."""

    namespace: str
    namespaces: Selector | None
    pods: Selector


class NamedPort(NamedTuple):
    """(address, port) of every pod that declares a container port of that name and protocol (P2.05)."""

    name: str
    protocol: int


Need = PodsOf | NamedPort | IpBlock


def set_name(need: Need, family: int) -> str:
    """ "krpy-fw-s-…-4": s pods of a selector, n a named port, b an ipBlock."""
    if isinstance(need, PodsOf):
        where = ("of", need.namespace) if need.namespaces is None else ("in", *need.namespaces.words())
        return firewall_set("s-" + fingerprint(*where, "pods", *need.pods.words()), family)
    if isinstance(need, NamedPort):
        return firewall_set("n-" + fingerprint(need.name, str(need.protocol)), family)
    return firewall_set("b-" + fingerprint(cidr_text(need.cidr), *map(cidr_text, need.excepts)), family)


def holds_peers(name: str) -> bool:
    """Whether a set's members are pods that a rule speaks of, or their named ports."""
    return name.startswith((f"{FIREWALL_SETS}s-", f"{FIREWALL_SETS}n-"))


def header(need: Need, family: int) -> IpSet:
    kind = "hash:ip" if isinstance(need, PodsOf) else "hash:ip,port" if isinstance(need, NamedPort) else "hash:net"
    return IpSet(kind, family)


def families_of(need: Need, families: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(need, IpBlock):
        return tuple(family for family in families if family == family_of(need.cidr.network))
    return families


def block_members(block: IpBlock, family: int) -> Iterator[tuple[SetMember, NoMatch | None]]:
    """The block, and what it leaves out (P3.06). A set cannot hold /0: its two halves stand for it."""
    name = set_name(block, family)
    excepts = {half for each in block.excepts for half in _halves(each)}
    for cidr in _halves(block.cidr):
        if cidr not in excepts:
            yield SetMember(name, SetEntry(cidr.network, prefix=cidr.prefix)), None
    for cidr in sorted(excepts):
        yield SetMember(name, SetEntry(cidr.network, prefix=cidr.prefix)), NOMATCH


def _halves(cidr: Cidr) -> tuple[Cidr, ...]:
    if cidr.prefix:
        return (cidr,)
    size = len(cidr.network)
    return Cidr(bytes(size), 1), Cidr(b"\x80" + bytes(size - 1), 1)
