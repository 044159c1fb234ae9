"""That rules written by other hands are heard of, for every flavour of iptables that this kernel has."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kuberouter_py.kernel.iptables import Chains
from kuberouter_py.kernel.iptables_flavours import Flavour, nf_tables_lacks
from kuberouter_py.kernel.rule_news import RuleNews
from tests.kernel.exam import sh

HERE: list[Flavour] = ["legacy"] if nf_tables_lacks(4) else ["legacy", "nft"]
WITHIN = 60.0

pytestmark = pytest.mark.usefixtures("netns")


@pytest.fixture(params=HERE)
def flavour(request: pytest.FixtureRequest) -> Flavour:
    found: Flavour = request.param
    return found


@pytest.fixture
def news() -> Iterator[queue.SimpleQueue[None]]:
    told: queue.SimpleQueue[None] = queue.SimpleQueue()
    found = RuleNews(lambda: told.put(None))
    found.open()
    thread = threading.Thread(target=found.run)
    thread.start()
    yield told
    found.stop()
    thread.join(WITHIN)
    assert not thread.is_alive()


def test_what_others_write_is_told_once(flavour: Flavour, news: queue.SimpleQueue[None]) -> None:
    sh(f"iptables-{flavour} -t nat -N THEIRS; iptables-{flavour} -t nat -I PREROUTING 1 -j THEIRS")
    news.get(timeout=WITHIN)
    assert news.empty()


def test_looking_is_no_news(flavour: Flavour) -> None:
    """Else a comparison would bring the next one."""
    found = RuleNews(lambda: None)
    found.open()
    Chains("KRPY-SVC-", flavour).read()
    assert not found.heard()
    sh(f"ip6tables-{flavour} -t nat -N THEIRS")
    assert found.heard()
    found.stop()
    found.run()


def test_a_lock_file_that_cannot_be_watched_is_left_to_the_comparison() -> None:
    found = RuleNews(lambda: None, Path("/nowhere/xtables.lock"))
    found.open()
    found.stop()
    found.run()
