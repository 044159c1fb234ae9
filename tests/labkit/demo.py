"""`make demo`: three nodes, agents that read a folder of manifests, traffic from a pod, a node and outside.

All of it on one screen of 100 columns and 50 lines. Runs inside the lab kernel. The exit status is 0 only if every
request was answered as it should be, and nothing is left after the agents cleaned up.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.labkit import scenario as scenarios
from tests.labkit.guest import parts
from tests.labkit.play import MonotonicClock, Play, StepFailed, until

OBJECTS = Path(__file__).parents[1] / "demo"  # made for this: the nodes' names and the ClusterIPs are fixed
WORLD = "outside: {client: {addresses: [203.0.113.10]}}\nsteps: [{delete: [pod/shop/nothing]}]\n"
SEEN_FROM = "n1"
WITHIN = 180.0  # seconds for three agents to start and sync: 5 in User-Mode Linux, a minute under emulation (QEMU)


class Request(NamedTuple):
    who: str
    place: str
    url: str
    backends: frozenset[str]


WEB, DNS = frozenset({"web-1", "web-2", "web-3"}), frozenset({"dns-1", "dns-2"})
REQUESTS = (
    Request("a pod on n1", "pod/shop/client", "http://10.96.0.10:80", WEB),
    Request("a pod on n1", "pod/shop/client", "http://[fd00:10:96::10]:80", WEB),
    Request("a pod on n1", "pod/shop/client", "udp://10.96.0.53:53", DNS),
    Request("node n1", "node/n1", "http://10.96.0.10:80", WEB),
    Request("outside host", "outside/client", "http://192.0.2.12:30080", WEB),
)
TRACES = (
    "ipvsadm -Sn",
    "ipset list -n",
    "iptables-save | grep -i krpy",
    "ip6tables-save | grep -i krpy",
    "ip route show table local dev kube-dummy-if",
    "ip link show kube-dummy-if",
)


def main() -> int:
    scenario = scenarios.parse(WORLD, Path("demo"))
    world, cluster = parts(scenario)
    play = Play(scenario, world, cluster, MonotonicClock())
    try:
        world.build()
        cluster.start(scenario, world)
        for node in scenario.nodes:
            world.set_agent_arguments(node, *cluster.agent_arguments(node))
            world.agent(node, "start")
        for path in sorted(OBJECTS.glob("*.yaml")):
            cluster.apply([each for each in yaml.safe_load_all(path.read_text()) if each])
        cluster.settle(WITHIN)
        _heading("Services", "tests/demo/*.yaml")
        _show_services(play)
        good = _show_traffic(play)
        _show_node(play)
        good = _show_cleanup(play) and good
    finally:
        cluster.stop()
        world.close()
    print("\nEvery request was answered as it should be, and nothing is left." if good else "\nNOT as it should be.")
    return 0 if good else 1


def _heading(title: str, more: str = "") -> None:
    bold, plain = ("\033[1m", "\033[0m") if os.environ.get("LAB_BOLD") else ("", "")
    print(f"\n{bold}{title}{plain}{'  ' + more if more else ''}")


def _row(widths: Sequence[int], *cells: str) -> None:
    print("  " + "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip())


def _show_services(play: Play) -> None:
    for service in play.cluster.list("Service"):
        name, namespace, spec = service["metadata"]["name"], service["metadata"]["namespace"], service["spec"]
        endpoints = sorted(
            {
                f"{endpoint['targetRef']['name']} on {endpoint['nodeName']}"
                for piece in play.cluster.list("EndpointSlice", namespace)
                if piece["metadata"]["labels"].get("kubernetes.io/service-name") == name
                for endpoint in piece["endpoints"]
            }
        )
        addresses = " and ".join(spec["clusterIPs"])
        ports = ", ".join(_port_text(port) for port in spec["ports"])
        widths = (15, 9, 0)
        _row(widths, f"{namespace}/{name}", spec["type"], f"{addresses}, {ports}")
        _row(widths, "", "", "→ " + ", ".join(endpoints))


def _port_text(port: dict[str, Any]) -> str:
    node_port = f", port {port['nodePort']} of every node" if port.get("nodePort") else ""
    return f"port {port['port']}/{port['protocol']}{node_port}"


_REQUEST_WIDTHS = (12, 27, 17, 0)


def _show_traffic(play: Play) -> bool:
    _heading("Requests")
    _row(_REQUEST_WIDTHS, "from", "to", "answered by", "which saw as client")
    answered = [_request(play, each) for each in REQUESTS]
    return all(answered)


def _request(play: Play, request: Request) -> bool:
    seen: list[str] = []
    sources: list[str] = []

    def look() -> str | None:
        attempts = play.world.attempts(request.place, request.url, len(request.backends), timeout=3.0)
        seen[:] = [each.backend or each.outcome for each in attempts]
        sources[:] = sorted({each.source for each in attempts if each.source})
        return None if set(seen) == request.backends else f"answered by {seen}"

    try:
        until(play, look, WITHIN)
    except StepFailed:
        _row(_REQUEST_WIDTHS, request.who, request.url, " ".join(seen), f"NOT {' '.join(sorted(request.backends))}")
        return False
    _row(_REQUEST_WIDTHS, request.who, request.url, " ".join(sorted(seen)), ", ".join(sources))
    return True


def _show_node(play: Play) -> None:
    for title, command in (
        (f"ipvsadm -Ln on {SEEN_FROM}", "ipvsadm -Ln | tail -n +3"),
        (
            f"ip route show table local dev kube-dummy-if on {SEEN_FROM}",
            "for f in -4 -6; do ip $f route show table local dev kube-dummy-if; done | grep src",
        ),
    ):
        _, output = play.world.run(f"node/{SEEN_FROM}", command, timeout=10.0)
        _heading(title)
        print("\n".join(f"  {line.rstrip()}" for line in output.rstrip().splitlines()))


def _show_cleanup(play: Play) -> bool:
    _heading("kuberouter-py --cleanup", "what is left on the node:")
    clean = True
    for node in play.scenario.nodes:
        play.world.agent(node, "cleanup")
        left = []
        for command in TRACES:
            status, output = play.world.run(f"node/{node}", command, timeout=10.0)
            left += [] if status else output.split("\n")
        left = [line for line in left if line.strip()]
        clean = clean and not left
        print(f"  {node}: {left or 'nothing'}")
    return clean


if __name__ == "__main__":
    sys.exit(main())
