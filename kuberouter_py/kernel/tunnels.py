"""Owns the tunnels to other nodes: `ip link add krt4-c000020c type ipip remote … local …`, in IPv6 ip6tnl, either also
inside UDP (Generic UDP Encapsulation), each with TUNNEL_ALIAS as the mark that makes it ours.

Which nodes need one, and the routes into it, is left to others; so are the ports where GUE is taken in (kernel/gue.py).
The devices tunl0 and ip6tnl0, which the kernel makes with its modules, are nobody's.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from kuberouter_py.kernel import rtnetlink
from kuberouter_py.kernel.netlink_socket import Batch, NetlinkError, error_text
from kuberouter_py.kernel.tunnel_codec import (
    KINDS,
    MODULES,
    change_tunnel,
    new_tunnel,
    open_tunnel,
    read_data,
    read_ends,
    read_tunnel,
)
from kuberouter_py.model.kernel import address_text
from kuberouter_py.model.names import TUNNEL_ALIAS, TUNNEL_PREFIX
from kuberouter_py.model.others import is_router_tunnel
from kuberouter_py.model.podnet import Tunnel
from kuberouter_py.ports import Actual, EdgeError, Plan, Refused

# Up to so many links are asked for by name, more of them by a look at all: a node has a link for each pod, and a tunnel
# for each node of another subnet.
FEW: Final = 64
LEAST_MTU: Final = {4: 68, 6: 1280}
# What stands there is not what it should be, or not ours: equal to nothing that is wanted.
BROKEN: Final = Tunnel(0, b"", b"")


class _Link(NamedTuple):
    kind: str
    alias: str
    value: Tunnel  # or BROKEN
    ends: tuple[bytes, bytes]

    @property
    def is_ours(self) -> bool:
        return self.kind in KINDS.values() and self.alias == TUNNEL_ALIAS


class _Failed(NamedTuple):
    at: int  # which of the key's messages
    errno: int


class Tunnels:
    """Table[str, Tunnel]: name -> tunnel. One whose MTU was left to the kernel reads so, in the process that did it."""

    name = "tunnels"

    def __init__(self, batch: Batch, stay: Callable[[], str] = lambda: "it stays") -> None:
        """batch: of NETLINK_ROUTE. stay: why kube-router's tunnels are not replaced by ours; "": they are. It is asked
        only where one stands in the way.
        """
        self._batch = batch
        self._stay = stay
        self._mtu_as_it_is: set[str] = set()
        self._held: set[str] = set()

    def holds(self, name: str) -> bool:
        """Whether it is there as far as this process knows (last read, and written since), and stays. Takes no lock."""
        return name in self._held

    def read(self) -> Actual[str, Tunnel]:
        actual: Actual[str, Tunnel] = Actual({})
        for name, link in self._links().items():
            if link.is_ours:
                actual.ours[name] = self._known(name, link.value)
            elif name.startswith((f"{TUNNEL_PREFIX}4-", f"{TUNNEL_PREFIX}6-")):
                actual.foreign[name] = BROKEN
        self._held = set(actual.ours)
        return actual

    def apply(self, plan: Plan[str, Tunnel]) -> dict[str, Refused]:
        wanted = {**plan.add, **{name: new for name, (_old, new) in plan.change.items()}}
        try:
            links = self._named([*wanted, *plan.remove])
        except EdgeError as error:
            return dict.fromkeys([*wanted, *plan.remove], Refused(str(error)))
        self._mtu_as_it_is.difference_update(plan.remove)
        self._mtu_as_it_is |= {name for name, tunnel in wanted.items() if not tunnel.mtu}
        self._mtu_as_it_is -= {name for name, tunnel in wanted.items() if tunnel.mtu}
        self._held.difference_update(plan.remove)  # before the kernel is told, which announces it as if by others
        refused = self._bring(wanted, links)
        self._held |= wanted.keys() - refused.keys()
        gone = [name for name in plan.remove if name in links and links[name].is_ours]
        for name, failed in self._send({name: [rtnetlink.delete_named(name)] for name in gone}).items():
            if failed.errno != errno.ENODEV:
                refused[name] = Refused(f"link {name}: {error_text(failed.errno)}")
        return refused

    def _links(self) -> dict[str, _Link]:
        """Every tunnel of these kinds, and whatever else has a name of ours. Raises EdgeError."""
        found: dict[str, _Link] = {}
        for payload in self._batch.dump(rtnetlink.all_links()):
            link = rtnetlink.read_link(payload)
            if link.kind in KINDS.values() or link.name.startswith(TUNNEL_PREFIX):
                found[link.name] = _read(link, payload)
        return found

    def _named(self, names: Collection[str]) -> dict[str, _Link]:
        """What has one of these names; of many, it may be more. Raises EdgeError."""
        if len(names) > FEW:
            return self._links()
        found: dict[str, _Link] = {}
        for name in names:
            try:
                answers = self._batch.request(rtnetlink.get_link(name))
            except NetlinkError as error:
                if error.errno != errno.ENODEV:
                    raise
                continue
            for payload in answers:
                found[name] = _read(rtnetlink.read_link(payload), payload)
        return found

    def _known(self, name: str, value: Tunnel) -> Tunnel:
        return value._replace(mtu=0) if name in self._mtu_as_it_is else value

    def _bring(self, wanted: Mapping[str, Tunnel], links: Mapping[str, _Link]) -> dict[str, Refused]:
        refused: dict[str, Refused] = {}
        work: dict[str, list[bytes]] = {}
        for name, tunnel in wanted.items():
            there = links.get(name)
            least = LEAST_MTU[tunnel.family]
            if 0 < tunnel.mtu < least:
                reason = f"an MTU of {tunnel.mtu} is less than the {least} that IPv{tunnel.family} needs"
                refused[name] = Refused(f"link {name}: {reason}")
            elif there is None:
                work[name] = [new_tunnel(name, tunnel), _opening(name, tunnel)]
            elif not there.is_ours:
                refused[name] = Refused(f"link {name} is there already, {_described(there)}, and is not ours")
            elif self._known(name, there.value) != tunnel:
                work[name] = [change_tunnel(name, tunnel), _opening(name, tunnel)]
        failed = self._send(work)
        # What is no tunnel of ours any more, and cannot be made one where it stands (the other kind), makes room.
        again = {name: wanted[name] for name in failed if name in links and links[name].value == BROKEN}
        self._held.difference_update(again)
        self._send({name: [rtnetlink.delete_named(name)] for name in again})
        failed = _without(failed, again)
        failed.update(self._send({name: [new_tunnel(name, one), _opening(name, one)] for name, one in again.items()}))
        others = self._others() if any(why.errno == errno.EEXIST for why in failed.values()) else links
        theirs = {name: other for name in failed if is_router_tunnel(other := _rival(wanted[name], others))}
        stay = self._stay() if theirs else ""
        if theirs and not stay:
            failed = {**_without(failed, theirs), **self._replace(theirs, wanted)}
        # Made, but not opened: without its alias it would be nobody's.
        half = [name for name, why in failed.items() if why.at == 1 and (name in again or name not in links)]
        self._send({name: [rtnetlink.delete_named(name)] for name in half})
        refused.update({name: _refusal(name, wanted[name], why.errno, others, stay) for name, why in failed.items()})
        return refused

    def _replace(self, theirs: Mapping[str, str], wanted: Mapping[str, Tunnel]) -> dict[str, _Failed]:
        """theirs: names of ours -> of kube-router's that have the same ends. The kernel has no two such at a time: for
        as long as two messages take there is none.
        """
        work = {
            name: [rtnetlink.delete_named(other), new_tunnel(name, wanted[name]), _opening(name, wanted[name])]
            for name, other in theirs.items()
        }
        return {name: _Failed(why.at - 1, why.errno) for name, why in self._send(work).items()}

    def _others(self) -> Mapping[str, _Link]:
        """All tunnels, for the sake of a reason; nothing where they cannot be had."""
        try:
            return self._links()
        except EdgeError:
            return {}

    def _send(self, work: Mapping[str, Sequence[bytes]]) -> dict[str, _Failed]:
        """The first failure of each key. All in as few exchanges as there are batches."""
        owners = [(name, at) for name, messages in work.items() for at in range(len(messages))]
        failed: dict[str, _Failed] = {}
        for index, number in sorted(self._batch.send([one for messages in work.values() for one in messages]).items()):
            name, at = owners[index]
            failed.setdefault(name, _Failed(at, number))
        return failed


def _read(link: rtnetlink.LinkMessage, payload: memoryview) -> _Link:
    data = read_data(payload)
    return _Link(link.kind, link.alias, read_tunnel(link, data) or BROKEN, read_ends(data))


def _opening(name: str, tunnel: Tunnel) -> bytes:
    return open_tunnel(name, tunnel.family, TUNNEL_ALIAS)


def _described(link: _Link) -> str:
    return f"of kind {link.kind or 'hardware'}" + (f' with alias "{link.alias}"' if link.alias else "")


def _without(failed: Mapping[str, _Failed], names: Collection[str]) -> dict[str, _Failed]:
    return {name: why for name, why in failed.items() if name not in names}


def _rival(tunnel: Tunnel, links: Mapping[str, _Link]) -> str:
    """Somebody else's that has the same ends; "" where there is none."""
    ends = (tunnel.local, tunnel.remote)
    return next((name for name, link in links.items() if link.ends == ends and not link.is_ours), "")


def _refusal(name: str, tunnel: Tunnel, number: int, links: Mapping[str, _Link], stay: str) -> Refused:
    what = f"link {name}: {error_text(number)}"
    if number == errno.EEXIST:
        other = _rival(tunnel, links) or "another link"
        way = f"from {address_text(tunnel.local)} to {address_text(tunnel.remote)}"
        whose = f"; it is named as kube-router's are, and {stay}" if stay and is_router_tunnel(other) else ""
        return Refused(f"link {name}: {other} leads {way} already, and is not ours{whose}")
    if number == errno.EOPNOTSUPP:
        return Refused(f"{what}; on the host, try: modprobe {MODULES[tunnel.family]}", missing=True)
    if number == errno.EINVAL and tunnel.port:
        module = "fou" if tunnel.family == 4 else "fou6"
        return Refused(
            f"{what}; does this kernel offer GUE (CONFIG_NET_FOU_IP_TUNNELS)? On the host, try: modprobe {module}",
            missing=True,
        )
    return Refused(what, missing=number == errno.EPERM)
