from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import pytest

from kuberouter_py.kernel.command import CommandFailed
from kuberouter_py.kernel.iptables_flavours import Flavour, Programs, View, choose
from kuberouter_py.kernel.iptables_text import Saved
from kuberouter_py.ports import EdgeError, Unavailable

BOTH = (4, 6)


def view(**saved: Saved) -> View:
    found: Mapping[Literal["legacy", "nft"], Saved] = saved  # type: ignore[assignment]
    return View({(flavour, family): one for flavour, one in found.items() for family in BOTH})


@pytest.mark.parametrize(
    ("there", "before", "system", "chosen"),
    [
        (view(legacy=Saved(hint=True), nft=Saved(foreign_rules=9)), "nft", "nft", "legacy"),
        (view(legacy=Saved(hint=True), nft=Saved(hint=True)), "nft", "legacy", "nft"),
        (view(legacy=Saved(foreign_rules=1), nft=Saved(foreign_rules=9)), "legacy", "nft", "legacy"),
        (view(legacy=Saved(foreign_rules=1), nft=Saved(foreign_rules=9)), None, "legacy", "nft"),
        (view(legacy=Saved(foreign_rules=1), nft=Saved()), None, "nft", "legacy"),
        (view(legacy=Saved(), nft=Saved()), None, "nft", "nft"),
        (view(legacy=Saved(), nft=Saved()), None, "", "legacy"),
        (view(legacy=Saved()), None, "nft", "legacy"),
        (view(), None, "nft", None),
    ],
)
def test_choice(there: View, before: Flavour | None, system: str, chosen: Flavour | None) -> None:
    assert choose(there, BOTH, before, lambda: system) == chosen


class FakePrograms:
    """answers: program -> what it prints, or what goes wrong."""

    def __init__(self, answers: dict[str, str | EdgeError]) -> None:
        self.answers = answers

    def __call__(self, argv: list[str], input: str | None = None) -> str:
        answer = self.answers.get(argv[0], Unavailable(f"{argv[0]}: No such file or directory"))
        if isinstance(answer, EdgeError):
            raise answer
        return answer


def test_a_system_that_has_only_plain_names() -> None:
    run = FakePrograms({"iptables": "iptables v1.8.9 (nf_tables)", "iptables-save": "*nat\n:KRPY-SVC-A - [0:0]\n"})
    there = Programs("KRPY-SVC-", run, probe=lambda family: "").look()
    assert there.saved.keys() == {("nft", 4)}
    assert there.lacking.keys() == {("nft", 6), ("legacy", 4), ("legacy", 6)}
    assert len(there.saved["nft", 4].places) == 1


def test_a_kernel_without_nf_tables() -> None:
    run = FakePrograms(
        {f"{stem}-{flavour}-save": "" for stem in ("iptables", "ip6tables") for flavour in ("legacy", "nft")}
    )
    there = Programs("KRPY-SVC-", run, probe=lambda family: "no nf_tables" if family == 6 else "").look()
    assert there.saved.keys() == {("nft", 4), ("legacy", 4), ("legacy", 6)}
    assert there.lacking == {("nft", 6): "no nf_tables"}


def test_a_failure_to_read_is_not_taken_for_emptiness() -> None:
    failing = CommandFailed(["iptables-legacy-save"], 1, "something went wrong")
    lacking = CommandFailed(
        ["iptables-legacy-save"], 3, "can't initialize: Table does not exist (do you need to insmod?)"
    )
    for error, kind in ((failing, CommandFailed), (lacking, Unavailable)):
        with pytest.raises(kind):
            Programs("KRPY-", FakePrograms({"iptables-legacy-save": error})).save("legacy", 4)
