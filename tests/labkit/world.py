"""A scenario's world: builds its machines, fabric and pods, and does to them what the steps ask (ports.World)."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.labkit import bgp_config, namespaces, wires
from tests.labkit.agents import BIRD_LOG, LOG, PROGRAM, Agent
from tests.labkit.bgp_daemons import LOG as BGP_LOG
from tests.labkit.bgp_daemons import Daemons
from tests.labkit.fabric import ROUTER, Fabric
from tests.labkit.links import Links
from tests.labkit.machine import Machine, install_command, install_programs, ip_batch
from tests.labkit.model import Attempt, PodNetwork, Scenario
from tests.labkit.namespaces import Namespaces
from tests.labkit.pods import Pods, prepare_network
from tests.labkit.ports import LabError
from tests.labkit.traffic.exchange import Traffic

T = TypeVar("T")

_CALL: Final = 30.0  # what the traffic processes may need beyond the time that the traffic itself may take
_FORWARD: Final = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
_ROUTER: Final = {**_FORWARD, "net/ipv4/conf/all/send_redirects": "0", "net/ipv4/conf/default/send_redirects": "0",
                  "net/bridge/bridge-nf-call-iptables": "0", "net/bridge/bridge-nf-call-ip6tables": "0",
                  "net/bridge/bridge-nf-call-arptables": "0"}  # fmt: skip
# Off on a node, as on one without br_netfilter: that pods on one bridge reach VIPs is the agent's business.
_NODE: Final = {**_FORWARD, "net/bridge/bridge-nf-call-iptables": "0", "net/bridge/bridge-nf-call-ip6tables": "0",
                "net/bridge/bridge-nf-call-arptables": "0"}  # fmt: skip
# A peer spreads what it passes on over equal next hops by ports too, and does not send its clients past itself.
_PEER: Final = {**_FORWARD, "net/ipv4/fib_multipath_hash_policy": "1", "net/ipv6/fib_multipath_hash_policy": "1",
                "net/ipv4/conf/all/send_redirects": "0", "net/ipv4/conf/default/send_redirects": "0"}  # fmt: skip
# Of the first namespace, which lies between the control plane and the router.
_BETWEEN: Final = {"net/ipv4/ip_forward": "1"}
# Of the whole kernel: only its first namespace may write them.
_KERNEL: Final = {"net/netfilter/nf_conntrack_max": "262144", "net/ipv4/neigh/default/gc_thresh3": "8192",
                  "net/ipv6/neigh/default/gc_thresh3": "8192",
                  "net/ipv4/icmp_msgs_per_sec": "100000", "net/ipv4/icmp_msgs_burst": "10000"}  # fmt: skip


class NamespaceWorld:
    """Implements ports.World; one at a time in a kernel. `close` gives back everything, also after a failed `build`."""

    def __init__(self, scenario: Scenario, traffic: Traffic, program: Sequence[str] = PROGRAM) -> None:
        self._scenario = scenario
        self._servers, self._prober = traffic.servers, traffic.prober
        self._undo = contextlib.ExitStack()
        self._state = Path(tempfile.mkdtemp(prefix="world-", dir="/run"))
        self._undo.callback(self._state.rmdir)
        self._undo.callback(traffic.clear)
        self._fabric = Fabric(scenario)
        self._machines = {
            host.place: Machine(host.namespace, host.place.split("/", 1)[1], self._state / host.namespace)
            for host in self._fabric.hosts.values()
        }
        spec = scenario.agents
        self._stream_timeouts: dict[str, float] = {}
        self._agents = {
            name: Agent(self._machines[f"node/{name}"], spec.flags, spec.env, program) for name in scenario.nodes
        }

    def build(self) -> None:
        install_command()
        install_programs(self._scenario.programs)
        write_sysctls(None, _BETWEEN)
        with contextlib.suppress(OSError):  # where we share the host's kernel they are the host's, and stay
            write_sysctls(None, _KERNEL)
        router = self._started(namespaces.new_network(ROUTER), _forget_router)
        self._prepare(router, _ROUTER)
        for place, machine in self._machines.items():
            self._undo.callback(machine.end)
            machine.start()
            self._prepare(machine.namespaces, self._sysctls(place))
        for agent in self._agents.values():
            self._undo.callback(agent.end)
        self._wire(router)
        nodes = self._scenario.nodes
        self._pods = self._started(Pods(nodes, self._machines, self._servers, self._prober), Pods.end)
        self._links = Links(self._fabric, self._machines, router)
        for name in self._scenario.outside:
            self._serve_outside(name)
        self._start_peers()

    def close(self) -> None:
        self._undo.close()

    def _started(self, thing: T, end: Callable[[T], None]) -> T:
        self._undo.callback(end, thing)
        return thing

    def _prepare(self, network: Namespaces, values: Mapping[str, str]) -> None:
        prepare_network(network)
        write_sysctls(network, values)

    def _sysctls(self, place: str) -> Mapping[str, str]:
        kind, name = place.split("/", 1)
        if kind == "node":
            return _NODE
        return _FORWARD if self._scenario.outside[name].bgp is None else _PEER

    def _start_peers(self) -> None:
        peers = []
        for name in (name for name, host in self._scenario.outside.items() if host.bgp is not None):
            place = f"outside/{name}"
            speaker = bgp_config.speaker(self._scenario, name, self._fabric.gateways(place))
            peers.append(Daemons(self._machines[place], speaker))
        for peer in peers:
            self._undo.callback(peer.end)
            peer.start()
        for peer in peers:
            peer.wait()

    def _wire(self, router: Namespaces) -> None:
        self._undo.callback(_unplug)
        ip_batch(None, self._fabric.uplink())
        ip_batch(router, self._fabric.router())
        for family in (4, 6):
            if rules := self._fabric.rules(family):
                ip_batch(router, rules, f"-{family}")
        for place, machine in self._machines.items():
            machine.ip(self._fabric.host(place))
        ip_batch(None, [f"route replace default via {wires.ROUTER_ADDRESS} dev {wires.UPLINK}"])

    def _serve_outside(self, name: str) -> None:
        spec, host = self._scenario.outside[name], self._fabric.hosts[f"outside/{name}"]
        endpoints = [(protocol, int(port)) for protocol, _, port in (text.partition("/") for text in spec.serve)]
        self._servers.call("serve", timeout=_CALL, owner=host.place, name=name, namespace=host.namespace,
                           endpoints=endpoints, addresses=[str(each.ip) for each in host.addresses],
                           anywhere=True)  # fmt: skip

    # pods

    def add_pod(self, pod: PodNetwork) -> tuple[str, ...]:
        return self._pods.add(pod)

    def pod_terminating(self, namespace: str, name: str) -> None:
        self._pods.terminating(namespace, name)

    def stop_pod_servers(self, namespace: str, name: str) -> None:
        self._pods.remove(namespace, name)  # nothing of it is left that could be told from its end

    def remove_pod(self, namespace: str, name: str) -> None:
        self._pods.remove(namespace, name)

    # traffic

    def attempt(self, place: str, url: str, *, timeout: float, sport: int | None = None) -> Attempt:
        return self.attempts(place, url, 1, timeout=timeout, sport=sport)[0]

    def attempts(
        self, place: str, url: str, count: int, *, timeout: float, sport: int | None = None, size: int | None = None
    ) -> list[Attempt]:
        outcomes = self._prober.call("attempts", timeout=count * timeout + _CALL, namespace=self._namespace(place),
                                     url=url, count=count, sport=sport, size=size, timeout_each=timeout)  # fmt: skip
        return [Attempt(**outcome) for outcome in outcomes]

    def matrix(self, cells: Sequence[tuple[str, str]], *, timeout: float) -> list[Attempt]:
        outcomes = self._prober.call("matrix", timeout=2 * len(cells) * timeout + _CALL, timeout_each=timeout,
                                     cells=[(self._namespace(place), url) for place, url in cells])  # fmt: skip
        return [Attempt(**outcome) for outcome in outcomes]

    def hold(
        self, name: str, place: str, url: str, *, sport: int | None = None, timeout: float, pushed: bool = False
    ) -> Attempt:
        return Attempt(**self._prober.call("hold", timeout=timeout + _CALL, name=name, url=url, sport=sport,
                                           pushed=pushed, namespace=self._namespace(place),
                                           timeout_each=timeout))  # fmt: skip

    def held(self, name: str, *, timeout: float) -> Attempt:
        return Attempt(**self._prober.call("held", timeout=timeout + _CALL, name=name, timeout_each=timeout))

    def stream(self, name: str, place: str, url: str, *, every: float, timeout: float, kept: int = 0) -> None:
        self._stream_timeouts[name] = timeout
        self._prober.call("stream", timeout=_CALL, name=name, namespace=self._namespace(place), url=url, every=every,
                          timeout_each=timeout, kept=kept)  # fmt: skip

    def streamed(self, name: str) -> dict[str, float]:
        wait = self._stream_timeouts.pop(name, 0.0) + _CALL
        counts: dict[str, float] = self._prober.call("streamed", timeout=wait, name=name)
        return counts

    # the machines

    def run(self, place: str, command: str, *, timeout: float) -> tuple[int, str]:
        kind, _, rest = place.partition("/")
        if kind != "pod":
            return self._machine(place).run(command, timeout=timeout)
        pod = self._pods.find(*rest.split("/", 1))
        # In the pod's cgroup, so that what it leaves in the background ends with the pod.
        return pod.machine.run(f"echo 0 > {pod.cgroup.procs}\n{command}", timeout=timeout, network=pod.network)

    def link(self, node: str, change: Mapping[str, Any]) -> None:
        self._links.change(f"node/{node}", change)
        address = str(change.get("address", ""))
        if address.startswith("+"):
            self._pods.serve_also(node, address[1:].split("/")[0])

    def set_agent_arguments(self, node: str, arguments: Sequence[str], env: Mapping[str, str]) -> None:
        self._agent(node).find_cluster_by(arguments, env)

    def agent(
        self, node: str, do: str, *, flags: Sequence[str] | None = None, env: Mapping[str, str] | None = None,
        refused: bool = False,
    ) -> None:  # fmt: skip
        agent = self._agent(node)
        agent.replace(flags, env)
        if refused:
            if do != "start":
                raise LabError(f"refused: only a start can be refused, not {do}")
            agent.start_refused()
        else:
            agent.do(do)

    def agent_alive(self, node: str) -> bool:
        return self._agent(node).alive

    def hold_up(self, node: str, seconds: float) -> None:
        self._agent(node).hold_up(seconds)

    def node_dir(self, node: str) -> Path:
        return self._machine(f"node/{node}").state

    def logs(self) -> Mapping[str, Path]:
        places = [(f"node/{name}", log) for name in self._scenario.nodes for log in (LOG, BIRD_LOG)]
        places += [
            (f"outside/{name}", BGP_LOG) for name, host in self._scenario.outside.items() if host.bgp is not None
        ]
        return {f"{log} of {place.split('/')[1]}": self._machine(place).state / log for place, log in places}

    def _agent(self, node: str) -> Agent:
        if node not in self._agents:
            raise LabError(f"there is no node {node}")
        return self._agents[node]

    def _machine(self, place: str) -> Machine:
        if place not in self._machines:
            raise LabError(f"there is no {place}")
        return self._machines[place]

    def _namespace(self, place: str) -> str:
        """The name of the network namespace in which a place's traffic begins."""
        kind, _, rest = place.partition("/")
        return self._pods.find(*rest.split("/", 1)).namespace if kind == "pod" else self._machine(place).name


def write_sysctls(network: Namespaces | None, values: Mapping[str, str]) -> None:
    """In a namespace, or in ours."""

    def write() -> None:
        for name, value in values.items():
            (Path("/proc/sys") / name).write_text(value)

    if network is None:
        write()
    else:
        namespaces.within(Namespaces(network.net), write)


def _forget_router(router: Namespaces) -> None:
    router.close()
    namespaces.drop_name(ROUTER)


def _unplug() -> None:
    with contextlib.suppress(LabError):  # not there when the wiring failed
        ip_batch(None, [f"link delete {wires.UPLINK}"])
