"""A folder as the cluster: file formats, selections, changes, broken files, the same object twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.model.cluster import EndpointSlice, Node, ObjectKey, Pod, PodMetadata, Service
from kuberouter_py.ports import Unavailable
from kuberouter_py.watchers.broadcaster import Broadcaster
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.decode_fields import address
from kuberouter_py.watchers.decode_workloads import ENDPOINT_WEIGHT
from kuberouter_py.watchers.kinds import ENDPOINT_SLICES, POD_METADATA, PODS, SERVICES, Kind, own_node
from kuberouter_py.watchers.manifest_files import read_manifest
from kuberouter_py.watchers.manifest_items import FileError
from kuberouter_py.watchers.manifests import LATEST, SOONEST, ManifestFolder, _interval
from kuberouter_py.watchers.watchers import Watchers

KINDS = (SERVICES, ENDPOINT_SLICES, own_node("n1"))


def service(name: str, ip: str = "10.96.0.1", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"} | metadata,
        "spec": {"clusterIP": ip, "ports": [{"port": 80}]},
    }


def key(name: str) -> ObjectKey:
    return ObjectKey("shop", name)


class Folder:
    def __init__(self, path: Path, kinds: tuple[Kind, ...] = KINDS) -> None:
        self.path = path
        self.cache = Cache()
        self.rung: list[tuple[str, set[str]]] = []
        broadcaster = Broadcaster()
        for kind in kinds:
            broadcaster.subscribe(kind.name, partial(self._note, kind.name))
        self.reader = ManifestFolder(path, kinds, self.cache, broadcaster)

    def _note(self, kind: str, keys: Collection[ObjectKey]) -> None:
        self.rung.append((kind, {str(key) for key in keys}))

    def write(self, name: str, *objects: Any) -> None:
        text = "\n---\n".join(entry if isinstance(entry, str) else json.dumps(entry) for entry in objects)
        replacement = self.path / f".{name}"
        replacement.write_text(text)
        replacement.rename(self.path / name)

    def look(self) -> list[tuple[str, set[str]]]:
        self.rung.clear()
        self.reader.look(hasty=True)
        return self.rung

    @property
    def names(self) -> set[str]:
        return {found.key.name for found in self.cache.list(Service)}

    @property
    def problems(self) -> list[str]:
        """Those of files and those of objects."""
        return [f"{place}: {problem}" for status in self.reader.status() for place, problem in status.problems]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


YAML = """\
# two documents, a list, and things that are none of ours
apiVersion: v1
kind: Service
metadata:
  name: web
  labels: {tier: front}
  creationTimestamp: 2026-01-01T00:00:00Z
  annotations:
    kube-router.io/service.scheduler: on
spec:
  clusterIP: 010.96.0.1
  ports:
  - port: 80
  externalIPs: [2001:10:20:30:40:50:1:2]
---
---
apiVersion: v1
kind: List
items:
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  endpoints: [{addresses: [10.1.0.1]}]
  ports: [{port: 8080}]
