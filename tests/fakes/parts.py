"""A part of the agent without its edges, and a loop that only writes down what it is rung with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kuberouter_py.agent.part import Part


def bare(kind: type[Part], **parts: Any) -> Any:
    """A part with just these of its own parts."""
    part: Any = object.__new__(kind)
    vars(part).update({f"_{name}": each for name, each in parts.items()})
    return part


class FakeRunner:
    def __init__(self) -> None:
        self.rung: list[object] = []

    def ring(self, keys: Iterable[object]) -> None:
        self.rung += keys
