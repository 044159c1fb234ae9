"""What the engine makes of a BIRD that is slow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from kuberouter_py.bgp.engine import Engine
from kuberouter_py.ports import Busy
from tests.fakes.bird import FakeBird


def no_program(argv: Sequence[str]) -> object:
    raise AssertionError(argv)


def slowly(_command: str) -> bytes:
    time.sleep(0.15)
    return b"0000 \n"


def test_a_question_has_one_time_for_all_its_commands(tmp_path: Path) -> None:
    engine = Engine(no_program, bird_socket=str(tmp_path / "bird.ctl"))
    bird = FakeBird(engine.files.socket, slowly)
    with pytest.raises(Busy, match=r"within 0\.2 s"):
        engine.peers(within=0.2)
    bird.end()
