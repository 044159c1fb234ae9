"""Owns the news of a directory: inotify(7)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

_WATCHED: Final = 0x2 | 0x80 | 0x100  # IN_MODIFY, IN_MOVED_TO, IN_CREATE


def watch(directory: Path) -> int:
    """A descriptor that becomes readable when something in the directory is written or made."""
    libc = ctypes.CDLL(None, use_errno=True)
    watcher = int(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
    if watcher < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    if libc.inotify_add_watch(watcher, os.fsencode(directory), _WATCHED) < 0:
        number = ctypes.get_errno()
        os.close(watcher)
        raise OSError(number, "inotify_add_watch")
    return watcher
