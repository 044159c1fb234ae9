"""What load balancers that ask a Service's healthCheckNodePort are told, as a table: listener -> answer."""

from __future__ import annotations

from typing import NamedTuple

from kuberouter_py.model.cluster import ObjectKey


class HealthCheckPort(NamedTuple):
    """One listener. address: packed; b"" for every address of the node."""

    address: bytes
    port: int


class HealthCheck(NamedTuple):
    """local_endpoints: how many endpoints on this node are ready; with none the node is to be left out."""

    service: ObjectKey
    local_endpoints: int
