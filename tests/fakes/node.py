"""What the services controller asks of a node, answered from a FakeKernel. Each answer can be made to fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kuberouter_py.model.kernel import DestinationKey, LinkState
from kuberouter_py.ports import EdgeError
from tests.fakes.kernel import FakeKernel

EVERY_SCHEDULER = frozenset({"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq", "mh"})


@dataclass
class FakeNode:
    kernel: FakeKernel
    schedulers: frozenset[str] = EVERY_SCHEDULER
    version: tuple[int, int] = (6, 1)
    cores: int = 4
    broken: str = ""  # what every question about links is refused with
    unwritable: frozenset[str] = frozenset()
    asked_schedulers: list[str] = field(default_factory=list)

    def links(self) -> Sequence[LinkState]:
        if self.broken:
            raise EdgeError(self.broken)
        return self.kernel.link_states()

    def can_set_sysctl(self, key: str) -> bool:
        return key not in self.unwritable

    def sysctl_before_us(self, key: str) -> str | None:
        return self.kernel.sysctl_before_us(key)

    def has_scheduler(self, name: str) -> bool:
        self.asked_schedulers.append(name)
        return name in self.schedulers

    def connections(self, servers: Sequence[Any]) -> Mapping[Any, Mapping[DestinationKey, int]]:
        if self.broken:
            raise EdgeError(self.broken)
        there = {key: self.kernel.servers[key].destinations for key in servers if key in self.kernel.servers}
        return {
            key: {each: self.kernel.connections.get((key, each), 0) for each in found} for key, found in there.items()
        }

    def kernel_version(self) -> tuple[int, int]:
        return self.version

    def processors(self) -> int:
        return self.cores
