"""When news of iptables are told; that they are heard: tests/kernel."""

from __future__ import annotations

from kuberouter_py.kernel.own_writes import ECHO, OwnWrites
from kuberouter_py.kernel.rule_news import GATHER, REST, REST_OF_OWN, when


def test_told_once_what_one_program_did_has_gathered() -> None:
    assert when(1000.0, last=-REST) == 1000.0 + GATHER


def test_who_writes_all_the_time_is_told_of_at_rests() -> None:
    assert when(1000.0, last=999.0) == 999.0 + REST
    assert when(1000.0 + REST, last=1000.0) == 1000.0 + REST + GATHER


def test_what_may_be_our_own_writing_is_told_of_less_often() -> None:
    assert when(1000.0, last=-REST_OF_OWN, rest=REST_OF_OWN) == 1000.0 + GATHER
    assert when(1000.0, last=999.0, rest=REST_OF_OWN) == 999.0 + REST_OF_OWN


def test_our_own_writing_echoes_for_a_moment() -> None:
    now = [100.0]
    own = OwnWrites(lambda: now[0])
    assert not own.just_now()
    with own.writing():
        assert own.just_now()
        now[0] = 200.0
    assert own.just_now()
    now[0] += 2 * ECHO
    assert not own.just_now()
