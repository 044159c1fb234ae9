"""What `bgp` shows: sessions and routes, as documents and as text. Pure.

The documents' form is a promise to scripts (docs/operations.md): fields are added, never changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any

from kuberouter_py.model.bgp import ESTABLISHED, PeerRoute, PeerState, Speaker
from kuberouter_py.model.kernel import address_text
from kuberouter_py.model.report import Note
from kuberouter_py.model.values import cidr_text, duration_text

Routes = Sequence[PeerRoute]


def bgp_document(
    *,
    node: str,
    now: float,
    speaker: Speaker | None,
    states: Sequence[PeerState],
    notes: Iterable[Note],
    problem: str,
) -> dict[str, Any]:
    """speaker: what BGP shall be; None: off. notes: who is no peer, and what else is not as asked. problem: why the
    sessions are not known.
    """
    return {
        "node": node,
        "now": now,
        "speaker": _speaker(speaker) if speaker else None,
        "problem": problem,
        "peers": [_peer(each) for each in sorted(states, key=lambda peer: (bool(peer.node), peer.address))],
        "notes": [
            {"node": note.owner.name if note.owner else "", "reason": note.reason, "message": note.message}
            for note in notes
        ],
    }


def _speaker(speaker: Speaker) -> dict[str, Any]:
    restart = speaker.graceful_restart
    return {
        "asn": speaker.asn,
        "routerId": str(IPv4Address(speaker.router_id)),
        "port": speaker.port,
        "nextHops": [address_text(address) for _, address in sorted(speaker.next_hops.items())],
        "listen": [address_text(address) for address in speaker.listen],
        "clusterId": str(IPv4Address(speaker.reflects)) if speaker.reflects else "",
        "communities": list(speaker.communities),
        "prepend": {"asn": speaker.prepend[0], "times": speaker.prepend[1]} if speaker.prepend else None,
        "gracefulRestart": {"time": restart.time, "deferral": restart.deferral} if restart else None,
        "refused": [cidr_text(cidr) for cidr in speaker.refused],
        "peers": len(speaker.peers),
    }


def _peer(peer: PeerState) -> dict[str, Any]:
    families = sorted(peer.received.keys() | peer.accepted.keys() | peer.announced.keys())
    return {
        "address": address_text(peer.address),
        "asn": peer.asn,
        "node": peer.node,
        "state": peer.state,
        "since": peer.since,
        "reason": peer.reason,
        "capabilities": list(peer.capabilities),
        "bfd": peer.bfd,
        "holdTime": peer.hold_time,
        "routes": {
            f"IPv{family}": {
                "received": peer.received.get(family, 0),
                "accepted": peer.accepted.get(family, 0),
                "announced": peer.announced.get(family, 0),
            }
            for family in families
        },
    }


def routes_document(peer: PeerState, received: Routes, announced: Routes) -> dict[str, Any]:
    """Of one peer: what it gave us, and what it got."""
    return {
        "address": address_text(peer.address),
        "asn": peer.asn,
        "node": peer.node,
        "state": peer.state,
        "in": [_route(each) for each in sorted(received, key=_order)],
        "out": [_route(each) for each in sorted(announced, key=_order)],
    }


def _order(route: PeerRoute) -> tuple[int, bytes, int, bytes]:
    return len(route.network.network), route.network.network, route.network.prefix, route.next_hop


def _route(route: PeerRoute) -> dict[str, Any]:
    return {
        "network": cidr_text(route.network),
        "nextHop": address_text(route.next_hop) if route.next_hop else "",
        "asPath": list(route.as_path),
        "communities": list(route.communities),
        "accepted": route.accepted,
    }


def bgp_text(document: Mapping[str, Any]) -> str:
    """Who we are, a table of the sessions, why some are not up, who is no peer."""
    peers = document["peers"]
    lines = [_headline(document, peers)]
    if document["problem"]:
        lines += ["", f"the sessions are not known: {document['problem']}"]
    if peers:
        lines += ["", *_table([_HEADS, *(_row(peer, document["now"]) for peer in peers)])]
    failed = [peer for peer in peers if peer["state"] != ESTABLISHED and peer["reason"]]
    if failed:
        lines += ["", "not up:", *(f"  {_who(peer)}: {peer['reason']}" for peer in failed)]
    deaf = [peer for peer in peers if peer["state"] == ESTABLISHED and peer["bfd"] == "Down"]
    if deaf:
        lines += ["", "up, and nothing is heard of BFD: they have none, or a packet filter drops it:"]
        lines += [f"  {_who(peer)}: only its hold time, {peer['holdTime']} s, tells when it is gone" for peer in deaf]
    if document["notes"]:
        lines += ["", "not as asked:"]
        lines += [f"  Node {note['node']}: {note['message']} ({note['reason']})" for note in document["notes"]]
    return "\n".join(lines) + "\n"


def _headline(document: Mapping[str, Any], peers: Sequence[Mapping[str, Any]]) -> str:
    us = document["speaker"]
    if us is None:
        return f"BGP on {document['node']}: off, there are no peers"
    up = sum(1 for peer in peers if peer["state"] == ESTABLISHED)
    told = f"BGP on {document['node']}: AS {us['asn']}, router ID {us['routerId']}"
    if us["clusterId"]:
        told += f", reflects routes (cluster ID {us['clusterId']})"
    return f"{told}; {up} of {us['peers']} sessions up"


_HEADS = ("peer", "AS", "node", "state", "for", "BFD", "received", "accepted", "announced")
_RIGHT = frozenset({"AS", "received", "accepted", "announced"})


def _row(peer: Mapping[str, Any], now: float) -> tuple[str, ...]:
    """Routes of both families as "3+1" where there are two."""
    counts = ["+".join(str(family[what]) for family in peer["routes"].values()) or "0" for what in _HEADS[6:]]
    span = duration_text(float(max(0, round(now - peer["since"])))) if peer["since"] else ""
    return (peer["address"], str(peer["asn"]), peer["node"], peer["state"], span, peer["bfd"], *counts)


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            f"{cell:>{width}}" if head in _RIGHT else f"{cell:{width}}"
            for head, cell, width in zip(_HEADS, row, widths, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def _who(peer: Mapping[str, Any]) -> str:
    return f"Node {peer['node']} ({peer['address']})" if peer["node"] else f"{peer['address']} (AS {peer['asn']})"


def routes_text(documents: Sequence[Mapping[str, Any]]) -> str:
    """Of several peers."""
    lines: list[str] = []
    for one in documents:
        for direction, told in (("in", "gave us"), ("out", "got from us")):
            routes = one[direction]
            lines.append(f"{_who(one)}, {one['state']}, {told} {_counted(len(routes))}{':' if routes else ''}")
            lines += map(_route_text, routes)
        lines.append("")
    return "\n".join(lines) if lines else "no peers\n"


def service_document(service: str, told: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """told: of each address, why it is not announced; "": it is."""
    addresses = [{"address": what, "announced": not reason, "reason": reason} for what, reason in told]
    return {"service": service, "addresses": addresses}


def service_text(document: Mapping[str, Any]) -> str:
    lines = [f"Service {document['service']}"]
    for one in document["addresses"]:
        lines.append(f"  {one['address']} {'announced' if one['announced'] else 'not announced: ' + one['reason']}")
    return "\n".join(lines if document["addresses"] else [*lines, "  it has no address"]) + "\n"


def _counted(count: int) -> str:
    return "1 route" if count == 1 else f"{count or 'no'} routes"


def _route_text(route: Mapping[str, Any]) -> str:
    parts = [f"  {route['network']} via {route['nextHop'] or 'nothing'}"]
    if route["asPath"]:
        parts.append(f"path {' '.join(map(str, route['asPath']))}")
    if route["communities"]:
        parts.append(f"communities {' '.join(route['communities'])}")
    if not route["accepted"]:
        parts.append("not used")
    return ", ".join(parts)
