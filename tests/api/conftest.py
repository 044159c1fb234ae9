"""A real control plane for the tests in this folder: one for the session, on loopback, at ports of its own.

Clients under test come through the door (`kubeconfig`, `server`), which a test can shut, cut and slow down; the test's
own writes (`objects`, `client`) do not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.labkit import controlplane
from tests.labkit.api_objects import ApiObjects
from tests.labkit.apiclient import ApiClient, Credentials
from tests.labkit.control import Control
from tests.labkit.kubeconfig import kubeconfig

SERVICE_CIDRS = ("10.96.0.0/16", "fd00:10:96::/112")


@dataclasses.dataclass
class RealControlPlane:
    """What a test sees. `fresh()` empties it (3 s); without that, tests share it and name their objects apart."""

    control: Control
    directory: Path
    server: str = ""
    credentials: Credentials = dataclasses.field(default_factory=lambda: Credentials("", "", ""))
    client: ApiClient = dataclasses.field(init=False)
    objects: ApiObjects = dataclasses.field(init=False)

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    def fresh(self) -> None:
        answer = self.control.call("fresh", serviceCIDRs=list(SERVICE_CIDRS), timeout=3600.0)
        self.server = f"https://{answer['address']}:{answer['door']}"
        who = self.credentials = Credentials(answer["ca"], answer["certificate"], answer["key"])
        self.kubeconfig.write_text(kubeconfig(self.server, who.ca, certificate=who.certificate, key=who.key))
        self.client = ApiClient(answer["address"], int(answer["direct"]), who, self.directory)
        self.objects = ApiObjects(self.client)

    def stop(self) -> None:
        """The API server ends, clients are refused."""
        self.control.call("stop")

    def start(self) -> None:
        self.control.call("start")

    def inside(self) -> None:
        """After stop(): the API server runs again for the test's own writes, clients are still refused."""
        self.control.call("inside")

    def cut(self) -> None:
        """Every client's connection is reset; new ones are let in."""
        self.control.call("cut")

    def slow(self, seconds: float) -> None:
        """Every answer is late by this much, until slow(0)."""
        self.control.call("slow", seconds=seconds)

    def expire(self) -> None:
        """Every resourceVersion seen so far is too old (410) for who resumes from it."""
        self.control.call("expire")


@pytest.fixture(scope="session")
def _running_control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealControlPlane]:
    with controlplane.running() as control:
        plane = RealControlPlane(control, tmp_path_factory.mktemp("control-plane"))
        plane.fresh()
        yield plane


@pytest.fixture
def control_plane(_running_control_plane: RealControlPlane) -> RealControlPlane:
    """The session's control plane, reachable and at full speed whatever the test before did."""
    _running_control_plane.slow(0)
    _running_control_plane.start()
    return _running_control_plane
