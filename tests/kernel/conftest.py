"""A network namespace for each test of the kernel's edges; and the BIRDs of birds.py."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kuberouter_py.bgp.engine import Engine
from kuberouter_py.bgp.process import end
from kuberouter_py.kernel.command import run
from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch
from tests.kernel.birds import Listening, Router
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


@pytest.fixture
def batch(netns: None) -> Iterator[Batch]:
    batch = Batch(NETLINK_ROUTE, strict=True)
    yield batch
    batch.close()


@pytest.fixture
def router(netns: None, tmp_path: Path) -> Iterator[Router]:
    sh("""ip netns add router; ip link add up0 type veth peer name up1 netns router
          ip link set up0 up; ip address add 192.0.2.1/24 dev up0; ip address add fd00:9::1/64 dev up0 nodad
          ip -n router link set lo up; ip -n router link set up1 up
          ip -n router address add 192.0.2.254/24 dev up1; ip -n router address add fd00:9::fe/64 dev up1 nodad""")
    found = Router(tmp_path)
    yield found
    found.stop()
    sh("ip netns delete router")


@pytest.fixture
def engine(netns: None, tmp_path: Path) -> Iterator[Engine]:
    found = Engine(run, run_dir=str(tmp_path / "run"))
    yield found
    end(found.files)


@pytest.fixture
def listening(engine: Engine) -> Iterator[Listening]:
    found = Listening(engine)
    yield found
    found.stop()
