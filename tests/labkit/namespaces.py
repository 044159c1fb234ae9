"""Kernel namespaces from Python: making them, entering them for one call, naming network ones as `ip netns` does.

A namespace is entered by a thread of its own, which ends with the call: the caller's thread stays where it is.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from tests.labkit.ports import LabError

T = TypeVar("T")

CLONE_FS: Final = 0x00000200
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
_MS_BIND: Final = 0x1000
_MS_PRIVATE_ALL: Final = 0x4000 | 0x40000
_MNT_DETACH: Final = 2

NETNS: Final = Path("/run/netns")  # where `ip netns` looks names up

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Namespaces:
    """Open descriptors of the namespaces to work in; None: stay in ours. A `pid` one holds for children only."""

    net: int
    mount: int | None = None
    pid: int | None = None
    uts: int | None = None

    def close(self) -> None:
        for descriptor in (self.net, self.mount, self.pid, self.uts):
            if descriptor is not None:
                os.close(descriptor)


def within(namespaces: Namespaces, function: Callable[[], T]) -> T:
    """Calls `function` in these namespaces. Processes it starts are born there."""

    def enter() -> T:
        if namespaces.mount is not None:
            unshare(CLONE_FS)  # a thread may change its mount namespace only with a working directory of its own
            setns(namespaces.mount)
        for descriptor in (namespaces.pid, namespaces.uts, namespaces.net):
            if descriptor is not None:
                setns(descriptor)
        return function()

    return apart(enter)


def apart(function: Callable[[], T]) -> T:
    """Calls `function` in a thread of its own, whose namespaces it may change."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def new_network(name: str) -> Namespaces:
    """A new network namespace with a name, kept by that name alone (no process lives in it)."""

    def make() -> Namespaces:
        unshare(CLONE_NEWNET)
        give_name(name, "/proc/thread-self/ns/net")
        return Namespaces(net=os.open("/proc/thread-self/ns/net", os.O_RDONLY))

    return apart(make)


def give_name(name: str, source: str) -> None:
    """`ip netns` and `ip -n NAME` know the namespace at `source` by this name from now on."""
    NETNS.mkdir(parents=True, exist_ok=True)
    target = NETNS / name
    target.touch(exist_ok=False)
    try:
        bind(source, str(target))
    except LabError:
        target.unlink()
        raise


def drop_name(name: str) -> None:
    target = NETNS / name
    if target.exists():
        _libc.umount2(bytes(target), _MNT_DETACH)
        target.unlink()


def mount(kind: str, target: str) -> None:
    """A fresh file system of this kind. Of /proc, it is the calling process's own, whatever its children will be in."""
    if _libc.mount(kind.encode(), target.encode(), kind.encode(), 0, None) != 0:
        raise _failure(f"mounting {kind} on {target}")


def bind(source: str, target: str) -> None:
    if _libc.mount(source.encode(), target.encode(), None, _MS_BIND, None) != 0:
        raise _failure(f"binding {source} to {target}")


def make_private() -> None:
    """What this mount namespace mounts from now on is seen by nobody else."""
    if _libc.mount(None, b"/", None, _MS_PRIVATE_ALL, None) != 0:
        raise _failure("making / private")


def unshare(flags: int) -> None:
    if _libc.unshare(flags) != 0:
        raise _failure("unshare")


def setns(descriptor: int) -> None:
    if _libc.setns(descriptor, 0) != 0:
        raise _failure("setns")


def _failure(doing: str) -> LabError:
    return LabError(f"{doing}: {os.strerror(ctypes.get_errno())}")
