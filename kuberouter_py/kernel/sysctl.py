"""Owns the sysctls that we hold: their values in /proc/sys, and what they were before us, to be given back.

Controllers may hold the same one, each for itself: it is given back by the last of them, as it was before the first.
Which ones should have which value is the controllers' business, also rules such as "at least 2": `before_us` tells them
what to start from. Keys are paths below /proc/sys ("net/ipv4/conf/eth0.100/rp_filter"), so that a dot in a link's name
is no question.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from kuberouter_py.kernel.former import Former, FormerValues
from kuberouter_py.model import names
from kuberouter_py.ports import Actual, EdgeError, Plan, Refused

PROC_SYS: Final = Path("/proc/sys")


class Sysctls:
    """Table[str, str]: sysctl -> value, blanks between numbers as one space.

    Ours is every key that was ever applied and not removed, also where the value was right already; it stands in a file
    below /run before the kernel is written. Removing a key gives its former value back, unless somebody else has
    changed it since, or another controller holds it at the same value: that one is told what to give back.
    """

    name = "sysctls"

    def __init__(self, owner: str = "services", run_dir: Path = Path(names.RUN_DIR), root: Path = PROC_SYS) -> None:
        """owner: the controller; each has a file of its own, "sysctls-OWNER.json"."""
        self._root = root
        self._run_dir = run_dir
        self._former = FormerValues(run_dir / f"sysctls-{owner}.json")
        self._lock = threading.Lock()
        self._watched: frozenset[str] = frozenset()

    def expect(self, keys: Iterable[str]) -> None:
        """Keys that the next reads tell too, whether they are ours or (yet) only wanted: as foreign ones."""
        self._watched = frozenset(keys)

    def current(self, key: str) -> str | None:
        """What the kernel says now; None where it has no such key or does not let us read it."""
        try:
            return " ".join(self._path(key).read_text().split())
        except (OSError, ValueError):
            return None

    def can_set(self, key: str) -> bool:
        """Whether the kernel lets this process write it, as its permissions say."""
        try:
            return os.access(self._path(key), os.W_OK)
        except ValueError:
            return False

    def before_us(self, key: str) -> str | None:
        """The value before we first wrote it; where we never did, the present one; None where the kernel has none."""
        current = self.current(key)
        if current is None:
            return None
        with self._lock:
            try:
                former = self._former.get(key)
            except EdgeError:  # read() says so; what is decided meanwhile rests on what the kernel says
                return current
        return former.before if former is not None and former.ours == current else current

    def read(self) -> Actual[str, str]:
        """Ours, with "" where the kernel has the key no longer (a link that went). Raises EdgeError."""
        with self._lock:
            self._former.reload()
            ours = {key: self.current(key) or "" for key in self._former}
            others = {key: self.current(key) for key in self._watched if key not in ours}
        return Actual(ours, {key: value for key, value in others.items() if value is not None})

    def apply(self, plan: Plan[str, str]) -> dict[str, Refused]:
        wanted = {**plan.add, **{key: new for key, (_old, new) in plan.change.items()}}
        refused: dict[str, Refused] = {}
        with self._lock:
            try:
                self._remember(wanted)
            except EdgeError as error:
                refused.update(dict.fromkeys(wanted, Refused(f"not written, its former value cannot be kept: {error}")))
            else:
                for key, value in wanted.items():
                    if self.current(key) != value and (reason := self._write(key, value)):
                        refused[key] = reason
            refused.update(self._give_back(plan.remove))
        return refused

    def _remember(self, wanted: Mapping[str, str]) -> None:
        """Before the first write. The former value of a key that is ours already stays the first one."""
        held: dict[str, Former] = {}
        for key, value in wanted.items():
            former, current = self._former.get(key), self.current(key)
            if former is not None:
                held[key] = Former(former.before, value)
            elif current is not None:
                held[key] = Former(current, value)
        self._former.update({key: value for key, value in held.items() if self._former.get(key) != value})

    def _give_back(self, keys: Iterable[str]) -> dict[str, Refused]:
        refused: dict[str, Refused] = {}
        gone: set[str] = set()
        for key in keys:
            former = self._former.get(key)
            current = self.current(key)
            reason = None
            if former is not None and current == former.ours and former.before not in ("", current):
                reason = self._return(key, former)
            if reason is None:
                gone.add(key)
            else:
                refused[key] = reason
        try:
            self._former.forget(gone)
        except EdgeError as error:
            refused.update(dict.fromkeys(gone, Refused(str(error))))
        return refused

    def _return(self, key: str, former: Former) -> Refused | None:
        try:
            if self._handed_over(key, former):
                return None
        except EdgeError as error:
            return Refused(f"not given back, who else holds it is not known: {error}")
        return self._write(key, former.before)

    def _handed_over(self, key: str, former: Former) -> bool:
        """Whether another controller holds it too, which then knows the value from before us both. That other one does
        not write at this moment: who is switched off cleans up before the others begin. Raises EdgeError.
        """
        for path in sorted(self._run_dir.glob("sysctls-*.json")):
            other = FormerValues(path)
            held = other.get(key) if path != self._former.path else None
            if held is not None and held.ours == former.ours:
                if held.before == former.ours:
                    other.update({key: Former(former.before, held.ours)})
                return True
        return False

    def _write(self, key: str, value: str) -> Refused | None:
        try:
            with self._path(key).open("r+b", buffering=0) as file:  # r: a sysctl that is not there is never made
                file.write(value.encode())
        except ValueError as error:
            return Refused(str(error))
        except (FileNotFoundError, PermissionError) as error:
            return Refused(f"{value} cannot be written: {error.strerror}", missing=True)
        except OSError as error:
            return Refused(f"{value} cannot be written: {error.strerror}", missing=error.errno == errno.EROFS)
        return None

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if not all(part and part not in (".", "..") for part in parts):
            raise ValueError(f"{key!r} is no path below {self._root}")
        return self._root.joinpath(*parts)
