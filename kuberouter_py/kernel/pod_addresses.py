"""Owns what direct server return needs inside pods: a tunnel's end in the pod's namespace, and Service addresses on it.

`krpy-dsr-4` (ipip) and `krpy-dsr-6` (ip6tnl) take out of its tunnel what an IPVS director sends to the pod's address;
the Service address on that link makes the pod the receiver, and its answer leaves by the pod's own link with the
Service address as its source. The link's alias has the pod's UID and the links that were told not to answer ARP for
addresses of another link, so that everything can be taken away again by a process that knows nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from kuberouter_py.kernel import rtnetlink
from kuberouter_py.kernel.links import find_link
from kuberouter_py.kernel.namespaces import batch_in
from kuberouter_py.kernel.netlink_socket import Batch, error_text
from kuberouter_py.kernel.rtnetlink import CONF_ARP_IGNORE, CONF_RP_FILTER, IFF_LOOPBACK, IFF_NOARP, IFF_UP, LinkMessage
from kuberouter_py.model.kernel import PodAddress, address_text, family_of
from kuberouter_py.model.names import POD_TUNNELS, RULE_COMMENT
from kuberouter_py.ports import Actual, EdgeError, NetworkNamespace, Part, Plan, PodNamespaces, Refused

_KINDS: Final = {4: "ipip", 6: "ip6tnl"}
_MODULES: Final = {4: "ipip", 6: "ip6_tunnel"}
_LONGEST_ALIAS: Final = 255
# Of one apply: a pod takes 1 to 2 ms, the process list of a busy node 50. Services that wait are held up no longer.
BUDGET: Final = 0.25  # seconds
# A link without Service addresses, such as an interrupted process leaves: as a key, so that it can go.
NO_ADDRESS: Final = b""

_Pod = tuple[str, bytes]  # UID and its own address


class _Work(NamedTuple):
    add: list[PodAddress]
    remove: list[PodAddress]


class PodAddresses:
    """Table[PodAddress, None]: of this node's pods. What is gone with its namespace counts as removed."""

    name = "pod addresses"

    def __init__(
        self,
        namespaces: PodNamespaces,
        connect: Callable[[NetworkNamespace], Batch] = batch_in,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._namespaces = namespaces
        self._connect = connect
        self._clock = clock
        self._places: dict[_Pod, NetworkNamespace] = {}  # where a pod was seen last

    def read(self) -> Actual[PodAddress, None]:
        ours: dict[PodAddress, None] = {}
        for part in self.parts(()):
            ours.update(part.ours)
        return Actual(ours)

    def parts(self, known: Sequence[PodAddress]) -> Iterator[Part[PodAddress, None]]:
        """One namespace at a time. See SlicedTable."""
        unseen = set(known)
        places: dict[_Pod, NetworkNamespace] = {}
        for place in self._namespaces.everywhere():
            found = self._look(place)
            places.update({(key.uid, key.pod): place for key in found})
            unseen.difference_update(found)
            yield Part(dict.fromkeys(found))
        self._places = places
        yield Part(gone=tuple(unseen))

    def apply(self, plan: Plan[PodAddress, None]) -> dict[PodAddress, Refused]:
        works: dict[_Pod, _Work] = {}
        for key in [*plan.add, *plan.change]:
            works.setdefault((key.uid, key.pod), _Work([], [])).add.append(key)
        for key in plan.remove:
            works.setdefault((key.uid, key.pod), _Work([], [])).remove.append(key)
        ends = self._clock() + BUDGET
        refused: dict[PodAddress, Refused] = {}
        places = self._find(works)
        for pod, work in works.items():
            place = places.get(pod)
            if isinstance(place, NetworkNamespace) and self._clock() > ends:
                place = Refused("other pods came first; tried again in a moment")
                refused.update(dict.fromkeys(work.remove, place))
            refused.update(self._bring(pod, place, work))
        return refused

    def _find(self, works: Mapping[_Pod, _Work]) -> dict[_Pod, NetworkNamespace | Refused]:
        """What was seen before is believed: entering it tells whether it is still that one. To take something away from
        a pod that was never seen there is nothing.
        """
        found: dict[_Pod, NetworkNamespace | Refused] = {pod: self._places[pod] for pod in works if pod in self._places}
        unknown = [pod for pod, work in works.items() if work.add and pod not in found]
        if unknown:
            found.update(self._namespaces.find(unknown))
        return found

    def _bring(self, pod: _Pod, place: NetworkNamespace | Refused | None, work: _Work) -> dict[PodAddress, Refused]:
        if not isinstance(place, NetworkNamespace):
            return dict.fromkeys(work.add, place or Refused("its network namespace is not there"))
        try:
            batch = self._connect(place)
        except EdgeError as error:
            self._places.pop(pod, None)
            return dict.fromkeys(work.add, Refused(str(error)))
        with contextlib.closing(batch):
            try:
                refused = _change(batch, pod, work)
            except EdgeError as error:
                return dict.fromkeys([*work.add, *work.remove], Refused(str(error)))
        self._places[pod] = place
        return refused

    def _look(self, place: NetworkNamespace) -> list[PodAddress]:
        """None where the namespace went, or where we may not enter: then nothing of ours is in it."""
        found: list[PodAddress] = []
        with contextlib.suppress(EdgeError), contextlib.closing(self._connect(place)) as batch:
            for family in POD_TUNNELS:
                link = find_link(batch, POD_TUNNELS[family])
                if link is not None and _is_ours(link, family):
                    found += _held(batch, link) or [_key(link, NO_ADDRESS)]
        return found


def _is_ours(link: LinkMessage, family: int) -> bool:
    return link.kind == _KINDS[family] and link.alias.startswith(RULE_COMMENT)


def _key(link: LinkMessage, address: bytes) -> PodAddress:
    uid, *_ = link.alias.removeprefix(RULE_COMMENT).split(" ")
    return PodAddress(uid, link.tunnel_from, address)


def _held(batch: Batch, link: LinkMessage) -> list[PodAddress]:
    """The Service addresses on a link of ours; on one that is down they are none."""
    if not link.flags & IFF_UP:
        return []
    own = map(rtnetlink.read_address, batch.dump(rtnetlink.all_addresses(link.index)))
    return [
        _key(link, one.address)
        for one in own
        if one.link == link.index and len(one.address) == len(link.tunnel_from) and one.prefix == 8 * len(one.address)
    ]


def _change(batch: Batch, pod: _Pod, work: _Work) -> dict[PodAddress, Refused]:
    refused: dict[PodAddress, Refused] = {}
    if work.add:
        link, reason = _tunnel(batch, pod)
        if link is None:
            refused.update(dict.fromkeys(work.add, reason))
        else:
            failed = batch.send([rtnetlink.new_address(link.index, key.address) for key in work.add])
            for at, number in failed.items():
                if number != errno.EEXIST:
                    refused[work.add[at]] = _refusal(f"address {address_text(work.add[at].address)}", number)
            if refused and not _held(batch, link):
                _take_away(batch, pod, ())
    if work.remove:
        refused.update(_take_away(batch, pod, work.remove))
    return refused


def _tunnel(batch: Batch, pod: _Pod) -> tuple[LinkMessage | None, Refused]:
    """The pod's end of the tunnel, made where it is missing; None with the reason."""
    uid, address = pod
    family = family_of(address)
    name = POD_TUNNELS[family]
    link = find_link(batch, name)
    if link is not None and not _is_ours(link, family):
        return None, Refused(f"link {name} is there already, and is not ours")
    if link is not None and _key(link, NO_ADDRESS).uid != uid:
        batch.send([rtnetlink.delete_link(link.index)])  # of the pod that had this namespace before
        link = None
    if link is not None and link.tunnel_from != address:
        return None, Refused(f"the tunnel of this pod ends at {address_text(link.tunnel_from)}; a pod has one a family")
    if link is None:
        quiet = _speakers(batch) if family == 4 else []
        alias = " ".join([RULE_COMMENT + uid, *(one.name for one in quiet)])
        if len(alias.encode()) > _LONGEST_ALIAS:
            return None, Refused(f"link {name}: its alias would be too long: {alias}")
        made = [rtnetlink.new_tunnel(name, _KINDS[family], address), rtnetlink.describe(name, alias)]
        made += [rtnetlink.set_ipv4(one.index, CONF_ARP_IGNORE, 1) for one in quiet]
        if failed := batch.send(made):
            return None, _refusal(f"link {name}", next(iter(failed.values())), _MODULES[family])
        link = find_link(batch, name)
    if link is None:
        return None, Refused(f"link {name} went away while it was made")
    # Loose: what comes out of the tunnel has a source that the pod answers by another link.
    settings = [rtnetlink.set_ipv4(link.index, CONF_RP_FILTER, 2)] if family == 4 else []
    failed = batch.send([*settings, rtnetlink.set_up(link.index, True)])
    return (None, _refusal(f"link {name}", next(iter(failed.values())))) if failed else (link, Refused(""))


def _speakers(batch: Batch) -> list[LinkMessage]:
    """The pod's links that would answer ARP for a Service address on ours: there it is somebody else's."""
    found = map(rtnetlink.read_link, batch.dump(rtnetlink.all_links()))
    return [
        link
        for link in found
        if not link.flags & (IFF_LOOPBACK | IFF_NOARP)
        and len(link.settings) >= CONF_ARP_IGNORE
        and link.settings[CONF_ARP_IGNORE - 1] == 0
    ]


def _take_away(batch: Batch, pod: _Pod, keys: Sequence[PodAddress]) -> dict[PodAddress, Refused]:
    """The last address takes the link with it, and what was set for it."""
    family = family_of(pod[1])
    link = find_link(batch, POD_TUNNELS[family])
    if link is None or not _is_ours(link, family) or _key(link, NO_ADDRESS)[:2] != pod:
        return {}
    if {*_held(batch, link)} - {*keys}:
        there = [key for key in keys if key.address != NO_ADDRESS]
        failed = batch.send([rtnetlink.delete_address(link.index, key.address) for key in there])
        fine = (errno.EADDRNOTAVAIL, errno.ENODEV)
        return {
            there[at]: _refusal(f"address {address_text(there[at].address)}", n)
            for at, n in failed.items()
            if n not in fine
        }
    _, *quiet = link.alias.split(" ")
    back = [found for name in quiet if (found := find_link(batch, name)) is not None]
    batch.send([rtnetlink.set_ipv4(one.index, CONF_ARP_IGNORE, 0) for one in back])
    failed = batch.send([rtnetlink.delete_link(link.index)])
    number = failed.get(0, 0)
    return dict.fromkeys(keys, _refusal(f"link {link.name}", number)) if number not in (0, errno.ENODEV) else {}


def _refusal(what: str, number: int, module: str = "") -> Refused:
    hint = f"; on the host, try: modprobe {module}" if module and number == errno.EOPNOTSUPP else ""
    return Refused(f"{what}: {error_text(number)}{hint}", missing=number == errno.EOPNOTSUPP)
