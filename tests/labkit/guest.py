"""What a scenario is played on inside the lab kernel: the one place that knows which World and which Cluster."""

from __future__ import annotations

import functools

from tests.labkit.cluster import cluster_for
from tests.labkit.model import Scenario
from tests.labkit.ports import Cluster, World
from tests.labkit.traffic.exchange import Traffic
from tests.labkit.world import NamespaceWorld


def parts(scenario: Scenario) -> tuple[World, Cluster]:
    return NamespaceWorld(scenario, _traffic()), cluster_for(scenario)


@functools.cache
def _traffic() -> Traffic:
    """One for all scenarios; the processes end when this one does."""
    return Traffic.start()
