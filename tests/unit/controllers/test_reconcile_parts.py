"""A table that is read in parts: what drifted is put right, and what is written between two parts is believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.controllers.claims import Item, Share
from kuberouter_py.controllers.reconcile import Reconciler
from kuberouter_py.ports import Refused
from tests.fakes.kernel import FakeTable


class Node:
    """One table of servers; `theirs` are the keys that belong to somebody else unless we wrote them."""

    def __init__(self, wanted: dict[str, int], theirs: dict[str, int] | None = None) -> None:
        self.content: dict[str, int] = dict(theirs or {})
        self.written: set[str] = set()
        self.table: FakeTable[str, int] = FakeTable(
            "servers", lambda: self.content, self._put, self._drop, lambda key: not key.startswith("their")
        )
        self.reconciler = Reconciler([self.table])
        self.reconciler.read()
        self.want(wanted)
        self.table.journal.clear()

    def _put(self, key: str, value: int) -> str:
        self.content[key] = value
        return ""

    def _drop(self, key: str) -> str:
        self.content.pop(key, None)
        return ""

    def want(self, wanted: dict[str, int]) -> None:
        """One owner for each key, as Services are."""
        gone = [owner for owner in self.reconciler.claims.owners() if owner not in wanted]
        shares: dict[Any, Share] = {owner: Share((), {}) for owner in gone}
        shares |= {key: Share((key,), {key: (Item("servers", key, value),)}) for key, value in wanted.items()}
        assert self.reconciler.write(self.reconciler.claim(shares)).failures == 0

    def compare(self, between: Sequence[Callable[[], None]] = ()) -> int:
        """Read to the end; `between`: what happens after the first part, after the second ... Returns the parts."""
        acts = list(between)
        for number in range(1, 1000):
            dirty, last = self.reconciler.read_part("servers")
            assert not self.reconciler.write(dirty).refused
            if last:
                return number
            if acts:
                acts.pop(0)()
        raise AssertionError("no end")

    def writes(self) -> list[tuple[str, str]]:
        return [(verb, key) for _, verb, key in self.table.journal]


def test_drift_is_put_right_part_by_part() -> None:
    node = Node({"a": 1, "b": 2, "c": 3})
    del node.content["a"]
    node.content |= {"b": 9, "stray": 0}
    parts = node.compare()
    assert node.content == {"a": 1, "b": 2, "c": 3}
    assert sorted(node.writes()) == [("remove", "stray"), ("write", "a"), ("write", "b")]
    assert parts > 3
    node.table.journal.clear()
    node.compare()
    assert node.writes() == []


def test_a_key_changed_between_parts_is_believed_as_written() -> None:
    node = Node({"a": 1, "b": 2})
    old = dict(node.content)

    def change() -> None:
        node.want({"a": 5, "b": 6, "new": 7})
        node.table._content = lambda: old  # the rest of the reading is older than what was written

    node.compare([change])
    assert node.content == {"a": 5, "b": 6, "new": 7}
    assert node.reconciler.plans({"servers": ["a", "b", "new"]}) == {}
    assert sorted(node.writes()) == [("write", "a"), ("write", "b"), ("write", "new")]


def test_a_key_removed_between_parts_stays_removed() -> None:
    node = Node({"a": 1, "b": 2})
    old = dict(node.content)

    def drop() -> None:
        node.want({"a": 1})
        node.table._content = lambda: old

    node.compare([drop])
    assert node.content == {"a": 1}
    assert node.writes() == [("remove", "b")]


def test_the_next_reading_believes_the_kernel_again() -> None:
    node = Node({"a": 1})
    node.compare([lambda: node.want({"a": 2})])
    node.content["a"] = 9
    node.compare()
    assert node.content == {"a": 2}


def test_what_others_have_is_seen_and_left_alone() -> None:
    node = Node({"a": 1}, theirs={"theirs": 1})
    assert node.reconciler.foreign("servers") == {"theirs": 1}
    del node.content["theirs"]
    node.content["their other"] = 2
    node.compare()
    assert node.reconciler.foreign("servers") == {"their other": 2}
    assert node.writes() == []


def test_what_others_have_is_adopted_when_wanted() -> None:
    node = Node({"theirs": 1})
    node.content["theirs"] = 3
    node.compare()
    assert node.content == {"theirs": 1}
    node.want({})
    assert node.content == {}


def test_a_reading_that_fails_ends_says_so_and_removes_nothing() -> None:
    node = Node({"a": 1, "b": 2, "c": 3})

    def fail() -> None:
        node.table.unreadable = "dump interrupted"

    node.compare([fail])
    assert node.reconciler.suspect_tables() == {"servers"}
    assert node.reconciler.standing()["servers", None].reason == "dump interrupted"
    node.table.unreadable = ""
    del node.content["c"]
    node.compare()
    assert node.reconciler.suspect_tables() == set()
    assert node.content == {"a": 1, "b": 2, "c": 3}


def test_what_was_refused_is_tried_again_once_in_each_comparison() -> None:
    node = Node({"a": 1, "b": 2})
    node.table.refuse = {"b": Refused("link down"), "c": Refused("link down")}
    del node.content["b"]
    node.reconciler.claim({"c": Share(("c",), {"c": (Item("servers", "c", 3),)})})
    assert node.reconciler.write({"servers": ["c"]}).refused.keys() == {("servers", "c")}

    def compared() -> list[Any]:
        refused: list[Any] = []
        last = False
        while not last:
            dirty, last = node.reconciler.read_part("servers")
            refused += node.reconciler.write(dirty).refused
        return refused

    assert sorted(compared()) == [("servers", "b"), ("servers", "c")]
    assert sorted(compared()) == [("servers", "b"), ("servers", "c")]
    node.table.refuse.clear()
    assert compared() == []
    assert node.content == {"a": 1, "b": 2, "c": 3} and not node.reconciler.standing()


def test_a_whole_reading_ends_one_in_parts() -> None:
    node = Node({"a": 1, "b": 2})
    node.reconciler.read_part("servers")
    assert node.reconciler.is_reading("servers")
    node.reconciler.write(node.reconciler.read())
    assert not node.reconciler.is_reading("servers")


def test_equal_values_are_held_once() -> None:
    """100,000 destinations read from the kernel are not kept beside the equal ones that are wanted."""
    node = Node({"a": 1000})
    wanted = node.reconciler.wanted("servers")["a"]
    node.content["a"] = int("1000")
    node.compare()
    assert node.reconciler._states["servers"].actual["a"] is wanted


_contents = st.dictionaries(st.sampled_from(["a", "b", "c", "d", "theirs"]), st.integers(0, 2))


@given(_contents, _contents, st.lists(st.one_of(_contents.map(lambda one: ("want", one)), _contents.map(
    lambda one: ("sabotage", one))), max_size=4))  # fmt: skip
def test_one_undisturbed_reading_after_anything_ends_as_wanted(
    wanted: dict[str, int], there: dict[str, int], acts: list[tuple[str, dict[str, int]]]
) -> None:
    node = Node(wanted)

    def act(what: str, content: dict[str, int]) -> None:
        if what == "want":
            node.want(content)
        else:
            node.content.clear()
            node.content.update(content)

    act("sabotage", there)
    node.compare([lambda step=step: act(*step) for step in acts])  # type: ignore[misc]
    node.compare()
    wanted_now = dict(node.reconciler.wanted("servers"))
    theirs = {key: value for key, value in node.content.items() if key.startswith("their") and key not in wanted_now}
    assert node.content == {**theirs, **wanted_now}


_acts: st.SearchStrategy[tuple[str, dict[str, Any]]] = st.one_of(
    _contents.map(lambda one: ("want", one)),
    _contents.map(lambda one: ("sabotage", one)),
    st.sets(st.sampled_from(["a", "b", "c", "d"])).map(lambda one: ("refuse", dict.fromkeys(one, Refused("no")))),
    st.sampled_from([("read", {}), ("part", {})]),
)


@given(st.lists(_acts, max_size=12))
def test_what_is_held_and_not_wanted_is_followed_and_every_change_has_another_version(
    acts: list[tuple[str, dict[str, Any]]],
) -> None:
    node = Node({})
    reconciler = node.reconciler
    for what, content in acts:
        held, version = dict(reconciler.held("servers")), reconciler.version("servers")
        reconciler.unwanted("servers")
        if what == "want":
            gone = [owner for owner in reconciler.claims.owners() if owner not in content]
            shares: dict[Any, Share] = {owner: Share((), {}) for owner in gone}
            shares |= {key: Share((key,), {key: (Item("servers", key, value),)}) for key, value in content.items()}
            reconciler.write(reconciler.claim(shares))
        elif what == "sabotage":
            node.content.clear()
            node.content.update(content)
        elif what == "refuse":
            node.table.refuse = content
        elif what == "read":
            reconciler.read()
        else:
            reconciler.read_part("servers")
        now = reconciler.held("servers")
        assert reconciler.unwanted("servers") == now.keys() - reconciler.wanted("servers").keys()
        assert held == now or version != reconciler.version("servers")
