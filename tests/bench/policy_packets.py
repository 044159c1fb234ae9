"""Packets between two pods of one node through the longest path of the firewall, beside shorter ones, in one run.

    python -m tests.bench.policy_packets LOCAL POLICIES [--seconds 60]        in a network namespace of the lab kernel

The longest path: both pods are isolated, each is in the last guard of its direction, and its guard's last rule is the
one that allows. Rules are changed in turn with those that are compared; of many requests the undisturbed ones count
(the fastest tenth), and of many streams the fastest: what else the machine does only ever makes them longer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

from kuberouter_py.controllers.firewall.guards import Guard, guards_of
from kuberouter_py.controllers.firewall.world import World
from kuberouter_py.model.cluster import Pod
from kuberouter_py.model.policies import NetworkPolicy
from kuberouter_py.watchers.decode import decode
from tests.bench import policy_objects as made
from tests.bench.objects import NODE, write_manifests
from tests.bench.peers.traffic import undisturbed
from tests.bench.policy_objects import NAMESPACES, PODS, PodSpec, Point
from tests.bench.policy_wire import PORTS, client_and_server
from tests.bench.process import FIREWALL, Process

REQUESTS: Final = 100  # of one path, then it is the next one's turn
WHERE: Final = 5  # the namespace of the two pods
LAST: Final = "zzz"  # begins the fingerprint of a guard that is behind all others


class Way(NamedTuple):
    """rules: of table filter. source, destination: addresses."""

    name: str
    rules: str
    source: str
    destination: str


class Pair(NamedTuple):
    """Two pods: one that asks, one that is asked."""

    client: dict[str, Any]
    server: dict[str, Any]

    @property
    def addresses(self) -> tuple[str, str]:
        return self.client["status"]["podIP"], self.server["status"]["podIP"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("local", type=int)
    parser.add_argument("policies", type=int)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    print(json.dumps(measure(Point(options.local, options.policies), options.seconds)))
    return 0


def measure(point: Point, seconds: float) -> dict[str, Any]:
    app = max(range(made.APPS), key=lambda app: len(_selecting(point, app)))
    isolated, open_ = _pair(point.local, f"ns-{WHERE}", app), _pair(point.local + 2, "open", app)
    policies = [*_policies(point, app, isolated)]
    rules = _rules(point, [*isolated, *open_, *policies])
    with client_and_server([isolated.addresses, open_.addresses]) as client:
        paths = list(_paths(rules, isolated, open_))
        _restore(rules)
        if client.reaches(open_.addresses[0], isolated.addresses[1]):
            raise RuntimeError("a pod that no policy allows reaches the one that is isolated")
        requests: dict[str, list[tuple[float, float]]] = {path.name: [] for path in paths}
        streams: dict[str, list[float]] = {path.name: [] for path in paths}
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for path in random.sample(paths, len(paths)):
                _restore(path.rules)
                requests[path.name] += client.requests(path.source, path.destination, REQUESTS)
                streams[path.name].append(client.stream(path.source, path.destination))
    figures = []
    for path in paths:
        first, whole = undisturbed(requests[path.name])
        figures.append({
            "name": path.name, "first_packet_us": first * 1e6, "request_us": whole * 1e6,
            "stream_mb_per_second": max(streams[path.name]),
        })  # fmt: skip
    return {**point._asdict(), "rules_of_the_way": _length(rules), "paths": figures}


def _selecting(point: Point, app: int) -> list[dict[str, Any]]:
    policies = [made.policy(number) for number in range(WHERE, point.policies, NAMESPACES)]
    labels = made.pod(PodSpec(0, WHERE, app))["metadata"]["labels"]
    return [
        policy for policy in policies if policy["spec"]["podSelector"].get("matchLabels", {}).items() <= labels.items()
    ]


def _pair(first: int, namespace: str, app: int) -> Pair:
    pods = []
    for at in (first, first + 1):
        one = made.pod(PodSpec(PODS + 1000 + at, WHERE, app, at), wire="yes")
        one["metadata"]["namespace"] = namespace
        pods.append(one)
    return Pair(*pods)


def _policies(point: Point, app: int, pair: Pair) -> Iterator[dict[str, Any]]:
    """Two that allow what is between the pair, of such names that the guards with them are the last ones."""
    world = World(NODE)
    for policy in _selecting(point, app):
        _take(world, policy)
    peer = [{"podSelector": {"matchLabels": {"wire": "yes"}}}]
    ports = [{"port": port} for port in PORTS]
    for direction, end in (("ingress", "from"), ("egress", "to")):
        spec = {
            "podSelector": {"matchLabels": {"wire": "yes"}},
            "policyTypes": [direction.capitalize()],
            direction: [{end: peer, "ports": ports}],
        }
        for number in count():
            policy = made.named(WHERE, spec)
            policy["metadata"]["name"] = f"wire-{direction}-{number:06}"
            if _guard(world, pair.server, policy, direction).name[2:].startswith(LAST):
                yield policy
                break


def _guard(world: World, pod: dict[str, Any], policy: dict[str, Any], direction: str) -> Guard:
    key = _take(world, policy)
    decoded = decode("Pod", json.dumps(pod).encode())
    assert isinstance(decoded, Pod)
    guard = guards_of(world, decoded)[direction]
    world.take_policy(key, None)
    return guard


def _take(world: World, policy: dict[str, Any]) -> Any:
    decoded = decode("NetworkPolicy", json.dumps(policy).encode())
    assert isinstance(decoded, NetworkPolicy)
    world.take_policy(decoded.key, decoded)
    return decoded.key


def _rules(point: Point, more: list[dict[str, Any]]) -> str:
    """The agent's: it makes them, and ends."""
    with tempfile.TemporaryDirectory() as directory:
        manifests = Path(directory) / "manifests"
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "open", "uid": "open"}}
        write_manifests(manifests, [*made.objects(point), namespace, *more])
        with Process(lambda *command: [*command], manifests, *FIREWALL) as agent:
            agent.start("firewall", policies=point.policies + 2)
    return subprocess.run(["iptables-save", "-t", "filter"], stdout=subprocess.PIPE, text=True, check=True).stdout


def _paths(rules: str, isolated: Pair, open_: Pair) -> Iterator[Way]:
    tracked = "*filter\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED\nCOMMIT\n"
    yield Way("no rule at all", "*filter\nCOMMIT\n", *isolated.addresses)
    yield Way("connections tracked, no firewall", tracked, *isolated.addresses)
    yield Way("firewall, pods without policies", rules, *open_.addresses)
    yield Way("firewall, the longest path", rules, *isolated.addresses)


def _length(rules: str) -> int:
    """Rules that the first packet of the longest path is compared with in the chains that lead to guards."""
    return sum(line.startswith(("-A KRPY-FW-FROM", "-A KRPY-FW-TO")) for line in rules.splitlines())


def _restore(rules: str) -> None:
    subprocess.run(["iptables-restore"], input=rules, text=True, check=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
