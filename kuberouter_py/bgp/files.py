"""Owns the files between us and BIRD: their names; and that passwords are written whole, and for root alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kuberouter_py.model.names import RUN_DIR
from kuberouter_py.ports import EdgeError


class Files(NamedTuple):
    """All in one directory, on a tmpfs; socket: BIRD's, by which the others are found."""

    socket: Path

    @property
    def configuration(self) -> Path:
        return self.socket.with_name("bird.conf")

    @property
    def candidate(self) -> Path:
        """A configuration that BIRD has not agreed to yet."""
        return self.socket.with_name("bird.conf.next")

    @property
    def speaker(self) -> Path:
        """What the configuration was made from, for the next process."""
        return self.socket.with_name("bird.json")

    @property
    def log(self) -> Path:
        return self.socket.with_name("bird.log")

    @property
    def pid(self) -> Path:
        return self.socket.with_name("bird.pid")

    @property
    def ran(self) -> Path:
        """There since a BIRD has run with our configuration: peers may keep its routes (graceful restart)."""
        return self.socket.with_name("bird.ran")

    def all(self) -> Iterator[Path]:
        yield from (self.configuration, self.candidate, self.speaker, self.log, self.log.with_name("bird.log.1"))
        yield from (self.pid, self.ran, self.socket)


def files(socket: str = "", run_dir: str = RUN_DIR) -> Files:
    """socket: of a BIRD beside us (--bird-socket); "": of our own."""
    return Files(Path(socket) if socket else Path(run_dir, "bird.ctl"))


def write_private(path: Path, text: str) -> None:
    """Raises EdgeError; then what was there before is still there."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        scratch.unlink(missing_ok=True)
        with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(text)
        scratch.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise EdgeError(f"{path}: {error.strerror}") from error


def read_text(path: Path) -> str:
    """ "" where there is nothing. Raises EdgeError."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise EdgeError(f"{path}: {error.strerror}") from error


def remove(*paths: Path) -> None:
    """Raises EdgeError."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise EdgeError(f"{path}: {error.strerror}") from error
