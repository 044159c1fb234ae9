"""The exam that every table of the kernel sits, and the shell for preparing and for asking other tools."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from typing import Any

from kuberouter_py.ports import Plan, Refused, SlicedTable, Table


def sh(command: str, input: str | None = None) -> str:
    """A shell command that must succeed; what it printed."""
    done = subprocess.run(["sh", "-ec", command], input=input, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def difference(table: Table[Any, Any], wanted: dict[Any, Any]) -> Plan[Any, Any]:
    """What the reconciler would write."""
    actual = table.read()
    there = {**actual.foreign, **actual.ours}
    return Plan(
        add={key: value for key, value in wanted.items() if key not in there},
        change={key: (there[key], value) for key, value in wanted.items() if key in there and there[key] != value},
        remove={key: value for key, value in actual.ours.items() if key not in wanted},
    )


def check_parts(table: Table[Any, Any], more: Collection[Any] = ()) -> None:
    """Read in parts, a table tells what it tells when it is read whole; `more`: keys that are said to have been there.

    Whole is read first: it settles what is ours.
    """
    if not isinstance(table, SlicedTable):
        return
    actual = table.read()
    ours: dict[Any, Any] = {}
    foreign: dict[Any, Any] = {}
    gone: set[Any] = set()
    for part in table.parts([*actual.ours, *actual.foreign, *more]):
        ours.update(part.ours)
        foreign.update(part.foreign)
        assert not gone & set(part.gone), "gone twice"
        gone.update(part.gone)
    assert (ours, foreign) == (actual.ours, actual.foreign)
    assert gone == set(more) - ours.keys() - foreign.keys()


def bring(table: Table[Any, Any], wanted: dict[Any, Any]) -> dict[Any, Refused]:
    """Writes the difference and checks the law: what was not refused reads as wanted, and applying it again is fine."""
    plan = difference(table, wanted)
    refused = table.apply(plan)
    left = difference(table, wanted)
    assert {*left.add, *left.change, *left.remove} <= refused.keys()
    good = Plan(
        add={key: value for key, value in plan.add.items() if key not in refused},
        change={key: value for key, value in plan.change.items() if key not in refused},
        remove={key: value for key, value in plan.remove.items() if key not in refused},
    )
    assert table.apply(good) == {}
    check_parts(table, {*plan.remove, *refused})
    again = difference(table, wanted)
    assert (again.add, again.change.keys(), again.remove.keys()) == (left.add, left.change.keys(), left.remove.keys())
    return refused


def settle(table: Table[Any, Any], wanted: dict[Any, Any]) -> None:
    """bring(), and nothing may be refused, so nothing is left to do."""
    assert bring(table, wanted) == {}
