"""What BIRD's log says of sessions: which came up, which went down, and why. Pure.

`debug protocols { states }` writes "peer_192_0_2_254: State changed to up"; what the other side said, or why our side
gave up, stands in the lines before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from kuberouter_py.bgp.replies import Line
from kuberouter_py.bgp.sessions import address_of
from kuberouter_py.model.bgp import SessionNews

_LINE = re.compile(r"\S+ \S+ <([A-Z]+)> ([A-Za-z0-9_]+): (.*)")
_CHANGE = "State changed to "
_PROTOCOL = 1002


class SessionStates:
    """The news in a log, line by line. A session of which nothing is known yet is down."""

    def __init__(self) -> None:
        self._up: set[bytes] = set()
        self._why: dict[bytes, str] = {}

    def begin(self, protocols: Iterable[Line]) -> None:
        """How it stands now, of `show protocols`: that is no news."""
        self._up = set(_established(protocols))
        self._why.clear()

    def line(self, text: str) -> SessionNews | None:
        found = _LINE.match(text)
        address = address_of(found[2]) if found else b""
        if not found or not address:
            return None
        kind, said = found[1], found[3]
        if not said.startswith(_CHANGE):
            if kind != "TRACE":
                self._why[address] = said
            return None
        up = said.removeprefix(_CHANGE) == "up"
        if up == (address in self._up):
            return None
        why = "" if up else self._why.get(address, "")
        self._why.pop(address, None)
        (self._up.add if up else self._up.discard)(address)
        return SessionNews(address, up, why)

    def ended(self) -> Iterator[SessionNews]:
        """BIRD is gone, and every session with it."""
        up, self._up = sorted(self._up), set()
        self._why.clear()
        return (SessionNews(address, up=False, why="BIRD ended") for address in up)


def _established(protocols: Iterable[Line]) -> Iterator[bytes]:
    for line in protocols:
        words = line.text.split()
        if line.code == _PROTOCOL and len(words) > 3 and words[3] == "up" and (address := address_of(words[0])):
            yield address
