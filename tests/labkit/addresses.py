"""Which addresses a Pod gets: of each family one of its node's podCIDRs, or exactly those it asks for."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from typing import Final

from tests.labkit.model import NodeSpec
from tests.labkit.ports import LabError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
GATEWAYS: Final = 2  # the network's own address and its first, the bridge's


def primary(node: NodeSpec) -> tuple[str, ...]:
    """The node's first address of each family, in the order written, without prefix lengths."""
    found: dict[int, str] = {}
    for written in node.addresses:
        address = ipaddress.ip_interface(written).ip
        found.setdefault(address.version, str(address))
    return tuple(found.values())


class AddressBook:
    """Hands out one address after the other, like a CNI's: what was just given back is not the next one's."""

    def __init__(self, nodes: Mapping[str, NodeSpec]) -> None:
        self._networks = {
            name: [ipaddress.ip_network(cidr, strict=False) for cidr in node.pod_cidrs] for name, node in nodes.items()
        }
        self._next: dict[Network, int] = {}

    def choose(self, node: str, wanted: str | None, in_use: Collection[str]) -> tuple[str, ...]:
        """`wanted`: the annotation `lab/ip`. LabError when it is unusable or a podCIDR is full."""
        if wanted is not None:
            return self._asked(wanted, in_use)
        chosen: dict[int, str] = {}
        for network in self._networks[node]:
            if network.version not in chosen:
                chosen[network.version] = self._free(network, in_use)
        return tuple(chosen.values())

    def _asked(self, wanted: str, in_use: Collection[str]) -> tuple[str, ...]:
        chosen: dict[int, str] = {}
        for word in filter(None, (word.strip() for word in wanted.split(","))):
            try:
                address = ipaddress.ip_address(word)
            except ValueError as error:
                raise LabError(f"lab/ip {wanted!r}: {error}") from error
            if address.version in chosen:
                raise LabError(f"lab/ip {wanted!r}: two addresses of one family")
            if str(address) in in_use:
                raise LabError(f"lab/ip {wanted!r}: {address} belongs to another Pod that has not ended")
            chosen[address.version] = str(address)
        if not chosen:
            raise LabError(f"lab/ip {wanted!r}: no address")
        return tuple(chosen.values())

    def _free(self, network: Network, in_use: Collection[str]) -> str:
        last = network.num_addresses - (1 if network.version == 4 else 0)  # IPv4: without the broadcast address
        usable = max(last - GATEWAYS, 0)
        for step in range(min(usable, len(in_use) + 1)):
            number = GATEWAYS + (self._next.get(network, 0) + step) % usable
            address = str(network[number])
            if address not in in_use:
                self._next[network] = number - GATEWAYS + 1
                return address
        raise LabError(f"no free address in {network}")
