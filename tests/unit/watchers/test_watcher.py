"""The list and watch protocol against a scripted server: one entry a request, without clock, thread or network."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

import pytest

from kuberouter_py.watchers import api_errors as errors
from kuberouter_py.watchers.broadcaster import Broadcaster
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.following import PROBE_SECONDS, SILENCE
from kuberouter_py.watchers.kinds import SERVICE_CIDRS, SERVICES, own_node
from kuberouter_py.watchers.watcher import Watcher
from tests.fakes.scripted_api import Answer, FakeApi, FakeStream, World, bookmark, event, failure, items, key, thing

SELECTOR = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless"


def test_streamed_list_goes_on_as_a_watch() -> None:
    """M2.01: one request lists and watches; nothing is synced before the end bookmark."""
    world = World([])
    seen: list[tuple[bool, set[str]]] = []

    def look() -> None:
        seen.append((world.cache.synced("Service"), world.names))

    world.api.answers = [
        [
            event("ADDED", thing("a", "1")),
            event("ADDED", thing("b", "2")),
            event("DELETED", thing("b", "3")),
            bookmark("4"),
            look,
            bookmark("5", end=True),
            look,
            event("ADDED", thing("c", "6")),
            look,
            300.0,
        ],
        [bookmark("9")],
    ]
    assert world.play() == [0.0, 0.0]
    assert seen == [(False, set()), (True, {"a"}), (True, {"a", "c"})]
    assert world.rung == [{key("a")}, {key("c")}]
    assert world.synced == 1
    assert world.asked == ["stream ", "watch 6"]
    first = world.api.requests[0].query
    assert first["resourceVersionMatch"] == "NotOlderThan"
    assert first["allowWatchBookmarks"] == "true"
    assert first["labelSelector"] == SELECTOR
    assert first["timeoutSeconds"] == "450"  # random 0.5 between 300 and 600
    status = world.watcher.status()
    assert (status.objects, status.resource_version, status.lists, status.reconnects) == (1 + 1, "9", 1, 1)
    assert (status.last_event, status.last_error, status.synced) == (5.0, "", True)


def test_a_server_without_streaming_gets_paged_lists() -> None:
    """M2.02, M1.01, M1.03, M1.04: from the cache first, page by page, then a watch from the last page's version."""
    world = World(
        errors.Invalid("sendInitialEvents is forbidden"),
        items("7", thing("a", "1"), more="next"),
        items("7", thing("b", "2")),
        [event("MODIFIED", thing("b", "8", "10.96.0.9")), 300.0],
        [event("DELETED", thing("a", "9")), 300.0],
    )
    assert world.play() == [0.0] * 4
    assert world.asked == ["stream ", "list 0", "list None", "watch 7", "watch 8"]
    assert world.api.requests[1].query["limit"] == "500"
    assert world.api.requests[2].query["continue"] == "next"
    assert world.names == {"b"}
    assert world.rung == [{key("a"), key("b")}, {key("b")}, {key("a")}]


def test_expired_continue_token_means_one_full_list() -> None:
    """M1.03."""
    world = World(
        items("7", thing("a", "1"), more="next"), errors.Gone("expired"), items("8", thing("b", "2")), streaming=False
    )
    assert world.play() == [0.0]
    assert world.asked == ["list 0", "list None", "list None"]
    assert "limit" not in world.api.requests[2].query
    assert world.names == {"b"}


@pytest.mark.parametrize("refusal", [errors.Gone("gone"), errors.TooNew("Too large resource version")])
def test_a_refused_version_is_followed_by_a_consistent_read_at_once(refusal: Exception) -> None:
    """M1.02."""
    world = World(refusal, items("7", thing("a", "1")), streaming=False)
    assert world.play() == [0.0, 0.0]
    assert world.asked == ["list 0", "list None"]
    assert world.names == {"a"}


