"""Reads a scenario file, and prints what a node holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import yaml

from kuberouter_py.config import Config
from kuberouter_py.model import notation
from kuberouter_py.model.cluster import EndpointSlice, Node, Service, ServiceCidr
from kuberouter_py.model.kernel import (
    LinkState,
    MarkServerKey,
    Protocol,
    ServerKey,
    SetMember,
    VirtualServer,
    VirtualServerKey,
)
from kuberouter_py.model.names import DIVERTED_MARK, balancing_mark
from kuberouter_py.model.report import Note
from kuberouter_py.ports import Plan
from kuberouter_py.watchers.kinds import ENDPOINT_SLICES, NODES, SERVICE_CIDRS, SERVICES
from kuberouter_py.watchers.manifest_files import read_manifest
from tests.fakes.agent import SERVED, FakeAgent
from tests.fakes.kernel import FakeKernel
from tests.fakes.node import EVERY_SCHEDULER

# The same on every node of its kind: shown only where a scenario asks for them.
FIXED = ("sysctls", "ipsets", "iptables", "links", "bridge ports")
_KEYS = {"node", "flags", "links", "schedulers", "kernel", "sysctls", "foreign", "show"}


@dataclass
class Scenario:
    path: Path

    @cached_property
    def _parts(self) -> tuple[dict[str, Any], bytes]:
        about, _, objects = self.path.read_text().partition("\n---\n")
        node = yaml.safe_load(about) or {}
        unknown = node.keys() - _KEYS
        assert not unknown, f"{self.path.name}: {', '.join(sorted(unknown))} is not known"
        return node, objects.encode()

    @property
    def about(self) -> dict[str, Any]:
        return self._parts[0]

    @property
    def node_name(self) -> str:
        return str(self.about.get("node", "n1"))

    @property
    def shown(self) -> Sequence[str]:
        asked = self.about.get("show", [])
        assert set(asked) <= set(FIXED), f"{self.path.name}: show: one of {FIXED}"
        return list(asked)

    def config(self) -> Config:
        return Config.from_texts({name: [str(text)] for name, text in self.about.get("flags", {}).items()})

    @cached_property
    def objects(self) -> list[SERVED]:
        kinds = (SERVICES, ENDPOINT_SLICES, NODES, SERVICE_CIDRS)
        manifest = read_manifest(self.path.name, self._parts[1], kinds)
        assert manifest.undecodable == [], "scenarios are about decisions; what does not decode at all is not here"
        found = [found.object for found in manifest.found]
        assert len({(type(one), one.key) for one in found}) == len(found), "an object twice has no order to walk in"
        return [one for one in found if isinstance(one, Service | EndpointSlice | Node | ServiceCidr)]

    def links(self) -> list[LinkState]:
        links: dict[str, Any] = {"lo": ["127.0.0.1/8", "::1/128"], "eth0": ["192.168.0.1/24"]}
        links |= self.about.get("links", {})
        return [_link(number, name, said) for number, (name, said) in enumerate(links.items(), 1)]

    def foreign(self) -> dict[ServerKey, VirtualServer]:
        return dict(map(_server, self.about.get("foreign", [])))

    def boot(self, kernel: FakeKernel) -> FakeKernel:
        """The same kernel as this scenario's node: its links, its sysctls and what others made there."""
        kernel.others = self.links()
        kernel.hairpin = {
            name: on for name, on in kernel.hairpin.items() if any(link.name == name for link in kernel.others)
        }
        kernel.sysctls |= {key: value for key, value in self._sysctls().items() if key not in kernel.former}
        kernel.servers |= self.foreign()
        return kernel

    def _sysctls(self) -> dict[str, str]:
        return {str(key): str(value) for key, value in self.about.get("sysctls", {}).items()}

    def agent(self, kernel: FakeKernel | None = None) -> FakeAgent:
        agent = FakeAgent(config=self.config(), kernel=self.boot(kernel or FakeKernel()), node_name=self.node_name)
        agent.node.schedulers = frozenset(self.about.get("schedulers", EVERY_SCHEDULER))
        major, _, minor = str(self.about.get("kernel", "6.1")).partition(".")
        agent.node.version = (int(major), int(minor))
        return agent

    def text(self, agent: FakeAgent) -> str:
        """What the node holds and what status says, as in NAME.txt."""
        parts = []
        for table, content in _renumbered(agent.kernel.state()).items():
            if table in FIXED and table not in self.shown:
                continue
            parts += _section(table, notation.lines({table: Plan(add=content)}))
        parts += _section("foreign virtual servers", _foreign(agent.kernel))
        parts += _section("notes", sorted(map(_note, agent.notes())))
        return "\n".join(parts) + "\n"


def _renumbered(state: dict[str, dict[Any, Any]]) -> dict[str, dict[Any, Any]]:
    """With marks in the order of their frontends: which path was walked says who was given which number."""
    members: dict[SetMember, int | None] = state["set members"]
    marks: dict[int | None, int] = {DIVERTED_MARK: DIVERTED_MARK}
    for member in sorted(members):
        if members[member] is not None:
            marks.setdefault(members[member], balancing_mark(len(marks) - 1))
    servers = {
        key._replace(mark=marks[key.mark]) if isinstance(key, MarkServerKey) else key: server
        for key, server in state["virtual servers"].items()
    }
    renumbered = {member: marks.get(mark) for member, mark in members.items()}
    return {**state, "set members": renumbered, "virtual servers": servers}


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"# {title}", *lines, ""] if lines else []


def _foreign(kernel: FakeKernel) -> list[str]:
    read: Mapping[VirtualServerKey, VirtualServer] = kernel.table("virtual servers").read().foreign
    return notation.lines({"virtual servers": Plan(add=read)})


def _note(note: Note) -> str:
    return f"{note.kind} {note.owner}: {note.reason}{' (Event)' if note.event else ''}: {note.message}"


def _link(number: int, name: str, said: Any) -> LinkState:
    said = {"addresses": said} if isinstance(said, list) else said
    held = tuple(
        (ip_interface(text).ip.packed, ip_interface(text).network.prefixlen) for text in said.get("addresses", ())
    )
    return LinkState(
        number,
        name,
        said.get("kind", ""),
        said.get("up", True),
        said.get("master", ""),
        held,
        said.get("promiscuous", False),
    )


def _server(text: str) -> tuple[ServerKey, VirtualServer]:
    """ "tcp 198.51.100.1:80 wlc" """
    protocol, frontend, scheduler = text.split()
    address, _, port = frontend.rpartition(":")
    key = VirtualServerKey(Protocol[protocol.upper()], ip_address(address.strip("[]")).packed, int(port))
    return key, VirtualServer(scheduler, 0, 0, {})
