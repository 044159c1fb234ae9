"""What one call of the reconciler wrote, what was refused, and what could not be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kuberouter_py.model.notation import where_text
from kuberouter_py.model.report import TableCounts
from kuberouter_py.ports import Refused


@dataclass
class Outcome:
    """unread: tables whose state could not be read, with the reason; lacking: those of them that this node never had at
    all, so that nothing can be in them.
    """

    tables: dict[str, TableCounts] = field(default_factory=dict)
    refused: dict[tuple[str, Any], Refused] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    lacking: frozenset[str] = frozenset()

    @property
    def failures(self) -> int:
        return len(self.refused) + len(self.unread)

    @property
    def left_over(self) -> int:
        """Failures of a call that took everything away: what a node lacks holds nothing of ours."""
        return len(self.refused) + len(self.unread.keys() - self.lacking)


def merged(first: Outcome, second: Outcome) -> Outcome:
    """Of two writes, one after the other."""
    tables = dict(first.tables)
    for name, counts in second.tables.items():
        tables[name] = TableCounts(*(a + b for a, b in zip(tables.get(name, TableCounts()), counts, strict=True)))
    return Outcome(tables, first.refused | second.refused, second.unread, second.lacking)


def first_failure(outcome: Outcome) -> str:
    """In words; "" where there is none."""
    for table, reason in outcome.unread.items():
        return f"{table}: {reason}"
    for where, refused in outcome.refused.items():
        return f"{where_text(*where)}: {refused.reason}"
    return ""