def test_version_gone_in_a_watch_relists_not_older_than_the_last() -> None:
    """M1.07, M1.10: what the new list lacks is deleted, what changed is rung, nothing else."""
    world = World(
        [
            event("ADDED", thing("a", "1")),
            event("ADDED", thing("b", "2")),
            bookmark("3", end=True),
            60.0,
            bookmark("4"),
        ],
        [failure(410, "Expired")],
        [event("ADDED", thing("b", "2")), event("ADDED", thing("c", "5")), bookmark("6", end=True), 60.0],
        [bookmark("7")],
    )
    assert world.play() == [0.0] * 4
    assert world.asked == ["stream ", "watch 4", "stream 4", "watch 6"]
    assert world.names == {"b", "c"}
    assert world.rung == [{key("a"), key("b")}, {key("a"), key("c")}]
    assert world.synced == 1
    assert world.watcher.status().lists == 2


def test_relist_by_pages_asks_for_nothing_older_and_then_for_the_newest() -> None:
    """M1.01, M1.07."""
    world = World(items("5", thing("a", "1")), [60.0, failure(410)], errors.Gone("x"), items("9"), streaming=False)
    assert world.play() == [0.0] * 4
    assert world.names == set()
    # streaming stays off; the second list is bounded by the version seen, the third by nothing
    assert world.asked == ["list 0", "watch 5", "list 5", "list None"]
    assert world.api.requests[2].query["resourceVersionMatch"] == "NotOlderThan"
    assert "limit" not in world.api.requests[2].query


def test_versions_that_expire_right_after_their_list_do_not_spin() -> None:
    expired: list[Answer] = []
    for version in range(1, 7):
        expired += [[bookmark(str(version), end=True)], [failure(410)]]
    assert World(*expired).play()[1::2] == pytest.approx([1.2, 2.4, 4.8, 9.6, 19.2, 38.4])


def test_a_stream_may_be_refused_for_its_version_too() -> None:
    world = World([bookmark("1", end=True), 60.0], [failure(410)], errors.Gone("x"), [bookmark("2", end=True), 9.0])
    assert world.play() == [0.0] * 4
    assert world.asked == ["stream ", "watch 1", "stream 1", "stream "]


@pytest.mark.parametrize("refusal", [errors.Unreachable("connection refused"), errors.Throttled("later")])
def test_opening_a_watch_again_does_not_relist(refusal: Exception) -> None:
    """M1.08, M1.09: 0.8 s and twice as much each time, here with half of it on top."""
    world = World([bookmark("3", end=True), 9.0], *[refusal] * 8, [event("ADDED", thing("a", "4"))])
    waits = world.play()
    assert waits[1:9] == pytest.approx([1.2, 2.4, 4.8, 9.6, 19.2, 38.4, 45.0, 45.0])
    assert world.asked == ["stream "] + ["watch 3"] * 9
    assert world.names == {"a"}


def test_retry_after_is_honoured() -> None:
    world = World(errors.Throttled("later", retry_after=17.0), [bookmark("3", end=True)])
    assert world.play()[0] == 17.0
    assert world.asked == ["stream ", "stream "]


def test_throttled_inside_a_watch() -> None:
    """M1.07."""
    world = World([bookmark("3", end=True), 9.0], [failure(429)], [bookmark("4")])
    assert world.play()[1] == pytest.approx(1.2)
    assert world.asked[1:] == ["watch 3", "watch 3"]


def test_server_errors_inside_a_watch_end_in_a_list() -> None:
    """M1.07."""
    world = World([bookmark("3", end=True), 9.0], *[[failure(500)]] * 5, [bookmark("8", end=True)])
    world.play()
    assert world.asked == ["stream ", *["watch 3"] * 5, "stream 3"]


def test_cut_before_the_end_of_the_initial_events_uses_the_same_method() -> None:
    """M2.02; nothing of the half list is in force."""
    world = World([event("ADDED", thing("a", "1")), errors.Unreachable("reset")], [bookmark("2", end=True)])
    assert world.play()[0] == pytest.approx(1.2)
    assert world.asked == ["stream ", "stream "]
    assert world.names == set()


def test_a_server_that_never_finishes_a_stream_is_listed_by_pages() -> None:
    world = World([300.0], [300.0], errors.ServerError("500"), items("7", thing("a", "1")), [bookmark("8")])
    world.play()
    assert world.asked == ["stream ", "stream ", "stream ", "list 0", "watch 7"]
    assert world.names == {"a"}


def test_very_short_watch_backs_off() -> None:
    """M1.11."""
    world = World([bookmark("3", end=True), 9.0], [], [], [2.0], [bookmark("4")])
    assert world.play() == pytest.approx([0.0, 1.2, 2.4, 0.0, 0.0])


