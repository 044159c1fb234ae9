"""Which Service names which address, so that a change of one rings the others that depend on it. Pure bookkeeping."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from kuberouter_py.controllers.services.dsr import is_asked, outside_addresses
from kuberouter_py.model.cluster import ObjectKey, Service

_Said = tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[bytes, ...]]
_NOTHING: _Said = ((), (), ())


class AddressBook:
    """ClusterIPs and external addresses (externalIPs, load-balancer ingress) of every Service that was decided; of the
    latter those with direct server return once more.
    """

    def __init__(self) -> None:
        self._cluster: dict[bytes, tuple[ObjectKey, ...]] = {}
        self._external: dict[bytes, tuple[ObjectKey, ...]] = {}
        self._direct: dict[bytes, tuple[ObjectKey, ...]] = {}
        self._by_service: dict[ObjectKey, _Said] = {}

    def __len__(self) -> int:
        """How many addresses: one that is of both sorts is refused as the one or the other anyway."""
        return len(self._cluster) + len(self._external)

    def is_cluster_ip(self, address: bytes) -> bool:
        return address in self._cluster

    def is_direct(self, address: bytes) -> bool:
        """Whether a Service wants direct server return for it; then nobody has it bound to this node."""
        return address in self._direct

    def direct(self) -> set[ObjectKey]:
        """The Services with direct server return."""
        return {key for holders in self._direct.values() for key in holders}

    def holders(self, address: bytes) -> Collection[ObjectKey]:
        """Every Service that names the address in any role."""
        return {*self._cluster.get(address, ()), *self._external.get(address, ())}

    def update(self, services: Mapping[ObjectKey, Service | None]) -> set[ObjectKey]:
        """Take in the Services as they are now; returns those to decide again: a ClusterIP came or went, or direct
        server return for an address.
        """
        moved: set[bytes] = set()
        for key, service in services.items():
            before = self._by_service.get(key, _NOTHING)
            after = _said(service) if service else _NOTHING
            if before == after:
                continue
            if before[0] != after[0]:
                moved.update(set(before[0]) ^ set(after[0]))
                _exchange(self._cluster, key, before[0], after[0])
            if before[1] != after[1]:
                _exchange(self._external, key, before[1], after[1])
            if before[2] != after[2]:
                moved.update(set(before[2]) ^ set(after[2]))
                _exchange(self._direct, key, before[2], after[2])
            if any(after):
                self._by_service[key] = after
            else:
                self._by_service.pop(key, None)
        return {key for address in moved for key in self._external.get(address, ())}


def _said(service: Service) -> _Said:
    outside = outside_addresses(service)
    return service.cluster_ips, outside, outside if is_asked(service) else ()


def _exchange(
    index: dict[bytes, tuple[ObjectKey, ...]], key: ObjectKey, old: Iterable[bytes], new: Iterable[bytes]
) -> None:
    gone, come = set(old) - set(new), set(new) - set(old)
    for address in gone:
        rest = tuple(other for other in index[address] if other != key)
        if rest:
            index[address] = rest
        else:
            del index[address]
    for address in come:
        index[address] = (*index.get(address, ()), key)
