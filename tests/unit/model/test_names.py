"""Marks of our range: all different, none that somebody else reads."""

from __future__ import annotations

import pytest

from kuberouter_py.model.names import BALANCING_MARKS, balancing_mark, is_balancing_mark

# kubelet and kube-proxy, kube-router, Calico's first four, Cilium's.
OTHERS = 0x4000 | 0x8000 | 0x10000 | 0x20000 | 0xF0000 | 0x0F00


def test_every_number_has_a_mark_of_its_own_that_touches_no_bit_of_others() -> None:
    marks = [balancing_mark(number) for number in range(BALANCING_MARKS)]
    assert len(set(marks)) == BALANCING_MARKS
    assert all(is_balancing_mark(mark) and not mark & OTHERS and 0 < mark < 1 << 32 for mark in marks)
    assert marks == sorted(marks)


@pytest.mark.parametrize("number", [-1, BALANCING_MARKS])
def test_there_are_no_others(number: int) -> None:
    with pytest.raises(ValueError, match=str(number)):
        balancing_mark(number)


@pytest.mark.parametrize("mark", [0, 1, 5, 0x4000, 0x4000_4000, 0x4001_0000, 0xC000_0000, 0x8000_0000, 0xFFFF_FFFF])
def test_marks_of_others(mark: int) -> None:
    assert not is_balancing_mark(mark)
