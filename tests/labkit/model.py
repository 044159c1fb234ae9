"""The nouns of a scenario file, as LAB describes them. Values only; imports nothing of the lab."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

WITHIN = 5.0  # seconds


@dataclass(frozen=True)
class NodeSpec:
    name: str
    addresses: tuple[str, ...]  # "192.0.2.11" or "192.0.2.11/25"; default prefix /24 and /64
    pod_cidrs: tuple[str, ...]
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    pods: str = "bridged"  # | "routed": each on a link of its own, reached by a host route; no bridge | "cni"


@dataclass(frozen=True)
class BgpSpec:
    engine: str  # gobgp | frr | bird
    asn: int
    neighbors: dict[str, int]  # node or outside host -> its AS
    password: str | None = None
    bfd: bool = False
    graceful_restart: bool = False
    multihop: int | None = None  # how many hops a session may go; None: neighbours share a link
    port: int = 179  # where it listens
    address: str | None = None  # its end of the sessions; None: its first, IPv4 where both ends have one
    announce: tuple[str, ...] = ()


@dataclass(frozen=True)
class OutsideSpec:
    name: str
    addresses: tuple[str, ...]
    serve: tuple[str, ...] = ()  # "tcp/80"
    routes: dict[str, str] = field(default_factory=dict)  # destination -> name of a node or outside host
    bgp: BgpSpec | None = None


@dataclass(frozen=True)
class AgentSpec:
    source: str = "manifests"  # or "apiserver"
    flags: tuple[str, ...] = ("--run-service-proxy", "--run-router=false", "--run-firewall=false")
    nodes: tuple[str, ...] | None = None  # None: every node
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One step: `kind` is its key ("probe"), `args` its checked and defaulted value, `line` where it stands in the
    file.

    Durations in `args` are float seconds; addresses and names are as written.
    """

    kind: str
    args: Any
    line: int
    name: str | None = None


@dataclass(frozen=True)
class Scenario:
    file: Path
    nodes: dict[str, NodeSpec]
    service_cidrs: tuple[str, ...]
    outside: dict[str, OutsideSpec]
    agents: AgentSpec
    steps: tuple[Step, ...]
    programs: tuple[str, ...] = ()  # real ones beside the agent, on every machine's PATH


class Manner(NamedTuple):
    """How files are played. late: see late.py. within: of steps that do not say. Both in seconds."""

    late: float = 0.0
    within: float = WITHIN

    def flags(self) -> list[str]:
        return [f"--{name}={value}" for name, value in self._asdict().items()]


@dataclass(frozen=True)
class HostPort:
    protocol: str  # "tcp"
    port: int  # the container's
    host_port: int
    host_ip: str = ""


@dataclass(frozen=True)
class PodNetwork:
    """What the world needs to know of one Pod to give it a namespace, addresses and servers."""

    namespace: str
    name: str
    uid: str
    node: str
    # Chosen by the kubelet role; at most one of each family, without prefix length. None of a pod that CNI makes.
    addresses: tuple[str, ...]
    ports: tuple[tuple[str, int], ...]  # ("tcp", 80)
    host_network: bool = False
    host_ports: tuple[HostPort, ...] = ()  # for CNI


@dataclass(frozen=True)
class Attempt:
    """What one try to reach a server gave.

    outcome: "open" (answered), "refused" (reset or ICMP unreachable, at once), "silent" (nothing within the timeout),
    "reset" (answered connection that was reset later).
    """

    outcome: str
    backend: str = ""  # the name the server gave: pod's, or outside host's, without namespace
    source: str = ""  # address the server saw
    source_port: int = 0
    status: int = 0  # HTTP only
    body: str = ""  # HTTP only
    seconds: float = 0.0
    close: bool = False  # HTTP only: the answer carried Connection: close
