"""Owns our chains in iptables and our jumps into them, in both families and both flavours (legacy xtables and
nf_tables).

The text and the fingerprints are in kernel/iptables_text.py, the choice of a flavour in kernel/iptables_flavours.py;
which rules stand in a chain is the controllers' business. Nothing here ever reads a table to write it back: only chains
whose names start with our prefix are emptied and filled, and in built-in chains only rules that lead to one of them
come and go (`iptables-restore --noflush`, one process for all that changes in a family, one transaction for each
table).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Final, Literal

from kuberouter_py.kernel import command
from kuberouter_py.kernel.command import CommandFailed
from kuberouter_py.kernel.iptables_flavours import FAMILIES, FLAVOURS, LACKING, Flavour, Programs, View, choose
from kuberouter_py.kernel.iptables_text import BUILT_IN, Place, Seen, script, target
from kuberouter_py.model.kernel import Chain, Rules
from kuberouter_py.ports import Actual, Busy, EdgeError, Part, Plan, Refused, Unavailable

Wanted = Mapping[Chain, Rules | None]  # None: it shall be gone

STEP: Final = 0.01  # seconds
LOCK_WAIT: Final = 5  # seconds; kube-proxy waits as long for /run/xtables.lock


class Chains:
    """Table[Chain, Rules]: our chains and jumps.

    A value read from the kernel (`iptables_text.Seen`) equals the wanted Rules when exactly the wanted fingerprints
    stand there, in the wanted order, nothing foreign among them and, for jumps, no rule of others before (or after)
    them in their chain. Jumps of another controller of ours may stand anywhere: whoever writes last stands first, and
    is not pushed away again. Compare with `==`; nothing has to be registered beforehand, and a process without memory
    sees the same.

    What of ours stands in the flavour that is not in use reads as never equal, so that a plan rewrites or removes it:
    apply fills the flavour in use first, then takes the other's away. backend "auto": see `iptables_flavours.choose`.
    """

    name = "iptables"

    def __init__(
        self,
        prefix: str,
        backend: Literal["auto", "legacy", "nft"] = "auto",
        families: Sequence[int] = FAMILIES,
        run: Callable[..., str] = command.run,
    ) -> None:
        """families: those of which one must be readable. What a node lacks of the other (a kernel without IPv6 has no
        ip6tables) is refused where it is wanted, and harms nothing else.
        """
        self._prefix = prefix
        self._backend = backend
        self._families = tuple(families)
        self._programs = Programs(prefix, run)
        self._lock = threading.RLock()
        self._flavour: Flavour | None = None
        self._view = View()
        self._astray: set[Chain] = set()

    @property
    def flavour(self) -> str:
        """ "legacy" or "nft": what is written; "" before the first read."""
        return self._flavour or ""

    @property
    def rules_in_both(self) -> bool:
        """Others have rules in both flavours (as of the last read): both apply, which people seldom mean."""
        return all(self._view.foreign_rules(flavour) for flavour in FLAVOURS)

    def read(self) -> Actual[Chain, Rules]:
        """Our chains and jumps. Raises Unavailable when no family is readable in any flavour."""
        with self._lock:
            return Actual(self._take(self._programs.look()))

    def parts(self, known: Sequence[Chain]) -> Iterator[Part[Chain, Rules]]:
        """A thread of its own runs the programs, which take their time; no step waits for it longer than STEP."""
        answers: SimpleQueue[View | Exception] = SimpleQueue()

        def look() -> None:
            try:
                answers.put(self._programs.look())
            except Exception as error:
                answers.put(error)

        threading.Thread(target=look, name="iptables-save", daemon=True).start()
        while (view := _next(answers)) is None:
            yield Part()
        if isinstance(view, Exception):
            raise view
        with self._lock:
            ours = self._take(view)
        yield Part(ours, gone=[key for key in known if key not in ours])

    def _take(self, view: View) -> dict[Chain, Rules]:
        if not any((flavour, family) in view.saved for flavour in FLAVOURS for family in self._families):
            raise Unavailable("; ".join(dict.fromkeys(view.lacking.values())))
        self._view = view
        if self._backend == "auto":
            self._flavour = choose(view, self._families, self._flavour, self._programs.system_flavour)
        else:
            self._flavour = self._backend
        self._astray = {
            key for (which, _family), found in view.saved.items() if which != self._flavour for key in found.places
        }
        ours: dict[Chain, Rules] = {}
        for (which, _family), found in view.saved.items():
            for key, place in found.places.items():
                if which == self._flavour or key not in ours:
                    ours[key] = Seen.of(key, place, astray=key in self._astray)
        return ours

    def apply(self, plan: Plan[Chain, Rules]) -> dict[Chain, Refused]:
        """Writes the difference: one iptables-restore per family when all goes well. See Table."""
        wanted: dict[Chain, Rules | None] = dict(plan.add)
        wanted.update((key, new) for key, (_old, new) in plan.change.items())
        wanted.update(dict.fromkeys(plan.remove))
        refused = {key: reason for key, rules in wanted.items() if (reason := self._improper(key, rules))}
        with self._lock:
            try:
                if self._flavour is None:
                    self.read()
            except EdgeError as error:
                return dict.fromkeys(wanted, _refusal(error))
            for family in FAMILIES:
                share = {key: rules for key, rules in wanted.items() if key.family == family and key not in refused}
                refused.update(self._apply_family(family, share))
        return refused

    def _improper(self, key: Chain, rules: Rules | None) -> Refused | None:
        if key.chain in BUILT_IN:
            strays = [rule for rule in (rules.rules if rules else ()) if not target(rule).startswith(self._prefix)]
            return Refused(f"not a jump to a chain {self._prefix}*: {strays[0]}") if strays else None
        if not key.chain.startswith(self._prefix):
            return Refused(f"chain {key.chain} is not one of {self._prefix}*")
        return None

    def _apply_family(self, family: int, wanted: Wanted) -> dict[Chain, Refused]:
        used: Flavour = self._flavour or "legacy"
        other: Flavour = "legacy" if used == "nft" else "nft"
        refused = self._write(used, family, wanted)
        leftover: Wanted = {key: None for key in wanted if key in self._astray and key not in refused}
        refused.update(self._write(other, family, leftover))
        self._astray -= leftover.keys() - refused.keys()
        return refused

    def _write(self, flavour: Flavour, family: int, wanted: Wanted) -> dict[Chain, Refused]:
        """All at once; where that fails, by table, then by halves, so that what is good gets in and the guilty are
        found.

        A chain can also fail because one that it leads to (or, going, one that leads to it) has not had its turn yet:
        those that failed alone are tried again for as long as that gains one.
        """
        reason = self._view.lacking.get((flavour, family))
        if reason is not None:
            return {key: Refused(reason, missing=True) for key, rules in wanted.items() if rules is not None}
        try:
            return self._gain(flavour, family, wanted) if wanted else {}
        except EdgeError as error:
            # Nobody's guilt: the lock, the program. Some of it may be done; all of it comes again.
            return dict.fromkeys(wanted, _refusal(error))

    def _gain(self, flavour: Flavour, family: int, wanted: Wanted) -> dict[Chain, Refused]:
        failed = self._halve(flavour, family, wanted)
        while len(failed) > 1:
            again: dict[Chain, Refused] = {}
            for key in failed:
                again.update(self._halve(flavour, family, {key: wanted[key]}))
            if len(again) == len(failed):
                break
            failed = again
        return failed

    def _halve(self, flavour: Flavour, family: int, wanted: Wanted) -> dict[Chain, Refused]:
        try:
            self._restore(flavour, family, wanted)
            return {}
        except (Busy, Unavailable):
            raise
        except EdgeError as error:
            if len(wanted) == 1:
                return dict.fromkeys(wanted, _refusal(error))
        failed: dict[Chain, Refused] = {}
        for part in _parts(wanted):
            failed.update(self._halve(flavour, family, {key: wanted[key] for key in part}))
        return failed

    def _restore(self, flavour: Flavour, family: int, wanted: Wanted) -> None:
        """Only for jumps, whose old ones go by exact text, is the table read before it is written: it may be long. A
        chain that is gone already goes once more without harm.
        """
        there: Mapping[Chain, Place] = {}
        if any(key.chain in BUILT_IN for key in wanted):
            there = self._programs.save(flavour, family).places
            wanted = {key: rules for key, rules in wanted.items() if rules is not None or key in there}
        if wanted:
            self._programs.restore(flavour, family, script(wanted, there), LOCK_WAIT)


def _next(answers: SimpleQueue[View | Exception]) -> View | Exception | None:
    try:
        return answers.get(timeout=STEP)
    except Empty:
        return None


def _parts(wanted: Wanted) -> list[list[Chain]]:
    """By table if there are several, else two halves: jumps that go, chains, jumps that come, chains that go."""
    tables = dict.fromkeys(key.table for key in wanted)
    if len(tables) > 1:
        return [[key for key in wanted if key.table == table] for table in tables]

    def turn(key: Chain) -> int:
        return (3 if wanted[key] is None else 1) if key.chain not in BUILT_IN else (0 if wanted[key] is None else 2)

    ordered = sorted(wanted, key=turn)
    return [ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]]


def _refusal(error: EdgeError) -> Refused:
    lines = (error.stderr if isinstance(error, CommandFailed) else str(error)).splitlines()
    reason = " ".join(line.strip() for line in lines if line.strip() and not line.startswith("Try `"))
    missing = isinstance(error, Unavailable) or any(words in reason for words in LACKING)
    return Refused(reason or str(error), missing)
