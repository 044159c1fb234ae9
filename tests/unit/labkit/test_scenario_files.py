"""Every scenario of ours is understood: a file that is not would be missed only where all of them are played."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.labkit.boot import REPOSITORY
from tests.labkit.scenario import load

FILES = sorted((REPOSITORY / "tests" / "lab").rglob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_is_understood(file: Path) -> None:
    assert load(file).steps
