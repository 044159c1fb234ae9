"""Whoever is woken late, often or by a thread that does not know that the wait is over does no harm."""

from __future__ import annotations

import os
import select

import pytest

from kuberouter_py.waker import Waker


def readable(waker: Waker) -> bool:
    return bool(select.select([waker], [], [], 0)[0])


def test_it_is_readable_from_the_first_wake_on() -> None:
    waker = Waker()
    assert not readable(waker)
    waker.wake()
    waker.wake()
    assert readable(waker)


def test_its_number_is_nobody_elses_for_as_long_as_it_may_be_woken() -> None:
    waker = Waker()
    others = [os.open("/dev/null", os.O_WRONLY) for _ in range(3)]
    assert waker.fileno() not in others
    waker.wake()
    for each in others:
        os.close(each)


def test_it_is_closed_with_the_object() -> None:
    waker = Waker()
    number = waker.fileno()
    del waker
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
