"""Pods made by the standard CNI plugins from the configuration that we write."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from kuberouter_py.controllers.routing.cni import complete
from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch
from kuberouter_py.kernel.pod_bridge import PodBridges
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.names import POD_BRIDGE
from kuberouter_py.model.podnet import CniSeen, PodBridge
from kuberouter_py.model.values import parse_cidr
from tests.kernel.exam import settle, sh

PLUGINS: Final = Path("/usr/lib/cni")  # Debian's containernetworking-plugins
PODS = (parse_cidr("10.244.1.0/24"), parse_cidr("fd00:10:244:1::/64"))
LATER = (parse_cidr("10.244.7.0/24"), parse_cidr("fd00:10:244:7::/64"))

pytestmark = pytest.mark.usefixtures("netns")


class Runtime:
    """What a container runtime does with a configuration: each plugin in turn, with what the one before it said."""

    def __init__(self, folder: Path) -> None:
        self._reservations = str(folder / "networks")  # the usual place is the machine's own
        self._processes: list[subprocess.Popen[bytes]] = []
        self.text = ""

    def pod(self) -> tuple[int, Any]:
        process = subprocess.Popen(["unshare", "--net", "sleep", "600"])
        self._processes.append(process)
        own = os.stat("/proc/self/ns/net").st_ino
        while os.stat(f"/proc/{process.pid}/ns/net").st_ino == own:
            pass
        network = json.loads(self.text)
        result = None
        for plugin in network["plugins"]:
            pod = f"CNI_CONTAINERID=pod{process.pid} CNI_NETNS=/proc/{process.pid}/ns/net CNI_IFNAME=eth0"
            command = f"CNI_COMMAND=ADD {pod} CNI_PATH={PLUGINS} {PLUGINS / plugin['type']}"
            result = json.loads(sh(command, input=json.dumps(self._told(network, plugin, result))))
        return process.pid, result

    def _told(self, network: Any, plugin: Any, result: Any) -> dict[str, Any]:
        told = {"cniVersion": network["cniVersion"], "name": network["name"], **plugin}
        if "ipam" in told:
            told["ipam"] = {**told["ipam"], "dataDir": self._reservations}
        return told if result is None else {**told, "prevResult": result}

    def end(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    runtime = Runtime(tmp_path)
    yield runtime
    runtime.end()


def inside(process: int, command: str) -> str:
    return sh(f"nsenter --net=/proc/{process}/ns/net sh -ec {shlex.quote(command)}")


def answers(address: str) -> bool:
    """A pod has nothing on this port, and says so. A socket chooses its source once, and the bridge's own IPv6 address
    is none to choose before nobody else is found to have it, which takes a second or two: so each try has its own.
    """
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as channel:
            channel.settimeout(0.3)
            try:
                channel.connect((address, 9))
                channel.send(b"")
                channel.recv(1)
            except ConnectionRefusedError:
                return True
            except OSError:  # no answer, or nobody there yet
                continue
    return False


def configuration(seen: CniSeen, pod_cidrs: tuple[Cidr, ...]) -> str:
    text = complete(seen, ".conflist", pod_cidrs, 1480).text
    assert text is not None
    return text


def addresses(result: Any) -> list[str]:
    return [one["address"].partition("/")[0] for one in result["ips"]]


def test_a_pod_has_an_address_of_each_family_and_is_reached(runtime: Runtime) -> None:
    settle(PodBridges(Batch(NETLINK_ROUTE)), {POD_BRIDGE: PodBridge(1480)})
    runtime.text = configuration(CniSeen(), PODS)
    process, result = runtime.pod()
    assert addresses(result) == ["10.244.1.2", "fd00:10:244:1::2"]
    assert all(answers(address) for address in addresses(result))
    assert "mtu 1480" in inside(process, "ip link show eth0")
    assert "via 10.244.1.1" in inside(process, "ip route show default")
    assert "via fd00:10:244:1::1" in inside(process, "ip -6 route show default")
    assert "hairpin on" in sh("bridge -d link show")
    assert PodBridges(Batch(NETLINK_ROUTE)).read().ours == {POD_BRIDGE: PodBridge(1480)}, "the plugin leaves it ours"


def test_a_node_that_got_other_pod_cidrs_goes_on(runtime: Runtime) -> None:
    """The bridge has its former addresses still."""
    runtime.text = configuration(CniSeen(), PODS)
    runtime.pod()
    runtime.text = configuration(CniSeen(runtime.text, runtime.text), LATER)
    _, result = runtime.pod()
    assert addresses(result) == ["10.244.7.2", "fd00:10:244:7::2"]
    assert all(answers(address) for address in addresses(result))
