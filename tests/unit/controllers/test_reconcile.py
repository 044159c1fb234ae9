"""Claims, the difference, its order, and what a failure may and may not do."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberouter_py.controllers.claims import NOTHING, Item, Share
from kuberouter_py.controllers.reconcile import Reconciler
from kuberouter_py.model.report import TableCounts
from kuberouter_py.ports import Actual, Busy, EdgeError, Plan, Refused, Unavailable


class Recorder:
    """A table that keeps what it is given and writes down the order."""

    def __init__(self, name: str, journal: list[str], **content: Any) -> None:
        self.name = name
        self.journal = journal
        self.content: dict[Any, Any] = content
        self.foreign: dict[Any, Any] = {}
        self.refuse: dict[Any, Refused] = {}
        self.unreadable = ""
        self.error = EdgeError

    def read(self) -> Actual[Any, Any]:
        self.journal.append(f"read {self.name}")
        if self.unreadable:
            raise self.error(self.unreadable)
        return Actual(dict(self.content), dict(self.foreign))

    def apply(self, plan: Plan[Any, Any]) -> dict[Any, Refused]:
        for key in plan.add:
            assert key not in self.foreign, "an addition to what is there"
        for key, (old, _) in plan.change.items():
            assert self.content.get(key, self.foreign.get(key)) == old, "a change of what is not there"
        wanted = {**plan.add, **{key: new for key, (_, new) in plan.change.items()}}
        for verb, keys in (("add", plan.add), ("change", plan.change), ("remove", plan.remove)):
            self.journal += [f"{verb} {self.name} {key}" for key in keys]
        for key, value in wanted.items():
            if key not in self.refuse:
                self.foreign.pop(key, None)
                self.content[key] = value
        for key in plan.remove:
            if key not in self.refuse:
                self.content.pop(key, None)
                self.foreign.pop(key, None)
        return {key: self.refuse[key] for key in (*wanted, *plan.remove) if key in self.refuse}


class Node:
    """Three tables that lean on each other in this order, and a reconciler over them, which has read them."""

    def __init__(self, *, read: bool = True) -> None:
        self.journal: list[str] = []
        self.sets, self.servers, self.routes = (Recorder(name, self.journal) for name in ("sets", "servers", "routes"))
        self.reconciler = Reconciler([self.sets, self.servers, self.routes])
        if read:
            self.reconciler.read()
            self.journal.clear()

    def claim(self, **shares: Share) -> Any:
        return self.reconciler.write(self.reconciler.claim(dict[Hashable, Share](shares.items())))

    def compare(self) -> Any:
        return self.reconciler.write(self.reconciler.read())


def share(age: int, *claims: str, value: str = "", routes: Mapping[str, str] | None = None) -> Share:
    """Units of one virtual server each, with a set member; `routes` says which route a claim leans on."""
    return Share(
        (age,),
        {
            claim: (
                Item("sets", f"set-{claim}", None),
                Item("servers", claim, value),
                *([Item("routes", (routes or {})[claim], "dev")] if claim in (routes or {}) else []),
            )
            for claim in claims
        },
    )


# -- claims ----------------------------------------------------------------------------------------------------------


def test_the_oldest_wins_whatever_the_order_of_arrival() -> None:
    for order in (("old", "young"), ("young", "old")):
        node = Node()
        for owner in order:
            node.claim(**{owner: share(1 if owner == "old" else 2, "vip", value=owner)})
        assert node.servers.content == {"vip": "old"}
        assert node.reconciler.claims.contested() == {"vip": ("old", "young")}


def test_the_loser_takes_over_in_the_plan_in_which_the_winner_goes() -> None:
    node = Node()
    node.claim(old=share(1, "vip", value="old"), young=share(2, "vip", value="young"))
    node.journal.clear()
    node.claim(old=NOTHING)
    assert node.journal == ["change servers vip"]  # changed, never removed and added
    assert node.servers.content == {"vip": "young"}
    assert node.reconciler.claims.contested() == {}
    assert set(node.reconciler.claims.owners()) == {"young"}


def test_a_claim_lost_to_an_older_one_that_came_late() -> None:
    node = Node()
    node.claim(young=share(2, "vip", "other", value="young"))
    node.claim(old=share(1, "vip", value="old"))
    assert node.servers.content == {"vip": "old", "other": "young"}


def test_seniority_that_changes_settles_the_claim_anew() -> None:
    node = Node()
    node.claim(a=share(1, "vip", value="a"), b=share(2, "vip", value="b"))
    node.claim(a=share(3, "vip", value="a"))  # deleted and made again under the same name
    assert node.servers.content == {"vip": "b"}
    assert node.reconciler.claims.contested() == {"vip": ("b", "a")}


def test_a_change_of_the_loser_writes_nothing() -> None:
    node = Node()
    node.claim(old=share(1, "vip", value="old"), young=share(2, "vip", value="young"))
    node.journal.clear()
    node.claim(young=share(2, "vip", value="changed"))
    assert node.journal == []
    node.claim(old=NOTHING)
    assert node.servers.content == {"vip": "changed"}


def test_equal_items_are_counted_over_units_and_owners() -> None:
    node = Node()
    one = {"vip:80": "vip", "vip:443": "vip"}
    node.claim(web=share(1, "vip:80", "vip:443", routes=one), dns=share(2, "vip:53", routes={"vip:53": "vip"}))
    assert [line for line in node.journal if "routes" in line] == ["add routes vip"]
    node.claim(web=share(1, "vip:80", routes=one))
    node.claim(web=NOTHING)
    assert node.routes.content == {"vip": "dev"}
    node.claim(dns=NOTHING)
    assert (node.routes.content, node.servers.content, node.sets.content) == ({}, {}, {})


def test_an_item_that_moves_between_owners_in_one_call_is_not_touched() -> None:
    node = Node()
    node.claim(web=share(1, "vip:80", routes={"vip:80": "vip"}))
    node.journal.clear()
    node.claim(web=NOTHING, dns=share(2, "vip:53", routes={"vip:53": "vip"}))
    assert not [line for line in node.journal if "routes" in line]


# -- the difference and its order ------------------------------------------------------------------------------------


def test_growing_along_the_dependency_and_shrinking_in_reverse() -> None:
    node = Node()
    node.claim(web=share(1, "vip", routes={"vip": "vip"}))
    assert node.journal == ["add sets set-vip", "add servers vip", "add routes vip"]
    node.journal.clear()
    node.claim(web=NOTHING)
    assert node.journal == ["remove routes vip", "remove servers vip", "remove sets set-vip"]


def test_make_before_break_over_all_tables() -> None:
    node = Node()
    node.claim(web=share(1, "a", routes={"a": "a"}))
    node.journal.clear()
    node.claim(web=share(1, "b", routes={"b": "b"}))
    grown = [place for place, line in enumerate(node.journal) if line.startswith("add")]
    broken = [place for place, line in enumerate(node.journal) if line.startswith("remove")]
    assert max(grown) < min(broken)


def test_plans_write_nothing_and_name_only_tables_that_differ() -> None:
    node = Node()
    dirty = node.reconciler.claim({"web": share(1, "vip")})
    assert list(node.reconciler.plans(dirty)) == ["sets", "servers"]
    assert node.journal == []


def test_counts_of_what_was_written() -> None:
    node = Node()
    node.claim(web=share(1, "a", "b", value="1"))
    node.servers.refuse["c"] = Refused("no")
    outcome = node.claim(web=share(1, "a", "c", value="2"))
    assert outcome.tables["servers"] == TableCounts(added=0, changed=1, removed=1, refused=1)


# -- failures --------------------------------------------------------------------------------------------------------


def test_a_refusal_is_one_casualty_is_remembered_and_tried_again() -> None:
    node = Node()
    node.servers.refuse["b"] = Refused("no such scheduler")
    outcome = node.claim(web=share(1, "a"), dns=share(2, "b"))
    assert outcome.refused == {("servers", "b"): Refused("no such scheduler")}
    assert outcome.failures == 1
    assert node.servers.content == {"a": ""}
    assert node.reconciler.standing() == {("servers", "b"): Refused("no such scheduler")}
    assert node.reconciler.suspect_tables() == {"servers"}
    again = node.reconciler.write(node.reconciler.read(node.reconciler.suspect_tables()))
    assert again.failures == 1
    node.servers.refuse.clear()
    assert node.reconciler.write(node.reconciler.read(node.reconciler.suspect_tables())).failures == 0
    assert node.servers.content == {"a": "", "b": ""}
    assert node.reconciler.standing() == {}


def test_a_refusal_ends_when_nobody_wants_the_key_any_more() -> None:
    node = Node()
    node.servers.refuse["vip"] = Refused("no")
    node.claim(web=share(1, "vip"))
    node.claim(web=NOTHING)
    assert node.reconciler.standing() == {}


def test_a_refused_removal_stands_until_it_works() -> None:
    node = Node()
    node.claim(web=share(1, "vip"))
    node.servers.refuse["vip"] = Refused("busy")
    node.claim(web=NOTHING)
    assert node.reconciler.standing() == {("servers", "vip"): Refused("busy")}
    node.journal.clear()
    node.claim(web=share(1, "vip"))
    assert "add servers vip" not in node.journal  # it never went
    node.claim(web=NOTHING)
    node.servers.refuse.clear()
    node.reconciler.write(node.reconciler.read({"servers"}))
    assert (node.servers.content, node.reconciler.standing()) == ({}, {})


def test_a_refused_change_leaves_the_old_value_believed() -> None:
    node = Node()
    node.claim(web=share(1, "vip", value="1"))
    node.servers.refuse["vip"] = Refused("busy")
    node.claim(web=share(1, "vip", value="2"))
    node.servers.refuse.clear()
    node.claim(web=share(1, "vip", value="1"))
    assert node.servers.content == {"vip": "1"}
    assert node.reconciler.standing() == {}


def test_an_unreadable_table_never_leads_to_removals() -> None:
    node = Node(read=False)
    node.servers.content = {"leftover": "", "vip": ""}
    node.servers.unreadable = "dump interrupted"
    dirty = node.reconciler.read()
    for name, found in node.reconciler.claim({"web": share(1, "vip")}).items():
        dirty[name] |= found
    outcome = node.reconciler.write(dirty)
    assert outcome.unread == {"servers": "dump interrupted"}
    assert node.servers.content == {"leftover": "", "vip": ""}
    assert node.reconciler.standing() == {("servers", None): Refused("dump interrupted")}
    node.servers.unreadable = ""
    outcome = node.reconciler.write(node.reconciler.read(node.reconciler.suspect_tables()))
    assert outcome.failures == 0
    assert node.servers.content == {"vip": ""}


@pytest.mark.parametrize(("error", "waits"), [(Busy, True), (Unavailable, False)])
def test_what_a_hidden_table_may_lean_on_is_not_taken_away(error: type[EdgeError], waits: bool) -> None:
    """Its left-overs would lose their mark. Where there can be nothing (no ip_vs), nothing waits."""
    node = Node(read=False)
    node.sets.content, node.servers.content, node.routes.content = {"owned": None}, {"leftover": ""}, {"old": "dev"}
    node.servers.unreadable, node.servers.error = "no", error
    node.reconciler.write(node.reconciler.read())
    assert (bool(node.sets.content), bool(node.routes.content)) == (waits, False)
    node.servers.unreadable = ""
    node.reconciler.write(node.reconciler.read(node.reconciler.suspect_tables()))
    assert (node.sets.content, node.servers.content) == ({}, {})
    assert node.reconciler.suspect_tables() == set()


def test_a_table_that_cannot_be_read_again_keeps_its_mirror() -> None:
    node = Node()
    node.claim(web=share(1, "vip"))
    node.servers.unreadable = "dump interrupted"
    node.journal.clear()
    assert node.compare().failures == 1
    assert [line for line in node.journal if not line.startswith("read")] == []
    node.claim(web=NOTHING)  # what this process wrote, it may remove
    assert node.servers.content == {}


# -- what is there ---------------------------------------------------------------------------------------------------


def test_left_overs_are_removed_and_what_is_right_stays_untouched() -> None:
    node = Node(read=False)
    node.servers.content = {"leftover": "", "vip": "1"}
    dirty = node.reconciler.read()
    for name, found in node.reconciler.claim({"web": share(1, "vip", value="1")}).items():
        dirty[name] |= found
    node.journal.clear()
    node.reconciler.write(dirty)
    assert node.journal == ["add sets set-vip", "remove servers leftover"]


def test_drift_is_healed_by_reading_and_writing() -> None:
    node = Node()
    node.claim(web=share(1, "a", "b", value="1"))
    del node.servers.content["a"]
    node.servers.content |= {"b": "other", "c": "1"}
    node.journal.clear()
    node.reconciler.write(node.reconciler.read({"servers"}))
    assert node.servers.content == {"a": "1", "b": "1"}
    assert node.journal[0] == "read servers"
    assert not any("sets" in line or "routes" in line for line in node.journal)


def test_cleanup_is_nothing_wanted() -> None:
    node = Node()
    node.claim(web=share(1, "vip", routes={"vip": "vip"}))
    node.servers.foreign = {"theirs": ""}
    after = Reconciler([node.sets, node.servers, node.routes])
    assert after.write(after.read()).failures == 0
    assert (node.sets.content, node.servers.content, node.routes.content) == ({}, {}, {})
    assert node.servers.foreign == {"theirs": ""}


@pytest.mark.parametrize("there", ["right", "wrong"])
def test_what_is_foreign_is_adopted_when_wanted_and_left_alone_when_not(there: str) -> None:
    node = Node(read=False)
    node.servers.foreign = {"vip": there, "theirs": "theirs"}
    node.reconciler.read()
    node.journal.clear()
    node.claim(web=share(1, "vip", value="right"))
    assert [line for line in node.journal if "servers" in line] == (["change servers vip"] if there == "wrong" else [])
    assert node.reconciler.foreign("servers") == {"theirs": "theirs"}
    assert node.servers.foreign.get("theirs") == "theirs"


@pytest.mark.parametrize("there", ["right", "wrong"])
def test_what_was_adopted_goes_with_its_claim_and_can_come_back(there: str) -> None:
    node = Node(read=False)
    node.servers.foreign = {"vip": there}
    node.reconciler.read()
    node.claim(web=share(1, "vip", value="right"))
    node.claim(web=NOTHING)
    assert (node.servers.content, node.servers.foreign) == ({}, {})
    node.claim(web=share(1, "vip", value="right"))
    assert node.servers.content == {"vip": "right"}


# -- laws ------------------------------------------------------------------------------------------------------------

_OWNERS = ("a", "b", "c")
_CLAIMS = ("v1", "v2", "v3")


def _unit(owner: str, claim: str, flavour: int) -> tuple[Item, ...]:
    """The server belongs to the claim; members and the route may be shared, and are then equal."""
    shared = [Item("sets", f"shared-{flavour}", None), Item("routes", f"route-{flavour % 2}", "dev")]
    return (Item("servers", claim, (owner, flavour)), *shared[: flavour % 3])


@st.composite
def _shares(draw: st.DrawFn) -> tuple[str, Share]:
    owner = draw(st.sampled_from(_OWNERS))
    claims = draw(st.dictionaries(st.sampled_from(_CLAIMS), st.integers(0, 5)))
    if not claims:
        return owner, NOTHING
    age = draw(st.integers(0, 2))
    return owner, Share((age, owner), {claim: _unit(owner, claim, flavour) for claim, flavour in claims.items()})


_updates = st.lists(st.lists(_shares(), max_size=3), max_size=8)


def _wanted(reconciler: Reconciler) -> dict[str, dict[Any, Any]]:
    return {name: dict(reconciler.wanted(name)) for name in ("sets", "servers", "routes")}


@given(_updates)
def test_the_path_does_not_matter(updates: Sequence[Sequence[tuple[str, Share]]]) -> None:
    node, final = Node(), dict[str, Share]()
    for batch in updates:
        shares = dict(batch)
        node.claim(**shares)
        final |= shares
        assert node.sets.content == node.reconciler.wanted("sets")
        assert node.servers.content == node.reconciler.wanted("servers")
        assert node.routes.content == node.reconciler.wanted("routes")
    straight = Node()
    straight.claim(**final)
    assert _wanted(node.reconciler) == _wanted(straight.reconciler)
    assert node.reconciler.claims.contested() == straight.reconciler.claims.contested()


_content = st.dictionaries(st.sampled_from([*_CLAIMS, "other", "more"]), st.integers(0, 3))


@given(st.lists(_shares(), max_size=3), _content, _content)
def test_applying_makes_actual_wanted_and_a_second_write_is_empty(
    shares: Sequence[tuple[str, Share]], ours: Mapping[str, int], foreign: Mapping[str, int]
) -> None:
    node = Node(read=False)
    node.servers.content = dict(ours)
    node.servers.foreign = {key: value for key, value in foreign.items() if key not in ours}
    theirs = dict(node.servers.foreign)
    dirty = node.reconciler.read()
    for name, found in node.reconciler.claim(dict(shares)).items():
        dirty[name] |= found
    assert node.reconciler.write(dirty).failures == 0
    wanted = node.reconciler.wanted("servers")
    assert node.servers.content == wanted
    assert node.servers.foreign == {key: value for key, value in theirs.items() if key not in wanted}
    node.journal.clear()
    assert node.compare().tables == {}
    assert not [line for line in node.journal if not line.startswith("read")]
    assert node.reconciler.plans(node.reconciler.read()) == {}


@settings(max_examples=50)
@given(_updates, st.sets(st.sampled_from(_CLAIMS)))
def test_after_any_refusals_a_retry_ends_where_it_should(
    updates: Sequence[Sequence[tuple[str, Share]]], refused: set[str]
) -> None:
    node = Node()
    node.servers.refuse = dict.fromkeys(refused, Refused("no"))
    for batch in updates:
        node.claim(**dict(batch))
    node.servers.refuse = {}
    node.reconciler.write(node.reconciler.read(node.reconciler.suspect_tables()))
    assert node.servers.content == node.reconciler.wanted("servers")
    assert node.reconciler.standing() == {}


class Copy:
    """A value that tells when nobody holds it any more."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Copy)

    __hash__ = object.__hash__


def test_what_an_earlier_process_left_as_wanted_is_held_once() -> None:
    node = Node(read=False)
    node.servers.content = {"vip": Copy()}
    read = weakref.ref(node.servers.content["vip"])
    node.reconciler.read()
    node.servers.content.clear()
    assert read() is not None
    dirty = node.reconciler.claim({"web": Share((1,), {"vip": (Item("servers", "vip", Copy()),)})})
    assert read() is None
    assert node.reconciler.plans(dirty) == {}
