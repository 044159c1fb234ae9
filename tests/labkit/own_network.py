"""A network namespace of the lab's own, with the tap that joins host and lab kernel.

The machine's network stays as it is. Everything of a run lives in this one: the lab kernel, and on the host side the
control plane.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from pathlib import Path
from typing import Final

from tests.labkit import wires
from tests.labkit.ports import LabError

_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_TUN: Final = Path("/dev/net/tun")
_WIRED: Final = (
    f"address add {wires.HOST_ADDRESS}/{wires.WIRE_PREFIX} dev {wires.TAP}",
    f"link set {wires.TAP} up",
    f"route add default via {wires.GUEST_ADDRESS}",
)


def enter() -> None:
    """Moves this process into a network namespace of its own (without privileges: into a user namespace first).

    Call it early: before any thread starts and before a subprocess that is to share it. Everything behind the tap is
    reached through the lab kernel, so that a world's addresses need no routes here. Where tap devices are not for us
    there is none: scenarios that need no API server play all the same.
    """
    if os.geteuid() == 0:
        _unshare(_CLONE_NEWNET)
    else:
        user, group = os.geteuid(), os.getegid()
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _ip("link set lo up")
    if not os.access(_TUN, os.R_OK | os.W_OK):
        return
    _ip(
        f"tuntap add dev {wires.TAP} mode tap",
        *_WIRED,
    )


def replace_tap(other: str) -> None:
    """Where host and lab share a kernel: a veth pair instead, its far end in the namespace at the path `other`."""
    if has_tap():
        _ip(f"link delete {wires.TAP}")
    _ip(
        f"link add {wires.TAP} type veth peer name {wires.GUEST_LINK} netns {other}",
        *_WIRED,
    )


def has_tap() -> bool:
    return any(name == wires.TAP for _, name in socket.if_nameindex())


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        error = ctypes.get_errno()
        raise LabError(f"no namespace of our own: unshare: {os.strerror(error)}")


def _ip(*commands: str) -> None:
    done = subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, capture_output=True)
    if done.returncode != 0:
        raise LabError(f"the lab's own network: {done.stderr.strip()}")
