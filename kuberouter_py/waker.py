"""Owns the way out of a wait: a descriptor for poll(2) that another thread, or a signal handler, makes readable.

For kernel/ and bgp/, whose listeners each wait in a thread of their own; it knows nothing of ours.
"""

from __future__ import annotations

import os
import weakref


class Waker:
    """Readable from the first wake() on. It is closed with the object and not before: whoever is told to stop too late
    must not write into another file that was given its number. Raises OSError where descriptors have run out.
    """

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        weakref.finalize(self, os.close, self._descriptor).atexit = False

    def fileno(self) -> int:
        return self._descriptor

    def wake(self) -> None:
        """From any thread, or a signal handler; more than once is as good as once."""
        os.eventfd_write(self._descriptor, 1)
