"""Whose flows are to be looked at after a change, by the addresses of pods. Both lists are handed out once."""

from __future__ import annotations

from collections.abc import Collection, Iterable


class Concerned:
    def __init__(self) -> None:
        self._suspects: set[bytes] = set()
        self._eased: set[bytes] = set()

    def changed(self, addresses: Collection[bytes]) -> None:
        """Of pods that may be allowed less, or more."""
        self.allowed_less(addresses)
        self.allowed_more(addresses)

    def allowed_less(self, addresses: Iterable[bytes]) -> None:
        self._suspects.update(addresses)

    def allowed_more(self, addresses: Iterable[bytes]) -> None:
        """Also addresses that are another pod's, or nobody's."""
        self._eased.update(addresses)

    def has_suspects(self) -> bool:
        return bool(self._suspects)

    def suspects(self) -> set[bytes]:
        """Of pods whose flows may be forbidden since this was asked last."""
        suspects, self._suspects = self._suspects, set()
        return suspects

    def eased(self) -> set[bytes]:
        """Where flows that were cut may be free since this was asked last."""
        eased, self._eased = self._eased, set()
        return eased
