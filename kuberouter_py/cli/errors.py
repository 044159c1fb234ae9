"""How a command fails: one clear line and exit status 1."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


class Failure(Exception):
    """What the person at the terminal has to know; the message is the whole line."""


def exit_with(message: str) -> NoReturn:
    print(f"kuberouter-py: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)


def must_be_root(command: str) -> None:
    """Raises Failure where we are not: netlink, iptables and /proc/sys are root's."""
    if os.geteuid() != 0:
        raise Failure(f"{command} must be run as root (it reads and writes this node's kernel)")