def test_an_undecodable_object_stops_nobody_and_keeps_its_content() -> None:
    broken = thing("a", "4")
    broken["spec"]["externalTrafficPolicy"] = "Nowhere"
    unversioned = {**broken, "metadata": {"name": "x", "namespace": "shop"}}
    first = [event("ADDED", thing("a", "1")), event("ADDED", unversioned), bookmark("3", end=True)]
    world = World(
        [*first, event("MODIFIED", broken), event("ADDED", thing("b", "5")), 9.0],
        [failure(410)],
        [event("ADDED", broken), bookmark("6", end=True), 9.0],
        [event("DELETED", broken), bookmark("7")],
    )
    world.api.answers, rest = world.api.answers[:1], world.api.answers[1:]
    world.play()
    assert world.names == {"a", "b"}
    assert {place for place, _ in world.watcher.status().problems} == {"shop/a", "shop/x"}
    assert world.watcher.status().resource_version == "5"
    world.api.answers = rest
    world.play()
    assert world.names == set()
    assert world.watcher.status().problems == ()
    assert world.rung == [{key("a")}, {key("b")}, {key("b")}, {key("a")}]


def test_version_of_an_undecodable_object_is_resumed_from() -> None:
    broken = thing("a", "4")
    broken["spec"] = []
    world = World([bookmark("3", end=True), event("ADDED", broken), 9.0], [bookmark("5")])
    world.play()
    assert world.asked[1] == "watch 4"


def test_strange_lines_are_a_broken_connection() -> None:
    world = World([bookmark("3", end=True), b"<html>"], [bookmark("4")])
    assert world.play()[0] == pytest.approx(1.2)
    assert world.asked[1] == "watch 3"


def test_once_a_bookmark_has_come_silence_ends_the_stream_which_is_resumed() -> None:
    """A list's end is no such bookmark, nor is what comes before it: of those a server sends one and no more."""
    silence = errors.Unreachable("nothing was heard for 180 s")
    seen: list[str] = []

    def look() -> None:
        seen.append(world.watcher.status().last_error)

    world = World(
        [bookmark("2"), bookmark("3", end=True), event("ADDED", thing("a", "4")), 300.0],
        [bookmark("5"), bookmark("6"), SILENCE, silence],
        silence,
        [look, 300.0],
    )
    world.api.answers, rest = world.api.answers[:3], world.api.answers[3:]
    assert world.play() == pytest.approx([0.0, 1.2, 2.4])
    assert world.watcher.status().last_error == str(silence)
    world.api.answers = rest
    world.play()
    assert world.asked == ["stream ", "watch 4", "watch 6", "watch 6"]
    assert [stream.expected for stream in world.api.streams] == [[], [SILENCE] * 2, []]
    assert seen == [""]
    assert world.watcher.status().lists == 1


def test_unknown_event_types_are_passed_over() -> None:
    world = World([bookmark("3", end=True), event("NEWS", {}), event("ADDED", thing("a", "4"))])
    world.play()
    assert world.names == {"a"}


def test_delete_of_an_unknown_and_add_of_a_known_object() -> None:
    """M1.10."""
    again = [event("ADDED", thing("a", version, "10.96.0.2")) for version in ("5", "6")]
    world = World([event("ADDED", thing("a", "1")), bookmark("3", end=True), event("DELETED", thing("z", "4")), *again])
    world.play()
    assert world.rung == [{key("a")}, {key("a")}]


def test_forbidden_waits_and_asks_again() -> None:
    world = World(errors.Forbidden("no"), errors.Unauthorized("who"), [bookmark("3", end=True)])
    assert world.play()[:2] == pytest.approx([1.2, 2.4])
    assert not world.watcher.status().last_error


def test_a_fault_of_ours_ends_in_a_list() -> None:
    def fault() -> None:
        raise RuntimeError("fault")

    world = World([event("ADDED", thing("a", "1")), bookmark("3", end=True), fault], [bookmark("5", end=True)])
    assert world.play()[0] == pytest.approx(1.2)
    assert world.asked == ["stream ", "stream 3"]


