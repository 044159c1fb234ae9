from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.kernel.iptables_text import Seen, marks, parse, script, target
from kuberouter_py.model.kernel import Chain, Rules

PREFIX = "KRPY-SVC-"
NAT = Chain(4, "nat", PREFIX + "NAT")
HOOK = Chain(4, "nat", "PREROUTING")
WANTED = Rules(("-p tcp -j RETURN", "-j ACCEPT"))
JUMP = Rules((f"-j {PREFIX}NAT",))


def saved(chain: Chain, rules: Rules, before: str = "", after: str = "") -> str:
    """As iptables-save prints it, each rule in another spelling than it was written in."""
    lines = [
        f'-A {chain.chain} -m comment --comment "krpy:{mark}" -m spelling --other {rule}'
        for rule, mark in zip(rules.rules, marks(chain, rules.rules), strict=True)
    ]
    return "\n".join([f"*{chain.table}", f":{PREFIX}NAT - [0:0]", before, *lines, after, "COMMIT"])


def equal(one: object, other: object) -> bool:
    """Asked in every way that a comparison can be asked in."""
    return {one == other, other == one, not one != other, not other != one} == {True}  # noqa: SIM202


def unequal(one: object, other: object) -> bool:
    return {one != other, other != one, not one == other, not other == one} == {True}  # noqa: SIM201


def seen(chain: Chain, text: str) -> Seen:
    return Seen.of(chain, parse(text, chain.family, PREFIX).places[chain])


def test_fingerprints_depend_on_what_stands_before_and_on_the_chain() -> None:
    first, second = marks(NAT, ["a", "b"])
    assert marks(NAT, ["b"])[0] not in (first, second)
    assert marks(NAT, ["a", "b", "c"])[:2] == (first, second)
    assert marks(NAT._replace(family=6), ["a"]) != marks(NAT, ["a"])


def test_a_chain_reads_as_what_was_written() -> None:
    found = seen(NAT, saved(NAT, WANTED))
    assert equal(found, WANTED)
    assert found == seen(NAT, saved(NAT, WANTED))


def test_anything_else_does_not() -> None:
    text = saved(NAT, WANTED)
    rules = [line for line in text.splitlines() if line.startswith("-A")]
    foreign = f"-A {NAT.chain} -j DROP"
    for changed in (
        text.replace(rules[0] + "\n", ""),
        text.replace(rules[1] + "\n", ""),
        text.replace("\n".join(rules), "\n".join(reversed(rules))),
        text.replace(rules[0], f"{rules[0]}\n{foreign}"),
        text.replace("COMMIT", f"{foreign}\nCOMMIT"),
        text.replace("krpy:", "other:"),
    ):
        assert unequal(seen(NAT, changed), WANTED)
    assert seen(NAT, text) != Rules(WANTED.rules[:1])
    assert seen(NAT, text) != Rules((*WANTED.rules, "-j DROP"))
    assert Seen.of(NAT, parse(text, 4, PREFIX).places[NAT], astray=True) != WANTED
    assert seen(NAT, text) != "something else"


def test_where_jumps_must_stand() -> None:
    foreign = "-A PREROUTING -j OTHERS"
    leads, trails = saved(HOOK, JUMP, after=foreign), saved(HOOK, JUMP, before=foreign)
    assert seen(HOOK, leads) == JUMP and seen(HOOK, leads) != JUMP._replace(first=False)
    assert seen(HOOK, trails) != JUMP and seen(HOOK, trails) == JUMP._replace(first=False)
    assert seen(HOOK, saved(HOOK, JUMP)) == JUMP == seen(HOOK, saved(HOOK, JUMP))
    assert parse(leads, 4, PREFIX).foreign_rules == 1


