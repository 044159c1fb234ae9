"""A small part of both campaigns of tests/campaign: the same worlds, and as many scenes as begin within a minute.

docs/lab.md has the long ones.
"""

from __future__ import annotations

import pytest

from tests.campaign import matrix, moments
from tests.campaign.__main__ import campaign
from tests.campaign.network import standing
from tests.campaign.pace import Pace

pytestmark = pytest.mark.usefixtures("netns")
SEED = 5


def test_every_packet_as_the_judge_says() -> None:
    with standing() as places, campaign("matrix", places, SEED) as played:
        assert isinstance(played, matrix.Campaign)
        played.run(6, SEED, Pace())
        assert played.tally.allowed and played.tally.denied, played.tally


def test_nothing_is_opened_or_closed_on_the_way() -> None:
    with standing() as places, campaign("moments", places, SEED) as played:
        assert isinstance(played, moments.Campaign)
        played.run(1, SEED, Pace(minutes=1), [moments.How.DEATH])
        assert played.tally.through_changes and played.tally.deaths + played.tally.failures, played.tally
        assert (played.tally.forbidden_passed, played.tally.allowed_lost) == (0, 0)
