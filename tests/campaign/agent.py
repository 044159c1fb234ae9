"""The real edges of the firewall below a FakeFirewall: its controller writes into the kernel that we run on.

What a kernel or its programs may do to it can be asked for: a process that dies after so many writes, and a program
that fails now and then.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from kuberouter_py.kernel import command
from kuberouter_py.kernel.command import CommandFailed
from kuberouter_py.kernel.conntrack import Conntrack
from kuberouter_py.kernel.ipset import Members, Sets
from kuberouter_py.kernel.iptables import Chains
from kuberouter_py.kernel.sysctl import Sysctls
from kuberouter_py.model.kernel import Flow
from kuberouter_py.model.names import FIREWALL_CHAINS, FIREWALL_SETS
from kuberouter_py.ports import Actual, Plan, Refused, Table
from tests.fakes.firewall import FilterKernel

ISOLATION = tuple(f"{FIREWALL_SETS}{direction}-{family}" for direction in ("egress", "ingress") for family in (4, 6))


class Killed(BaseException):
    """The process is no more. Nothing in the agent catches it."""


class RealKernel(FilterKernel):
    """dies_after: so many writes from now, the process ends; None: never. fails: whether the next program does.
    watch: called when a table has been written to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dies_after: int | None = None
        self.fails: Callable[[], bool] = lambda: False
        self._run_dir = Path(tempfile.mkdtemp(prefix="campaign-"))
        self._conntrack = Conntrack()
        self._closing: list[Callable[[], None]] = []

    def tables(self) -> Sequence[Table[Any, Any]]:
        """Of a new process; those of the one before are closed."""
        self.close()
        sets, members = Sets(FIREWALL_SETS), Members(FIREWALL_SETS, counting=ISOLATION)
        self._closing = [self._conntrack.close, sets.close, members.close]
        edges = (Sysctls("firewall", self._run_dir), sets, members, Chains(FIREWALL_CHAINS, run=self._run))
        return [Mortal(self, edge) for edge in edges]

    def flows(self, family: int) -> list[Flow]:
        return list(self._conntrack.flows(family))

    def forget(self, flows: Iterable[Flow]) -> None:
        self._conntrack.forget(flows)

    def close(self) -> None:
        for close in self._closing:
            close()

    def _run(self, argv: Sequence[str], input: str | None = None, timeout: float = 30.0) -> str:
        if "restore" in argv[0] and self.fails():
            raise CommandFailed(argv, 4, "the campaign wants it to fail")
        return command.run(argv, input, timeout)


class Mortal:
    """A table whose process may end in the middle of a plan."""

    def __init__(self, kernel: RealKernel, table: Table[Any, Any]) -> None:
        self.name = table.name
        self._kernel = kernel
        self._table = table

    def read(self) -> Actual[Any, Any]:
        return self._table.read()

    def apply(self, plan: Plan[Any, Any]) -> dict[Any, Refused]:
        kernel, writes = self._kernel, len(plan.add) + len(plan.change) + len(plan.remove)
        if kernel.dies_after is None:
            return self._written(plan)
        if writes <= kernel.dies_after:
            kernel.dies_after -= writes
            return self._written(plan)
        room, kernel.dies_after = kernel.dies_after, None
        self._written(self._first(plan, room))
        raise Killed

    def _written(self, plan: Plan[Any, Any]) -> dict[Any, Refused]:
        refused = self._table.apply(plan)
        self._kernel.watch()
        return refused

    def _first(self, plan: Plan[Any, Any], room: int) -> Plan[Any, Any]:
        """So much of it as was written; of chains a whole family or nothing, as iptables-restore does it."""
        if self.name == "iptables":
            family = 4 if room % 2 else 0
            parts = [{key: one for key, one in part.items() if key.family == family} for part in _parts(plan)]
        else:
            parts = []
            for part in _parts(plan):
                parts.append(dict(islice(part.items(), room)))
                room -= len(parts[-1])
        add, change, remove = parts
        return Plan(add=add, change=change, remove=remove)


def _parts(plan: Plan[Any, Any]) -> Sequence[dict[Any, Any]]:
    return dict(plan.add), dict(plan.change), dict(plan.remove)
