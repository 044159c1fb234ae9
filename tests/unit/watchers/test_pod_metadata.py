"""Pods as a Service proxy hears of them: only those that say something are kept, and nothing waits for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kuberouter_py.model.cluster import EndpointSlice, ObjectKey, PodMetadata
from kuberouter_py.watchers import api_errors as errors
from kuberouter_py.watchers.broadcaster import Broadcaster
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.decode import DecodeError, decode, decode_versioned
from kuberouter_py.watchers.kinds import POD_METADATA, SERVICES
from kuberouter_py.watchers.watchers import Watchers
from tests.fakes.objects import endpoint, endpoint_slice
from tests.fakes.scripted_api import World, bookmark, event, items, key

NOW = "2026-11-29T10:00:00Z"


def pod(name: str, version: str = "1", weight: str = "", **metadata: Any) -> dict[str, Any]:
    annotations = {"kube-router.io/endpoint.weight": weight} if weight else {"other": "thing"}
    about = {"name": name, "namespace": "shop", "uid": f"uid-{name}", "resourceVersion": version}
    return {"kind": "PartialObjectMetadata", "metadata": about | {"annotations": annotations} | metadata}


def decoded(body: dict[str, Any]) -> object:
    return decode("PodMetadata", json.dumps(body).encode())


def test_one_that_says_nothing_is_nothing() -> None:
    assert decoded(pod("a")) is None
    assert decoded({"metadata": {"name": "a"}}) is None
    assert decoded(pod("a", deletionGracePeriodSeconds=30)) is None  # of a Pod that is not being deleted
    versioned = decode_versioned("PodMetadata", json.dumps(pod("a", "7")).encode())
    assert (versioned.key, versioned.resource_version, versioned.object) == (key("a"), "7", None)


@pytest.mark.parametrize("whole", [False, True])
def test_weight_and_grace_of_metadata_alone_and_of_a_whole_pod(whole: bool) -> None:
    body = pod("a", weight="5", deletionTimestamp=NOW, deletionGracePeriodSeconds=0)
    if whole:
        body |= {"kind": "Pod", "spec": {"containers": 7}, "status": []}
    assert decoded(body) == PodMetadata(key("a"), "uid-a", "5", 0)


@pytest.mark.parametrize("metadata", [{"uid": 7}, {"annotations": {"kube-router.io/endpoint.weight": 5}}])
def test_what_does_not_decode_says_so(metadata: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        decoded(pod("a") | {"metadata": {"name": "a"} | metadata})


def test_a_watch_keeps_who_says_something_for_as_long_as_that_is_so() -> None:
    world = World([], kind=POD_METADATA)
    counts: list[int] = []

    def look() -> None:
        counts.append(world.cache.count("PodMetadata"))

    world.api.answers = [
        [
            event("ADDED", pod("a")),
            event("ADDED", pod("b", weight="5")),
            bookmark("5", end=True),
            look,
            event("MODIFIED", pod("a", "6", deletionTimestamp=NOW, deletionGracePeriodSeconds=30)),
            look,
            event("MODIFIED", pod("b", "7")),
            look,
            event("DELETED", pod("a", "8")),
            look,
            300.0,
        ],
        [300.0],
    ]
    world.play()
    assert counts == [1, 2, 1, 0]
    assert world.cache.pods() == {}
    assert world.asked == ["stream ", "watch 8"]


def test_so_does_a_list() -> None:
    world = World(items("7", pod("a"), pod("b", weight="5")), [300.0], kind=POD_METADATA, streaming=False)
    world.play()
    assert [*world.cache.pods()] == ["uid-b"]


def test_a_server_that_keeps_pods_from_us_is_no_failure() -> None:
    world = World(errors.Forbidden("pods"), kind=POD_METADATA)
    world.play()
    assert world.watcher.status().absent


def of(service: str, *uids: str) -> EndpointSlice:
    name = f"shop/{service}"
    return endpoint_slice(name, *(endpoint(f"10.244.2.{place}", pod=uid) for place, uid in enumerate(uids, 1)))


def put(cache: Cache, name: str, weight: str = "", grace: int | None = None, uid: str = "") -> set[ObjectKey]:
    return cache.put("PodMetadata", key(name), PodMetadata(key(name), uid or f"uid-{name}", weight, grace))


def test_a_weight_rings_the_services_whose_slices_name_the_pod() -> None:
    cache = Cache()
    for piece in (
        of("web", "uid-a", "uid-b"),
        of("other", "uid-c"),
        endpoint_slice("web", endpoint("10.0.0.1", pod="uid-a")),
    ):
        cache.put("EndpointSlice", piece.key, piece)
    assert put(cache, "a", "5") == {key("web")}
    assert put(cache, "a", "5") == set()
    assert put(cache, "a", "5", grace=30) == set()
    assert put(cache, "b", grace=30) == set()
    assert put(cache, "d", "5") == set()
    assert put(cache, "a", "5", uid="uid-c") == {key("web"), key("other")}
    assert [*cache.pods()] == ["uid-b", "uid-d", "uid-c"]
    assert cache.delete("PodMetadata", key("a")) == {key("other")}
    assert cache.delete("PodMetadata", key("b")) == set()


def test_many_at_once_are_looked_for_together() -> None:
    cache = Cache()
    walks = []

    class Counted(dict[Any, Any]):
        def items(self) -> Any:
            walks.append(1)
            return super().items()

    cache._slices = Counted()
    piece = of("web", *(f"uid-{number}" for number in range(50)))
    cache.put("EndpointSlice", piece.key, piece)
    pods = {key(str(number)): PodMetadata(key(str(number)), f"uid-{number}", "3") for number in range(50)}
    assert cache.replace("PodMetadata", pods, {}) == {key("web")}
    assert walks == [1]


def test_a_folder_has_them_too_and_they_are_not_waited_for(tmp_path: Path) -> None:
    body = {"apiVersion": "v1", **pod("a", weight="5"), "kind": "Pod", "spec": {"containers": []}}
    (tmp_path / "pods.yaml").write_text(json.dumps(body))
    cache = Cache()
    watchers = Watchers(tmp_path, [SERVICES, POD_METADATA], Broadcaster(), cache)
    assert watchers.unsynced() == ["Service"]
    watchers.start()
    try:
        assert watchers.wait_synced(10.0)
        assert cache.wait_synced(["PodMetadata"], 10.0)
    finally:
        watchers.stop()
    assert cache.pods() == {"uid-a": PodMetadata(key("a"), "uid-a", "5")}


def test_services_do_not_wait_for_pods() -> None:
    cache = Cache()
    watchers = Watchers(Path("."), [SERVICES, POD_METADATA], Broadcaster(), cache)
    cache.mark_synced("Service")
    assert watchers.wait_synced(0.0)
    assert watchers.unsynced() == []
