"""What an explanation is made from: what the cluster says, what the controller has decided. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kuberouter_py.model.report import Note
from kuberouter_py.ports import PoliciesOfCluster, Refused


@dataclass(frozen=True)
class KnownPolicies:
    """As of one moment between two syncs.

    node: our name. wanted: by table name. refused: by (table, key), the key None for a whole table. notes: all that
    there is to say of pods and policies.
    """

    node: str
    cluster: PoliciesOfCluster
    wanted: Callable[[str], Mapping[Any, Any]]
    refused: Mapping[tuple[str, Any], Refused]
    notes: Sequence[Note]
