"""The objects of a world, whoever keeps them: a folder of manifests on every node, or a real API server."""

from __future__ import annotations

from tests.labkit.api_cluster import ApiCluster
from tests.labkit.manifest_cluster import ManifestCluster
from tests.labkit.model import Scenario
from tests.labkit.ports import Cluster

__all__ = ["ApiCluster", "ManifestCluster", "cluster_for"]


def cluster_for(scenario: Scenario) -> Cluster:
    """The one that the scenario's agents read."""
    if scenario.agents.source != "apiserver":
        return ManifestCluster()
    cluster = ApiCluster()
    cluster.prepare(scenario)
    return cluster
