"""A BIRD in the foreground: when it is started, and how it is ended."""

from __future__ import annotations

import errno
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from kuberouter_py import inotify
from kuberouter_py.bgp import keeping as keeping_module
from kuberouter_py.bgp.files import Files, files
from kuberouter_py.bgp.keeping import Keeping
from kuberouter_py.ports import EdgeError
from kuberouter_py.waker import Waker

WITHIN = 60.0


class Child:
    """A process; what it does when it is asked to end is the test's."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = argv
        self.told: list[str] = []
        self._ended = Waker()

    def fileno(self) -> int:
        return self._ended.fileno()

    def kill(self) -> None:
        self.told.append("kill")
        self._ended.wake()

    def collect(self) -> int:
        self.told.append("collect")
        return 0


class Kept:
    def __init__(self, where: Files) -> None:
        self.files = where
        self.started: queue.SimpleQueue[Child] = queue.SimpleQueue()
        self.said: list[str] = []
        self._keeping = Keeping(where, self._start, self.said.append)
        self.run: Callable[[], None] = self._keeping.run
        self._thread = threading.Thread(target=self._keeping.run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.ident:
            self._keeping.stop()
            self._thread.join(WITHIN)
            assert not self._thread.is_alive()

    def _start(self, argv: Sequence[str]) -> Child:
        child = Child(argv)
        self.started.put(child)
        return child


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    found = Kept(files(str(tmp_path / "bird.ctl")))
    yield found
    found.stop()


def no_instance_left(path: Path, events: int) -> int:
    raise OSError(errno.EMFILE, "inotify_init1")


def test_without_an_inotify_instance_it_looks_for_the_configuration(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inotify, "watch", no_instance_left)
    monkeypatch.setattr(keeping_module, "LOOK", 0.01)
    kept.start()
    kept.files.configuration.touch()
    assert "-f" in kept.started.get(timeout=WITHIN).argv


def test_a_directory_that_cannot_be_is_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EdgeError, match="file/run: Not a directory"):
        Kept(files(str(tmp_path / "file" / "run" / "bird.ctl"))).run()
