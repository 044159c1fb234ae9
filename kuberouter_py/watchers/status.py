"""What `status` shows of one watched kind, wherever its objects come from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WatchStatus:
    """last_event: time.time() of the last event or list, 0.0: none yet.

    problems: (object, or file and line; what is wrong with it). lists: complete ones, streamed or paged, the first too.
    reconnects: watches opened to go on from where an earlier one ended.
    """

    kind: str
    synced: bool
    objects: int
    last_event: float = 0.0
    resource_version: str = ""
    last_error: str = ""
    lists: int = 0
    reconnects: int = 0
    absent: bool = False  # an optional kind that this server does not have, or does not let us see
    problems: tuple[tuple[str, str], ...] = ()
