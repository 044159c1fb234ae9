"""Who listens to BIRD, where not everything announces itself."""

from __future__ import annotations

import errno
import queue
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from kuberouter_py import inotify
from kuberouter_py.bgp import news as news_module
from kuberouter_py.bgp.control import Control
from kuberouter_py.bgp.files import files
from kuberouter_py.bgp.news import News
from kuberouter_py.model.bgp import SessionNews
from kuberouter_py.ports import EdgeError
from tests.fakes.bird import FakeBird
from tests.fakes.speakers import packed

WITHIN = 60.0
PROTOCOLS = (
    b"2002-Name       Proto      Table      State  Since         Info\n"
    b"1002-peer_192_0_2_254 BGP        ---        up     01:02:03.000  Established\n"
    b"0000 \n"
)
UP = "2026-11-30 02:43:06.416 <TRACE> peer_192_0_2_254: State changed to up\n"


class Listening:
    def __init__(self, directory: Path) -> None:
        self.files = files(str(directory / "bird.ctl"))
        self.sessions: queue.SimpleQueue[SessionNews] = queue.SimpleQueue()
        self.process: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.news = News(self.files, self.sessions.put, self.process.put)
        self._thread = threading.Thread(target=self.news.run, daemon=True)

    def start(self) -> None:
        self.news.open()
        self._thread.start()

    def stop(self) -> None:
        if self._thread.ident:
            self.news.stop()
            self._thread.join(WITHIN)
            assert not self._thread.is_alive()


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    found = Listening(tmp_path)
    yield found
    found.stop()


def no_instance_left(path: Path, events: int) -> int:
    raise OSError(errno.EMFILE, "inotify_init1")


def test_without_an_inotify_instance_it_looks(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inotify, "watch", no_instance_left)
    monkeypatch.setattr(news_module, "LOOK", 0.01)
    listening.start()
    bird = FakeBird(listening.files.socket)
    assert listening.process.get(timeout=WITHIN)
    listening.files.log.write_text(UP)
    assert listening.sessions.get(timeout=WITHIN) == SessionNews(packed("192.0.2.254"), up=True)
    bird.end()


def test_a_directory_that_cannot_be_is_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EdgeError, match="file/run: Not a directory"):
        Listening(tmp_path / "file" / "run").news.open()


def test_one_that_was_silent_is_tried_again(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: queue.SimpleQueue[str] = queue.SimpleQueue()

    def control(path: str) -> Control:
        try:
            return Control(path)
        finally:
            tried.put(path)

    monkeypatch.setattr(news_module, "LOOK", 0.01)
    monkeypatch.setattr(news_module, "Control", control)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(listening.files.socket))  # and nothing in the directory changes from now on
        listening.start()
        for _ in range(2):  # by open() and by run()
            tried.get(timeout=WITHIN)
        bird = FakeBird(door)
        assert listening.process.get(timeout=WITHIN)
        bird.end()


def test_sessions_of_one_that_hung_when_we_came_go_down(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news_module, "LOOK", 0.01)
    monkeypatch.setattr(news_module, "Control", partial(Control, within=0.05))
    bird = FakeBird(listening.files.socket, lambda _: PROTOCOLS, hangs=True)
    listening.start()
    monkeypatch.setattr(news_module, "Control", Control)
    bird.go_on()
    assert listening.process.get(timeout=WITHIN)
    listening.files.log.write_text(UP.replace(" up", " down"))
    assert listening.sessions.get(timeout=WITHIN) == SessionNews(packed("192.0.2.254"), up=False)
    bird.end()
