"""kube-proxy's nftables mode, the real one in a network namespace: what it serves is read, and its table goes.

The lab kernel has no nf_tables: this needs the host's own, and root. Without them there is nothing to take over.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kuberouter_py.config import Config
from kuberouter_py.controllers.takeover.carried import carried
from kuberouter_py.controllers.takeover.served import mode, owners, served
from kuberouter_py.kernel.iptables_flavours import nf_tables_lacks
from kuberouter_py.kernel.others import OthersInKernel
from kuberouter_py.model.kernel import Protocol, VirtualServerKey
from kuberouter_py.model.names import VIP_LINK
from kuberouter_py.model.others import PROXY, Away
from tests.api.conftest import RealControlPlane
from tests.fakes.objects import packed
from tests.labkit import controlplane

CLONE_NEWNET = 0x40000000
NODE, ENDPOINT = "192.0.2.11", "192.0.2.50"
SERVICE = VirtualServerKey(Protocol.TCP, packed("10.96.0.10"), 80)
OBJECTS = (
    {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
     "status": {"addresses": [{"type": "InternalIP", "address": NODE}]}},
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
     "spec": {"type": "NodePort", "clusterIP": "10.96.0.10", "externalIPs": ["198.51.100.7"],
              "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}]}},
    {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
     "metadata": {"name": "web", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
     "endpoints": [{"addresses": [ENDPOINT], "conditions": {"ready": True}}],
     "ports": [{"name": "", "protocol": "TCP", "port": 8080}]},
)  # fmt: skip

LACKS = "not root" if os.geteuid() else nf_tables_lacks(4)


def sh(command: str) -> str:
    return subprocess.run(["sh", "-ec", command], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def undo() -> Iterator[ExitStack]:
    """A network namespace for this test and what it starts."""
    libc = ctypes.CDLL(None)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    assert libc.unshare(CLONE_NEWNET) == 0
    try:
        with ExitStack() as stack:
            sh("ip link set lo up")
            yield stack
    finally:
        libc.setns(before, CLONE_NEWNET)
        os.close(before)


def start_kube_proxy(undo: ExitStack, plane: RealControlPlane, log: Path) -> subprocess.Popen[bytes]:
    program = controlplane.programs_directory("kube-proxy") / "kube-proxy"
    flags = ["--proxy-mode=nftables", "--hostname-override=n1", "--conntrack-max-per-core=0",
             "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0"]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen([program, "--kubeconfig", plane.kubeconfig, *flags], stdout=output, stderr=output)
    undo.enter_context(process)
    undo.callback(process.kill)
    return process


def has_service(others: OthersInKernel) -> bool:
    frontends = others.read().nft.get(4)
    return frontends is not None and SERVICE in frontends.services


def test_what_it_serves_is_read_and_its_table_goes(undo: ExitStack, tmp_path: Path) -> None:
    if LACKS:
        assert not OthersInKernel((VIP_LINK,)).read().nft
        return
    sh(f"ip link add v0 type veth peer name v1; ip link set v0 up; ip address add {NODE}/24 dev v0")
    plane = RealControlPlane(undo.enter_context(controlplane.running()), tmp_path)
    plane.fresh()
    for document in OBJECTS:
        plane.objects.apply(document)
    log = tmp_path / "kube-proxy.log"
    kube_proxy = start_kube_proxy(undo, plane, log)
    others = OthersInKernel((VIP_LINK,))
    deadline = time.monotonic() + 60
    while not has_service(others):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    kube_proxy.terminate()
    kube_proxy.wait(60)
    sh("nft add table ip somebody-else")
    remains = others.read()
    assert mode(remains) == "nftables"
    assert owners(remains) == {PROXY}
    expected = {("10.96.0.10", 80), ("198.51.100.7", 80), (NODE, 30080)}
    found = {key for key in served(remains) if key.address != packed("10.96.0.1")}
    assert found == {VirtualServerKey(Protocol.TCP, packed(address), port) for address, port in expected}
    assert dict(carried(remains, {}, Config()).options).keys() <= {"nodeport-addresses"}

    gone = others.remove(remains, Away(frozenset({PROXY})))
    assert (gone.failed, gone.done) == ([], {"nftables tables": len(remains.nft)})
    assert sh("nft list tables").split("\n") == ["table ip somebody-else", ""]
    others.close()
