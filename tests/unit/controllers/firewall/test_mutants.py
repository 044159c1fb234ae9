"""Laws that find no defect prove nothing: each of these is found in one of their scenes."""

from __future__ import annotations

import pytest

from tests.fakes.mutants import MUTANTS, mutant
from tests.fakes.scenes import SCENES
from tests.fakes.worlds import Scene
from tests.unit.controllers.firewall.test_laws import nothing_opens_or_closes, retried, taken_over


@pytest.mark.parametrize("name", MUTANTS)
def test_found_in_a_scene(name: str) -> None:
    with mutant(name):
        assert any(not _holds(scene) for scene in SCENES.values())


def _holds(scene: Scene) -> bool:
    try:
        nothing_opens_or_closes(scene)
        taken_over(scene)
        retried(scene)
    except AssertionError:
        return False
    return True
