"""What a controller reports of itself: one value a sync, and the standing refusals. Read by status, metrics, Events,
the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kuberouter_py.model.cluster import ObjectKey

PEER_UP = "BgpPeerUp"  # the one reason of a note that says that something is as it should be


class Note(NamedTuple):
    """One part of one object that is not (or not quite) as its owner asked, and why.

    owner: the object, None for the node itself. kind: "Service". event: an Event on the object tells its owner
    too.
    """

    kind: str
    owner: ObjectKey | None
    reason: str  # CamelCase, as in an Event: AddressRefused
    message: str
    event: bool = False


class TableCounts(NamedTuple):
    """Keys of one table: done (added, changed, removed), and refused."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    refused: int = 0


@dataclass(frozen=True)
class SyncReport:
    """One sync. Times in seconds; started as time.time(). tables: only those that something happened to."""

    controller: str
    started: float
    duration: float
    full: bool
    keys: int  # objects decided anew
    tables: Mapping[str, TableCounts] = field(default_factory=dict)
    messages: int = 0  # netlink messages sent and programs run
    failures: int = 0  # keys refused in this sync and tables that could not be read

    @property
    def wrote(self) -> bool:
        return any(counts.added or counts.changed or counts.removed for counts in self.tables.values())


@dataclass(frozen=True)
class ControllerStatus:
    """What `status` shows of a controller; its JSON form is part of the command line's promise."""

    name: str
    synced: bool  # the first full sync is done
    last_sync: float  # time.time() of the end of the last one, 0.0: never
    last_duration: float
    last_full_sync: float
    syncs: int
    failures: int  # standing: keys refused now, tables unreadable now
    last_error: str
    counts: Mapping[str, int]  # {"services": 12, "virtual servers": 30, "destinations": 100, "draining": 1, "vips": 12}
    notes: tuple[Note, ...]
    refused: tuple[tuple[str, str], ...]  # (what in the tools' notation, reason)
    facts: Mapping[
        str, str
    ]  # {"local traffic": "NodeCIDR 10.244.1.0/24", "iptables": "legacy", "vip binding": "address"}
    foreign_servers: tuple[str, ...] = ()  # in ipvsadm's notation
