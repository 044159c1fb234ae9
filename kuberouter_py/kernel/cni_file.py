"""Owns the CNI configuration file of this node: written as a whole, and given back as it was before us.

What it shall say is the controllers' business. What was there before, and what we wrote, stands beside it in a hidden
file whose name no container runtime reads (they take .conf, .conflist and .json), before the file itself is written: it
lives as long as the file does, which a reboot does not end.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from kuberouter_py.model.podnet import CniFile, CniSeen
from kuberouter_py.ports import Actual, EdgeError, Plan, Refused

FOLDER: Final = Path("/etc/cni/net.d")
_MEMORY: Final = ".kuberouter-py"
_MODE: Final = 0o644  # of a new one; the runtime may run as somebody else


class _Memory(NamedTuple):
    """before: None where there was no file. ours: what may stand there of our making; both, while one is replaced."""

    before: str | None
    ours: tuple[str, ...]


class CniFiles:
    """Table[str, CniFile]: path -> file. Ours are those that were applied and not removed, in the folder of the path
    that is configured and in the usual one; the file there that was never applied is foreign.

    To remove one is to restore what was there before, or to delete it where there was none. What others have changed
    since is left to them, with the reason, once.
    """

    name = "cni"

    def __init__(self, path: str, folder: Path = FOLDER) -> None:
        """path: the configured one; folder: the usual one."""
        self._path = Path(path)
        self._folders = tuple(dict.fromkeys((self._path.parent, folder)))
        self._lock = threading.Lock()

    def seen(self, path: str) -> CniSeen:
        """Raises EdgeError."""
        with self._lock:
            memory = _recall(Path(path))
            there = _text(Path(path))
        if memory is None:
            return CniSeen(there)
        return CniSeen(there, memory.ours[-1] if memory.ours else "", memory.before or "")

    def read(self) -> Actual[str, CniFile]:
        with self._lock:
            ours = {str(path): CniFile(_text(path) or "") for path in self._remembered()}
            there = None if str(self._path) in ours else _text(self._path)
        return Actual(ours, {} if there is None else {str(self._path): CniFile(there)})

    def apply(self, plan: Plan[str, CniFile]) -> dict[str, Refused]:
        wanted = {**plan.add, **{path: new for path, (_old, new) in plan.change.items()}}
        refused: dict[str, Refused] = {}
        for path in [*wanted, *plan.remove]:
            try:
                with self._lock:
                    reason = _bring(Path(path), wanted[path].text) if path in wanted else _give_back(Path(path))
            except OSError as error:
                refused[path] = Refused(f"{path}: {error.strerror}", error.errno in (errno.EROFS, errno.EACCES))
            except EdgeError as error:
                refused[path] = Refused(str(error))
            else:
                if reason:
                    refused[path] = Refused(reason)
        return refused

    def _remembered(self) -> Iterator[Path]:
        for folder in self._folders:
            for memory in sorted(folder.glob(f".*{_MEMORY}")):
                yield folder / memory.name.removeprefix(".").removesuffix(_MEMORY)


def _bring(path: Path, text: str) -> str:
    there, memory = _text(path), _recall(path)
    if there == text:
        return ""
    known = memory is not None and there in memory.ours
    before = memory.before if memory is not None and known else there
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    kept = (there,) if known and there is not None else ()
    _write(_memory(path), json.dumps(_Memory(before, (*kept, text))._asdict()))
    _write(path, text)
    return ""


def _give_back(path: Path) -> str:
    """Why not; then it is ours no longer either."""
    there, memory = _text(path), _recall(path)
    reason = ""
    if memory is not None and there is not None:
        if there not in memory.ours:
            reason = f"{path} was changed by somebody else after we wrote it: left as it is"
        elif memory.before is None:
            path.unlink()
        else:
            _write(path, memory.before)
    _memory(path).unlink(missing_ok=True)
    return reason


def _memory(path: Path) -> Path:
    return path.with_name(f".{path.name}{_MEMORY}")


def _recall(path: Path) -> _Memory | None:
    """Raises EdgeError. One that cannot be understood remembers nothing: whatever stands there is left alone."""
    text = _text(_memory(path))
    if text is None:
        return None
    with contextlib.suppress(ValueError, TypeError, KeyError):
        found = json.loads(text)
        before, ours = found["before"], found["ours"]
        if isinstance(before, str | None) and isinstance(ours, list):
            return _Memory(before, tuple(map(str, ours)))
    return _Memory(None, ())


def _text(path: Path) -> str | None:
    """None where there is no file. Bytes that are no UTF-8 are kept as they are. Raises EdgeError."""
    try:
        return path.read_bytes().decode(errors="surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EdgeError(f"{path}: {error.strerror}") from error


def _write(path: Path, text: str) -> None:
    """Whoever reads it meanwhile sees the old one or the new one. Raises OSError."""
    real = path.resolve()  # a link stays a link
    scratch = real.with_name(f".{real.name}.new")
    try:
        mode = real.stat().st_mode & 0o777
    except FileNotFoundError:
        mode = _MODE
    with scratch.open("wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text.encode(errors="surrogateescape"))
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(real)
    folder = os.open(real.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
