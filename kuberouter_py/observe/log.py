"""The agent's log: set-up, and the lines that every controller's syncs have in common.

One line for each sync that changed something or failed, with counts and duration; one for each thing that is newly not
as its owner asked. As JSON for collectors or as text for people.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import Any, Literal, TextIO

import structlog

from kuberouter_py.model.report import Note, SyncReport

NOTES_SHOWN = 50  # of one sync: a bad range flag concerns every Service, and one line each helps nobody; status has all


def configure(form: Literal["json", "console"] | str, verbosity: int, stream: TextIO = sys.stderr) -> None:
    """Once, at start. verbosity 0: what changed; 2 and more: debug lines too. Libraries' warnings take the same way."""
    level = logging.DEBUG if verbosity >= 2 else logging.WARNING if verbosity < 0 else logging.INFO
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[Any]
    if form == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    else:
        last = [
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),  # one system call a line
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbosity >= 5 else logging.WARNING)


def log_sync(report: SyncReport, news: bool = True) -> None:
    """A line where the sync changed something or failed. news: it failed in another way than the one before: a refusal
    that stands is tried again every half a minute, and told once.
    """
    if not (report.wrote or (report.failures and news)):
        structlog.get_logger().debug("synced", **_figures(report))
    elif report.failures:
        structlog.get_logger().warning("synced with failures", failures=report.failures, **_figures(report))
    else:
        structlog.get_logger().info("synced", **_figures(report))


def _figures(report: SyncReport) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "controller": report.controller,
        "full": report.full,
        "keys": report.keys,
        "ms": round(report.duration * 1000, 1),
    }
    if report.messages:
        figures["messages"] = report.messages
    for table, counts in report.tables.items():
        told = {action: count for action, count in counts._asdict().items() if count}
        if told:
            figures[table.replace(" ", "_")] = told
    return figures


def log_notes(controller: str, notes: Iterable[Note]) -> None:
    """Notes that are new since the last sync."""
    log = structlog.get_logger()
    shown = 0
    rest = 0
    for note in notes:
        if shown == NOTES_SHOWN:
            rest += 1
            continue
        shown += 1
        owner = {"namespace": note.owner.namespace, "name": note.owner.name} if note.owner else {}
        log.warning(
            "not as asked", controller=controller, kind=note.kind, reason=note.reason, message=note.message, **owner
        )
    if rest:
        log.warning("more is not as asked, see kuberouter-py status", controller=controller, count=rest)
