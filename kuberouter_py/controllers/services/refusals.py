"""What the kernel refuses: whose it is, whether it is a failure, and which of it is news. Pure bookkeeping.

What Services ask for and may not have is decided in desired.py; this is about what was decided and could not be done.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any

from kuberouter_py.controllers.services.desired import ADDRESSES, MEMBERS, ROUTES, SERVERS
from kuberouter_py.controllers.services.dsr import POD_ADDRESSES
from kuberouter_py.controllers.services.healthchecks import HEALTH_CHECKS
from kuberouter_py.controllers.services.nodestate import SYSCTLS
from kuberouter_py.model import notation
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.report import Note
from kuberouter_py.ports import Refused

KERNEL_REFUSED, NOT_READ = "KernelRefused", "NotRead"
HEALTH_CHECK_FAILED = "FailedToStartServiceHealthcheck"  # kube-proxy's word for it (S12.06)

# Where a lack is said and is no failure: a sysctl that only the first namespace may write, a scheduler that another one
# stands in for. Without ipsets, rules or links a Service does not work.
_MAY_LACK = (SYSCTLS, SERVERS)

Standing = Mapping[tuple[str, Any], Refused]


def is_failure(table: str, refused: Refused) -> bool:
    return not (refused.missing and table in _MAY_LACK)


def refusal_text(table: str, key: Any, refused: Refused) -> str:
    """key None: all of the table."""
    return f"{notation.where_text(table, key)}: {refused.reason}"


def address_of(table: str, key: Any) -> bytes | None:
    """The Service address that an entry is about; None where it is about the node, or about an endpoint."""
    if table == ROUTES:
        return bytes(key)
    if table in (ADDRESSES, POD_ADDRESSES):
        return bytes(key.address)
    if table == MEMBERS and not key.entry.address2:
        return bytes(key.entry.address)
    return None


class Refusals:
    """claimant: whose a virtual server or health check port is. holders: the Services that name an address.
    node: our name, for what is said on an object that all nodes see.
    """

    def __init__(
        self,
        claimant: Callable[[Hashable], ObjectKey | None],
        holders: Callable[[bytes], Collection[ObjectKey]],
        node: str,
    ) -> None:
        self._claimant = claimant
        self._holders = holders
        self._node = node
        self._told: dict[tuple[str, Any], str] = {}

    def owners(self, table: str, key: Any) -> list[ObjectKey]:
        if table in (SERVERS, HEALTH_CHECKS) and key is not None:
            owner = self._claimant(key)
            return [owner] if owner else []
        address = address_of(table, key) if key is not None else None
        return sorted(self._holders(address)) if address is not None else []

    def news(self, standing: Standing) -> list[Note]:
        """One note for each refusal that does not stand since the last call already, with the same reason.

        A table that cannot be read at all says so once, not once more for each of its keys.
        """
        notes: list[Note] = []
        for (table, key), refused in standing.items():
            if self._told.get((table, key)) == refused.reason or (key is not None and (table, None) in standing):
                continue
            if key is None:
                notes.append(Note("Node", None, NOT_READ, f"{table}: {refused.reason}"))
                continue
            message = refusal_text(table, key, refused)
            owners = self.owners(table, key)
            if table == HEALTH_CHECKS:
                told = f"node {self._node}: {message}"
                notes += [Note("Service", owner, HEALTH_CHECK_FAILED, told, event=True) for owner in owners]
                continue
            notes += [Note("Service", owner, KERNEL_REFUSED, message) for owner in owners]
            if not owners:
                notes.append(Note("Node", None, KERNEL_REFUSED, message))
        self._told = {where: refused.reason for where, refused in standing.items()}
        return notes
