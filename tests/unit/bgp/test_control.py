"""Whether a BIRD is there, and for how long it is waited for."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kuberouter_py.bgp.control import Control, Silent
from kuberouter_py.ports import Busy
from tests.fakes.bird import WELCOME, FakeBird


class Hanging:
    """It has a socket, and takes no connection from its queue, which is full."""

    def __init__(self, path: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(0)
        self.queue: list[socket.socket] = []
        with pytest.raises(BlockingIOError):
            while True:
                self.queue.append(socket.socket(socket.AF_UNIX))
                self.queue[-1].setblocking(False)
                self.queue[-1].connect(str(path))

    def go_on(self) -> None:
        """Whoever comes is welcome."""
        threading.Thread(target=self._welcome, daemon=True).start()

    def _welcome(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken, _ = self.listener.accept()
                self.queue.append(taken)
                taken.sendall(WELCOME)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        for each in (self.listener, *self.queue):
            each.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bird.ctl"


@pytest.fixture
def hanging(path: Path) -> Iterator[Hanging]:
    found = Hanging(path)
    yield found
    found.close()


def test_one_that_hangs_is_there(path: Path, hanging: Hanging) -> None:
    with pytest.raises(Busy, match=r"no answer from BIRD on .* within 0\.1 s"):
        Control(str(path), within=0.1)


def test_one_that_takes_connections_again_is_had(path: Path, hanging: Hanging, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    def goes_on(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            hanging.go_on()

    monkeypatch.setattr(time, "sleep", goes_on)
    Control(str(path)).close()
    assert len(slept) >= 2


def test_one_that_is_gone_is_silent(path: Path) -> None:
    FakeBird(path).end()
    with pytest.raises(Silent, match=r"nobody answers on .*: Connection refused"):
        Control(str(path))
    path.unlink()
    with pytest.raises(Silent, match="No such file"):
        Control(str(path))
