"""The running kernel as lab kernel, where it has ip_vs and dummy and we are root: namespaces instead of a boot."""

from __future__ import annotations

from tests.labkit.boot import Job
from tests.labkit.ports import LabError


class Native:
    name = "native"

    def why_not(self) -> str | None:
        return "not yet"

    def run(self, job: Job) -> int:
        raise LabError("not yet")
