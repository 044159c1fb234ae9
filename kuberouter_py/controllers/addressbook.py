"""Which Service names which address, so that a change of one rings the others that depend on it. Pure bookkeeping."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from kuberouter_py.model.cluster import ObjectKey, Service

Index = dict[bytes, tuple[ObjectKey, ...]]

_Said = tuple[tuple[bytes, ...], tuple[bytes, ...]]
_NOTHING: _Said = ((), ())


class AddressBook:
    """ClusterIPs and external addresses (externalIPs, load-balancer ingress) of every Service that was decided."""

    def __init__(self) -> None:
        self._cluster: Index = {}
        self._external: Index = {}
        self._by_service: dict[ObjectKey, _Said] = {}

    def __len__(self) -> int:
        """How many addresses: one that is of both sorts is refused as the one or the other anyway."""
        return len(self._cluster) + len(self._external)

    def is_cluster_ip(self, address: bytes) -> bool:
        return address in self._cluster

    def holders(self, address: bytes) -> Collection[ObjectKey]:
        """Every Service that names the address in any role."""
        return {*self._cluster.get(address, ()), *self._external.get(address, ())}

    def of_external(self, addresses: Iterable[bytes]) -> set[ObjectKey]:
        """The Services that name one of these as an external address."""
        return {key for address in addresses for key in self._external.get(address, ())}

    def outside(self) -> set[ObjectKey]:
        """The Services that name an external address."""
        return self.of_external(self._external)

    def update(self, services: Mapping[ObjectKey, Service | None]) -> set[ObjectKey]:
        """Take in the Services as they are now; returns those to decide again: a ClusterIP came or went."""
        moved: set[bytes] = set()
        for key, service in services.items():
            before = self._by_service.get(key, _NOTHING)
            after = (service.cluster_ips, outside_addresses(service)) if service else _NOTHING
            if before == after:
                continue
            if before[0] != after[0]:
                moved.update(set(before[0]) ^ set(after[0]))
                exchange(self._cluster, key, before[0], after[0])
            if before[1] != after[1]:
                exchange(self._external, key, before[1], after[1])
            if any(after):
                self._by_service[key] = after
            else:
                self._by_service.pop(key, None)
        return self.of_external(moved)


def outside_addresses(service: Service) -> tuple[bytes, ...]:
    return (*service.external_ips, *service.ingress_ips)


def exchange(index: Index, key: ObjectKey, old: Iterable[bytes], new: Iterable[bytes]) -> None:
    """The key named the old addresses, and names the new ones from now on."""
    gone, come = set(old) - set(new), set(new) - set(old)
    for address in gone:
        rest = tuple(other for other in index[address] if other != key)
        if rest:
            index[address] = rest
        else:
            del index[address]
    for address in come:
        index[address] = (*index.get(address, ()), key)