- {apiVersion: v1, kind: Node, metadata: {name: n1}}
- {apiVersion: v1, kind: Node, metadata: {name: n2}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {version: 1.0}}
---
apiVersion: serving.example/v1
kind: Service
metadata: {name: other}
---
kind: Kustomization
"""


def test_yaml(folder: Folder) -> None:
    folder.write("all.yaml", YAML)
    folder.look()
    (web,) = folder.cache.list(Service)
    assert web.key == ObjectKey("default", "web")
    assert web.created == 1767225600.0
    assert web.cluster_ips == (address("10.96.0.1"),)
    assert web.external_ips == (address("2001:10:20:30:40:50:1:2"),)
    assert web.annotations == {"kube-router.io/service.scheduler": "on"}
    (found,) = folder.cache.list(EndpointSlice)
    assert (found.service, found.ports[0].name) == (key("web"), "")
    assert [node.key.name for node in folder.cache.list(Node)] == ["n1"]  # selected as the API server would
    assert folder.problems == []
    assert all(folder.cache.synced(kind.name) for kind in KINDS)


def test_json_lists(folder: Folder) -> None:
    folder.write("a.json", {"apiVersion": "v1", "kind": "List", "items": [service("a"), service("b")]})
    typed = [{part: entry[part] for part in ("metadata", "spec")} for entry in (service("c"), service("d"))]
    folder.write("b.json", {"apiVersion": "v1", "kind": "ServiceList", "items": typed})
    folder.write("c.json", service("e"))
    folder.write("d.yaml", {"apiVersion": "v1", "kind": "ServiceList", "items": typed[:1] and [typed[0] | {}]})
    assert folder.look()[0] == ("Service", {f"shop/{name}" for name in "abcde"})
    assert folder.problems == ["d.yaml:1: shop/c is in b.json:1 already, which counts"]


def test_a_pod_is_read_whole_and_for_its_metadata(tmp_path: Path) -> None:
    """The firewall and the Service proxy ask for it by two names."""
    folder = Folder(tmp_path, (PODS, POD_METADATA))
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a", "namespace": "shop", "uid": "u", "annotations": {ENDPOINT_WEIGHT: "3"}},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"podIP": "10.244.1.2", "podIPs": [{"ip": "10.244.1.2"}]},
    }
    folder.write("a.json", pod)
    folder.look()
    assert [each.ips for each in folder.cache.list(Pod)] == [(address("10.244.1.2"),)]
    assert [each.weight for each in folder.cache.list(PodMetadata)] == ["3"]
    folder.write("a.json", pod | {"spec": {"nodeName": 3, "containers": []}})
    folder.look()
    assert [problem.partition(":")[0] for problem in folder.problems] == ["a.json"]
    assert [each.node for each in folder.cache.list(Pod)] == ["n1"]  # its last good content


def test_labels_select_as_the_server_does(folder: Folder) -> None:
    """S1.01, S1.02: whatever the label's value; taking it away brings the Service."""
    for label in ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"):
        folder.write("a.yaml", service("a", labels={label: ""}))
        folder.look()
        assert folder.names == set()
        folder.write("a.yaml", service("a"))
        assert folder.look() == [("Service", {"shop/a"})]
        folder.write("a.yaml", service("a", labels={label: "x"}))
        assert folder.look() == [("Service", {"shop/a"})]
        assert folder.names == set()


def test_only_what_changed_is_rung(folder: Folder) -> None:
    folder.write("a.yaml", service("a"), service("b"))
    folder.write("b.yaml", service("c"))
    folder.look()
    assert folder.look() == []
    folder.write("a.yaml", service("a"), service("b", "10.96.0.9"))
    assert folder.look() == [("Service", {"shop/b"})]
    (folder.path / "a.yaml").unlink()
    assert folder.look() == [("Service", {"shop/a", "shop/b"})]
    assert folder.names == {"c"}


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("a.yaml", "kind: Service\nmetadata: [}\n", "a.yaml:2"),
        ("a.yaml", "a: 1\n---\n\tb: 2", "a.yaml:3"),
        ("a.yaml", "a: *nobody", "a.yaml:1"),
        ("a.yaml", "a: 1\n---\n- b", "a.yaml:3"),
        ("a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a b}", "a.yaml:1"),
        ("a.json", '{\n"a":\n}', "a.json:3"),
        ("a.json", '{"kind":"List",\n"items":[', "a.json:2"),
        ("a.json", "", "a.json:1"),
    ],
)
def test_a_broken_file_keeps_its_last_good_content(folder: Folder, name: str, text: str, place: str) -> None:
    folder.write(name, service("a"))
    folder.write("b.yaml", service("b"))
    folder.look()
    folder.write(name, text)
    folder.write("b.yaml", service("c"))
    assert folder.look() == [("Service", {"shop/b", "shop/c"})]
    assert folder.names == {"a", "c"}
    (problem,) = folder.problems
    assert problem.startswith(place + ": ")
    folder.write(name, service("d"))
    folder.look()
    assert folder.names == {"c", "d"}
    assert folder.problems == []


