"""The cluster heard from a real kube-apiserver: list, watch, resume, expiry, cuts, throttling, odd objects."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import certifi
import pytest

from kuberouter_py.model.cluster import Namespace, ObjectKey, Pod, PodMetadata
from kuberouter_py.watchers import api_errors as errors
from kuberouter_py.watchers.api import JSON, ApiClient, MetadataOnly
from kuberouter_py.watchers.broadcaster import Broadcaster
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.decode_fields import address, cidr
from kuberouter_py.watchers.kinds import (
    ENDPOINT_SLICES,
    NAMESPACES,
    NETWORK_POLICIES,
    NODES,
    POD_METADATA,
    PODS,
    SERVICE_CIDRS,
    SERVICES,
    Kind,
    own_node,
)
from kuberouter_py.watchers.status import WatchStatus
from kuberouter_py.watchers.watchers import Watchers

if TYPE_CHECKING:
    from tests.api.conftest import RealControlPlane

KINDS = (SERVICES, ENDPOINT_SLICES, SERVICE_CIDRS)
DEADLINE = 60.0  # seconds; the longest of our own waits is half of it


class Listener:
    def __init__(self, client: ApiClient, kinds: Sequence[Kind]) -> None:
        self.client = client
        self.cache = Cache()
        self.rung: list[ObjectKey] = []
        self._news = threading.Condition()
        broadcaster = Broadcaster()
        for kind in kinds:
            broadcaster.subscribe(kind.name, self._note)
        self.watchers = Watchers(client, kinds, broadcaster, self.cache)

    def _note(self, keys: Collection[ObjectKey]) -> None:
        with self._news:
            self.rung.extend(keys)
            self._news.notify_all()

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Until it holds; looked at whenever something is rung, and twice a second for what rings nothing."""
        ends = time.monotonic() + DEADLINE
        with self._news:
            while not condition():
                assert time.monotonic() < ends, f"{what}: {self.watchers.status()}"
                self._news.wait(0.5)

    def has(self, name: str, ip: str = "") -> Callable[[], bool]:
        def look() -> bool:
            found = self.cache.service(ObjectKey("default", name))
            return found is not None and (not ip or address(ip) in found.external_ips)

        return look

    def lacks(self, name: str) -> Callable[[], bool]:
        return lambda: self.cache.service(ObjectKey("default", name)) is None

    def status(self, kind: str) -> WatchStatus:
        return next(status for status in self.watchers.status() if status.kind == kind)


@contextmanager
def listening(
    plane: RealControlPlane, kinds: Sequence[Kind] = KINDS, client: ApiClient | None = None
) -> Iterator[Listener]:
    listener = Listener(client or ApiClient(kubeconfig=str(plane.kubeconfig)), kinds)
    listener.watchers.start()
    try:
        assert listener.watchers.wait_synced(DEADLINE), listener.watchers.status()
        yield listener
    finally:
        started = time.monotonic()
        listener.watchers.stop()
        while left := [thread for thread in threading.enumerate() if thread.name.startswith("watch-")]:
            assert time.monotonic() - started < DEADLINE / 2, left  # who waited for the next event would take minutes
            time.sleep(0.05)


def service(name: str, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"ports": [{"port": 80}]} | spec,
    }


def piece(name: str, of: str, ip: str = "10.1.0.1") -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": of}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ip]}],
        "ports": [{"port": 8080}],
    }


def test_list_and_watch(control_plane: RealControlPlane) -> None:
    """The first list is streamed (M2.01), the same request goes on as a watch."""
    plane = control_plane
    plane.objects.apply(service("before"))
    with listening(plane) as listener:
        assert listener.has("before")()
        assert listener.has("kubernetes")()
        assert listener.cache.service_cidrs() == [cidr("10.96.0.0/16"), cidr("fd00:10:96::/112")]
        plane.objects.apply(service("after", externalIPs=["192.0.2.1"]))
        listener.wait(listener.has("after", "192.0.2.1"), "added")
        plane.objects.apply(service("after", externalIPs=["192.0.2.2"]))
        listener.wait(listener.has("after", "192.0.2.2"), "changed")
        plane.objects.delete("Service/default/after")
        listener.wait(listener.lacks("after"), "deleted")
        assert listener.status("Service").lists == 1
        assert listener.status("Service").reconnects == 0
        assert listener.status("Service").problems == ()


