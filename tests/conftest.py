"""For all levels: in CI a test that skips for something missing has failed, because its question went unanswered."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest


def _unanswered(what: pytest.TestReport | pytest.CollectReport) -> bool:
    return what.skipped and bool(os.environ.get("CI")) and not hasattr(what, "wasxfail")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if _unanswered(report):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {item.nodeid}: {call.excinfo.value if call.excinfo else ''}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if _unanswered(report):  # a whole file, by importorskip or the like
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {collector.nodeid}"
    return report
