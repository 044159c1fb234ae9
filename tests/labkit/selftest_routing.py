"""The lab tried on itself, second part: BGP peers, pods by CNI, a pod of two containers. selftest.py runs it.

The three engines speak to each other; a shell plays the agent, and BIRD is played by a copy of a program with its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from tests.labkit import scenario as scenarios
from tests.labkit.model import HostPort, PodNetwork, Scenario
from tests.labkit.ports import LabError
from tests.labkit.world import NamespaceWorld

_WITHIN: Final = 60.0
_SOCKET: Final = "--bird-socket=/run/kuberouter-py/bird.ctl"

SCENARIO: Final = """
nodes:
  n1: {pods: cni}
  n2: {}
agents: {flags: [--run-router]}
outside:
  client: {addresses: [203.0.113.10, "2001:db8:f::10"], serve: [tcp/80], routes: {10.9.0.0/16: tor, "fd09::/64": tor}}
  tor:
    addresses: [192.0.2.1, "2001:db8::1"]
    bgp: {engine: frr, asn: 65001, neighbors: {one: 65011, two: 65012}, password: s-1, bfd: true, gracefulRestart: true}
  spine:
    addresses: [192.0.2.2, "2001:db8::2"]
    bgp: {engine: bird, asn: 65002, neighbors: {one: 65011, two: 65012, three: 65013, far: 65014}, password: s-1}
  one:
    addresses: [192.0.2.3, "2001:db8::3"]
    serve: [tcp/80]
    bgp: {engine: bird, asn: 65011, neighbors: {tor: 65001, spine: 65002}, password: s-1, bfd: true,
          announce: [10.9.1.0/24, "fd09::/64"]}
  two:
    addresses: [192.0.2.4, "2001:db8::4"]
    serve: [tcp/80]
    bgp: {engine: frr, asn: 65012, neighbors: {tor: 65001, spine: 65002}, password: s-1, bfd: true,
          announce: [10.9.1.0/24, "fd09::/64"]}
  three:
    addresses: [192.0.2.5, "2001:db8::5"]
    bgp: {engine: gobgp, asn: 65013, neighbors: {spine: 65002}, password: s-1, announce: [10.9.3.0/24, "fd19::/64"]}
  far:
    addresses: [198.51.100.6, "2001:db8:6::6"]
    bgp: {engine: bird, asn: 65014, neighbors: {spine: 65002}, password: other, multihop: 2}
steps: [run: {at: node/n1, command: "true"}]
"""

CONFIGURATION: Final = {
    "cniVersion": "0.3.1",
    "name": "pods",
    "plugins": [
        {"type": "bridge", "bridge": "kube-bridge", "isDefaultGateway": True, "mtu": 1480,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:10:244:1::/64"}]]}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}  # fmt: skip

# The agent, its BIRD in the background when it is asked for one; and `bird`, which says how it was ended.
PROGRAM: Final = """
cp /bin/sleep /tmp/bird 2>/dev/null
case $1 in
bird) trap 'echo asked; kill $!; exit 0' TERM; /tmp/bird 1000 & wait;;
*) case $* in *--cleanup*) exit 0;; *--own*) /tmp/bird 2000 & ;; esac; trap 'exit 0' TERM; sleep 3000 & wait;;
esac
"""


class Trial(Protocol):
    world: NamespaceWorld

    def same(self, what: str, seen: object, expected: object) -> None: ...
    def probe(self, place: str, url: str, outcome: str, **also: object) -> None: ...


def scenario() -> Scenario:
    return scenarios.parse(SCENARIO, Path("selftest"))


def _until(trial: Trial, place: str, what: str, command: str) -> None:
    """Until the command succeeds."""
    try:
        status, said = trial.world.run(place, f"until {command}; do sleep 0.2; done >/dev/null 2>&1", timeout=_WITHIN)
    except TimeoutError:
        status, said = trial.world.run(place, command, timeout=_WITHIN)
    trial.same(f"{place}: {what}", (status, said), (0, ""))


def peers(trial: Trial) -> None:
    """Sessions with a password, both families, ECMP in the kernel, BFD, each engine's tool; and no route to a pod."""
    for place, family, route in (("tor", 4, "10.9.1.0/24"), ("tor", 6, "fd09::/64"), ("spine", 4, "10.9.1.0/24")):
        asked = f"test $(ip -{family} route show {route} | grep -c nexthop) = 2"
        _until(trial, f"outside/{place}", f"both next hops to {route}", asked)
    _until(trial, "outside/spine", "what gobgp announced, in IPv4", "ip route show 10.9.3.0/24 | grep 'via 192.0.2.5'")
    _until(trial, "outside/spine", "and in IPv6", "ip -6 route show fd19::/64 | grep 'via 2001:db8::5'")
    _until(trial, "outside/three", "gobgp", "gobgp global rib | grep '10.9.1.0/24.*65002 6501'")
    _until(trial, "outside/tor", "BFD by FRR", "test $(vtysh -c 'show bfd peers' | grep -c 'Status: up') = 2")
    _until(trial, "outside/one", "BFD by BIRD", "birdc show bfd sessions | grep '192.0.2.1 .* Up'")
    _, said = trial.world.run("outside/spine", "birdc show protocols", timeout=_WITHIN)
    trial.same("another password", [line.split()[3] for line in said.splitlines() if "peer_far" in line], ["start"])
    for place in ("one", "two"):
        trial.world.run(f"outside/{place}", "ip address add 10.9.1.1/32 dev lo", timeout=_WITHIN)
    tries = trial.world.attempts("outside/client", "tcp://10.9.1.1:80", 40, timeout=1.0)
    trial.same("a client of the tor is shared out", {each.backend for each in tries}, {"one", "two"})
    known = "ip route; ip -6 route"
    for place, others in (("node/n1", "10.244.2."), ("node/n2", "10.244.1.")):
        trial.same(f"{place} knows no pods of others", others in trial.world.run(place, known, timeout=5)[1], False)


