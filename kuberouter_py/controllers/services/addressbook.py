"""Which addresses Services want direct server return for, beside who names which at all. Pure bookkeeping."""

from __future__ import annotations

from collections.abc import Mapping

from kuberouter_py.controllers.addressbook import AddressBook, Index, exchange, outside_addresses
from kuberouter_py.controllers.services.dsr import is_asked
from kuberouter_py.model.cluster import ObjectKey, Service


class ServicesBook(AddressBook):
    """As AddressBook; the external addresses with direct server return once more."""

    def __init__(self) -> None:
        super().__init__()
        self._direct: Index = {}
        self._direct_of: dict[ObjectKey, tuple[bytes, ...]] = {}

    def is_direct(self, address: bytes) -> bool:
        """Whether a Service wants direct server return for it; then nobody has it bound to this node."""
        return address in self._direct

    def direct(self) -> set[ObjectKey]:
        """The Services with direct server return."""
        return {*self._direct_of}

    def update(self, services: Mapping[ObjectKey, Service | None]) -> set[ObjectKey]:
        """Those to decide again besides: direct server return for an address came or went."""
        again = super().update(services)
        moved: set[bytes] = set()
        for key, service in services.items():
            before = self._direct_of.get(key, ())
            after = outside_addresses(service) if service and is_asked(service) else ()
            if before != after:
                moved.update(set(before) ^ set(after))
                exchange(self._direct, key, before, after)
                if after:
                    self._direct_of[key] = after
                else:
                    del self._direct_of[key]
        return again | self.of_external(moved)
