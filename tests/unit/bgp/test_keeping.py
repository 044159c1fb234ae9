"""A BIRD in the foreground: when it is started, and how it is ended."""

from __future__ import annotations

import errno
import queue
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from kuberouter_py import inotify
from kuberouter_py.bgp import keeping as keeping_module
from kuberouter_py.bgp.configuration import render
from kuberouter_py.bgp.files import Files, files
from kuberouter_py.bgp.keeping import Keeping
from kuberouter_py.ports import EdgeError
from kuberouter_py.waker import Waker
from tests.fakes.bird import FakeBird
from tests.unit.observe.bgp_documents import SPEAKER

WITHIN = 60.0


class Child:
    """A process that takes no notice of SIGTERM, unless it is obedient."""

    obedient = True

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = argv
        self.told: list[str] = []
        self._ended = Waker()

    def fileno(self) -> int:
        return self._ended.fileno()

    def terminate(self) -> None:
        self.told.append("terminate")
        if self.obedient:
            self._ended.wake()

    def kill(self) -> None:
        self.told.append("kill")
        self._ended.wake()

    def end(self) -> None:
        self._ended.wake()

    def collect(self) -> int:
        """Would wait for ever for one that has not ended."""
        assert select.select([self], [], [], 0)[0], self.told
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


def begun(kept: Kept, configuration: str = "") -> Child:
    kept.files.configuration.write_text(configuration)
    kept.start()
    return kept.started.get(timeout=WITHIN)


def test_one_that_was_told_is_waited_for(kept: Kept) -> None:
    child = begun(kept)
    bird = FakeBird(kept.files.socket, on_end=child.end)
    kept.stop()
    assert child.told == ["collect"] and bird.asked.get(timeout=WITHIN) == "down"
    assert kept.said == [] and not kept.files.ran.exists()


def test_one_that_stays_although_it_was_told_is_killed(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping_module, "LAST_WORDS", 0.01)
    child = begun(kept)
    FakeBird(kept.files.socket)
    kept.stop()
    assert child.told == ["kill", "collect"]
    assert kept.said == ["BIRD has not ended within 0.01 s"]


def test_one_that_has_no_socket_yet_is_ended_all_the_same(kept: Kept) -> None:
    child = begun(kept)
    kept.stop()
    assert child.told == ["terminate", "collect"] and kept.said == []


def test_one_without_a_socket_that_hangs_is_killed(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping_module, "LAST_WORDS", 0.01)
    monkeypatch.setattr(Child, "obedient", False)
    child = begun(kept)
    kept.stop()
    assert child.told == ["terminate", "kill", "collect"]


def test_peers_keep_the_routes_of_one_without_a_socket_where_it_restarts_gracefully(kept: Kept) -> None:
    child = begun(kept, render(SPEAKER, "/run/bird.log"))
    kept.stop()
    assert child.told == ["kill", "collect"] and kept.files.ran.exists()
