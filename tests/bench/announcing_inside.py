"""What one benchmark process measures of announcing: objects in memory → hand-over table → a router outside.

It runs alone in a network namespace of the lab kernel, over real kernel tables and a real BIRD, with a router on the
same link that only listens (bgp_listener.py). The cluster is generated in memory and handed to the real cache, decoder,
runner and controller. Every Service has one external address, policy Local, and one endpoint on this node.
"""

from __future__ import annotations

import argparse
import gc
import json
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from kuberouter_py.agent.routing_edges import RoutingEdges
from kuberouter_py.bgp.files import files
from kuberouter_py.bgp.process import end
from kuberouter_py.config import Config
from kuberouter_py.controllers.history import Clocks
from kuberouter_py.controllers.routing.announcer import GOING_TAINT
from kuberouter_py.controllers.routing.controller import RoutingController
from kuberouter_py.controllers.routing.rung import NODE, SERVICE, Rung
from kuberouter_py.controllers.runner import Runner
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.report import SyncReport
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.decode import decode_versioned
from tests.bench import objects

CHANGES: Final = 100  # p99 of 100 is the second largest
PATIENCE: Final = 300.0
ROUTER, ROUTER_AS = "192.0.2.1", 65001
# The uplink of the namespace (tests/bench/__main__.py) gives way to one with a router at its other end.
LINK: Final = f"""
    ip link delete uplink; ip netns add router; ip link add uplink type veth peer name downlink netns router
    ip address add {objects.NODE_ADDRESS}/24 dev uplink; ip link set uplink up
    ip -n router address add {ROUTER}/24 dev downlink; ip -n router link set downlink up; ip -n router link set lo up
"""


def address(number: int) -> str:
    """198.18.0.0/15, which is for benchmarks (RFC 2544)."""
    return f"198.{18 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def service(number: int) -> dict[str, Any]:
    found = objects.service(number)
    found["spec"] |= {"externalIPs": [address(number)], "externalTrafficPolicy": "Local"}
    return found


def endpoint_slice(number: int, *, ready: bool) -> dict[str, Any]:
    """One endpoint here, whose pod goes, and one on another node, which stays."""
    found = objects.endpoint_slice(number, 2)
    found["endpoints"][0]["nodeName"] = objects.NODE
    if not ready:
        found["endpoints"][0]["conditions"] = {"ready": False, "serving": True, "terminating": True}
    return found


def node(*taints: str) -> dict[str, Any]:
    found = objects.node()
    found["spec"]["taints"] = [{"key": taint, "effect": "NoSchedule"} for taint in taints]
    return found


class Router:
    """A context. told: by prefix, when it was announced or withdrawn last, and which of both."""

    def __enter__(self) -> Router:
        listener = (sys.executable, "-m", "tests.bench.bgp_listener", objects.NODE_ADDRESS, ROUTER, str(ROUTER_AS))
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", "router", *listener], stdout=subprocess.PIPE, text=True
        )
        self._changed = threading.Condition()
        self._up = 0.0
        self._told: dict[str, tuple[float, bool]] = {}
        self._announced = 0
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            when, announced, withdrawn = json.loads(line)
            with self._changed:
                self._up = self._up or when
                for prefix in announced:
                    self._announced += not self._told.get(prefix, (0.0, False))[1]
                    self._told[prefix] = when, True
                for prefix in withdrawn:
                    self._announced -= self._told.get(prefix, (0.0, False))[1]
                    self._told[prefix] = when, False
                self._changed.notify_all()

    def wait_up(self) -> float:
        return self._wait(lambda: self._up > 0, lambda: self._up)

    def wait_for(self, count: int) -> float:
        """Until it knows so many of our addresses; the moment of the last word."""
        return self._wait(
            lambda: self._announced - self._others() == count, lambda: max(when for when, _ in self._told.values())
        )

    def _others(self) -> int:
        """The pods' network."""
        return int(self._told.get("10.244.1.0/24", (0.0, False))[1])

    def wait_told(self, prefix: str, announced: bool, since: float) -> float:
        def met() -> bool:
            when, so = self._told.get(prefix, (0.0, False))
            return so is announced and when > since

        return self._wait(met, lambda: self._told[prefix][0])

    def _wait(self, met: Callable[[], bool], answer: Callable[[], float]) -> float:
        with self._changed:
            if not self._changed.wait_for(met, PATIENCE):
                raise RuntimeError(f"the router knows {self._announced} prefixes after {PATIENCE:.0f} s")
            return answer()


