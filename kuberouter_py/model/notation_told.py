"""How one of the kernel's tables is told in commands: what notation.py asks of every notation_*.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Notation(NamedTuple):
    """key: the text of one key. The others: the commands for (key, value), of a change for (key, old, new)."""

    key: Callable[[Any], str]
    add: Callable[[Any, Any], Iterator[str]]
    change: Callable[[Any, Any, Any], Iterator[str]]
    remove: Callable[[Any, Any], Iterator[str]]


def only_new(add: Callable[[Any, Any], Iterator[str]]) -> Callable[[Any, Any, Any], Iterator[str]]:
    """For tables where writing the new value over the old is one and the same command."""
    return lambda key, _old, new: add(key, new)
