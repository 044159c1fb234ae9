"""What is remembered of past syncs, and how the node was understood."""

from __future__ import annotations

import pytest

from kuberouter_py.config import Config
from kuberouter_py.controllers.history import History
from kuberouter_py.controllers.services.status import facts
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model.report import SyncReport
from tests.fakes.objects import cidr


def report(started: float, *, full: bool) -> SyncReport:
    return SyncReport("services", started, 0.5, full, keys=1)


def test_history_keeps_the_last_of_each() -> None:
    history = History()
    history.add(report(10.0, full=False), "no")
    assert (history.synced, history.syncs, history.last_full_sync) == (False, 1, 0.0)
    history.add(report(20.0, full=True), "")
    history.add(report(30.0, full=False), "")
    assert history == History(
        synced=True, last_sync=30.5, last_duration=0.5, last_full_sync=20.5, syncs=3, last_error="no"
    )


@pytest.mark.parametrize(
    ("view", "config", "said"),
    [
        (NodeView("n1"), Config(), "none: only connections that took a VIP as their source are masqueraded"),
        (
            NodeView("n1", detector="NodeCIDR", detector_cidrs=(cidr("10.244.1.0/24"), cidr("fd00::/64"))),
            Config(),
            "NodeCIDR 10.244.1.0/24, fd00::/64",
        ),
        (NodeView("n1", detector="BridgeInterface", detector_interface="cni0"), Config(), "BridgeInterface cni0"),
        (NodeView("n1", detector="NodeCIDR"), Config(masquerade_all=True), "not asked: --masquerade-all"),
    ],
)
def test_how_local_traffic_is_told(view: NodeView, config: Config, said: str) -> None:
    assert facts(config, view)["local traffic"] == said


def test_masquerade_all_is_said_without_a_detector_too() -> None:
    assert facts(Config(masquerade_all=True), NodeView("n1"))["local traffic"] == "not asked: --masquerade-all"
