"""The newest object by key, and whom a change concerns."""

from __future__ import annotations

import threading
from typing import Any

from kuberouter_py.model.cluster import Cidr, EndpointSlice, Namespace, Node, ObjectKey, Service, ServiceCidr
from kuberouter_py.watchers.broadcaster import Broadcaster
from kuberouter_py.watchers.cache import Cache

WEB, DNS, NONE = ObjectKey("shop", "web"), ObjectKey("shop", "dns"), ObjectKey("shop", "")


def service(key: ObjectKey, uid: str = "u") -> Service:
    return Service(key=key, uid=uid, created=1.0, type="ClusterIP", cluster_ips=(), ports=())


def piece(name: str, of: ObjectKey = WEB, trigger: float = 0.0) -> EndpointSlice:
    key = ObjectKey("shop", name)
    return EndpointSlice(key=key, service=of, family=4, ports=(), endpoints=(), trigger_time=trigger)


def put(cache: Cache, found: EndpointSlice) -> set[ObjectKey]:
    return cache.put("EndpointSlice", found.key, found)


def test_put_rings_only_what_changed() -> None:
    cache = Cache()
    assert cache.put("Service", WEB, service(WEB)) == {WEB}
    assert cache.put("Service", WEB, service(WEB)) == set()
    assert cache.put("Service", WEB, service(WEB, "other")) == {WEB}
    assert cache.service(WEB) == service(WEB, "other")
    assert cache.delete("Service", WEB) == {WEB}
    assert cache.delete("Service", WEB) == set()
    assert cache.service(WEB) is None


def test_a_node_whose_pod_cidrs_make_no_sense_keeps_those_of_before() -> None:
    """Whether it comes by a watch or in a list; everybody who asks gets the same. A Node that is a new one has none."""
    key, before, of_spec = ObjectKey("", "n1"), Cidr(b"\x0a\x09\0\0", 24), Cidr(b"\x0a\xf4\x01\0", 24)
    cache = Cache()
    bad = Node(key, "u", pod_cidrs=(of_spec,), refused=("no CIDR",))
    cache.put("Node", key, Node(key, "u", pod_cidrs=(before,), annotated=True))
    assert cache.put("Node", key, bad) == {key}
    assert cache.put("Node", key, bad) == set()
    assert cache.replace("Node", {key: bad}, {}) == set()
    kept = cache.node("n1")
    assert kept is not None
    assert (kept.pod_cidrs, kept.refused) == ((before,), ("no CIDR; what it said before stays in force",))
    cache.delete("Node", key)
    cache.put("Node", key, bad)
    assert cache.node("n1") == bad


def test_a_slice_rings_its_old_and_its_new_service() -> None:
    cache = Cache()
    assert put(cache, piece("b")) == {WEB}
    assert put(cache, piece("a")) == {WEB}
    assert [found.key.name for found in cache.slices_of(WEB)] == ["a", "b"]
    assert put(cache, piece("b", DNS)) == {WEB, DNS}
    assert [found.key.name for found in cache.slices_of(WEB)] == ["a"]
    assert put(cache, piece("b", NONE)) == {DNS}
    assert cache.slices_of(DNS) == ()
    assert put(cache, piece("c", NONE)) == set()
    assert cache.delete("EndpointSlice", ObjectKey("shop", "a")) == {WEB}
    assert cache.service_keys() == set()


def test_a_slice_that_changes_is_never_seen_missing() -> None:
    """Who reads takes no lock: a Service without endpoints for a moment would be one without destinations."""
    seen: list[int] = []

    class Watched(dict[Any, Any]):
        def __setitem__(self, service: Any, pieces: Any) -> None:
            seen.append(len(pieces))
            super().__setitem__(service, pieces)

        def pop(self, *arguments: Any) -> Any:
            seen.append(0)
            return super().pop(*arguments)

    cache = Cache()
    cache._slices = Watched()
    for generation in range(3):
        put(cache, piece("a", trigger=float(generation)))
    assert seen == [1, 1, 1]