def test_bytes_that_are_no_text(folder: Folder) -> None:
    (folder.path / "a.yaml").write_bytes(b"a: \xff\xfe\0")
    folder.look()
    assert folder.problems[0].startswith("a.yaml:1: ")


@pytest.mark.parametrize("name", ["a.yaml", "a.json"])
def test_a_broken_object_keeps_its_last_good_content(folder: Folder, name: str) -> None:
    both = {"apiVersion": "v1", "kind": "List", "items": [service("a"), service("b")]}
    folder.write(name, both)
    folder.look()
    both["items"] = [service("c"), service("a") | {"spec": {"externalTrafficPolicy": "Nowhere"}}]
    (folder.path / name).write_text(json.dumps(both, indent=1))
    folder.look()
    assert folder.names == {"a", "c"}
    (problem,) = folder.problems
    assert problem.startswith(f"{name}:21: shop/a: spec.externalTrafficPolicy")
    assert folder.cache.failures("Service")[key("a")].startswith(f"{name}:21: ")


def test_the_same_object_twice(folder: Folder) -> None:
    folder.write("a.yaml", service("a", "10.96.0.1"))
    folder.write("b.yaml", "# second\n" + json.dumps(service("a", "10.96.0.2")))
    folder.look()
    held = folder.cache.service(key("a"))
    assert held and held.cluster_ips == (address("10.96.0.1"),)
    assert folder.problems == ["b.yaml:2: shop/a is in a.yaml:1 already, which counts"]
    (folder.path / "a.yaml").unlink()
    assert folder.look() == [("Service", {"shop/a"})]
    held = folder.cache.service(key("a"))
    assert held and held.cluster_ips == (address("10.96.0.2"),)
    assert folder.problems == []


def test_without_a_creation_time_the_order_of_appearance_counts(folder: Folder) -> None:
    folder.write("b.yaml", service("b"), service("c"))
    folder.look()
    folder.write("a.yaml", service("a"))
    assert folder.look() == [("Service", {"shop/a"})]  # who was there keeps its age
    ages = {found.key.name: found.created for found in folder.cache.list(Service)}
    assert sorted(ages, key=lambda name: ages[name]) == ["b", "c", "a"]


def test_names_that_are_not_looked_at(folder: Folder) -> None:
    folder.write("README.md", "not a manifest: [")
    (folder.path / ".hidden.yaml").write_text("[")
    (folder.path / "sub.d").mkdir()
    (folder.path / "nowhere.yaml").symlink_to("gone")
    (folder.path / "sub.d" / "a.yaml").write_text("[")
    folder.look()
    assert folder.problems == []


def test_links_are_followed(folder: Folder, tmp_path: Path) -> None:
    """A mounted ConfigMap: a.yaml -> ..data/a.yaml, ..data -> ..2026, replaced as a whole."""
    for generation, name in ((1, "a"), (2, "b")):
        home = folder.path / f"..{generation}"
        home.mkdir()
        (home / "a.yaml").write_text(json.dumps(service(name)))
        (folder.path / "..new").symlink_to(home.name)
        (folder.path / "..new").rename(folder.path / "..data")
        if generation == 1:
            (folder.path / "a.yaml").symlink_to("..data/a.yaml")
        folder.look()
        assert folder.names == {name}


def test_a_folder_named_like_a_manifest_is_a_problem(folder: Folder) -> None:
    (folder.path / "a.yaml").mkdir()
    folder.look()
    assert folder.problems == ["a.yaml:1: Is a directory"]


def test_a_file_is_read_when_it_has_settled(folder: Folder) -> None:
    """A writer in place may be half done; the first look after start takes what there is."""
    folder.look()
    (folder.path / "a.yaml").write_text(json.dumps(service("a")))
    assert not folder.reader.look()
    (folder.path / "a.yaml").write_text(json.dumps(service("b")) + " ")
    assert not folder.reader.look()
    assert folder.names == set()
    assert folder.reader.look()
    assert folder.names == {"b"}


