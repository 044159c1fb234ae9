"""Hairpin mode of bridge ports, against the real kernel; `bridge -j -d link` is the witness."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kuberouter_py.kernel.bridge import BridgePorts
from kuberouter_py.kernel.netlink_socket import Batch
from kuberouter_py.ports import Plan
from tests.kernel.exam import bring, difference, settle, sh

pytestmark = pytest.mark.usefixtures("netns")


@pytest.fixture(autouse=True)
def ports(netns: None) -> None:
    sh("""ip link add br0 type bridge; ip link set br0 up
          for n in 0 1 2; do ip link add port$n type veth peer name peer$n; ip link set port$n master br0; done
          bridge link set dev port2 hairpin on""")


def hairpin() -> dict[str, bool]:
    return {port["ifname"]: port["hairpin"] for port in json.loads(sh("bridge -j -d link"))}


def test_switched_on_and_given_back(batch: Batch, tmp_path: Path) -> None:
    ports = BridgePorts(batch, run_dir=tmp_path)
    assert ports.read().foreign == {"port0": False, "port1": False, "port2": True}
    settle(ports, {"port0": True, "port2": True})
    assert hairpin() == {"port0": True, "port1": False, "port2": True}
    sh("bridge link set dev port0 hairpin off")
    again = BridgePorts(batch, run_dir=tmp_path)
    assert difference(again, {"port0": True, "port2": True}).change == {"port0": (False, True)}
    settle(again, {"port0": True, "port2": True})
    settle(again, {})
    assert hairpin() == {"port0": False, "port1": False, "port2": True}
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_goes(batch: Batch, tmp_path: Path) -> None:
    ports = BridgePorts(batch, run_dir=tmp_path)
    settle(ports, {"port0": True, "port1": True})
    sh("ip link delete port0; ip link set port1 nomaster")
    assert ports.read().ours == {}
    assert bring(ports, {"port0": True, "port1": True}).keys() == {"port0", "port1"}
    assert ports.apply(Plan(remove={"port0": True})) == {}
    assert list(tmp_path.iterdir()) == []