def test_optional_kind_is_looked_for_in_all_its_versions_and_then_rarely() -> None:
    """M3.04."""
    missing = errors.NotFound("404")
    cidr = {"metadata": {"name": "kubernetes", "resourceVersion": "1"}, "spec": {"cidrs": ["10.96.0.0/16"]}}
    found = [event("ADDED", cidr), bookmark("2", end=True), 9.0]
    world = World(missing, missing, missing, found, [bookmark("3")], kind=SERVICE_CIDRS)
    world.api.answers, rest = world.api.answers[:2], world.api.answers[2:]
    assert world.play() == [0.0, PROBE_SECONDS * 1.5]
    assert world.synced == 1
    assert world.watcher.status().absent
    world.api.answers = rest
    world.play()
    v1, v1beta1 = SERVICE_CIDRS.paths
    assert [request.path for request in world.api.requests] == [v1, v1beta1, v1, v1beta1, v1beta1]
    assert len(world.cache.service_cidrs()) == 1
    assert not world.watcher.status().absent
    assert world.synced == 1


def test_optional_kind_that_we_may_not_see() -> None:
    """An API server that starts refuses everything for a moment; one that goes on refusing is asked rarely."""
    world = World(*[errors.Forbidden("no")] * 5, kind=SERVICE_CIDRS)
    waits = world.play()
    assert waits[:4] == pytest.approx([1.2, 2.4, 4.8, 9.6])
    assert waits[4] == PROBE_SECONDS * 1.5
    assert world.cache.synced("ServiceCIDR")


def test_a_missing_kind_that_is_needed_is_an_error() -> None:
    world = World(errors.NotFound("404"), [bookmark("1", end=True)])
    assert world.play()[0] == pytest.approx(1.2)
    assert world.synced == 1


def test_own_node_by_field_selector() -> None:
    """M3.02."""
    world = World([bookmark("1", end=True)], kind=own_node("n1"))
    world.play()
    assert world.api.requests[0].query["fieldSelector"] == "metadata.name=n1"
    assert "labelSelector" not in world.api.requests[0].query


def test_stop_closes_the_open_stream_and_ends_the_thread() -> None:
    reading, closed = threading.Event(), threading.Event()

    class Held(FakeStream):
        def __iter__(self) -> Iterator[bytes]:
            reading.set()
            assert closed.wait(10.0)
            yield from ()

        def close(self) -> None:
            closed.set()

    class HeldApi(FakeApi):
        def stream(self, path: str, query: Mapping[str, str], read_timeout: float) -> FakeStream:
            return Held([], self.pass_time)

    cache = Cache()
    watcher = Watcher(HeldApi(), SERVICES, cache, Broadcaster())
    watcher.start()
    assert reading.wait(10.0)
    watcher.stop()
    watcher.join(10.0)
    assert closed.is_set()
    assert watcher.status().last_error == ""


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        (401, b"", errors.Unauthorized),
        (403, b"{}", errors.Forbidden),
        (404, b"404 page not found", errors.NotFound),
        (409, b"{}", errors.Conflict),
        (410, b"{}", errors.Gone),
        (0, b'{"code":410}', errors.Gone),
        (500, b'{"reason":"Expired"}', errors.Gone),
        (422, b"{}", errors.Invalid),
        (429, b"{}", errors.Throttled),
        (503, b"\xff", errors.ServerError),
        (504, b'{"details":{"causes":[{"reason":"ResourceVersionTooLarge"}]}}', errors.TooNew),
        (504, b'{"message":"Timeout: Too large resource version: 5, current: 4"}', errors.TooNew),
        (418, b"{}", errors.ApiError),
    ],
)
def test_errors_in_our_words(code: int, body: bytes, expected: type[errors.ApiError]) -> None:
    assert type(errors.error_of(code, body, "GET /x")) is expected


def test_how_long_the_server_asks_us_to_wait() -> None:
    assert errors.error_of(429, b"{}", "GET /x", "7").retry_after == 7.0
    assert errors.error_of(429, b'{"details":{"retryAfterSeconds":3}}', "GET /x").retry_after == 3.0
    assert errors.error_of(429, b"{}", "GET /x", "Wed, 21 Oct 2026 07:28:00 GMT").retry_after == 0.0
    assert errors.error_of(429, b"{}", "GET /x", "999999").retry_after == 300.0
