"""What an explanation is made from: what the controller knows and has decided. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kuberouter_py.config import Config
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import DestinationKey, ServerKey, VirtualServerKey
from kuberouter_py.model.report import Note
from kuberouter_py.ports import Refused, ServicesOfCluster


@dataclass(frozen=True)
class Known:
    """As of one moment between two syncs.

    wanted, foreign: by table name. claimants: of a virtual server, the one in force first. holders: the Services that
    name an address. refused: by (table, key), the key None for a whole table. draining: the
    seconds that are left to what drains in a server.
    """

    config: Config
    view: NodeView
    cluster: ServicesOfCluster
    wanted: Callable[[str], Mapping[Any, Any]]
    foreign: Callable[[str], Mapping[Any, Any]]
    claimants: Callable[[VirtualServerKey], Sequence[ObjectKey]]
    holders: Callable[[bytes], Collection[ObjectKey]]
    refused: Mapping[tuple[str, Any], Refused]
    notes: Callable[[ObjectKey], Sequence[Note]]
    draining: Callable[[ServerKey], Mapping[DestinationKey, float]]