def test_jumps_of_another_controller_stand_in_nobodys_way() -> None:
    theirs, foreign = "-A PREROUTING -j KRPY-FW-PODS", "-A PREROUTING -j OTHERS"
    two = Rules((*JUMP.rules, f"-p udp -j {PREFIX}NAT"))
    first, second = [line for line in saved(HOOK, two).splitlines() if line.startswith("-A")]

    def stands(*rules: str) -> tuple[bool, bool]:
        found = seen(HOOK, "\n".join(["*nat", *rules]))
        return found == two, found == two._replace(first=False)

    assert stands(theirs, first, theirs, second, theirs) == (True, True)
    assert stands(theirs, first, second, foreign) == (True, False)
    assert stands(theirs, foreign, first, theirs, second, theirs) == (False, True)
    assert stands(first, theirs, foreign, second) == (False, False)
    assert stands(foreign, first, second, foreign) == (False, False)
    text = "\n".join(["*nat", theirs, "-A KRPY-FW-PODS -j ACCEPT", f"-A {PREFIX}NAT -j KRPY-FW-PODS"])
    assert parse(text, 4, PREFIX).foreign_rules == 0, "what this program wrote says nothing of who else is here"
    assert parse(text, 4, PREFIX).places.keys() == {NAT}


def test_only_what_bears_our_name_is_ours() -> None:
    text = "\n".join([
        "# Warning: iptables-legacy tables present, use iptables-legacy-save to see them",
        "*mangle", ":PREROUTING ACCEPT [1:2]", ":KUBE-IPTABLES-HINT - [0:0]", ":OTHERS - [0:0]",
        '-A PREROUTING -m comment --comment "krpy:0123456789ab" -j OTHERS', "-A OTHERS -j KRPY-SVC-NAT", "COMMIT",
        "*filter", ":INPUT ACCEPT [0:0]", "-A INPUT -g KRPY-SVC-INPUT", "-A INPUT", "COMMIT",
    ])  # fmt: skip
    found = parse(text, 6, PREFIX)
    assert found.places.keys() == {Chain(6, "filter", "INPUT")}
    assert found.hint and found.foreign_rules == 3


@given(
    st.text()
    | st.lists(st.sampled_from(["*nat", ":KRPY-SVC-A", "-A", "-A ", "-A INPUT", "-A INPUT -j KRPY-SVC-A", ":"]))
)
def test_any_text_is_read(text: str | list[str]) -> None:
    parse(text if isinstance(text, str) else "\n".join(text), 4, PREFIX)


def test_what_is_written_for_a_change() -> None:
    there = parse(saved(HOOK, JUMP, before=f"-A PREROUTING -p udp -j {PREFIX}NAT"), 4, PREFIX).places
    guard = Chain(4, "filter", PREFIX + "GONE")
    last = Chain(4, "filter", "INPUT")
    lines = script({NAT: WANTED, guard: None, HOOK: JUMP, last: Rules(JUMP.rules, first=False)}, there).splitlines()
    first, second = marks(NAT, WANTED.rules)
    assert lines == [
        "*nat",
        f":{PREFIX}NAT - [0:0]",
        *(f"-D PREROUTING {line}" for line in there[HOOK].lines),
        f'-A {PREFIX}NAT -m comment --comment "krpy:{first}" -p tcp -j RETURN',
        f'-A {PREFIX}NAT -m comment --comment "krpy:{second}" -j ACCEPT',
        f'-I PREROUTING 1 -m comment --comment "krpy:{marks(HOOK, JUMP.rules)[0]}" -j {PREFIX}NAT',
        "COMMIT",
        "*filter",
        f":{PREFIX}GONE - [0:0]",
        f'-A INPUT -m comment --comment "krpy:{marks(last, JUMP.rules)[0]}" -j {PREFIX}NAT',
        f"-X {PREFIX}GONE",
        "COMMIT",
    ]
    assert len(there[HOOK].lines) == 2


def test_targets() -> None:
    assert target("-p tcp -j ACCEPT") == "ACCEPT"
    assert target("--goto CHAIN -p tcp") == "CHAIN"
    assert target("-p tcp") == ""


def test_what_a_rule_says_is_in_the_one_comment_behind_its_mark() -> None:
    told = Rules(('-m comment --comment "x/a, x/b" -p tcp -j RETURN', "-j ACCEPT"))
    text = script({NAT: told}, {})
    mark, other = marks(NAT, told.rules)
    assert f'-A {NAT.chain} -m comment --comment "krpy:{mark} x/a, x/b" -p tcp -j RETURN\n' in text
    assert f'-A {NAT.chain} -m comment --comment "krpy:{other}" -j ACCEPT\n' in text
    assert equal(seen(NAT, text), told)
    assert unequal(seen(NAT, script({NAT: Rules(told.rules[:1])}, {})), told)
