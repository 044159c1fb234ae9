"""The ports where GUE is taken in, against the real kernel; `ip fou` and packets are the witnesses."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kuberouter_py.kernel import generic_netlink
from kuberouter_py.kernel.gue import Listeners
from kuberouter_py.kernel.netlink_socket import NETLINK_GENERIC, Batch
from kuberouter_py.model import notation
from kuberouter_py.model.podnet import Listener
from kuberouter_py.ports import Plan
from tests.kernel.exam import bring, difference, settle, sh

PORT = 5555
BOTH: dict[Listener, None] = {Listener(4, PORT): None, Listener(6, PORT): None}

pytestmark = pytest.mark.usefixtures("netns", "modules")
by_family = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture(scope="module")
def modules() -> None:
    sh("modprobe -a fou fou6")


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[Listeners]:
    batch = Batch(NETLINK_GENERIC)
    yield Listeners(batch, tmp_path)
    batch.close()


def shown() -> list[str]:
    return sorted(line.strip() for line in sh("ip fou show").splitlines())


def test_opened_and_shut(listeners: Listeners) -> None:
    settle(listeners, BOTH)
    assert shown() == ["port 5555 gue", "port 5555 gue -6"]
    settle(listeners, {Listener(6, PORT): None, Listener(6, 6666): None})
    assert shown() == ["port 5555 gue -6", "port 6666 gue -6"]
    settle(listeners, {})
    assert shown() == []


def test_a_later_process_finds_them(listeners: Listeners, tmp_path: Path) -> None:
    settle(listeners, BOTH)
    later = Listeners(Batch(NETLINK_GENERIC), tmp_path)
    assert later.read().ours == BOTH
    settle(later, {})
    assert shown() == []


def test_one_that_others_opened_does_as_well_and_stays(listeners: Listeners) -> None:
    sh("ip fou add port 5555 gue; ip fou add port 7777 gue; ip -6 fou add port 5555 gue")
    assert listeners.read().ours == {} and listeners.read().foreign.keys() == {*BOTH, Listener(4, 7777)}
    settle(listeners, BOTH)
    assert listeners.apply(Plan(add=BOTH)) == {} == listeners.apply(Plan(remove=BOTH))
    assert len(shown()) == 3


def test_shut_by_somebody_it_is_opened_again(listeners: Listeners) -> None:
    settle(listeners, BOTH)
    sh("ip fou del port 5555")
    assert difference(listeners, BOTH).add.keys() == {Listener(4, PORT)}
    settle(listeners, BOTH)
    sh("ip fou del port 5555")
    settle(listeners, {})
    assert shown() == []


@by_family
def test_a_port_that_something_else_uses_is_refused_and_holds_up_none(listeners: Listeners, family: int) -> None:
    other = Listener(10 - family, PORT)
    with socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as channel:
        if family == 6:
            channel.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        channel.bind(("", PORT))
        refused = bring(listeners, BOTH)
        assert refused.keys() == {Listener(family, PORT)} and "in use" in refused[Listener(family, PORT)].reason
        assert listeners.read().ours == {other: None}
    settle(listeners, BOTH)


def test_of_another_kind_is_not_taken_for_it(listeners: Listeners) -> None:
    sh("ip fou add port 5555 ipproto 4")
    assert listeners.read().foreign == {}
    refused = bring(listeners, BOTH)
    assert refused.keys() == {Listener(4, PORT)} and "not for GUE" in refused[Listener(4, PORT)].reason
    settle(listeners, {})
    assert shown() == ["port 5555 ipproto 4"]


def test_a_kernel_without_them(listeners: Listeners, monkeypatch: pytest.MonkeyPatch) -> None:
    def family(batch: Batch, name: str, module: str) -> int:
        return generic_netlink.generic_family(batch, "no such family", module)

    monkeypatch.setattr("kuberouter_py.kernel.gue.generic_family", family)
    assert listeners.read().ours == {}
    refused = bring(listeners, BOTH)
    assert refused.keys() == BOTH.keys()
    assert all(reason.missing and "modprobe fou" in reason.reason for reason in refused.values())
    assert listeners.apply(Plan(remove=BOTH)) == {}


def test_what_plan_prints_is_what_ip_takes(listeners: Listeners) -> None:
    for line in notation.lines({"gue ports": Plan(add=BOTH)}):
        sh(line)
    assert listeners.read().foreign == BOTH
    for line in notation.lines({"gue ports": Plan(remove=BOTH)}):
        sh(line)
    assert shown() == []