class Bench:
    """A controller over generated objects, run by the real runner."""

    def __init__(self, services: int) -> None:
        self.cache = Cache()
        self.reports: queue.Queue[SyncReport] = queue.Queue()
        self.config = Config(
            run_service_proxy=False,
            run_firewall=False,
            enable_ibgp=False,
            service_cluster_ip_range=(Cidr(bytes((10, 96, 0, 0)), 12),),
            enable_cni=False,
            advertise_external_ip=True,
            strict_external_ip_validation=False,
            peer_router_ips=(ip_address(ROUTER).packed,),
            peer_router_asns=(ROUTER_AS,),
        )
        self.put(node())
        for number in range(services):
            self.put(service(number))
            self.put(endpoint_slice(number, ready=True))
        self.edges = RoutingEdges(self.config)
        self.controller = RoutingController(
            self.config,
            objects.NODE,
            self.cache,
            self.edges,
            self.edges.tables,
            Clocks(time.time, time.monotonic),
            lambda report, _notes: self.reports.put(report),
            self.edges.messages,
        )
        self.runner = Runner(self.controller, period=1e9, min_interval=0.0, clock=time.monotonic)

    def put(self, one: Mapping[str, Any]) -> None:
        self.put_raw(one["kind"], json.dumps(one).encode())

    def put_raw(self, kind: str, raw: bytes) -> Collection[Rung]:
        decoded = decode_versioned(kind, raw)
        assert decoded.object is not None
        rung = self.cache.put(kind, decoded.key, decoded.object)
        return [Rung(NODE if kind == "Node" else SERVICE, key) for key in rung]

    def change(self, one: Mapping[str, Any]) -> tuple[float, SyncReport]:
        """From the event's bytes to the kernel's acknowledgement: the moment it began, and what was done."""
        raw = json.dumps(one).encode()
        began = time.monotonic()
        self.runner.ring(self.put_raw(one["kind"], raw))
        while not (report := self.next_report()).keys:
            pass
        return began, report

    def next_report(self) -> SyncReport:
        return self.reports.get(timeout=PATIENCE)


def memory(pid: int | str = "self", what: str = "VmRSS") -> float:
    """MB of 2^20 bytes."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def measure(services: int) -> dict[str, Any]:
    gc.disable()  # as the agent does it until its first sync is done
    subprocess.run(["sh", "-ec", LINK], check=True)
    bench = Bench(services)
    before = memory()
    news = bench.edges.engine.news(lambda _session: None, lambda _runs: None)  # BIRD is listened to, as by an agent
    news.open()
    loops = (partial(bench.runner.run, lambda: None), news.run)
    threads = [threading.Thread(target=loop, daemon=True) for loop in loops]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    first = bench.next_report()
    synced = time.monotonic()
    if first.failures:
        raise RuntimeError(f"not as it should be: {first}")
    gc.freeze()
    gc.enable()
    figures: dict[str, Any] = {
        "services": services,
        "first_sync_seconds": synced - began,
        "first_sync_messages": first.messages,
        "agent_mb": memory() - before,
    }
    try:
        with Router() as router:
            up = router.wait_up()
            figures["router_seconds"] = router.wait_for(services) - up
            figures["bird_mb"] = memory(files("").pid.read_text().strip())
            figures |= _changes(bench, router, services)
            figures |= _all(bench, router, services)
    finally:
        bench.runner.stop()
        news.stop()
        for thread in threads:
            thread.join()
        end(files(""))
    return figures


def _changes(bench: Bench, router: Router, services: int) -> dict[str, Any]:
    """The last local endpoint of one Service after the other begins to terminate; then they come back."""
    kernel: dict[bool, list[float]] = {True: [], False: []}
    outside: dict[bool, list[float]] = {True: [], False: []}
    messages = []
    for ready in (False, True):
        for number in range(min(CHANGES, services)):
            began, report = bench.change(endpoint_slice(number, ready=ready))
            kernel[ready].append((time.monotonic() - began) * 1000)
            outside[ready].append((router.wait_told(f"{address(number)}/32", ready, began) - began) * 1000)
            messages.append(report.messages)
    return {
        "withdrawn_kernel_ms": _spread(kernel[False]),
        "withdrawn_router_ms": _spread(outside[False]),
        "announced_kernel_ms": _spread(kernel[True]),
        "announced_router_ms": _spread(outside[True]),
        "change_messages": max(messages),
    }


def _all(bench: Bench, router: Router, services: int) -> dict[str, Any]:
    """The node is about to go: every address is withdrawn; it stays after all."""
    began, report = bench.change(node(GOING_TAINT))
    kernel = time.monotonic() - began
    gone = router.wait_for(0) - began
    began, _ = bench.change(node())
    back = router.wait_for(services) - began
    return {
        "all_kernel_seconds": kernel,
        "all_gone_seconds": gone,
        "all_back_seconds": back,
        "all_messages": report.messages,
    }


def _spread(found: Sequence[float]) -> tuple[float, float]:
    """(p50, p99)"""
    ordered = sorted(found)
    return ordered[len(ordered) // 2], ordered[-2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("services", type=int)
    print(json.dumps(measure(parser.parse_args().services)))


if __name__ == "__main__":
    main()
