"""Reads what is appended to a log, also when the log is moved away and begun again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


class Tail:
    """A file that is not there, or not readable, has no lines yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._part = b""

    def to_the_end(self) -> None:
        """What stands there now is left out."""
        self._open()
        if self._file:
            self._file.seek(0, os.SEEK_END)

    def lines(self) -> Iterator[str]:
        """Whole lines since the last call."""
        yield from self._more()
        if self._is_another():
            self._open()
            yield from self._more()

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def _more(self) -> Iterator[str]:
        if self._file:
            *whole, self._part = (self._part + self._file.read()).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")

    def _is_another(self) -> bool:
        try:
            there = os.stat(self._path)
        except OSError:
            return False
        return self._file is None or there.st_ino != os.fstat(self._file.fileno()).st_ino

    def _open(self) -> None:
        self.close()
        self._part = b""
        try:
            self._file = open(self._path, "rb", buffering=0)  # noqa: SIM115  # held until close()
        except OSError:
            self._file = None
