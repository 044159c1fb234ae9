"""The container runtime's side of CNI: which configuration, what each plugin is given, which addresses come out."""

from __future__ import annotations

import json

import pytest

from tests.labkit import cni
from tests.labkit.agents import bird_socket
from tests.labkit.model import HostPort, PodNetwork
from tests.labkit.ports import LabError

POD = PodNetwork(
    "default", "web", "uid-1", "n1", (), (), host_ports=(HostPort("tcp", 80, 8080), HostPort("udp", 53, 53))
)
LIST = json.dumps({
    "cniVersion": "0.3.1", "name": "pods",
    "plugins": [{"type": "bridge", "mtu": 1480}, {"type": "portmap", "capabilities": {"portMappings": True}}],
})  # fmt: skip


def test_a_list_gives_each_plugin_its_part() -> None:
    found = cni.read("10-pods.conflist", LIST)
    bridge, portmap = found.plugins
    ports = cni.host_ports(POD)
    assert found.of_plugin(bridge, ports, None) == {
        "cniVersion": "0.3.1", "name": "pods", "type": "bridge", "mtu": 1480,
    }  # fmt: skip
    given = found.of_plugin(portmap, ports, {"ips": []})
    assert given["prevResult"] == {"ips": []}
    assert given["runtimeConfig"]["portMappings"] == [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""},
        {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": ""},
    ]
    assert "runtimeConfig" not in found.of_plugin(portmap, [], None)


def test_a_plain_file_is_a_list_of_one() -> None:
    found = cni.read("10-pods.conf", '{"name": "pods", "type": "bridge"}')
    assert found == cni.Configuration("pods", "0.1.0", ({"name": "pods", "type": "bridge"},))


@pytest.mark.parametrize(
    ("file", "text"), [("a.conf", "{"), ("a.conf", '{"type": "x"}'), ("a.conflist", '{"name": "x"}')]
)
def test_an_unusable_file_is_named(file: str, text: str) -> None:
    with pytest.raises(LabError, match=f"/etc/cni/net.d/{file}"):
        cni.read(file, text)


def test_addresses_of_old_and_new_results() -> None:
    assert cni.addresses({"ips": [{"address": "10.244.1.2/24"}, {"address": "fd00::2/64"}]}) == (
        "10.244.1.2",
        "fd00::2",
    )
    assert cni.addresses({"ip4": {"ip": "10.244.1.2/24"}, "dns": {}}) == ("10.244.1.2",)
    assert cni.addresses({}) == ()


@pytest.mark.parametrize(
    ("flags", "socket"),
    [
        ((), None),
        (("--bird-socket=/run/b/bird.ctl",), "/run/b/bird.ctl"),
        (("--bird-socket", "/run/b/bird.ctl", "--run-router"), "/run/b/bird.ctl"),
        (("--bird-socket=/a", "--bird-socket="), None),
    ],
)
def test_bird_runs_beside_an_agent_that_is_told_its_socket(flags: tuple[str, ...], socket: str | None) -> None:
    assert bird_socket(flags) == socket
