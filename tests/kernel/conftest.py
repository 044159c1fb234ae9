"""A network namespace for each test of the kernel's edges."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest

from tests.kernel.exam import sh

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.fixture
def netns() -> Iterator[None]:
    """This test, its sockets and its programs live in a network namespace of their own, with `lo` up."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.unshare(_CLONE_NEWNET))
        sh("ip link set lo up")
        yield
    finally:
        _check(_libc.setns(before, _CLONE_NEWNET))
        os.close(before)
