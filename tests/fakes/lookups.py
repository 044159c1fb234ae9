"""ports.Lookups over a FakeKernel, ports.FirewallLookups over a FilterKernel: the same tables, asked by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.kernel import Chain, Rules, ServerKey, SetMember, VirtualServer
from kuberouter_py.ports import Affinity, EdgeError, Hop
from tests.fakes.firewall import FilterKernel
from tests.fakes.kernel import FakeKernel
from tests.fakes.packets import holds


class FakeLookups:
    """Routes: to a link's own network by that link, to everything else by `uplink`. templates: of (server, client)."""

    def __init__(self, kernel: FakeKernel, uplink: str = "eth0") -> None:
        self._kernel = kernel
        self._uplink = uplink
        self.templates: dict[tuple[ServerKey, bytes], Affinity] = {}
        self.broken = ""  # what every question is refused with

    def toward(self, address: bytes) -> Hop | None:
        hops = [hop for hop, near in self._hops(address) if near]
        hops += [hop for hop, _ in self._hops(address) if hop.link == self._uplink]
        return hops[0] if hops else None

    def _hops(self, address: bytes) -> Iterator[tuple[Hop, bool]]:
        """With every address of its family that a link has, and whether the address is in its network."""
        if self.broken:
            raise EdgeError(self.broken)
        for link in self._kernel.link_states():
            for held, prefix in link.addresses:
                if len(held) == len(address):
                    shift = 8 * len(held) - prefix
                    apart = int.from_bytes(held, "big") ^ int.from_bytes(address, "big")
                    yield Hop(link.name, held), apart >> shift == 0

    def is_local(self, address: bytes, mark: int = 0) -> bool:
        held = {each for link in self._kernel.link_states() for each, _ in link.addresses}
        led = self._kernel.diversions.get(4 if len(address) == 4 else 6)
        return address in held or address in self._kernel.routes or (led is not None and mark & led.mask == led.mark)

    def server(self, key: ServerKey) -> VirtualServer | None:
        return self._kernel.servers.get(key)

    def affinity(self, key: ServerKey, client: bytes) -> Affinity | None:
        return self.templates.get((key, client))

    def holds(self, member: SetMember) -> bool:
        """A set of networks holds an address that is in one of them."""
        return any(_covers(other, member) for other in self._kernel.members)

    def mark(self, member: SetMember) -> int:
        return self._kernel.members.get(member) or 0

    def chains(self) -> Mapping[Chain, Rules]:
        return self._kernel.chains


class FakeFirewallLookups:
    """broken: what every question is refused with."""

    def __init__(self, kernel: FilterKernel) -> None:
        self._kernel = kernel
        self.broken = ""

    def holds(self, member: SetMember) -> bool:
        return holds(self._kernel, member)

    def chains(self) -> Mapping[Chain, Rules]:
        if self.broken:
            raise EdgeError(self.broken)
        return self._kernel.chains


def _covers(held: SetMember, asked: SetMember) -> bool:
    if held.entry.prefix < 0 or not held.entry.address2:
        return held == asked
    network = Cidr(held.entry.address2, held.entry.prefix)
    return asked.entry.address2 in network and held == asked._replace(
        entry=asked.entry._replace(address2=network.network, prefix=network.prefix)
    )
