"""Owns the file that remembers what we changed on the node and how it was before, so that a later process can give it
back.

One JSON object per file: {key: [value before us, value we wrote]}. It lives below /run, as long as the values
themselves do. What the keys mean is left to kernel/sysctl.py and kernel/bridge.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from kuberouter_py.ports import EdgeError


class Former(NamedTuple):
    before: str  # "" where it could not be read
    ours: str


class FormerValues:
    """A small mapping of what we hold, on disk before the first write to the kernel. Not locked: its owner is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._values: dict[str, Former] | None = None

    def __contains__(self, key: str) -> bool:
        return key in self._load()

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._load()))

    def get(self, key: str) -> Former | None:
        return self._load().get(key)

    def update(self, values: Mapping[str, Former]) -> None:
        """Adds or replaces; on disk when it returns. Raises EdgeError when it cannot be, and nothing changed."""
        if values:
            self._store({**self._load(), **values})

    def forget(self, keys: set[str]) -> None:
        """Raises EdgeError. A file without content goes."""
        if keys & self._load().keys():
            self._store({key: value for key, value in self._load().items() if key not in keys})

    def reload(self) -> None:
        """Believe the file, not the memory, from now on (another process may have cleaned up)."""
        self._values = None

    def _load(self) -> dict[str, Former]:
        if self._values is None:
            try:
                found = json.loads(self.path.read_bytes())
                self._values = {str(key): Former(str(before), str(ours)) for key, (before, ours) in found.items()}
            except FileNotFoundError:
                self._values = {}
            except OSError as error:
                raise EdgeError(f"{self.path}: {error.strerror}") from error
            except (ValueError, TypeError, AttributeError):
                self._values = {}  # not ours, or broken: it can tell nothing, and what we write next replaces it
        return self._values

    def _store(self, values: dict[str, Former]) -> None:
        scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            if values:
                self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                scratch.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
                scratch.replace(self.path)
            else:
                self.path.unlink(missing_ok=True)
        except OSError as error:
            raise EdgeError(f"{self.path}: {error.strerror}") from error
        self._values = values
