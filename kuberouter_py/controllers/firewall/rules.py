"""One guard's rules: what the policies of one direction allow, as iptables has it, and the sets that they need. Pure.

A rule that matches RETURNs: it is allowed as far as this direction goes. What no rule matches is refused at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kuberouter_py.controllers.firewall.sets import NamedPort, Need, PodsOf, set_name
from kuberouter_py.model.kernel import Protocol, family_of
from kuberouter_py.model.policies import IpBlock, NetworkPolicy, Peer, PodPeer, PolicyPort, PolicyRule
from kuberouter_py.model.values import cidr_text

EGRESS, INGRESS = "egress", "ingress"
DIRECTIONS = (EGRESS, INGRESS)

# A multiport match holds so many ports; a range counts as two (xt_multiport.h, XT_MULTI_PORTS).
PORTS_A_MATCH = 15


class Match(NamedTuple):
    """text: "" matches everything."""

    text: str
    needs: tuple[Need, ...] = ()


def rules_of(policy: NetworkPolicy, direction: str) -> tuple[PolicyRule, ...] | None:
    """None: it does not isolate that direction (P1.04)."""
    return policy.egress if direction == EGRESS else policy.ingress


def allowed(policies: Iterable[NetworkPolicy], direction: str, family: int) -> tuple[list[str], set[Need]]:
    """The rules that allow, each once, and the sets that they speak of. Policies only add (P1.02)."""
    rules: dict[str, None] = {}
    needs: set[Need] = set()
    for policy in policies:
        for rule in rules_of(policy, direction) or ():
            for match in _matches(rule, policy.key.namespace, direction, family):
                rules[f"{match.text} -j RETURN".lstrip()] = None
                needs.update(match.needs)
    if "-j RETURN" in rules:  # whatever the others say, everything is allowed
        return ["-j RETURN"], set()
    return [*rules], needs


def _matches(rule: PolicyRule, namespace: str, direction: str, family: int) -> Iterator[Match]:
    """P1.05: its peers and its ports must both match; each of them is an OR."""
    ports = [Match("")] if rule.ports is None else list(_ports(rule.ports, family))
    for peer in _peers(rule.peers, namespace, "dst" if direction == EGRESS else "src", family):
        for port in ports:
            yield Match(" ".join(filter(None, (peer.text, port.text))), (*peer.needs, *port.needs))


def _peers(peers: Sequence[Peer] | None, namespace: str, side: str, family: int) -> Iterator[Match]:
    if peers is None:
        yield Match("")
        return
    for peer in peers:
        if isinstance(peer, PodPeer):
            selected = PodsOf("" if peer.namespaces is not None else namespace, peer.namespaces, peer.pods)
            yield Match(f"-m set --match-set {set_name(selected, family)} {side}", (selected,))
        elif family_of(peer.cidr.network) == family:
            yield _block(peer, side, family)


def _block(block: IpBlock, side: str, family: int) -> Match:
    """A block with excepts has a set of its own, so that they take from nobody else (P3.01)."""
    if block.excepts:
        return Match(f"-m set --match-set {set_name(block, family)} {side}", (block,))
    if block.cidr.prefix == 0:  # everything of this family (P3.02)
        return Match("")
    return Match(f"{'-d' if side == 'dst' else '-s'} {cidr_text(block.cidr)}")


def _ports(ports: Sequence[PolicyPort], family: int) -> Iterator[Match]:
    """Always the port at the receiving pod (P2.04). A name is a number for each pod (P2.05), and none for those that do
    not have it (P2.06).
    """
    for protocol in Protocol:
        of_it = [port for port in ports if port.protocol == protocol]
        spoken = f"-p {protocol.name.lower()}"
        if any(port.port is None for port in of_it):
            yield Match(spoken)
            continue
        numbers = {(port.port, port.end or port.port) for port in of_it if isinstance(port.port, int)}
        for piece in batched_ports(sorted(numbers)):  # multiport: no match module of each protocol's own is needed
            yield Match(f"{spoken} -m multiport --dports {','.join(piece)}")
        for name in sorted({port.port for port in of_it if isinstance(port.port, str)}):
            need = NamedPort(name, protocol)
            yield Match(f"{spoken} -m set --match-set {set_name(need, family)} dst,dst", (need,))


def batched_ports(ranges: Iterable[tuple[int, int]]) -> Iterator[list[str]]:
    piece: list[str] = []
    room = PORTS_A_MATCH
    for first, last in ranges:
        takes = 1 if first == last else 2
        if takes > room:
            yield piece
            piece, room = [], PORTS_A_MATCH
        piece.append(str(first) if first == last else f"{first}:{last}")
        room -= takes
    if piece:
        yield piece
