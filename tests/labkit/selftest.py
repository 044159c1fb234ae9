"""The lab tried on itself, without any agent: `scripts/lab exec -- python -m tests.labkit.selftest`.

Plain routing is all there is: pods reach pods over nodes, and every outcome that a step may ask for is told apart.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.labkit import selftest_routing
from tests.labkit.model import AgentSpec, NodeSpec, OutsideSpec, PodNetwork, Scenario
from tests.labkit.ports import LabError
from tests.labkit.traffic.exchange import Traffic
from tests.labkit.world import NamespaceWorld

PORTS: Final = (("tcp", 80), ("udp", 80), ("sctp", 80))
SECOND: Final = 1.0


def scenario() -> Scenario:
    nodes = {
        f"n{i}": NodeSpec(
            f"n{i}", (f"192.0.2.1{i}", f"2001:db8::1{i}"), (f"10.244.{i}.0/24", f"fd00:10:244:{i}::/64"))
        for i in (1, 2, 3)
    }  # fmt: skip
    outside = {
        "client": OutsideSpec(
            "client", ("203.0.113.10", "2001:db8:f::10"), serve=("tcp/80", "udp/53"), routes={"192.0.2.100": "n1"}
        ),
        "tor": OutsideSpec("tor", ("192.0.2.1",), routes={"10.244.2.0/24": "n2"}),
    }
    return Scenario(Path("selftest"), nodes, (), outside, AgentSpec(), ())


def pod(name: str, node: int, last: int, *, host_network: bool = False, port: int = 80) -> PodNetwork:
    addresses = (f"10.244.{node}.{last}", f"fd00:10:244:{node}::{last}")
    if host_network:
        addresses = (f"192.0.2.1{node}", f"2001:db8::1{node}")
    ports = tuple((protocol, port) for protocol, _ in PORTS)
    return PodNetwork("default", name, f"uid-{name}", f"n{node}", addresses, ports, host_network)


class Trial:
    """Compares, prints, counts."""

    def __init__(self, world: NamespaceWorld) -> None:
        self.world = world
        self.failures = 0

    def same(self, what: str, seen: object, expected: object) -> None:
        good = seen == expected
        self.failures += not good
        print(f"{'ok' if good else 'FAILED'}  {what}{'' if good else f': saw {seen!r}, expected {expected!r}'}")

    def probe(self, place: str, url: str, outcome: str, **also: object) -> None:
        attempt = dataclasses.asdict(self.world.attempt(place, url, timeout=SECOND))
        wanted = {"outcome": outcome, **also}
        self.same(f"{place} to {url}: {outcome}", {key: attempt[key] for key in wanted}, wanted)


def reach(trial: Trial) -> None:
    """Every protocol and family, from pod, node and outside."""
    for protocol in ("tcp", "http", "udp", "sctp"):
        trial.probe("pod/default/a", f"{protocol}://10.244.2.5:80", "open", backend="b", source="10.244.1.5")
        trial.probe("pod/default/a", f"{protocol}://[fd00:10:244:2::5]:80", "open", source="fd00:10:244:1::5")
        trial.probe("node/n3", f"{protocol}://10.244.2.5:80", "open", backend="b", source="192.0.2.13")
        trial.probe("outside/client", f"{protocol}://10.244.1.5:80", "open", backend="a", source="203.0.113.10")
        trial.probe("outside/client", f"{protocol}://[2001:db8::12]:8080", "open", backend="h", source="2001:db8:f::10")
    trial.probe("pod/default/a", "tcp://10.244.1.6:80", "open", backend="a2", source="10.244.1.5")
    trial.probe("pod/default/h", "tcp://10.244.1.5:80", "open", source="192.0.2.12")
    trial.probe("pod/default/a", "udp://203.0.113.10:53", "open", backend="client")
    trial.probe("outside/tor", "tcp://10.244.2.5:80", "open", source="192.0.2.1")
    trial.probe("outside/tor", "http://[::1]:80/", "refused")


def refuse(trial: Trial) -> None:
    drop = "for protocol in tcp udp sctp; do iptables -A FORWARD -p $protocol --dport 92 -j DROP || exit 1; done"
    trial.same("iptables", trial.world.run("node/n2", drop, timeout=10), (0, ""))
    for protocol in ("tcp", "http", "udp", "sctp"):
        trial.probe("pod/default/a", f"{protocol}://10.244.2.5:81", "refused")
        trial.probe("pod/default/a", f"{protocol}://[fd00:10:244:2::5]:81", "refused")
        trial.probe("pod/default/a", f"{protocol}://10.244.2.5:92", "silent")
    for table in ("iptables", "ip6tables"):
        for protocol in ("tcp", "udp", "sctp"):
            trial.world.run("pod/default/a", f"{table} -A OUTPUT -p {protocol} --dport 90 -j DROP; "
                            f"{table} -A OUTPUT -p {protocol} --dport 91 -j REJECT", timeout=10)  # fmt: skip
            address = "10.244.2.5" if table == "iptables" else "[fd00:10:244:2::5]"
            trial.probe("pod/default/a", f"{protocol}://{address}:90", "silent")
            trial.probe("pod/default/a", f"{protocol}://{address}:91", "refused")


def ports(trial: Trial) -> None:
    """A source port is free again after each try."""
    for protocol in ("tcp", "http", "udp", "sctp"):
        url = f"{protocol}://10.244.2.5:80"
        tries = trial.world.attempts("pod/default/a", url, 5, timeout=SECOND, sport=40000)
        seen = {(each.outcome, each.source_port) for each in tries}
        trial.same(f"five times {url} from port 40000", seen, {("open", 40000)})


def hold(trial: Trial) -> None:
    world = trial.world
    schemes = ("tcp", "http", "udp", "sctp")
    world.add_pod(pod("brief", 3, 9))
    for scheme in schemes:
        attempt = world.hold(scheme, "pod/default/a", f"{scheme}://10.244.3.9:80", timeout=SECOND)
        trial.same(f"hold {scheme}", attempt.backend, "brief")
    for scheme in schemes:
        trial.same(f"held {scheme}", world.held(scheme, timeout=SECOND).outcome, "open")
    world.pod_terminating("default", "brief")
    attempt = world.attempt("node/n3", "http://10.244.3.9:80", timeout=SECOND)
    trial.same("terminating: answers close", attempt.close, True)
    world.remove_pod("default", "brief")
    for scheme in ("tcp", "http", "sctp"):
        trial.same(f"held {scheme} after its end", world.held(scheme, timeout=SECOND).outcome, "reset")
    trial.same("held udp after its end", world.held("udp", timeout=SECOND).outcome == "open", False)
    world.add_pod(pod("again", 3, 9))
    trial.probe("pod/default/a", "tcp://10.244.3.9:80", "open", backend="again")


def stream(trial: Trial) -> None:
    world = trial.world
    world.stream("s", "pod/default/a", "tcp://10.244.2.5:80", every=0.01, timeout=SECOND)
    time.sleep(1.5)
    world.link("n2", {"do": "down"})
    time.sleep(0.5)
    world.link("n2", {"do": "up"})
    time.sleep(1.5)
    counts = world.streamed("s")
    print(f"    {counts}")
    trial.same("a stream goes on", counts["attempts"] > 50, True)
    world.stream("s", "pod/default/a", "udp://10.244.1.6:80", every=0.01, timeout=SECOND)
    time.sleep(1.0)
    counts = world.streamed("s")
    print(f"    {counts}")
    trial.same("none of a stream failed", counts["failed"], 0)


def matrix(trial: Trial) -> None:
    cells = [
        (source, f"{protocol}://{address}:80")
        for source in ("pod/default/a", "pod/default/a2", "pod/default/b", "node/n3", "outside/client")
        for address in ("10.244.1.5", "10.244.1.6", "10.244.2.5", "[fd00:10:244:2::5]")
        for protocol, _ in PORTS
        for _ in range(4)
    ]
    began = time.monotonic()
    outcomes = {attempt.outcome for attempt in trial.world.matrix(cells, timeout=SECOND)}
    print(f"    {len(cells)} cells in {time.monotonic() - began:.2f} s")
    trial.same("matrix", outcomes, {"open"})


def machines(trial: Trial) -> None:
    world = trial.world
    trial.same("hostname", world.run("node/n2", "cat /proc/sys/kernel/hostname", timeout=5), (0, "n2\n"))
    trial.same("own /run", world.run("node/n2", "ls /run | grep -v xtables.lock", timeout=5), (0, "lab\n"))
    trial.same("exit status", world.run("outside/tor", "exit 7", timeout=5), (7, ""))
    world.link("n1", {"address": "+192.0.2.50"})
    trial.probe("outside/client", "tcp://192.0.2.50:80", "refused")
    world.link("n1", {"address": "-192.0.2.50"})
    trial.probe("outside/client", "tcp://192.0.2.50:80", "silent")
    world.run("node/n1", "ip address add 192.0.2.100/32 dev lo", timeout=5)
    trial.probe("outside/client", "tcp://192.0.2.100:80", "refused")
    world.link("n2", {"loss": "100%"})
    trial.probe("pod/default/a", "tcp://10.244.2.5:80", "silent")
    world.link("n2", {"loss": "0%"})
    trial.probe("pod/default/a", "tcp://10.244.2.5:80", "open")
    own = 'test "$(readlink /proc/1/ns/net)" = "$(readlink /proc/self/ns/net)" && test -d /proc/$$'
    trial.same("own /proc", world.run("node/n1", own, timeout=5), (0, ""))
    status, output = world.run("node/n1", "cat /proc/[0-9]*/cgroup", timeout=5)
    trial.same("the node sees the pod's cgroup", (status, "/poduid-a/" in output), (0, True))
    status, output = world.run("pod/default/a", "curl -s --max-time 2 http://10.244.2.5 || exit 9", timeout=10)
    if status != 127:
        trial.same("curl in a pod", '"name": "b"' in output, True)


def agents(trial: Trial) -> None:
    """A shell plays the agent: what it does is said by its flags, as with a real one."""
    world = trial.world
    world.set_agent_arguments("n1", ("-c",), {"SAID": "hello"})

    def log() -> str:
        return (world.node_dir("n1") / "agent.log").read_text()

    def begin(script: str) -> None:
        world.agent("n1", "start", flags=(script,))

    begin("trap 'echo bye; exit 0' TERM; echo $SAID $NODE_NAME; while :; do sleep 0.05; done")
    deadline = time.monotonic() + 5
    while "hello" not in log() and time.monotonic() < deadline:
        time.sleep(0.02)
    trial.same("the agent runs on its node", (world.agent_alive("n1"), log()), (True, "hello n1\n"))
    world.agent("n1", "restart", env={"SAID": "again"})
    while "again" not in log() and time.monotonic() < deadline:
        time.sleep(0.02)
    world.agent("n1", "stop")
    trial.same("restarted and stopped", (world.agent_alive("n1"), log()), (False, "hello n1\nbye\nagain n1\nbye\n"))
    world.agent("n1", "start", flags=("exit 3",), refused=True)
    begin("sleep 1000 & wait")
    world.agent("n1", "kill")
    world.agent("n1", "upgrade")
    trial.same("upgraded", world.agent_alive("n1"), True)
    _, output = world.run("node/n1", "until pgrep -fx 'sleep 1000'; do sleep 0.05; done", timeout=5)
    trial.same("an upgrade ends what a kill left", len(output.split()), 1)
    world.agent("n1", "kill")
    try:
        world.agent("n1", "stop")
        trial.same("stopping what does not run", "went on", "refused")
    except LabError:
        trial.same("stopping what does not run", "refused", "refused")


def sizes(trial: Trial) -> None:
    """Every byte of a question comes, and every one of the answer; what is larger than a path bears is cut to fit."""
    for url in ("tcp://10.244.2.5:80", "udp://10.244.2.5:80", "icmp://10.244.2.5", "udp://[fd00:10:244:2::5]:80"):
        for size in (256, 1472, 20000):
            [attempt] = trial.world.attempts("pod/default/a", url, 1, timeout=SECOND, size=size)
            trial.same(f"{size} bytes to {url}", attempt.outcome, "open")
    drop = "iptables -I FORWARD -m length --length 1400: -j DROP"
    trial.same("iptables", trial.world.run("node/n2", drop, timeout=10), (0, ""))
    for url in ("tcp://10.244.2.5:80", "udp://10.244.2.5:80", "icmp://10.244.2.5"):
        for size, outcome in ((1300, "open"), (3000, "silent")):
            [attempt] = trial.world.attempts("pod/default/a", url, 1, timeout=SECOND, size=size)
            trial.same(f"{size} bytes to {url} where large packets are lost", attempt.outcome, outcome)
    trial.world.run("node/n2", drop.replace("-I", "-D"), timeout=10)
    routes = ("10.244.1.0/24 via 192.0.2.11", "fd00:10:244:1::/64 via 2001:db8::11")
    narrow = "\n".join(f"ip route change {route} mtu lock 1400 || exit 1" for route in routes)
    trial.same("a narrower path", trial.world.run("node/n2", narrow, timeout=10), (0, ""))
    for url in ("tcp://10.244.1.5:80", "udp://10.244.1.5:80", "udp://[fd00:10:244:1::5]:80"):
        tries = trial.world.attempts("pod/default/b", url, 3, timeout=SECOND, size=1440)
        trial.same(f"1440 bytes over it to {url}, in the end", tries[-1].outcome, "open")


PARTS: Final[tuple[Callable[[Trial], None], ...]] = (
    reach,
    refuse,
    ports,
    hold,
    stream,
    matrix,
    machines,
    sizes,
    agents,
)


def routing(traffic: Traffic) -> int:
    """What a router's scenarios need, in a world of its own."""
    world = NamespaceWorld(
        selftest_routing.scenario(), traffic, program=("/bin/sh", "-c", selftest_routing.PROGRAM, "sh")
    )
    trial = Trial(world)
    try:
        world.build()
        for part in selftest_routing.PARTS:
            part(trial)
    finally:
        world.close()
    trial.same("nothing is left", list(leftovers()), [])
    return trial.failures


