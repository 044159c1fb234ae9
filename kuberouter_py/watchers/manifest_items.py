"""One object in a manifest file, whatever the file is written in; and the error of a file."""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class FileError(Exception):
    """Nothing of the file can be used, and what it said before stays in force. The message starts with file:line."""


class Item(NamedTuple):
    """One object in a file, as JSON."""

    raw: bytes | msgspec.Raw
    line: int
    api_version: str = ""  # where it does not say so itself
    kind: str = ""


def inherited(api_version: str | None, kind: str | None) -> tuple[str, str]:
    """What an item that does not say its own version and kind has: those of a typed list (ServiceList)."""
    kind = (kind or "").removesuffix("List")
    return (api_version or "", kind) if kind else ("", "")
