"""What a stream's attempts amount to."""

from __future__ import annotations

import pytest

from tests.labkit.traffic.streams import Try, summary


def tries(text: str) -> list[Try]:
    """ "..x." is four attempts, one a second, the third of which failed."""
    return [Try(float(second), mark == ".") for second, mark in enumerate(text)]


@pytest.mark.parametrize(
    ("text", "failed", "gap"),
    [
        ("....", 0, 1.0),
        ("..x.", 1, 2.0),
        (".xx.x.", 3, 3.0),
        ("xx..", 2, 2.0),
        ("..xx", 2, 3.0),
        ("xxxx", 4, 4.0),
        (".", 0, 0.0),
        ("", 0, 0.0),
    ],
)
def test_summary(text: str, failed: int, gap: float) -> None:
    counted = summary(tries(text), 0.0, float(len(text)))
    assert counted == {"attempts": len(text), "failed": failed, "longest_gap": gap}


def test_order_of_answers_does_not_matter() -> None:
    assert summary(list(reversed(tries("..x."))), 0.0, 4.0)["longest_gap"] == 2.0