def cni(trial: Trial) -> None:
    """A configuration is waited for, the plugins' addresses are the pod's, its end is told to them."""
    world = trial.world
    write = f"sleep 1; echo '{json.dumps(CONFIGURATION)}' > /etc/cni/net.d/10-pods.conflist"
    trial.same("configured a moment later", world.run("node/n1", f"({write}) &", timeout=5), (0, ""))
    given = [
        world.add_pod(PodNetwork("default", name, f"uid-{name}", "n1", (), (("tcp", 80),), host_ports=ports))
        for name, ports in (("a", (HostPort("tcp", 80, 8080),)), ("b", ()))
    ]
    trial.same("addresses", given, [(f"10.244.1.{i}", f"fd00:10:244:1::{i}") for i in (2, 3)])
    for url in ("tcp://10.244.1.3:80", "tcp://[fd00:10:244:1::3]:80"):
        trial.probe("pod/default/a", url, "open", backend="b")
    for url in ("tcp://192.0.2.11:8080", "tcp://[2001:db8::11]:8080"):
        trial.probe("outside/client", url, "open", backend="a")
    world.remove_pod("default", "a")
    _, said = world.run("node/n1", "ls /var/lib/cni/networks/pods /run/netns; iptables-save -t nat", timeout=10)
    words = ("10.244.1.2", "10.244.1.3", "default.a", "default.b", "8080")
    trial.same("after its end", [word for word in words if word in said], ["10.244.1.3", "default.b"])


def birds(trial: Trial) -> None:
    """Who ends BIRD, and how: one of the agent's own, and one in a container beside it."""
    world = trial.world
    log = world.node_dir("n2") / "bird.log"
    world.agent("n2", "start", flags=("--own",))
    own = "pgrep -fx '/tmp/bird 2000'"
    _until(trial, "node/n2", "a BIRD of its own", own)
    world.agent("n2", "stop")
    _until(trial, "node/n2", "outlives the agent", own)
    _, first = world.run("node/n2", own, timeout=5)
    world.agent("n2", "upgrade")
    _until(trial, "node/n2", "is another after an upgrade", f'{own} && test "$({own})" != {first.strip()}')
    world.agent("n2", "kill-bird")
    _until(trial, "node/n2", "is killed", f"! {own}")
    world.agent("n2", "restart")
    _until(trial, "node/n2", "runs again", own)
    try:
        world.agent("n2", "cleanup")
        trial.same("a cleanup that leaves BIRD", "went on", "refused")
    except LabError as error:
        trial.same("a cleanup that leaves BIRD", str(error), "cleanup on n2 left bird running")
    world.agent("n2", "kill-bird")
    world.agent("n2", "start", flags=(_SOCKET,))
    beside = "pgrep -fx '/tmp/bird 1000'"
    _until(trial, "node/n2", "a BIRD beside", beside)
    world.agent("n2", "restart")
    trial.same("a restart does not touch it", log.read_text(), "")
    world.agent("n2", "upgrade")
    trial.same("an upgrade asks it to end", log.read_text(), "asked\n")
    _until(trial, "node/n2", "and starts it", beside)
    world.agent("n2", "cleanup")
    trial.same("cleanup ends it too", (log.read_text(), world.run("node/n2", beside, timeout=5)[0]), ("asked\n" * 2, 1))
    world.agent("n2", "start")
    _until(trial, "node/n2", "and the world's end", beside)


PARTS: Final[tuple[Callable[[Trial], None], ...]] = (peers, cni, birds)
