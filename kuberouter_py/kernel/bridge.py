"""Owns the hairpin mode of bridge ports: whether a bridge sends a frame back through the port it came from.

A pod that reaches itself through a VIP needs it. Which ports should have it is the controllers' business. By netlink,
not by /sys, which can be read-only, or show another network namespace than the one we are in.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from kuberouter_py.kernel import rtnetlink
from kuberouter_py.kernel.former import Former, FormerValues
from kuberouter_py.kernel.netlink_socket import Batch, error_text
from kuberouter_py.model import names
from kuberouter_py.ports import Actual, EdgeError, Plan, Refused

_TEXT = {False: "0", True: "1"}


class BridgePorts:
    """Table[str, bool]: name of a bridge port -> hairpin mode.

    Ours are the ports that were applied and not removed; they stand in a file below /run before the kernel is written,
    and removing one gives its former mode back. All others are foreign. A port that is gone is in neither.
    """

    name = "bridge ports"

    def __init__(self, batch: Batch, owner: str = "services", run_dir: Path = Path(names.RUN_DIR)) -> None:
        """owner: the controller; each has a file of its own, "bridge-ports-OWNER.json"."""
        self._batch = batch
        self._former = FormerValues(run_dir / f"bridge-ports-{owner}.json")
        self._lock = threading.Lock()

    def read(self) -> Actual[str, bool]:
        with self._lock:
            self._former.reload()
            actual: Actual[str, bool] = Actual({})
            for name, (_index, hairpin) in self._ports().items():
                (actual.ours if name in self._former else actual.foreign)[name] = hairpin
            return actual

    def apply(self, plan: Plan[str, bool]) -> dict[str, Refused]:
        wanted = {**plan.add, **{key: new for key, (_old, new) in plan.change.items()}}
        with self._lock:
            try:
                ports = self._ports()
                self._former.forget({name for name in self._former if name not in ports})
                refused = {name: Refused(f"{name} is not a port of a bridge") for name in wanted if name not in ports}
                good = {name: mode for name, mode in wanted.items() if name not in refused}
                self._former.update({name: self._noted(name, ports[name][1], mode) for name, mode in good.items()})
                refused.update(self._set(good, ports))
                back = {name: self._former.get(name) for name in plan.remove if name in ports}
                given = {
                    name: was.before == "1" for name, was in back.items() if was and was.ours == _TEXT[ports[name][1]]
                }
                failed = self._set(given, ports)
                self._former.forget(set(plan.remove) - failed.keys())
                return {**refused, **failed}
            except EdgeError as error:
                return dict.fromkeys([*wanted, *plan.remove], Refused(str(error)))

    def _noted(self, name: str, current: bool, mode: bool) -> Former:
        former = self._former.get(name)
        return Former(former.before if former else _TEXT[current], _TEXT[mode])

    def _set(self, modes: dict[str, bool], ports: dict[str, tuple[int, bool]]) -> dict[str, Refused]:
        names_of = [name for name, mode in modes.items() if ports[name][1] != mode]
        failed = self._batch.send([rtnetlink.set_hairpin(ports[name][0], modes[name]) for name in names_of])
        return {names_of[at]: Refused(f"hairpin mode of {names_of[at]}: {error_text(n)}") for at, n in failed.items()}

    def _ports(self) -> dict[str, tuple[int, bool]]:
        """Name -> (index, hairpin mode) of every bridge port of the node."""
        found: Iterable[rtnetlink.LinkMessage] = map(
            rtnetlink.read_link, self._batch.dump(rtnetlink.all_links(rtnetlink.AF_BRIDGE))
        )
        return {link.name: (link.index, link.hairpin) for link in found if link.hairpin is not None}