def leftovers() -> Iterator[str]:
    yield from (f"netns {path.name}" for path in Path("/run/netns").iterdir())
    yield from (f"/run/{path.name}" for path in Path("/run").glob("world-*"))
    yield from (f"cgroup {path.name}" for path in Path("/sys/fs/cgroup/kubepods/burstable").glob("pod*"))
    yield from (f"link {path.name}" for path in Path("/sys/class/net").glob("lab-up*"))


def main() -> int:
    failures = 0
    traffic = Traffic.start()
    for turn in ("first", "second"):
        began = time.monotonic()
        world = NamespaceWorld(scenario(), traffic, program=("/bin/sh",))
        trial = Trial(world)
        try:
            world.build()
            print(f"    {turn} world built in {time.monotonic() - began:.2f} s")
            began = time.monotonic()
            for spec in (pod("a", 1, 5), pod("a2", 1, 6), pod("b", 2, 5), pod("h", 2, 0, host_network=True, port=8080)):
                world.add_pod(spec)
            print(f"    4 pods in {time.monotonic() - began:.2f} s")
            for part in PARTS if turn == "first" else (matrix,):
                began = time.monotonic()
                part(trial)
                print(f"    {part.__name__}: {time.monotonic() - began:.2f} s")
        finally:
            began = time.monotonic()
            world.close()
        print(f"    closed in {time.monotonic() - began:.2f} s")
        trial.same("nothing is left", list(leftovers()), [])
        failures += trial.failures
    failures += routing(traffic)
    traffic.end()
    print(f"{failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
