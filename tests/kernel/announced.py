"""A listener to the kernel's announcements on a thread of its own; and what each owes when some of them are lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from kuberouter_py.kernel.announcements import Announcements
from tests.kernel.exam import sh

WITHIN: Final = 60.0  # seconds

OnNews = Callable[[frozenset[str]], None]


@contextmanager
def turning(listener: Announcements) -> Iterator[None]:
    """It listens from now on, and ends when it is told to."""
    listener.open()
    thread = threading.Thread(target=listener.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.stop()
        thread.join(WITHIN)
    assert not thread.is_alive()


def check_lost_announcements(make: Callable[[OnNews], Announcements]) -> None:
    """make: one with a receive queue of 4096 bytes. Where it is flooded, everything is news. There is a link up0."""
    hold, told, arrived = threading.Event(), list[frozenset[str]](), threading.Event()

    def slowly(news: frozenset[str]) -> None:
        told.append(news)
        if len(told) == 1:
            arrived.set()
            hold.wait(WITHIN)
        elif news == listener.everything:
            arrived.set()

    listener = make(slowly)
    with turning(listener):
        sh("ip address add 192.0.2.3/24 dev up0")
        assert arrived.wait(WITHIN)
        arrived.clear()
        sh("ip -batch -", "".join(f"address add 198.51.{n // 250}.{n % 250 + 1}/32 dev up0\n" for n in range(300)))
        hold.set()
        assert arrived.wait(WITHIN)
