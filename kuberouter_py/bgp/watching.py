"""Hears of what BIRD and the agent write into the directory that they share."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kuberouter_py import inotify
from kuberouter_py.ports import EdgeError

# Seconds between two looks, for who cannot hear.
LOOK: Final = 5.0


def watch(directory: Path) -> int | None:
    """A descriptor that becomes readable when something in the directory, which is made, is written or made. None: it
    is not announced (often every fs.inotify.max_user_instances is taken), so look every LOOK. Raises EdgeError where
    there can be no such directory.
    """
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise EdgeError(f"{directory}: {error.strerror}") from error
    try:
        return inotify.watch(directory, inotify.MODIFY | inotify.MOVED_TO | inotify.CREATE)
    except OSError:
        return None
