"""How BIRD writes an answer on its control socket. Pure.

A line begins with a number of four digits and "-" where more follows, or " " in the last one; one that has the number
of the line before begins with a blank instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from kuberouter_py.ports import EdgeError

_NUMBERED = re.compile(r"([0-9]{4})[- ](.*)", re.DOTALL)


class Line(NamedTuple):
    code: int
    text: str


def end_of(data: bytes | bytearray, start: int = 0) -> int:
    """Where the answer ends that begins here; -1: it goes on. start: a line begins there, none before was the last."""
    while (newline := data.find(b"\n", start)) >= 0:
        head = data[start : start + 5]
        if len(head) == 5 and head[:4].isdigit() and head[4:5] == b" " and newline >= start + 4:
            return newline + 1
        start = newline + 1
    return -1


def lines_of(data: bytes) -> Iterator[Line]:
    """Every line with its number. Raises EdgeError where it has none, and neither has any before."""
    code: int | None = None
    for raw in data.decode(errors="replace").removesuffix("\n").split("\n"):
        if raw.startswith("+"):
            continue  # nobody asked
        if found := _NUMBERED.fullmatch(raw):
            code, text = int(found[1]), found[2]
        elif raw.startswith(" ") and code is not None:
            text = raw[1:]
        else:
            raise EdgeError(f"this is not BIRD's control socket: it says {raw[:80]!r}")
        yield Line(code, text)
