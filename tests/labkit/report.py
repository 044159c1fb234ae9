"""What a run prints and what it writes for a machine: results as values, one line for each step, the tail of logs.

Says nothing about where it goes: `Report.line` is a function. In the lab kernel that is standard output (standard error
when the host prints one JSON document instead).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from ipaddress import ip_interface
from typing import Any
from urllib.parse import urlsplit

from tests.labkit.model import Scenario, Step
from tests.labkit.play import Play
from tests.labkit.ports import LabError

LOG_LINES = 25
DUMP_LINES = 60
DUMP_TIMEOUT = 20.0
DUMPS = (
    "tail -n 25 /run/kuberouter-py/bird.log 2>&1",
    "ip -4 route",
    "ip -6 route",
    "ipvsadm -Ln",
    "ip -4 route show table local",
    "ip -6 route show table local",
    "iptables-save",
    "ip6tables-save",
)


@dataclass
class StepResult:
    line: int
    kind: str
    name: str | None
    what: str
    outcome: str  # ok | failed
    seconds: float
    detail: str = ""


@dataclass
class FileResult:
    file: str
    outcome: str = "passed"  # passed | failed
    seconds: float = 0.0
    steps: list[StepResult] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)  # of a failure: logs and tables by their heading

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Report:
    """Prints as it goes and keeps the results."""

    def __init__(self, line: Callable[[str], None]) -> None:
        self.line = line
        self.files: list[FileResult] = []

    def begin(self, scenario: Scenario) -> FileResult:
        result = FileResult(str(scenario.file))
        self.files.append(result)
        self.line(f"{scenario.file}")
        return result

    def step(self, result: FileResult, step: StepResult) -> None:
        result.steps.append(step)
        sign = "ok" if step.outcome == "ok" else "FAILED"
        text = f"{step.name}: {step.what}" if step.name else step.what
        detail = f" {step.detail}" if step.detail and step.outcome == "ok" else ""
        self.line(f"  {sign:<6} {step.seconds:6.2f}s  {text}{detail}".rstrip())
        if step.outcome != "ok":
            result.outcome = "failed"
            self.line(f"         {result.file}:{step.line}:" if step.line else f"         {result.file}:")
            for line in step.detail.splitlines():
                self.line(f"         {line}")

    def end(self, result: FileResult, seconds: float) -> None:
        result.seconds = seconds
        self.line(f"  {result.outcome} in {seconds:.1f} s")
        self.line("")

    def explain(self, result: FileResult, play: Play, node: str | None) -> None:
        """After a failure: the end of every agent's and daemon's log, and the kernel's tables of the node concerned."""
        for heading, log in play.world.logs().items():
            with contextlib.suppress(OSError):
                if lines := log.read_text(errors="replace").splitlines():
                    self._detail(result, heading, "\n".join(lines[-LOG_LINES:]))
        for command in DUMPS if node else ():
            try:
                _, output = play.world.run(f"node/{node}", command, timeout=DUMP_TIMEOUT)
            except (LabError, OSError) as error:
                output = str(error)
            self._detail(result, f"{command} on {node}", output)

    def _detail(self, result: FileResult, heading: str, text: str) -> None:
        result.details[heading] = text
        self.line(f"         -- {heading}")
        lines = text.rstrip("\n").splitlines()
        for line in lines[:DUMP_LINES]:
            self.line(f"         {line}")
        if len(lines) > DUMP_LINES:
            self.line(f"         ... ({len(lines) - DUMP_LINES} lines more)")


def node_concerned(play: Play, step: Step) -> str | None:
    """The node whose tables explain a failure: the one a step names or starts from, else one that it talks to."""
    args = step.args if isinstance(step.args, dict) else {}
    if "node" in args or "nodes" in args:
        return str(args["node"] if "node" in args else args["nodes"][0])
    kind, _, name = str(args.get("from") or args.get("at") or "").partition("/")
    if kind == "node":
        return name
    if kind == "pod":
        with contextlib.suppress(LabError, OSError):
            pod = play.cluster.get(f"pod/{name}")
            if pod and pod["spec"].get("nodeName") in play.scenario.nodes:
                return str(pod["spec"]["nodeName"])
    host = urlsplit(str(args.get("to", ""))).hostname if isinstance(args.get("to"), str) else None
    for node, spec in play.scenario.nodes.items():
        if host in {str(ip_interface(address).ip) for address in spec.addresses}:
            return node
    return next(iter(play.agent_nodes), None)


def describe(step: Step) -> str:
    """A step in a few words, as a person would say it."""
    args = step.args
    if step.kind == "apply":
        return f"apply {_some([_reference(document) for document in args])}"
    if step.kind in ("patch", "delete"):
        return f"{step.kind} {_some(list(args))}"
    if step.kind in ("probe", "hold", "stream"):
        name = f" {args['name']}" if "name" in args else ""
        count = f" × {args['count']}" if args.get("count", 1) > 1 else ""
        expect = f" {args['expect']}:" if args.get("expect", "open") != "open" else ""
        return f"{step.kind}{name} {args['from']} → {args['to']}{count}{expect}"
    if step.kind in ("held", "streamed"):
        return f"{step.kind} {args['name']}:"
    if step.kind == "agent":
        return f"agent {args['do']} on {' '.join(args['nodes'])}"
    if step.kind in ("run", "foreign"):
        return f"{step.kind} at {args['at']}: {_short(args['command'])}"
    if step.kind == "matrix":
        ports = " ".join(f"{protocol}/{port}" for protocol, port in args["ports"])
        return f"matrix of {len(args['pods'])} pods, {ports} via {args['via']}, IPv{args['family']}:"
    if step.kind == "expectStatus":
        wanted = " ".join(f"{key}={value}" for key, value in args["wanted"].items())
        return f"status on {args['node']}: {args['controller']} {wanted}"
    return f"{step.kind} " + " ".join(f"{key}={value}" for key, value in args.items())


def _reference(document: dict[str, Any]) -> str:
    metadata = document["metadata"]
    namespace = f"{metadata['namespace']}/" if "namespace" in metadata else ""
    return f"{document['kind'].lower()}/{namespace}{metadata['name']}"


def _some(names: list[str]) -> str:
    return " ".join(names) if len(names) <= 4 else " ".join(names[:3]) + f" and {len(names) - 3} more"


def _short(command: str) -> str:
    line = " ".join(command.split())
    return line if len(line) <= 70 else line[:67] + "..."
