"""News of one file: replaced as kubelet does in a mounted Secret, written in place, gone, or changed unannounced."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from kuberouter_py.kernel.file_news import GATHER, FileNews

LONG = 3600.0
WITHIN = 30.0


class Listening:
    """Takes down what the file held whenever there was news."""

    def __init__(self, file: Path, period: float) -> None:
        self._told: SimpleQueue[str] = SimpleQueue()
        self._news = FileNews(file, lambda: self._told.put(file.read_text() if file.exists() else "none"), period)
        self._news.open()
        self._thread = threading.Thread(target=self._news.run, daemon=True)
        self._thread.start()

    def next(self) -> str:
        return self._told.get(timeout=WITHIN)

    def silent(self) -> bool:
        """Nothing more comes, although what was done before has had time to gather."""
        try:
            self._told.get(timeout=3 * GATHER)
        except Empty:
            return True
        return False

    def stop(self) -> None:
        self._news.stop()
        self._thread.join(WITHIN)
        assert not self._thread.is_alive()


@pytest.fixture
def listen() -> Iterator[Callable[[Path, float], Listening]]:
    made: list[Listening] = []

    def begin(file: Path, period: float) -> Listening:
        made.append(Listening(file, period))
        return made[-1]

    yield begin
    for each in made:
        each.stop()


def written(file: Path, text: str) -> None:
    """At once: who looks while it is written finds it as it was."""
    beside = file.with_suffix(".new")
    beside.write_text(text)
    beside.rename(file)


def secret(directory: Path, version: int, text: str) -> None:
    """As kubelet's AtomicWriter: a directory for each version, a link to it that is renamed, and one for the file."""
    data = directory / f"..{version}"
    data.mkdir(parents=True)
    (data / "passwords").write_text(text)
    (directory / "..data_tmp").symlink_to(data.name)
    (directory / "..data_tmp").rename(directory / "..data")
    if not (directory / "passwords").is_symlink():
        (directory / "passwords").symlink_to("..data/passwords")


def test_a_secret_that_is_replaced(tmp_path: Path, listen: Callable[[Path, float], Listening]) -> None:
    secret(tmp_path, 1, "old")
    news = listen(tmp_path / "passwords", LONG)
    secret(tmp_path, 2, "new")
    assert news.next() == "new"
    secret(tmp_path, 3, "new")  # another version with the same text
    (tmp_path / "another file").write_text("x")
    assert news.silent()


def test_a_file_that_is_written_goes_and_comes(tmp_path: Path, listen: Callable[[Path, float], Listening]) -> None:
    file = tmp_path / "passwords"
    news = listen(file, LONG)
    written(file, "first")
    assert news.next() == "first"
    with file.open("a") as open_file:
        open_file.write(", second")
    assert news.next() == "first, second"
    file.unlink()
    assert news.next() == "none"


def test_what_is_not_announced_is_found_in_time(tmp_path: Path, listen: Callable[[Path, float], Listening]) -> None:
    """A directory that comes later, then a link that leads out of the directory."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("old")
    file = tmp_path / "later" / "passwords"
    news = listen(file, 0.2)
    file.parent.mkdir()
    file.symlink_to(elsewhere)
    assert news.next() == "old"
    written(elsewhere, "new")
    assert news.next() == "new"
