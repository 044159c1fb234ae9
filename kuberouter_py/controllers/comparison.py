"""Which tables are still to be compared with the kernel, a piece at a time between two changes. Pure bookkeeping."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence


class Comparison:
    """names: of all tables. is_reading: whether a part of that table was read already."""

    def __init__(self, names: Sequence[str], is_reading: Callable[[str], bool]) -> None:
        self._names = names
        self._is_reading = is_reading
        self._open: list[str] = []  # the first one is being read
        self._again: set[str] = set()  # asked for while a part of them was read already
        self._seconds = 0.0  # that the pieces have taken so far
        self._whole = False

    def ask(self, tables: Collection[str]) -> None:
        """These; none named: all. Named ones have just been changed by somebody: they come before the others."""
        asked = [name for name in self._names if not tables or name in tables]
        if tables:
            self._again.update(name for name in asked if self._is_reading(name))
            self._open = asked + [name for name in self._open if name not in tables]
        else:
            self._open += [name for name in asked if name not in self._open]
            self._whole = True

    def table(self) -> str | None:
        """The one to read on."""
        return self._open[0] if self._open else None

    def took(self, seconds: float, *, last: bool) -> bool:
        """A piece of it was read, perhaps its last. Whether there is more to read."""
        name = self._open[0]
        if last and name in self._again:
            self._again.discard(name)
        elif last:
            self._open.remove(name)
        self._seconds += seconds
        return bool(self._open)

    def ended(self) -> tuple[float, bool]:
        """How long it all took, and whether it was everything."""
        seconds, whole, self._seconds, self._whole = self._seconds, self._whole, 0.0, False
        return seconds, whole
