"""One line for each sync that changed something, one for each thing that is newly not as asked."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from kuberouter_py.model.report import SyncReport, TableCounts
from kuberouter_py.observe.log import NOTES_SHOWN, configure, log_notes, log_sync
from tests.unit.observe.documents import WEB


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before[0], before[1]
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def sync(*, failures: int = 0, **tables: TableCounts) -> SyncReport:
    named = {name.replace("_", " "): counts for name, counts in tables.items()}
    return SyncReport("services", 0.0, 0.0123, False, 2, named, 3, failures)


def test_a_sync_that_changed_something() -> None:
    stream = io.StringIO()
    configure("json", 0, stream)
    log_sync(sync())
    log_sync(sync(virtual_servers=TableCounts(added=2, removed=1)))
    log_sync(sync(failures=1, routes=TableCounts(refused=1)))
    changed, failed = lines(stream)
    timestamp = changed.pop("timestamp")
    assert timestamp.endswith("Z")
    assert changed == {
        "event": "synced",
        "level": "info",
        "controller": "services",
        "full": False,
        "keys": 2,
        "ms": 12.3,
        "messages": 3,
        "virtual_servers": {"added": 2, "removed": 1},
    }
    assert (failed["level"], failed["failures"], failed["routes"]) == ("warning", 1, {"refused": 1})


def test_a_failure_that_stands_is_told_once() -> None:
    stream = io.StringIO()
    configure("json", 0, stream)
    log_sync(sync(failures=1, routes=TableCounts(refused=1)), news=False)
    log_sync(sync(failures=1, routes=TableCounts(refused=1), addresses=TableCounts(added=1)), news=False)
    assert [line["level"] for line in lines(stream)] == ["warning"]


def test_verbosity() -> None:
    stream = io.StringIO()
    configure("json", 2, stream)
    log_sync(sync())
    assert [line["level"] for line in lines(stream)] == ["debug"]


def test_notes_with_their_object_and_an_end() -> None:
    stream = io.StringIO()
    configure("json", 0, stream)
    log_notes("services", [WEB] * (NOTES_SHOWN + 7))
    told = lines(stream)
    assert len(told) == NOTES_SHOWN + 1
    assert (told[0]["namespace"], told[0]["name"], told[0]["reason"]) == ("default", "web", "AddressRefused")
    assert told[-1]["count"] == 7


def test_console_and_libraries() -> None:
    stream = io.StringIO()
    configure("console", 0, stream)
    structlog.get_logger().info("agent starts", node="n1")
    logging.getLogger("urllib3").warning("retrying %s", "x")
    logging.getLogger("urllib3").info("not told")
    text = stream.getvalue()
    assert "agent starts" in text
    assert "node=n1" in text
    assert "retrying x" in text
    assert "not told" not in text


def test_an_exception_is_one_json_line() -> None:
    stream = io.StringIO()
    configure("json", 0, stream)
    try:
        raise ValueError("why")
    except ValueError:
        structlog.get_logger().exception("a loop died")
    [line] = lines(stream)
    assert "ValueError: why" in line["exception"]
