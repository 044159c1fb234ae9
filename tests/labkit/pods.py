"""Pods as the container runtime and CNI make them: a namespace on the node's bridge, or on a link of its own to a node
that routes (as the plugin ptp makes it), or whatever the node's own CNI configuration makes (cni.py); a process in a
cgroup, servers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final

from tests.labkit import fabric, namespaces
from tests.labkit.cgroups import Cgroup
from tests.labkit.cni import Attached, Runtime
from tests.labkit.fabric import BRIDGE, LINK
from tests.labkit.machine import Machine
from tests.labkit.model import NodeSpec, PodNetwork
from tests.labkit.namespaces import Namespaces
from tests.labkit.ports import LabError
from tests.labkit.traffic.exchange import Peer

_CALL: Final = 30.0
_IDLE: Final = ("/bin/sleep", "infinity")


@dataclass
class Pod:
    spec: PodNetwork
    machine: Machine
    network: Namespaces | None  # None: the node's
    cgroup: Cgroup
    idle: subprocess.Popen[bytes]
    attached: Attached | None = None  # by the node's CNI plugins

    @property
    def namespace(self) -> str:
        return self.machine.name if self.network is None else netns_name(self.spec)

    @property
    def owner(self) -> str:
        return f"pod/{self.spec.namespace}/{self.spec.name}"


class Pods:
    """Those that run, by namespace and name."""

    def __init__(
        self, nodes: Mapping[str, NodeSpec], machines: Mapping[str, Machine], servers: Peer, prober: Peer
    ) -> None:
        self._nodes = nodes
        self._machines = machines
        self._servers = servers
        self._prober = prober
        self._running: dict[tuple[str, str], Pod] = {}

    def add(self, spec: PodNetwork) -> tuple[str, ...]:
        key = (spec.namespace, spec.name)
        if key in self._running:
            raise LabError(f"pod/{spec.namespace}/{spec.name} runs already")
        machine = self._machines[f"node/{spec.node}"]
        network, attached = None, None
        if not spec.host_network:
            network, attached = self._network(spec, machine)
            spec = dataclasses.replace(spec, addresses=attached.addresses) if attached is not None else spec
        cgroup = Cgroup(spec.uid)
        cgroup.make()
        idle = machine.spawn(_IDLE, {}, None, network)
        cgroup.add(idle.pid)
        self._running[key] = Pod(spec, machine, network, cgroup, idle, attached)
        self.serve(self._running[key])
        return spec.addresses

    def _network(self, spec: PodNetwork, machine: Machine) -> tuple[Namespaces, Attached | None]:
        name = netns_name(spec)
        with contextlib.ExitStack() as undo:
            network = namespaces.new_network(name)
            undo.callback(namespaces.drop_name, name)
            undo.callback(network.close)
            prepare_network(network)
            attached = None
            if self._nodes[spec.node].pods == "cni":
                machine.ip(["link set lo up"], network)
                attached = Runtime(machine).add(spec, name, network)
            else:
                self._plug(spec, machine, network)
            undo.pop_all()
        return network, attached

    def serve(self, pod: Pod, *more: str) -> None:
        self._servers.call(
            "serve", timeout=_CALL, owner=pod.owner, name=pod.spec.name, namespace=pod.namespace,
            endpoints=sorted(set(pod.spec.ports)), addresses=[*pod.spec.addresses, *more],
            anywhere=not pod.spec.host_network,
        )  # fmt: skip

    def serve_also(self, node: str, address: str) -> None:
        """A node has a new address: pods that live in its network are reached there too."""
        for pod in self._running.values():
            if pod.network is None and pod.spec.node == node:
                self.serve(pod, address)

    def terminating(self, namespace: str, name: str) -> None:
        self._servers.call("terminating", timeout=_CALL, owner=self.find(namespace, name).owner)

    def remove(self, namespace: str, name: str) -> None:
        """Gone with all it had open; nothing to do when it has ended before."""
        pod = self._running.pop((namespace, name), None)
        if pod is None:
            return
        self._servers.call("stop", timeout=_CALL, owner=pod.owner)
        if pod.network is not None:
            self._prober.call("leave", timeout=_CALL, namespace=pod.namespace)
        pod.cgroup.kill()
        pod.idle.wait()
        pod.cgroup.remove()
        if pod.network is not None:
            if pod.attached is None:
                pod.machine.ip([f"link delete {port_name(pod.spec)}"])
            else:
                Runtime(pod.machine).delete(pod.spec, pod.namespace, pod.attached)
            pod.network.close()
            namespaces.drop_name(pod.namespace)

    def end(self) -> None:
        """The world ends: the machines take the processes and the links with them."""
        for pod in self._running.values():
            pod.cgroup.kill()
            pod.idle.wait()
            pod.cgroup.remove()
            if pod.network is not None:
                pod.network.close()
                namespaces.drop_name(pod.namespace)
        self._running.clear()

    def find(self, namespace: str, name: str) -> Pod:
        pod = self._running.get((namespace, name))
        if pod is None:
            raise LabError(f"pod/{namespace}/{name} does not run")
        return pod

    def _plug(self, spec: PodNetwork, machine: Machine, network: Namespaces) -> None:
        port, addresses = port_name(spec), [ip_address(text) for text in spec.addresses]
        hardware = fabric.hardware_address(addresses[0])
        routed = self._nodes[spec.node].pods == "routed"
        machine.ip([
            f"link add {port} type veth peer name {LINK} address {hardware} netns {netns_name(spec)}",
            f"link set {port} up" if routed else f"link set {port} master {BRIDGE} up",
        ])  # fmt: skip
        here: list[str] = []
        lines = ["link set lo up", f"link set {LINK} up"]
        cidrs = [ip_network(text) for text in self._nodes[spec.node].pod_cidrs]
        for address in addresses:
            cidr = next((each for each in cidrs if each.version == address.version), None)
            nodad = " nodad" if address.version == 6 else ""
            bridged = cidr is not None and address in cidr and not routed
            length = cidr.prefixlen if cidr is not None and bridged else address.max_prefixlen
            lines.append(f"address add {address}/{length} dev {LINK}{nodad}")
            if cidr is not None:
                gateway = fabric.gateway_of(cidr).ip
                lines.append(f"route add default via {gateway} dev {LINK} onlink")
                if routed:
                    here.append(f"address add {gateway}/{gateway.max_prefixlen} dev {port}{nodad}")
            if routed:
                here.append(f"route add {address}/{length} dev {port}")
        machine.ip(lines, network)
        if here:
            machine.ip(here)


def netns_name(spec: PodNetwork) -> str:
    return f"{spec.namespace}.{spec.name}"


def port_name(spec: PodNetwork) -> str:
    """The node's end of the pod's link: a link name has room for 15 characters."""
    return "veth" + hashlib.sha256(spec.uid.encode()).hexdigest()[:8]


def prepare_network(network: Namespaces) -> None:
    """IPv6 addresses, link-local ones included, count at once: nothing waits for duplicate address detection. And every
    refusal is told: a kernel grants a client six ICMP errors and then one a second, the rest would look like silence.
    """

    def write() -> None:
        for scope in ("all", "default"):
            Path(f"/proc/sys/net/ipv6/conf/{scope}/accept_dad").write_text("0")
        for limit in ("ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"):
            Path(f"/proc/sys/net/{limit}").write_text("0")
        Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")  # ping sockets, for root

    namespaces.within(Namespaces(network.net), write)
