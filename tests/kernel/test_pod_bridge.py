"""The pods' bridge, against the real kernel; `ip` is the witness."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch
from kuberouter_py.kernel.pod_bridge import DOWN, PodBridges
from kuberouter_py.model import notation
from kuberouter_py.model.names import POD_BRIDGE_ALIAS
from kuberouter_py.model.podnet import PodBridge
from kuberouter_py.ports import Plan
from tests.kernel.exam import bring, difference, settle, sh

BRIDGE = "kube-bridge"
WANTED = {BRIDGE: PodBridge(1400)}

pytestmark = pytest.mark.usefixtures("netns")


@pytest.fixture
def bridges() -> Iterator[PodBridges]:
    batch = Batch(NETLINK_ROUTE)
    yield PodBridges(batch)
    batch.close()


def shown(link: str = BRIDGE) -> str:
    return sh(f"ip -d link show dev {link}")


def links() -> str:
    return sh("ip -o link show")


def test_made_and_taken_away_with_its_ports(bridges: PodBridges) -> None:
    settle(bridges, WANTED)
    assert "bridge" in shown() and "mtu 1400" in shown() and ",UP" in shown() and POD_BRIDGE_ALIAS in shown()
    sh(f"ip link add pod0 type veth peer name pod1; ip link set pod0 master {BRIDGE} up; ip link set pod1 up")
    settle(bridges, WANTED)
    settle(bridges, {BRIDGE: PodBridge(1300)})
    assert "mtu 1300" in shown()
    settle(bridges, {})
    assert BRIDGE not in links() and "pod0" in links()


def test_damage_shows_and_is_repaired(bridges: PodBridges) -> None:
    settle(bridges, WANTED)
    sh(f"ip link set {BRIDGE} down mtu 1500")
    assert difference(bridges, WANTED).change == {BRIDGE: (DOWN, WANTED[BRIDGE])}
    settle(bridges, WANTED)
    assert "mtu 1400" in shown() and ",UP" in shown()


def test_one_that_is_there_is_brought_up_and_stays(bridges: PodBridges) -> None:
    sh(f"ip link add {BRIDGE} type bridge; ip link add other type bridge")
    assert bridges.read().foreign == {BRIDGE: DOWN, "other": DOWN}
    settle(bridges, WANTED)
    assert "mtu 1400" in shown() and ",UP" in shown() and "alias" not in shown()
    before = links()
    settle(bridges, {})
    assert bridges.apply(Plan(remove=WANTED)) == {}
    assert links() == before


def test_an_mtu_that_is_left_as_it_is(bridges: PodBridges) -> None:
    sh(f"ip link add {BRIDGE} mtu 1234 up type bridge")
    settle(bridges, {BRIDGE: PodBridge()})
    assert "mtu 1234" in shown() and not difference(bridges, {BRIDGE: PodBridge()})


def test_a_later_process_finds_it(bridges: PodBridges) -> None:
    settle(bridges, WANTED)
    later = PodBridges(Batch(NETLINK_ROUTE))
    assert later.read().ours == WANTED
    settle(later, {})
    assert BRIDGE not in links()


def test_no_bridge_by_that_name(bridges: PodBridges) -> None:
    sh(f'ip link add {BRIDGE} type dummy; ip link set {BRIDGE} alias "{POD_BRIDGE_ALIAS}"')
    assert "of kind dummy" in bring(bridges, WANTED)[BRIDGE].reason
    assert bridges.apply(Plan(remove=WANTED)) == {}
    assert BRIDGE in links()


def test_an_mtu_that_no_bridge_can_have_leaves_none_behind(bridges: PodBridges) -> None:
    refused = bring(bridges, {BRIDGE: PodBridge(70000), "second": PodBridge(1400)})
    assert refused.keys() == {BRIDGE} and BRIDGE not in links() and "second" in links()


def test_what_plan_prints_is_what_ip_takes(bridges: PodBridges) -> None:
    def run(plan: Plan[str, PodBridge]) -> None:
        for line in notation.lines({"pod bridges": plan}):
            sh(line)

    run(Plan(add=WANTED))
    assert bridges.read().ours == WANTED
    sh(f"ip link set {BRIDGE} down")
    run(Plan(change={BRIDGE: (DOWN, PodBridge(1300))}))
    assert bridges.read().ours == {BRIDGE: PodBridge(1300)}
    run(Plan(remove=WANTED))
    assert bridges.read().ours == {}
