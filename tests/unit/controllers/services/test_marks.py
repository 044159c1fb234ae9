"""Marks of Service ports: stable, never shared, known again after a restart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.controllers.services import marks as marks_module
from kuberouter_py.controllers.services.marks import Marks, MarkUser
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import MarkServerKey, Protocol, SetEntry, SetMember
from kuberouter_py.model.names import balancing_mark
from tests.fakes.objects import key_of, packed

WEB, API = key_of("web"), key_of("api")


def user(service: ObjectKey = WEB, port: str = "http", role: str = "shortcircuit") -> MarkUser:
    return MarkUser(service, port, Protocol.TCP, role)


def member(number: int, role: str = "shortcircuit") -> SetMember:
    return SetMember(f"krpy-svc-{role}-4", SetEntry(packed("192.168.0.1"), Protocol.TCP, number))


class Kernel:
    """What marks look at, as plain mappings."""

    def __init__(self) -> None:
        self.members: dict[SetMember, int] = {}
        self.servers: dict[MarkServerKey, None] = {}
        self.wanted: dict[MarkServerKey, None] = {}

    def marks(self) -> Marks:
        return Marks(lambda: self.members, lambda: (self.servers, self.wanted))


def test_each_user_has_one_of_its_own_and_keeps_it() -> None:
    marks = Kernel().marks()
    users = [user(), user(port="https"), user(API), user(role="dsr"), user()._replace(protocol=Protocol.UDP)]
    found = [marks.mark(one, ()) for one in users]
    assert found == [balancing_mark(number) for number in range(5)]
    assert [marks.mark(one, ()) for one in reversed(users)] == found[::-1]


def test_what_is_not_asked_for_any_more_is_free_again() -> None:
    marks = Kernel().marks()
    marks.mark(user(), ())
    marks.mark(user(port="https"), ())
    marks.mark(user(API), ())
    marks.keep(WEB, [user(port="https")])
    assert marks.mark(user(API, "new"), ()) == balancing_mark(0)
    assert marks.mark(user(port="https"), ()) == balancing_mark(1)
    marks.keep(WEB, [])
    assert marks.mark(user(API, "newer"), ()) == balancing_mark(1)


def test_a_service_that_could_not_be_decided_keeps_its_marks() -> None:
    marks = Kernel().marks()
    with marks.deciding(WEB) as mark_of:
        mark_of(user(), ())
        mark_of(user(port="https"), ())
    with pytest.raises(RuntimeError), marks.deciding(WEB):
        raise RuntimeError
    assert marks.mark(user(API), ()) == balancing_mark(2)
    with marks.deciding(WEB) as mark_of:
        mark_of(user(port="https"), ())
    assert marks.mark(user(API, "new"), ()) == balancing_mark(0)


@pytest.mark.parametrize("family", [4, 6])
def test_a_mark_whose_server_is_still_there_or_wanted_is_not_given_away(family: int) -> None:
    kernel = Kernel()
    kernel.servers[MarkServerKey(balancing_mark(0), family)] = None
    kernel.wanted[MarkServerKey(balancing_mark(1), family)] = None
    marks = kernel.marks()
    assert marks.mark(user(), ()) == balancing_mark(2)


def test_the_search_comes_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks_module, "BALANCING_MARKS", 16)
    kernel = Kernel()
    kernel.servers[MarkServerKey(balancing_mark(0), 4)] = None
    marks = kernel.marks()
    assert len({marks.mark(user(port=str(number)), ()) for number in range(15)}) == 15
    with pytest.raises(LookupError):
        marks.mark(user(API), ())
    kernel.servers.clear()
    assert marks.mark(user(API), ()) == balancing_mark(0)


def test_a_restarted_agent_finds_each_ones_mark_in_the_sets() -> None:
    kernel = Kernel()
    kernel.members = {member(30080): balancing_mark(5), member(30081): balancing_mark(0)}
    kernel.servers = {MarkServerKey(mark, 4): None for mark in kernel.members.values()}
    marks = kernel.marks()
    assert marks.mark(user(port="new"), [member(30082)]) == balancing_mark(1), "not one that somebody still has"
    assert marks.mark(user(), [member(1), member(30080)]) == balancing_mark(5), "whichever frontend was there before"
    assert marks.mark(user(API), [member(30081)]) == balancing_mark(0)
    assert marks.mark(user(API, "other"), [member(30080)]) == balancing_mark(2), "a mark has one user"


def test_what_somebody_wrote_into_a_set_is_no_mark_of_ours() -> None:
    kernel = Kernel()
    kernel.members = {member(30080): 0x4000}
    assert kernel.marks().mark(user(), [member(30080)]) == balancing_mark(0)


_SERVICES = st.sampled_from([key_of(name) for name in "abcd"])
_PORTS = st.sets(st.sampled_from(["http", "https", "dns"]))


@given(st.lists(st.tuples(_SERVICES, _PORTS)))
def test_never_two_users_of_one_mark(steps: list[tuple[ObjectKey, set[str]]]) -> None:
    marks = Kernel().marks()
    held: dict[MarkUser, int] = {}
    for service, ports in steps:
        held = {one: mark for one, mark in held.items() if one.service != service or one.port in ports}
        with marks.deciding(service) as mark_of:
            for one in (user(service, port) for port in ports):
                assert mark_of(one, ()) == held.get(one, mark_of(one, ()))
                held[one] = mark_of(one, ())
        assert len(set(held.values())) == len(held)
