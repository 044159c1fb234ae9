"""A scenario file's text -> Scenario, or every error in it, each naming file, line and key.

This module owns the sections (nodes, serviceCIDRs, outside, agents, programs) and their defaults; scenario_steps.py
owns the steps. What is not understood is an error, never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_interface
from pathlib import Path
from typing import ParamSpec, TypeVar

from tests.labkit import fields, scenario_bgp
from tests.labkit.model import WITHIN, AgentSpec, NodeSpec, OutsideSpec, Scenario, Step
from tests.labkit.scenario_steps import Context, read_step
from tests.labkit.yaml12 import NULL, Field, FormatError, did_you_mean, documents

SECTIONS = ("nodes", "serviceCIDRs", "outside", "agents", "programs", "steps")
PROGRAMS = ("kube-proxy", "kubectl")  # what scripts/control-plane builds and a machine may run
SERVICE_CIDRS: tuple[str, ...] = ("10.96.0.0/16", "fd00:10:96::/112")
MAX_NODES = 200  # of the default addresses 192.0.2.11 and up

P = ParamSpec("P")
T = TypeVar("T")


class ScenarioErrors(Exception):
    """Everything that is wrong with a file."""

    def __init__(self, errors: list[FormatError]) -> None:
        self.errors = errors
        super().__init__("\n".join(map(str, errors)))


def read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ScenarioErrors([FormatError(file, 1, "", f"cannot be read: {reason}")]) from None


def load(file: Path) -> Scenario:
    return parse(read(file), file)


def parse(text: str, file: Path, within: float = WITHIN) -> Scenario:
    """The scenario of `text`; `file` is only its name. within: seconds, of steps that do not say."""
    return _Reading(file, within).scenario(text)


class _Reading:
    """One file being read: the errors found so far, so that one mistake does not hide the next."""

    def __init__(self, file: Path, within: float) -> None:
        self.file = file
        self.within = within
        self.errors: list[FormatError] = []

    def scenario(self, text: str) -> Scenario:
        nothing: dict[str, Field] = {}
        found = self._try(nothing, self._sections, text)
        nodes = self._try(default_nodes(3), self._nodes, found.get("nodes"))
        cidrs = self._try(SERVICE_CIDRS, _service_cidrs, found.get("serviceCIDRs"))
        nobody: dict[str, OutsideSpec] = {}
        outside = self._try(nobody, self._outside, found.get("outside"), nodes)
        self._try(None, _refuse_shared_addresses, found, nodes, outside)
        agents = self._try(AgentSpec(), _agents, found.get("agents"), nodes)
        nothing_more: tuple[str, ...] = ()
        programs = self._try(nothing_more, _programs, found.get("programs"), agents)
        context = Context(nodes=tuple(nodes), outside=tuple(outside), agents=agents, within=self.within)
        steps = []
        for field in found["steps"].items() if "steps" in found else []:
            step = self._try(None, _step, field, context)
            if step is None:
                context.workloads = True  # whatever it would have applied: no second error for the same mistake
            else:
                steps.append(step)
        scenario = Scenario(self.file, nodes, cidrs, outside, agents, tuple(steps), programs)
        if "outside" in found:
            self._try(None, scenario_bgp.check_reachable, found["outside"], scenario)
        if self.errors:
            raise ScenarioErrors(sorted(self.errors, key=lambda error: error.line))
        return scenario

    def _try(self, otherwise: T, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return read(*args, **kwargs)
        except FormatError as error:
            self.errors.append(error)
            return otherwise

    def _sections(self, text: str) -> dict[str, Field]:
        roots = documents(text, self.file)
        if not roots:
            raise FormatError(self.file, 1, "steps", "is missing: the file is empty")
        if len(roots) > 1:
            raise roots[1].fail("a scenario file holds one document")
        found = roots[0].entries()
        for name, field in list(found.items()):
            if name not in SECTIONS:
                self.errors.append(
                    field.fail(f"unknown key{did_you_mean(name, SECTIONS)}; known here: {', '.join(SECTIONS)}")
                )
        if "steps" not in found:
            raise FormatError(self.file, roots[0].line, "steps", "is missing")
        if found["steps"].node.tag == NULL or not found["steps"].items("a list of steps"):
            raise found["steps"].fail("wants at least one step")
        return found

    def _nodes(self, field: Field | None) -> dict[str, NodeSpec]:
        if field is None:
            return default_nodes(3)
        nodes = {}
        for position, (name, value) in enumerate(field.entries().items(), 1):
            nodes[name] = self._try(default_node(name, position), _node, name, value, position)
        if not nodes:
            raise field.fail("wants at least one node")
        return nodes

    def _outside(self, field: Field | None, nodes: dict[str, NodeSpec]) -> dict[str, OutsideSpec]:
        if field is None:
            return {}
        entries = field.entries()
        others = (*nodes, *entries)
        hosts = {}
        for name, value in entries.items():
            hosts[name] = self._try(OutsideSpec(name, ()), _outside_host, name, value, nodes, others)
        return hosts


def _step(field: Field, context: Context) -> Step | None:
    return read_step(field, context)


def default_node(name: str, position: int) -> NodeSpec:
    """Node I of LAB: 192.0.2.(10+I) and 2001:db8::(10+I), 10.244.I.0/24 and fd00:10:244:I::/64.

    I is the number at the end of the name (n2), else the node's place in the file.
    """
    match = re.search(r"(\d{1,3})$", name)
    number = int(match[1]) if match and 1 <= int(match[1]) <= MAX_NODES else position
    return NodeSpec(
        name,
        (f"192.0.2.{10 + number}", f"2001:db8::{10 + number}"),
        (f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64"),
    )


def default_nodes(count: int) -> dict[str, NodeSpec]:
    return {f"n{number}": default_node(f"n{number}", number) for number in range(1, count + 1)}


def _node(name: str, field: Field, position: int) -> NodeSpec:
    _check_name(field, name, "a node's name")
    default = default_node(name, position)
    if field.node.tag == NULL:
        return default
    found = field.keys(("addresses", "podCIDRs", "pods", "labels", "annotations"))
    return NodeSpec(
        name,
        _addresses(found["addresses"]) if "addresses" in found else default.addresses,
        tuple(map(fields.network, found["podCIDRs"].items("a list of CIDRs"))) if "podCIDRs" in found
        else default.pod_cidrs,
        fields.word_map(found["labels"]) if "labels" in found else {},
        fields.word_map(found["annotations"]) if "annotations" in found else {},
        found["pods"].choice("bridged", "routed", "cni") if "pods" in found else default.pods,
    )  # fmt: skip


def _addresses(field: Field) -> tuple[str, ...]:
    addresses = tuple(map(fields.interface, field.items("a list of addresses")))
    if not addresses:
        raise field.fail("wants at least one address")
    return addresses


def _check_name(field: Field, name: str, what: str) -> None:
    if not fields.NAME.fullmatch(name):
        raise field.fail(f"{name!r} is not {what} (lower-case letters, digits, '-', '.')")


def _service_cidrs(field: Field | None) -> tuple[str, ...]:
    if field is None:
        return SERVICE_CIDRS
    cidrs = tuple(map(fields.network, field.items("a list of CIDRs")))
    if not 1 <= len(cidrs) <= 2:
        raise field.fail("wants one CIDR or two, one of each family")
    if len(cidrs) == 2 and (":" in cidrs[0]) == (":" in cidrs[1]):
        raise field.fail("wants one CIDR of each family")
    return cidrs


def _outside_host(name: str, field: Field, nodes: dict[str, NodeSpec], others: tuple[str, ...]) -> OutsideSpec:
    _check_name(field, name, "a host's name")
    if name in nodes:
        raise field.fail(f"{name!r} is a node already")
    found = field.keys(("addresses", "serve", "routes", "bgp"), required=("addresses",))
    serve = [fields.protocol_port(item) for item in found["serve"].items()] if "serve" in found else []
    routes = {}
    for destination, target in (found["routes"].entries() if "routes" in found else {}).items():
        _check_destination(target, destination)
        routes[destination] = target.text("the name of a node or an outside host")
        if routes[destination] not in others or routes[destination] == name:
            raise target.fail(f"wants another host's name ({', '.join(others)}), not {routes[destination]!r}")
    addresses = _addresses(found["addresses"])
    bgp = scenario_bgp.read(name, addresses, found["bgp"], others) if "bgp" in found else None
    return OutsideSpec(name, addresses, tuple(f"{protocol}/{port}" for protocol, port in serve), routes, bgp)


def _check_destination(field: Field, text: str) -> None:
    try:
        interface = ip_interface(text)
    except ValueError:
        raise field.fail(f"{text!r} is neither an address nor a CIDR") from None
    if interface.ip != interface.network.network_address:
        raise field.fail(f"{text!r} has host bits set")


def _refuse_shared_addresses(
    found: dict[str, Field], nodes: dict[str, NodeSpec], outside: dict[str, OutsideSpec]
) -> None:
    owners: dict[str, str] = {}
    for section, hosts in (("nodes", nodes), ("outside", outside)):
        for name, host in hosts.items():
            for text in host.addresses:
                address = str(ip_interface(text).ip)
                if address in owners and section in found:
                    where = found[section].entries()[name]
                    raise where.fail(f"address {address} belongs to {owners[address]} already")
                owners[address] = name


def _agents(field: Field | None, nodes: dict[str, NodeSpec]) -> AgentSpec:
    default = AgentSpec()
    if field is None or field.node.tag == NULL:
        return default
    found = field.keys(("source", "flags", "env", "nodes"))
    names = None
    if "nodes" in found:
        names = fields.texts(found["nodes"], "a list of nodes")
        for item in found["nodes"].items():
            if item.text() not in nodes:
                raise item.fail(f"no node {item.text()!r}; the nodes are {', '.join(nodes)}")
    return AgentSpec(
        found["source"].choice("manifests", "apiserver") if "source" in found else default.source,
        fields.flags(found["flags"]) if "flags" in found else default.flags,
        names,
        fields.word_map(found["env"]) if "env" in found else {},
    )


def _programs(field: Field | None, agents: AgentSpec) -> tuple[str, ...]:
    if field is None:
        return ()
    if agents.source != "apiserver":
        raise field.fail("wants agents.source: apiserver, which these programs talk to")
    return tuple(item.choice(*PROGRAMS) for item in field.items("a list of programs"))
