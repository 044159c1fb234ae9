"""What of the Services is not (or not quite) as their owners asked: kept by Service, and which of it is news. Pure.

Why a part is not served is decided where it is decided; only that another Service has an address is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping

from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.healthcheck import HealthCheckPort
from kuberouter_py.model.kernel import VirtualServerKey, address_text
from kuberouter_py.model.report import Note

ADDRESS_TAKEN = "AddressTaken"

Contested = Callable[[], Mapping[Hashable, tuple[Hashable, ...]]]


class Notes:
    """contested: claims that several Services make, the one in force first."""

    def __init__(self, contested: Contested) -> None:
        self._contested = contested
        self._notes: dict[ObjectKey, tuple[Note, ...]] = {}
        self._losers: set[ObjectKey] = set()

    def of(self, service: ObjectKey) -> tuple[Note, ...]:
        return self._notes.get(service, ())

    def __iter__(self) -> Iterator[Note]:
        return (note for notes in self._notes.values() for note in notes)

    def update(self, notes: Mapping[ObjectKey, tuple[Note, ...]]) -> list[Note]:
        """Take in what was just decided; returns what is new, also of others that lost or won an address by it."""
        news: list[Note] = []
        lost = self._lost_claims()
        for key in notes.keys() | lost.keys() | self._losers:
            before = self._notes.get(key, ())
            own = notes.get(key, tuple(note for note in before if note.reason != ADDRESS_TAKEN))
            after = own + lost.get(key, ())
            news += [note for note in after if note not in before]
            if after:
                self._notes[key] = after
            else:
                self._notes.pop(key, None)
        self._losers = set(lost)
        return news

    def _lost_claims(self) -> dict[ObjectKey, tuple[Note, ...]]:
        """Two Services want one address and port: the older has it, the younger says why not."""
        lost: dict[ObjectKey, tuple[Note, ...]] = {}
        for claim, (winner, *losers) in self._contested().items():
            assert isinstance(claim, VirtualServerKey | HealthCheckPort)  # the node and a mark have one claimant
            where = address_text(claim.address) if claim.address else "every address"
            message = f"{where} port {claim.port} is served for {winner}, which came first"
            for loser in losers:
                assert isinstance(loser, ObjectKey)
                note = Note("Service", loser, ADDRESS_TAKEN, message, event=True)
                lost[loser] = (*lost.get(loser, ()), note)
        return lost
