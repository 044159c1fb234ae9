"""The two states that a packet's way is followed over: what was decided, and what the kernel has. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kuberouter_py.controllers.matches import Packet
from kuberouter_py.controllers.reading import rules_there
from kuberouter_py.controllers.services.desired import MEMBERS, ROUTES, SERVERS
from kuberouter_py.controllers.services.dsr import DIVERSIONS
from kuberouter_py.controllers.services.explain.known import Known
from kuberouter_py.controllers.services.nodestate import CHAINS
from kuberouter_py.model.cluster import networks_of
from kuberouter_py.model.kernel import Chain, Diversion, Rules, ServerKey, SetEntry, SetMember, VirtualServer
from kuberouter_py.ports import Lookups


class Decided:
    """way.State over what the controller wants, and over whatever servers of others it has seen."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self.asked: dict[SetMember, bool] = {}  # every question about a set, with its answer

    def server(self, key: ServerKey) -> VirtualServer | None:
        found: VirtualServer | None = self._known.wanted(SERVERS).get(key)
        return found if found is not None else self._known.foreign(SERVERS).get(key)

    def rules(self, chain: Chain) -> Sequence[str]:
        found = self._known.wanted(CHAINS).get(chain)
        return found.rules if found else ()

    def holds(self, name: str, entry: SetEntry) -> bool:
        members = self._known.wanted(MEMBERS)
        found = any(SetMember(name, each) in members for each in _covering(entry))
        self.asked[SetMember(name, entry)] = found
        return found

    def mark_of(self, name: str, entry: SetEntry) -> int:
        return self._known.wanted(MEMBERS).get(SetMember(name, entry)) or 0

    def takes_in(self, packet: Packet) -> bool:
        led: Diversion | None = self._known.wanted(DIVERSIONS).get(packet.family)
        return self.is_local(packet.destination) or (led is not None and packet.mark & led.mask == led.mark)

    def is_local(self, address: bytes) -> bool:
        return address in self._known.wanted(ROUTES) or address in self._known.view.local or _is_loopback(address)


class Actual:
    """way.State over the kernel now. chains: as they stand there; wanted: as they should. Raises EdgeError."""

    def __init__(self, lookups: Lookups, chains: Mapping[Chain, Rules], wanted: Mapping[Chain, Rules]) -> None:
        self._lookups = lookups
        self._chains = chains
        self._wanted = wanted
        self.asked: dict[SetMember, bool] = {}
        self.server = lookups.server
        self.is_local = lookups.is_local

    def takes_in(self, packet: Packet) -> bool:
        return self._lookups.is_local(packet.destination, packet.mark)

    def rules(self, chain: Chain) -> Sequence[str]:
        return rules_there(chain, self._chains, self._wanted)

    def holds(self, name: str, entry: SetEntry) -> bool:
        member = SetMember(name, entry)
        self.asked[member] = found = self._lookups.holds(member)
        return found

    def mark_of(self, name: str, entry: SetEntry) -> int:
        return self._lookups.mark(SetMember(name, entry))

    def changed_chains(self, family: int) -> list[Chain]:
        """Of the wanted ones, those that do not stand as they were written."""
        return [
            chain
            for chain, rules in self._wanted.items()
            if chain.family == family and self._chains.get(chain) != rules
        ]


def _covering(entry: SetEntry) -> Iterator[SetEntry]:
    """The entry itself, and every network that its last address is in."""
    yield entry
    address = entry.address2 or entry.address
    if not entry.address2 and entry.port:
        return
    for network, prefix in networks_of(address):
        if entry.address2:
            yield entry._replace(address2=network, prefix=prefix)
        else:
            yield entry._replace(address=network, prefix=prefix)


def _is_loopback(address: bytes) -> bool:
    return address[0] == 127 if len(address) == 4 else address == bytes(15) + b"\1"
