"""What every table owes the reconciler (ports.Table), as one function: for the real edges and for the fakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kuberouter_py.ports import Plan, SlicedTable, Table


def holds_what_it_was_given(table: Table[Any, Any], first: Mapping[Any, Any], second: Mapping[Any, Any]) -> None:
    """first, second: two contents over the same keys, which nobody else has. Leaves the table as it was."""
    before = table.read()
    _parts_tell_the_same(table, first)
    untouched = {key: value for key, value in before.ours.items() if key not in first}
    assert table.apply(Plan(add=first)) == {}
    assert table.read().ours == {**untouched, **first}
    _parts_tell_the_same(table, first)
    assert table.apply(Plan(add=first)) == {}, "adding what is there succeeds"
    assert table.read().ours == {**untouched, **first}
    assert table.apply(Plan(change={key: (first[key], second[key]) for key in first})) == {}
    assert table.read().ours == {**untouched, **second}
    assert table.apply(Plan(remove=second)) == {}
    assert table.apply(Plan(remove=second)) == {}, "removing what is gone succeeds"
    after = table.read()
    assert after.ours == untouched
    assert after.foreign == before.foreign


def _parts_tell_the_same(table: Table[Any, Any], more: Mapping[Any, Any]) -> None:
    """Read in parts, a table tells what it tells when it is read whole, and which of the known keys are not there."""
    assert isinstance(table, SlicedTable)
    ours: dict[Any, Any] = {}
    foreign: dict[Any, Any] = {}
    gone: list[Any] = []
    for part in table.parts([*more]):
        ours.update(part.ours)
        foreign.update(part.foreign)
        gone += part.gone
    actual = table.read()
    assert (ours, foreign) == (actual.ours, actual.foreign)
    assert sorted(gone) == sorted(key for key in more if key not in actual.ours and key not in actual.foreign)
