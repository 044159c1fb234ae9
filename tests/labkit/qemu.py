"""Debian's own kernel under QEMU."""

from __future__ import annotations

from tests.labkit.boot import Job
from tests.labkit.ports import LabError


class Qemu:
    name = "qemu"

    def why_not(self) -> str | None:
        return "not yet"

    def run(self, job: Job) -> int:
        raise LabError("not yet")
