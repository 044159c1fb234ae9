"""Marked packets led in, against the real kernel; `ip rule` and `ip route get` are the witnesses."""

from __future__ import annotations

import pytest

from kuberouter_py.kernel.diversions import BROKEN, Diversions
from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch
from kuberouter_py.model.kernel import Diversion
from tests.kernel.exam import bring, settle, sh

OURS = Diversion(0x4000_0000, 0xC00F_FF00)
OTHER = Diversion(0x2000_0000, 0xF000_0000)
FAR = {4: "198.51.100.7", 6: "2001:db8:99::7"}

pytestmark = pytest.mark.usefixtures("netns")
by_family = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def diversions(batch: Batch) -> Diversions:
    return Diversions(batch)


def everything() -> str:
    return sh("for f in -4 -6; do ip $f rule show; ip $f route show table all; done")


def way(family: int, mark: int) -> str:
    return sh(f"ip -{family} route get {FAR[family]} mark {mark} 2>&1 || true")


def test_what_is_marked_is_local_and_nothing_else_is(diversions: Diversions) -> None:
    before = everything()
    settle(diversions, {4: OURS, 6: OURS})
    for family in (4, 6):
        assert "local" in way(family, 0x4000_0001)
        assert "nreachable" in way(family, 0) and "nreachable" in way(family, 0x4000_4001)
    settle(diversions, {})
    assert everything() == before


@by_family
def test_one_mark_after_another(diversions: Diversions, family: int) -> None:
    settle(diversions, {family: OURS})
    settle(diversions, {family: OTHER})
    assert "local" in way(family, 0x2000_0001) and "nreachable" in way(family, 0x4000_0001)
    settle(diversions, {})


@by_family
@pytest.mark.parametrize(
    "harm",
    [
        "rule del pref 15800",
        "route flush table 158",
        "rule add pref 99 fwmark 7 lookup 158 protocol 158",
    ],
)
def test_damage_shows_and_is_repaired(diversions: Diversions, family: int, harm: str) -> None:
    settle(diversions, {4: OURS, 6: OURS})
    sh(f"ip -{family} {harm}")
    assert diversions.read().ours[family] != OURS
    settle(diversions, {4: OURS, 6: OURS})
    assert "local" in way(family, 0x4000_0001)
    settle(diversions, {})


@by_family
def test_what_others_have_there_stays(diversions: Diversions, family: int) -> None:
    sh(f"""ip -{family} rule add pref 15800 fwmark 9 lookup 158
           ip -{family} route add local {FAR[family]} dev lo table 158""")
    before = everything()
    settle(diversions, {family: OURS})
    settle(diversions, {})
    assert everything() == before


def test_left_over_by_an_earlier_process(diversions: Diversions) -> None:
    settle(diversions, {4: OURS, 6: OURS})
    batch = Batch(NETLINK_ROUTE, strict=True)
    later = Diversions(batch)
    assert later.read().ours == {4: OURS, 6: OURS}
    settle(later, {})
    batch.close()
    assert diversions.read().ours == {}


def test_half_of_it_reads_as_broken(diversions: Diversions) -> None:
    settle(diversions, {4: OURS})
    sh("ip route flush table 158")
    assert diversions.read().ours == {4: BROKEN}
    assert bring(diversions, {}) == {}