def test_service_keys_are_those_of_services_and_of_slices() -> None:
    cache = Cache()
    cache.put("Service", WEB, service(WEB))
    put(cache, piece("d", DNS))
    assert cache.service_keys() == {WEB, DNS}


def test_replace_deletes_what_the_list_lacks() -> None:
    cache = Cache()
    first, second = piece("a"), piece("b", DNS)
    assert cache.replace("EndpointSlice", {first.key: first, second.key: second}, {}) == {WEB, DNS}
    assert cache.replace("EndpointSlice", {first.key: piece("a")}, {}) == {DNS}
    assert cache.slices_of(WEB)[0] is first  # an equal one leaves the old one in its place
    assert cache.slices_of(DNS) == ()
    assert cache.count("EndpointSlice") == 1


def test_an_undecodable_object_keeps_its_last_good_content() -> None:
    cache = Cache()
    cache.put("Service", WEB, service(WEB))
    cache.undecodable("Service", WEB, "broken")
    assert cache.service(WEB)
    assert cache.failures("Service") == {WEB: "broken"}
    assert cache.replace("Service", {}, {WEB: "still broken"}) == set()
    assert cache.service(WEB)
    assert cache.put("Service", WEB, service(WEB)) == set()
    assert cache.failures("Service") == {}
    cache.undecodable("Service", WEB, "broken")
    assert cache.replace("Service", {}, {}) == {WEB}
    assert cache.failures("Service") == {}


def test_a_list_with_a_nameless_object_deletes_nothing() -> None:
    cache = Cache()
    cache.put("Service", WEB, service(WEB))
    assert cache.replace("Service", {DNS: service(DNS)}, {}, nameless=1) == {DNS}
    assert cache.service(WEB)


def test_typed_reading() -> None:
    cache = Cache()
    key = ObjectKey("", "n1")
    networks = (Cidr(b"\x0a\0\0\0", 8),)
    cache.put("Node", key, Node(key, "u"))
    cache.put("ServiceCIDR", ObjectKey("", "a"), ServiceCidr(ObjectKey("", "a"), networks))
    cache.put("ServiceCIDR", ObjectKey("", "b"), ServiceCidr(ObjectKey("", "b"), networks))
    cache.put("Namespace", ObjectKey("", "shop"), Namespace(ObjectKey("", "shop")))
    assert cache.node("n1") == Node(key, "u")
    assert cache.node("n2") is None
    assert cache.service_cidrs() == [*networks]
    assert cache.get(Namespace, ObjectKey("", "shop")) == Namespace(ObjectKey("", "shop"))
    assert cache.list(Node) == [Node(key, "u")]


def test_last_trigger_time() -> None:
    cache = Cache()
    put(cache, piece("a", trigger=5.0))
    put(cache, piece("b", trigger=7.0))
    assert cache.last_trigger_time(WEB) == 7.0
    assert cache.last_trigger_time(DNS) == 0.0


def test_wait_synced() -> None:
    cache = Cache()
    assert not cache.wait_synced(["Service"], 0.0)
    waited: list[bool] = []
    waiter = threading.Thread(target=lambda: waited.append(cache.wait_synced(["Service", "Node"], 10.0)))
    waiter.start()
    assert cache.mark_synced("Service")
    assert not cache.mark_synced("Service")
    assert cache.mark_synced("Node")
    waiter.join(10.0)
    assert waited == [True]
    assert cache.synced("Node")
    assert not cache.synced("Pod")


def test_broadcaster_rings_who_asked_whatever_another_does() -> None:
    heard: list[object] = []
    broadcaster = Broadcaster()

    def broken(_: object) -> None:
        raise RuntimeError("broken")

    broadcaster.subscribe("Service", broken)
    broadcaster.subscribe("Service", heard.append, lambda: heard.append("synced"))
    broadcaster.subscribe("Node", lambda keys: heard.append("node"))
    broadcaster.ring("Service", {WEB})
    broadcaster.ring("Service", set())
    broadcaster.ring("Pod", {WEB})
    broadcaster.ring_synced("Service")
    broadcaster.ring_synced("Node")
    assert heard == [{WEB}, "synced"]
