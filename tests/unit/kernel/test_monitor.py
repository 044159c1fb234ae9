"""What the listener to kernel news does when the kernel is too busy to be looked at; the news are in tests/kernel."""

from __future__ import annotations

import socket

import pytest

from kuberouter_py.kernel.monitor import EVERYTHING, Monitor
from kuberouter_py.ports import Busy


def test_stock_that_could_not_be_taken_is_taken_with_the_next_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links come and go: eight dumps in a row can be interrupted, and that is no reason to end."""
    monitor = Monitor(("kube-dummy-if",), lambda news: None, lambda: ())
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    monitor._socket = ours
    attempts: list[str] = []

    def busy() -> None:
        attempts.append("busy")
        raise Busy("interrupted 8 times")

    monkeypatch.setattr(monitor, "_take_stock", busy)
    monitor._stocktaking()
    assert monitor._hear() == EVERYTHING
    monkeypatch.setattr(monitor, "_take_stock", lambda: attempts.append("done"))
    assert monitor._hear() == EVERYTHING
    assert monitor._hear() == set()
    assert attempts == ["busy", "busy", "done"]
    monitor._close()
    theirs.close()