def test_folder_gone_keeps_what_it_said(tmp_path: Path) -> None:
    path = tmp_path / "manifests"
    path.mkdir()
    folder = Folder(path)
    folder.write("a.yaml", service("a"))
    folder.look()
    path.rename(tmp_path / "elsewhere")
    folder.reader._guarded(False)
    assert folder.names == {"a"}
    assert "No such file" in folder.reader.status()[0].last_error
    with pytest.raises(Unavailable, match="--manifests"):
        Folder(path)


def test_thread_sees_changes_and_stops(folder: Folder) -> None:
    rung = threading.Event()
    folder.write("a.yaml", service("a"))
    folder.reader._broadcaster.subscribe("Service", lambda keys: rung.set())
    folder.reader.start()
    assert folder.cache.wait_synced([kind.name for kind in KINDS], 10.0)
    assert rung.wait(10.0)
    rung.clear()
    folder.write("b.yaml", service("b"))
    assert rung.wait(10.0)
    assert folder.names == {"a", "b"}
    started = time.monotonic()
    folder.reader.stop()
    folder.reader.join(10.0)
    assert time.monotonic() - started < 5.0


def test_a_glance_shows_files_that_come_and_go(tmp_path: Path) -> None:
    """The folder's own time tells, and one that changed this very moment may change again within the same tick."""
    reader = ManifestFolder(tmp_path, KINDS, Cache(), Broadcaster())
    os.utime(tmp_path, (1000.0, 1000.0))
    reader.look()
    assert not reader._folder_changed()
    (tmp_path / "a.yaml").write_text("")
    assert reader._folder_changed()
    reader.look()
    assert reader._folder_changed()  # recent
    os.utime(tmp_path, (2000.0, 2000.0))
    reader.look()
    assert not reader._folder_changed()


def test_interval_follows_what_a_look_costs() -> None:
    assert _interval(0.0) == SOONEST
    assert _interval(0.0003) == pytest.approx(1.0)
    assert _interval(1.0) == LATEST


def test_status(folder: Folder) -> None:
    folder.write("a.yaml", service("a"))
    folder.look()
    files, services, slices, nodes = folder.reader.status()
    assert (files.kind, files.objects, files.synced, files.lists) == ("manifest files", 1, True, 1)
    assert (services.kind, services.objects, services.synced) == ("Service", 1, True)
    assert (slices.objects, nodes.objects) == (0, 0)


@given(st.sampled_from(["a.yaml", "a.json"]), st.binary())
def test_any_bytes_are_a_manifest_or_our_error(name: str, data: bytes) -> None:
    try:
        read_manifest(name, data, KINDS)
    except FileError as error:
        assert str(error).startswith(f"{name}:")


@given(st.text(alphabet="abkn:-{}[],&*!|>'\"%@#?~ \n\t0123456789.é"))
def test_any_text_is_yaml_or_our_error(text: str) -> None:
    try:
        read_manifest("a.yaml", text.encode(), KINDS)
    except FileError as error:
        assert str(error).startswith("a.yaml:")


def test_watchers_over_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(service("a")))
    cache, synced = Cache(), threading.Event()
    broadcaster = Broadcaster()
    broadcaster.subscribe("EndpointSlice", lambda keys: None, synced.set)
    watchers = Watchers(tmp_path, KINDS, broadcaster, cache)
    assert not watchers.wait_synced(0.0)
    watchers.start()
    assert watchers.wait_synced(10.0)
    assert synced.wait(10.0)
    assert cache.service(key("a"))
    assert [status.kind for status in watchers.status()] == ["manifest files", "Service", "EndpointSlice", "Node"]
    assert watchers.source == f"manifests in {tmp_path}"
    watchers.stop()


def test_a_folder_needs_no_kubernetes_client() -> None:
    """Its import costs 0.25 s and 18 MB."""
    code = "import sys, kuberouter_py.watchers.watchers; sys.exit(bool({'kubernetes', 'urllib3'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
