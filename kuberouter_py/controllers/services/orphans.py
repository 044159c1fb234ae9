"""DECIDE: what an earlier process left of Services that are gone meanwhile: it goes on draining (drain.py). Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from math import inf
from typing import Any

from kuberouter_py.controllers.claims import Item, Share, Unit
from kuberouter_py.controllers.services.desired import ADDRESSES, MEMBERS, ROUTES, SERVERS
from kuberouter_py.model.kernel import (
    Address,
    MarkServerKey,
    Route,
    ServerKey,
    SetMember,
    VirtualServer,
    VirtualServerKey,
    family_of,
)


def left_behind(
    servers: Mapping[ServerKey, VirtualServer],
    wanted: Mapping[ServerKey, Any],
    members: Mapping[SetMember, Any],
    addresses: Iterable[Address],
    routes: Mapping[bytes, Route],
    given_up: Callable[[bytes], bool],
) -> Share:
    """It as a share: a new process can only ask the kernel for it.

    servers, members, addresses, routes: ours, as the kernel holds them. wanted: servers that are still asked for.
    given_up: whether an address is not ours to drain at, because of a living Service or because the node has it not.
    """
    orphans = {
        key: server
        for key, server in servers.items()
        if isinstance(key, VirtualServerKey) and key not in wanted and server.destinations and not given_up(key.address)
    }
    if not orphans:
        return Share((inf,), {})
    by_frontend = _by_frontend(members)
    bound = {address.address: address for address in addresses}
    units: dict[Hashable, Unit] = {}
    for frontend, server in orphans.items():
        of_frontend = [*by_frontend.get(frontend, ()), *by_frontend.get(VirtualServerKey(0, frontend.address, 0), ())]
        units[frontend] = (
            *of_frontend,
            Item(SERVERS, frontend, server),
            *_address_items(frontend.address, bound, routes),
        )
        for mark in {item.value for item in of_frontend if item.value}:
            marked = MarkServerKey(mark, family_of(frontend.address))
            if marked in servers and marked not in wanted:
                units[marked] = (Item(SERVERS, marked, servers[marked]),)
    return Share((inf,), units)


def _by_frontend(members: Mapping[SetMember, Any]) -> Mapping[VirtualServerKey, list[Item]]:
    """Protocol and port 0: of all frontends at the address."""
    found: dict[VirtualServerKey, list[Item]] = {}
    for member, mark in members.items():
        entry = member.entry
        frontend = VirtualServerKey(entry.protocol, entry.address, entry.port)
        found.setdefault(frontend, []).append(Item(MEMBERS, member, mark))
    return found


def _address_items(address: bytes, bound: Mapping[bytes, Address], routes: Mapping[bytes, Route]) -> Iterator[Item]:
    if address in bound:
        yield Item(ADDRESSES, bound[address], None)
    if address in routes:
        yield Item(ROUTES, address, routes[address])
