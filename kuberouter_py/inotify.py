"""Owns the door to inotify(7): descriptors that become readable when something happens in a directory or to a file.

For kernel/ and bgp/, which do not know each other; it knows nothing of ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import Final

MODIFY: Final = 0x2
CLOSE_WRITE: Final = 0x8
CLOSE_NOWRITE: Final = 0x10
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
DELETE: Final = 0x200


def watch(path: Path, events: int) -> int:
    """Non-blocking. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    watcher = int(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
    if watcher < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    if libc.inotify_add_watch(watcher, os.fsencode(path), events) < 0:
        number = ctypes.get_errno()
        os.close(watcher)
        raise OSError(number, "inotify_add_watch")
    return watcher


def drain(watcher: int) -> bool:
    """Whether anything has happened since the last call. What it was is not told."""
    happened = False
    with contextlib.suppress(BlockingIOError):
        while os.read(watcher, 64 << 10):
            happened = True
    return happened
