"""Which packet mark a Service port has, for what address and port alone cannot tell apart. Pure bookkeeping.

Where packets to one frontend must find different destinations by who sends them, a set of the kernel says which mark
such a frontend's packets get, and a virtual server on that mark holds the other destinations. Marks have no address, so
two Services must never share one, not even while one of them is on its way out; and a restarted agent must give each
Service port the mark that it has, or open connections would find another server. Both answers are in the kernel: its
sets hold frontend -> mark, its servers are what is in use.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import MarkServerKey, SetMember
from kuberouter_py.model.names import BALANCING_MARKS, balancing_mark, balancing_number, is_balancing_mark


class MarkUser(NamedTuple):
    """role: what the mark is for, and of which sets its frontends are members (chains.py)."""

    service: ObjectKey
    port: str  # its name
    protocol: int
    role: str


MarkOf = Callable[[MarkUser, Iterable[SetMember]], int]


class Marks:
    """members: what the sets hold now. servers: the virtual servers that are there, and those that are wanted."""

    def __init__(
        self, members: Callable[[], Mapping[Any, Any]], servers: Callable[[], Sequence[Mapping[Any, Any]]]
    ) -> None:
        self._members = members
        self._servers = servers
        self._numbers: dict[MarkUser, int] = {}
        self._taken: set[int] = set()
        self._users: dict[ObjectKey, set[MarkUser]] = {}
        self._search = 0  # from here on one is looked for

    def mark(self, user: MarkUser, frontends: Iterable[SetMember]) -> int:
        """The user's mark. frontends: the members that are to hold it; what one holds already is taken over."""
        number = self._numbers.get(user)
        if number is None:
            number = self._inherited(frontends)
            if number is None:
                number = self._free()
            self._numbers[user] = number
            self._taken.add(number)
            self._users.setdefault(user.service, set()).add(user)
        return balancing_mark(number)

    @contextmanager
    def deciding(self, service: ObjectKey) -> Iterator[MarkOf]:
        """Inside, the Service asks for its marks; those that it did not ask for it has no more, unless it could not be
        decided.
        """
        asked: set[MarkUser] = set()

        def mark_of(user: MarkUser, frontends: Iterable[SetMember]) -> int:
            asked.add(user)
            return self.mark(user, frontends)

        yield mark_of
        self.keep(service, asked)

    def keep(self, service: ObjectKey, users: Collection[MarkUser]) -> None:
        """The Service has these marks, and no others any more."""
        for user in self._users.pop(service, set()).difference(users):
            number = self._numbers.pop(user)
            self._taken.discard(number)
            self._search = min(self._search, number)
        if users:
            self._users[service] = {*users}

    def _inherited(self, frontends: Iterable[SetMember]) -> int | None:
        members = self._members()
        for mark in map(members.get, frontends):
            if mark is not None and is_balancing_mark(mark) and balancing_number(mark) not in self._taken:
                return balancing_number(mark)
        return None

    def _free(self) -> int:
        """One that nobody has and no server is on: what was given up may still be there, or drain."""
        servers = self._servers()
        for number in chain(range(self._search, BALANCING_MARKS), range(self._search)):
            keys = [MarkServerKey(balancing_mark(number), family) for family in (4, 6)]
            if number not in self._taken and not any(key in held for held in servers for key in keys):
                self._search = number
                return number
        raise LookupError(f"all {BALANCING_MARKS} balancing marks are taken")