def test_slices_ring_the_services_of_their_old_and_new_label(control_plane: RealControlPlane) -> None:
    plane = control_plane
    one, two = ObjectKey("default", "one"), ObjectKey("default", "two")
    with listening(plane) as listener:
        plane.objects.apply(piece("moving", "one"))
        listener.wait(lambda: len(listener.cache.slices_of(one)) == 1, "slice of one")
        found = listener.cache.slices_of(one)[0]
        assert (found.ports[0].name, found.endpoints[0].address) == ("", address("10.1.0.1"))  # the server's defaults
        listener.rung.clear()
        plane.objects.apply(piece("moving", "two"))
        listener.wait(lambda: len(listener.cache.slices_of(two)) == 1, "slice of two")
        listener.wait(lambda: {one, two} <= set(listener.rung), "both are rung")
        assert listener.cache.slices_of(one) == ()
        plane.objects.delete("EndpointSlice/default/moving")
        listener.wait(lambda: listener.cache.slices_of(two) == (), "no slice")


@pytest.mark.parametrize("label", ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"])
def test_labels_hide_services(control_plane: RealControlPlane, label: str) -> None:
    """S1.01, S1.02: the server's selectors delete and add it for us."""
    plane = control_plane
    plane.objects.apply(service("hidden"))
    with listening(plane) as listener:
        assert listener.has("hidden")()
        plane.objects.patch("Service/default/hidden", {"metadata": {"labels": {label: "x"}}})
        listener.wait(listener.lacks("hidden"), "hidden by its label")
        plane.objects.patch("Service/default/hidden", {"metadata": {"labels": {label: None}}})
        listener.wait(listener.has("hidden"), "back without it")


def test_cut_connections_are_resumed_without_a_list(control_plane: RealControlPlane) -> None:
    """M1.06, M1.08."""
    plane = control_plane
    with listening(plane) as listener:
        plane.cut()
        plane.objects.apply(service("after-cut"))
        listener.wait(listener.has("after-cut"), "seen after the cut")
        status = listener.status("Service")
        assert (status.lists, status.last_error) == (1, "")
        assert status.reconnects >= 1


def test_api_server_away_with_changes_meanwhile(control_plane: RealControlPlane) -> None:
    """What was known stays known; what changed meanwhile is picked up."""
    plane = control_plane
    plane.objects.apply(service("leaves"))
    plane.objects.apply(service("stays"))
    with listening(plane) as listener:
        plane.stop()
        listener.wait(lambda: listener.status("Service").last_error != "", "the outage shows")
        assert listener.has("leaves")()
        plane.inside()
        plane.objects.delete("Service/default/leaves")
        plane.objects.apply(service("comes"))
        assert listener.has("leaves")()
        listener.rung.clear()
        plane.start()
        listener.wait(listener.has("comes"), "added meanwhile")
        listener.wait(listener.lacks("leaves"), "deleted meanwhile")
        assert ObjectKey("default", "stays") not in listener.rung


def test_expired_versions_are_relisted(control_plane: RealControlPlane) -> None:
    """M1.07, M1.10: 410 on resuming; nothing unchanged is rung."""
    plane = control_plane
    plane.objects.apply(service("expires"))
    plane.objects.apply(service("endures"))
    with listening(plane) as listener:
        listener.rung.clear()
        plane.expire()
        plane.objects.delete("Service/default/expires")
        listener.wait(listener.lacks("expires"), "relisted")
        listener.wait(lambda: listener.status("EndpointSlice").lists >= 2, "every kind is relisted")
        listener.wait(lambda: listener.status("Service").lists >= 2, "every kind is relisted")
        assert ObjectKey("default", "endures") not in listener.rung


class Interfered(ApiClient):
    """The real client with answers of ours in between."""

    def __init__(self, kubeconfig: str) -> None:
        super().__init__(kubeconfig=kubeconfig)
        self.refusals: list[errors.ApiError] = []
        self.asked: list[dict[str, str]] = []
        self.no_streams = False

    def stream(self, path: str, query: Any, read_timeout: float, accept: str = JSON) -> Any:
        self.asked.append(dict(query))
        if self.refusals:
            raise self.refusals.pop(0)
        if self.no_streams and "sendInitialEvents" in query:
            # what a server without the feature says to the same request
            query = {**query, "resourceVersionMatch": "Exact"}
        return super().stream(path, query, read_timeout, accept)

    def get(self, path: str, query: Any = None, timeout: float = 60.0, accept: str = JSON) -> bytes:
        self.asked.append(dict(query or {}))
        return super().get(path, query, timeout, accept)


def test_paged_lists_where_streaming_is_refused(
    control_plane: RealControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M2.02, M1.03: the real server's own refusal, and its own continue tokens."""
    monkeypatch.setattr("kuberouter_py.watchers.following.PAGE_SIZE", 2)
    plane = control_plane
    for number in range(5):
        plane.objects.apply(service(f"page-{number}"))
    client = Interfered(str(plane.kubeconfig))
    client.no_streams = True
    with listening(plane, [SERVICES], client) as listener:
        assert all(listener.has(f"page-{number}")() for number in range(5))
        kinds = ["watch" in query for query in client.asked[:2]]
        assert kinds == [True, False]
        assert client.asked[1]["resourceVersion"] == "0"
        plane.objects.apply(service("page-9"))
        listener.wait(listener.has("page-9"), "watched from the list's version")


def test_continue_tokens(control_plane: RealControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    """M1.03: a consistent read goes page by page."""
    monkeypatch.setattr("kuberouter_py.watchers.following.PAGE_SIZE", 2)
    plane = control_plane
    for number in range(5):
        plane.objects.apply(service(f"token-{number}"))
    client = Interfered(str(plane.kubeconfig))
    client.refusals = [errors.Gone("expired"), errors.Gone("expired"), errors.Invalid("no streams")]
    with listening(plane, [SERVICES], client) as listener:
        assert all(listener.has(f"token-{number}")() for number in range(5))
        assert [query for query in client.asked if query.get("continue")]


def test_throttled(control_plane: RealControlPlane) -> None:
    """M1.08: not before Retry-After is over, and without a list."""
    plane = control_plane
    client = Interfered(str(plane.kubeconfig))
    client.refusals = [errors.Throttled("later", retry_after=2.0)]
    started = time.monotonic()
    with listening(plane, [SERVICES], client) as listener:
        assert time.monotonic() - started >= 2.0
        listener.wait(lambda: listener.status("Service").lists > 0, "it is counted")
        assert listener.status("Service").lists == 1


def test_an_object_that_does_not_decode_harms_nobody(
    control_plane: RealControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server lets nothing undecodable in, so a fault of ours stands for it."""
    monkeypatch.setattr("kuberouter_py.watchers.decode_services.AFFINITY_TIMEOUT_MAX", "not a number")
    plane = control_plane
    plane.objects.apply(service("turns-bad"))
    with listening(plane) as listener:
        plane.objects.patch("Service/default/turns-bad", {"spec": {"sessionAffinity": "ClientIP"}})
        plane.objects.apply(service("good"))
        listener.wait(listener.has("good"), "the good one")
        problems = dict(listener.status("Service").problems)
        assert list(problems) == ["default/turns-bad"]
        found = listener.cache.service(ObjectKey("default", "turns-bad"))
        assert found and found.affinity_timeout == 0  # its last good content
        plane.objects.patch("Service/default/turns-bad", {"spec": {"sessionAffinity": "None"}})
        listener.wait(lambda: listener.status("Service").problems == (), "good again")


def test_a_slice_of_names_is_left_out_with_a_reason(control_plane: RealControlPlane) -> None:
    """M4.09."""
    plane = control_plane
    plane.objects.apply(service("odd"))
    with listening(plane) as listener:
        broken = {"addressType": "FQDN", "endpoints": [{"addresses": ["a.example"]}]}
        plane.objects.apply(piece("odd-1", "odd") | broken)
        plane.objects.apply(piece("even-1", "even"))
        listener.wait(lambda: len(listener.cache.slices_of(ObjectKey("default", "even"))) == 1, "the other slice")
        listener.wait(lambda: len(listener.cache.slices_of(ObjectKey("default", "odd"))) == 1, "the odd slice")
        (found,) = listener.cache.slices_of(ObjectKey("default", "odd"))
        assert found.endpoints == ()
        assert found.unusable == ("addressType FQDN is not served",)


def test_own_node_only(control_plane: RealControlPlane) -> None:
    """M3.02."""
    plane = control_plane
    for name in ("n1", "n2"):
        plane.objects.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    with listening(plane, [own_node("n1")]) as listener:
        assert listener.cache.node("n1")
        assert listener.cache.node("n2") is None
        status = {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}
        plane.objects.patch("Node/n1", {"status": status})
        listener.wait(lambda: listener.cache.node("n1").internal_ips == (address("192.0.2.1"),), "address")  # type: ignore[union-attr]


def test_every_kind(control_plane: RealControlPlane) -> None:
    plane = control_plane
    pod = {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}], "nodeName": "n1"}
    plane.objects.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod})
    policy = {"podSelector": {}, "policyTypes": ["Ingress"]}
    api = "networking.k8s.io/v1"
    plane.objects.apply({"apiVersion": api, "kind": "NetworkPolicy", "metadata": {"name": "np"}, "spec": policy})
    with listening(plane, [*KINDS, NODES, PODS, NAMESPACES, NETWORK_POLICIES]) as listener:
        found = listener.cache.get(Pod, ObjectKey("default", "p"))
        assert found and (found.node, found.ports[0].port) == ("n1", 80)
        assert listener.cache.get(Namespace, ObjectKey("", "default"))
        assert listener.cache.count("NetworkPolicy") == 1
        assert [status.last_error for status in listener.watchers.status()] == [""] * 7


@pytest.mark.parametrize("streams", [True, False])
def test_of_pods_only_the_metadata_comes(control_plane: RealControlPlane, streams: bool) -> None:
    plane = control_plane
    annotations = {"kube-router.io/endpoint.weight": "5"}
    spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": "n1", "terminationGracePeriodSeconds": 77}
    heavy, plain = f"heavy-{streams}".lower(), f"plain-{streams}".lower()
    for name, metadata in ((heavy, {"annotations": annotations}), (plain, {})):
        plane.objects.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name} | metadata, "spec": spec})
    client = Interfered(str(plane.kubeconfig))
    client.no_streams = not streams
    body = MetadataOnly(client).get("/api/v1/pods", {})
    assert b'"PartialObjectMetadataList"' in body
    assert b'"spec":' not in body
    with listening(plane, [POD_METADATA], client) as listener:

        def said(name: str) -> tuple[str, int | None] | None:
            found = listener.cache.get(PodMetadata, ObjectKey("default", name))
            return (found.weight, found.grace) if found else None

        listener.wait(lambda: said(heavy) == ("5", None), "the one with a weight")
        assert said(plain) is None
        plane.objects.delete(f"Pod/{plain}")
        listener.wait(lambda: said(plain) == ("", 77), "the one that is being deleted")


def test_an_optional_kind_that_the_server_does_not_have(control_plane: RealControlPlane) -> None:
    """M3.04."""
    unknown = Kind("ServiceCIDR", ("/apis/networking.k8s.io/v9/x", "/apis/networking.k8s.io/v8/x"), optional=True)
    with listening(control_plane, [SERVICES, unknown]) as listener:
        assert listener.status("ServiceCIDR").absent
        assert listener.cache.service_cidrs() == []


def test_events_are_written_once_and_counted_up(control_plane: RealControlPlane) -> None:
    client = ApiClient(kubeconfig=str(control_plane.kubeconfig))
    event: dict[str, Any] = {
        "metadata": {"name": "refused-1"},
        "involvedObject": {"kind": "Service", "namespace": "default", "name": "web"},
        "reason": "ExternalIPRefused",
        "message": "no",
        "type": "Warning",
        "count": 1,
    }
    client.create_event("default", event)
    with pytest.raises(errors.Conflict):
        client.create_event("default", event)
    client.patch_event("default", "refused-1", {"count": 2})
    assert b'"count":2' in client.get("/api/v1/namespaces/default/events/refused-1")
    with pytest.raises(errors.NotFound):
        client.patch_event("default", "refused-2", {"count": 2})
    client.close()


def test_refusals_of_a_real_server(control_plane: RealControlPlane) -> None:
    plane = control_plane
    client = ApiClient(kubeconfig=str(plane.kubeconfig))
    with pytest.raises(errors.NotFound):
        client.get("/api/v1/nothings")
    with pytest.raises(errors.TooNew):
        client.get("/api/v1/services", {"resourceVersion": "99999999", "resourceVersionMatch": "NotOlderThan"})
    with pytest.raises(errors.Invalid):
        client.stream("/api/v1/services", {"watch": "1", "sendInitialEvents": "true"}, 10.0)
    client.close()


def test_an_unknown_authority_is_not_trusted(control_plane: RealControlPlane, tmp_path: Any) -> None:
    """A server address and a pod's token, but the wrong certificate authority."""
    (tmp_path / "token").write_text("t")
    shutil.copy(certifi.where(), tmp_path / "ca.crt")
    client = ApiClient(master=control_plane.server, account=tmp_path, environ={})
    with pytest.raises(errors.Untrusted):
        client.get("/version")


def test_half_open_connection_does_not_hold_up_the_stop(control_plane: RealControlPlane) -> None:
    """Watches are silent for minutes; ours end at once (checked by listening())."""
    with listening(control_plane) as listener:
        assert listener.client._sockets
        assert all(isinstance(connected, socket.socket) for connected in listener.client._sockets)
