"""The exam that every table of the kernel sits (DESIGN 8), and the shell for preparing and for asking other tools."""

from __future__ import annotations

import subprocess
from typing import Any

from kuberouter_py.ports import Plan, Refused, Table


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
    again = difference(table, wanted)
    assert (again.add, again.change.keys(), again.remove.keys()) == (left.add, left.change.keys(), left.remove.keys())
    return refused


def settle(table: Table[Any, Any], wanted: dict[Any, Any]) -> None:
    """bring(), and nothing may be refused, so nothing is left to do."""
    assert bring(table, wanted) == {}
