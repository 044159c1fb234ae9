"""Hears of what BIRD and the agent write into the directory that they share."""

from __future__ import annotations

from pathlib import Path

from kuberouter_py import inotify


def watch(directory: Path) -> int:
    """A descriptor that becomes readable when something in the directory is written or made. Raises OSError."""
    return inotify.watch(directory, inotify.MODIFY | inotify.MOVED_TO | inotify.CREATE)
