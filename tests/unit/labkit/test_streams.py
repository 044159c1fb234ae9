"""What a stream's attempts amount to."""

from __future__ import annotations

import asyncio

import pytest

from tests.labkit.traffic.flows import Outcome
from tests.labkit.traffic.streams import Kept, Try, summary


def tries(text: str) -> list[Try]:
    """ "..x." is four attempts, one a second, the third of which failed."""
    return [Try(float(second), "open" if mark == "." else "reset") for second, mark in enumerate(text)]


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
    ways = {"failed reset": failed} if failed else {}
    assert counted == {"attempts": len(text), "failed": failed, "longest_gap": gap} | ways


def test_order_of_answers_does_not_matter() -> None:
    assert summary(list(reversed(tries("..x."))), 0.0, 4.0)["longest_gap"] == 2.0


class ScriptedFlow:
    """Answers in order, then is asked no more."""

    def __init__(self, *answers: Outcome) -> None:
        self.answers = list(answers)
        self.closed = False

    async def ask(self, timeout: float) -> Outcome:
        return self.answers.pop(0)

    def close(self) -> None:
        self.closed = True


OPEN, LAST, RESET = {"outcome": "open"}, {"outcome": "open", "close": True}, {"outcome": "reset"}


def test_kept_connections_are_asked_in_turn_and_opened_anew_only_when_they_have_ended() -> None:
    made = [ScriptedFlow(OPEN, LAST), ScriptedFlow(OPEN, RESET), ScriptedFlow(OPEN), ScriptedFlow(OPEN)]
    waiting = list(made)

    async def play() -> list[str]:
        kept = Kept(lambda: waiting.pop(0), 2)  # type: ignore[arg-type, return-value]
        said = [(await kept.ask(1.0))["outcome"] for _ in range(6)]
        kept.close()
        return said

    assert asyncio.run(play()) == ["open", "open", "open", "reset", "open", "open"]
    assert [flow.answers for flow in made] == [[]] * 4
    assert all(flow.closed for flow in made)
