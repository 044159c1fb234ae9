"""How long endpoints take into the kernel: one observation for each change."""

from __future__ import annotations

from kuberouter_py.observe.programming import Programming
from tests.fakes.objects import key_of

WEB = key_of("web")


def test_a_change_arrives_with_the_first_sync_that_began_after_it() -> None:
    watch = Programming(100.0)
    watch.heard(WEB, 110.0, now=111.0)
    assert watch.arrived(110.5) == []
    assert watch.arrived(111.0) == [110.0]
    assert watch.arrived(112.0) == []


def test_the_same_time_again_is_no_new_change() -> None:
    """An hour later somebody annotates the Service: that took no hour."""
    watch = Programming(100.0)
    watch.heard(WEB, 110.0, now=111.0)
    watch.arrived(111.0)
    watch.heard(WEB, 110.0, now=3711.0)
    assert watch.arrived(3712.0) == []
    watch.heard(WEB, 3720.0, now=3721.0)
    assert watch.arrived(3722.0) == [3720.0]


def test_changes_from_before_the_start_and_services_without_slices_do_not_count() -> None:
    watch = Programming(100.0)
    watch.heard(WEB, 99.0, now=101.0)
    watch.heard(key_of("dns"), 120.0, now=121.0)
    watch.heard(key_of("dns"), 0.0, now=122.0)
    assert watch.arrived(200.0) == []
    assert watch._seen == {}
