"""When news of iptables are told; that they are heard: tests/kernel."""

from __future__ import annotations

from kuberouter_py.kernel.rule_news import GATHER, REST, when


def test_told_once_what_one_program_did_has_gathered() -> None:
    assert when(1000.0, last=-REST) == 1000.0 + GATHER


def test_who_writes_all_the_time_is_told_of_at_rests() -> None:
    assert when(1000.0, last=999.0) == 999.0 + REST
    assert when(1000.0 + REST, last=1000.0) == 1000.0 + REST + GATHER
