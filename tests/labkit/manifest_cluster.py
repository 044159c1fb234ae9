"""A cluster as folders of manifests, one on each agent's node; the lab plays API server, slice controller and kubelet.

One file per object, replaced in one piece. All methods may be called from any thread.
"""

from __future__ import annotations

import copy
import datetime
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tests.labkit import slices
from tests.labkit.defaults import Pools, admitted
from tests.labkit.kinds import Reference, kind_called, of_document, parse
from tests.labkit.kubelet import Kubelets, check_annotations
from tests.labkit.merge import merged
from tests.labkit.model import Scenario
from tests.labkit.node_objects import node_object
from tests.labkit.ports import LabError, World

Object = dict[str, Any]
Objects = list[Object]
Entries = list[tuple[Reference, Object]]
FOLDER: Final = "/run/lab/manifests"  # as its node sees it
NAMESPACES: Final = ("default", "kube-system")
GONE_WITHIN: Final = 60.0  # beyond its grace, for an object that stands in the way of its namesake
TRIGGER: Final = "endpoints.kubernetes.io/last-change-trigger-time"
DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class ManifestCluster:
    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._objects: dict[Reference, Object] = {}
        self._folders: list[Path] = []
        self._cidrs: Sequence[str] = ()
        self._kubelets: Kubelets | None = None
        self._born = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - datetime.timedelta(days=1)
        self._version = 0

    # ports.Cluster

    def start(self, scenario: Scenario, world: World) -> None:
        nodes = scenario.agents.nodes if scenario.agents.nodes is not None else tuple(scenario.nodes)
        self._folders = [world.node_dir(node) / "manifests" for node in nodes]
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
        self._cidrs = scenario.service_cidrs
        self._kubelets = Kubelets(scenario.nodes, world, self)
        for name in NAMESPACES:
            self._put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for node in scenario.nodes.values():
            self._put(node_object(node))

    def agent_arguments(self, node: str) -> tuple[Sequence[str], Mapping[str, str]]:
        return ("--manifests", FOLDER), {}

    def apply(self, documents: Sequence[Object]) -> None:
        for document in documents:
            reference = of_document(document)
            if reference.kind == "Pod":
                check_annotations(document)
            with self._changed:
                self._wait_until_gone(reference)
                if reference.namespace:
                    self._ensure_namespace(reference.namespace)
                old = self._objects.get(reference)
                if old is not None and document.get("status"):
                    document = {**document, "status": merged(old.get("status"), document["status"])}
                self._put(document)

    def patch(self, reference: str, merge: Any) -> None:
        found = parse(reference)
        with self._changed:
            old = self._objects.get(found)
            if old is None:
                raise LabError(f"{reference}: there is none to patch")
            patched = merged(old, merge)
            if found.kind == "Pod":
                check_annotations(patched)
            self._put(patched)

    def delete(self, references: Sequence[str]) -> None:
        for reference in references:
            found = parse(reference)
            with self._changed:
                if found not in self._objects:
                    raise LabError(f"{reference}: there is none to delete")
                self._delete(found)
                if found.kind == "EndpointSlice":
                    self._write_slices(found.namespace)

    def get(self, reference: str) -> Object | None:
        with self._changed:
            return copy.deepcopy(self._objects.get(parse(reference)))

    def list(self, kind: str, namespace: str | None = None) -> Objects:
        name = kind_called(kind).name
        with self._changed:
            return [copy.deepcopy(each) for each in self._of(name, namespace)]

    def settle(self, timeout: float) -> None:
        """Everything was done when it was applied."""
        assert self._kubelets is not None
        with self._changed:
            why = self._kubelets.unsettled(self._of("Pod"))
        if why is not None:
            raise LabError(why)

    def api(self, command: Mapping[str, Any]) -> None:
        raise LabError("a step `api` needs agents with source: apiserver")

    def stop(self) -> None:
        if self._kubelets is not None:
            self._kubelets.close()

    # kubelet.Writer

    def write_status(self, pod: Object, status: Object) -> None:
        reference = _reference(pod)
        with self._changed:
            present = self._objects.get(reference)
            if present is not None and present["metadata"]["uid"] == pod["metadata"]["uid"]:
                self._store(reference, {**present, "status": merged(present.get("status"), status)})
                self._write_slices(reference.namespace)

    def remove(self, pod: Object) -> None:
        reference = _reference(pod)
        with self._changed:
            present = self._objects.get(reference)
            if present is not None and present["metadata"]["uid"] == pod["metadata"]["uid"]:
                self._erase(reference)

    # objects

    def _put(self, document: Object) -> None:
        """Creates or replaces, and lets kubelet and slice controller react."""
        reference = of_document(document)
        with self._changed:
            old = self._objects.get(reference)
            if old is not None and reference.kind == "Pod" and _another_pod(old, document):
                self._erase(reference)
                old = None
            pools = Pools(self._cidrs, (each for each in self._of("Service") if each is not old))
            new = self._stamped(document, old, reference)
            if old is not None and "status" not in new and "status" in old:
                new["status"] = old["status"]
            self._store(reference, admitted(new, old, pools))
            self._react(reference, old, given=document.get("status"))

    def _react(self, reference: Reference, old: Object | None, given: Any) -> None:
        if reference.kind == "Pod":
            assert self._kubelets is not None
            self._kubelets.observe(copy.deepcopy(self._objects[reference]))
            if old is None and given:  # the kubelet has written its own by now: what was asked for lies on top
                self.write_status(self._objects[reference], given)
            self._write_slices(reference.namespace)
        elif reference.kind == "Service":
            self._write_slices(reference.namespace)
        elif reference.kind == "Node":
            self._write_slices(None)

    def _stamped(self, document: Object, old: Object | None, reference: Reference) -> Object:
        """With the metadata that an API server keeps: who it is and since when."""
        metadata = dict(document["metadata"])
        before: Object = old["metadata"] if old is not None else {}
        if reference.namespace:
            metadata["namespace"] = reference.namespace
        metadata["uid"] = before.get("uid") or metadata.get("uid") or str(uuid.uuid4())
        created = metadata.get("creationTimestamp") or before.get("creationTimestamp")
        if created is None:
            self._born += datetime.timedelta(seconds=1)
            created = _stamp(self._born)
        metadata["creationTimestamp"] = created
        for key in ("deletionTimestamp", "deletionGracePeriodSeconds"):
            if key in before:
                metadata[key] = before[key]
        return {**document, "metadata": metadata}

    def _delete(self, reference: Reference) -> None:
        thing = self._objects[reference]
        if reference.kind == "Namespace":
            self._delete_namespace(reference)
            return
        grace = _grace(thing) if reference.kind == "Pod" else 0
        if not grace:
            self._erase(reference)
        elif "deletionTimestamp" not in thing["metadata"]:
            until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=grace)
            marks = {"deletionTimestamp": _stamp(until), "deletionGracePeriodSeconds": grace}
            self._store(reference, {**thing, "metadata": {**thing["metadata"], **marks}})
            self._react(reference, thing, None)

    def _delete_namespace(self, reference: Reference) -> None:
        """Ends everything in it; the last thing that goes takes it along."""
        thing = self._objects[reference]
        marks = {"deletionTimestamp": _stamp(datetime.datetime.now(datetime.UTC))}
        ending = {**thing, "metadata": {**thing["metadata"], **marks}, "status": {"phase": "Terminating"}}
        self._store(reference, ending)
        for inside in [each for each in self._objects if each.namespace == reference.name]:
            if inside in self._objects:
                self._delete(inside)
        self._end_namespace(reference.name)

    def _end_namespace(self, name: str) -> None:
        reference = Reference("Namespace", "", name)
        present = self._objects.get(reference)
        ending = present is not None and "deletionTimestamp" in present["metadata"]
        if ending and not any(each.namespace == name for each in self._objects):
            self._erase(reference)

    def _wait_until_gone(self, reference: Reference) -> None:
        """Until neither it nor its namespace is being deleted."""
        waited_for = [reference, Reference("Namespace", "", reference.namespace)]

        def ending() -> Objects:
            present = [self._objects[each] for each in waited_for if each in self._objects]
            return [thing for thing in present if "deletionTimestamp" in thing["metadata"]]

        grace = max((_grace(pod) for pod in self._of("Pod")), default=0)
        if ending() and not self._changed.wait_for(lambda: not ending(), GONE_WITHIN + grace):
            raise LabError(f"{reference}: what is being deleted there does not go")

    def _ensure_namespace(self, name: str) -> None:
        if Reference("Namespace", "", name) not in self._objects:
            self._put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def _of(self, kind: str, namespace: str | None = None) -> Objects:
        return [
            thing
            for reference, thing in self._objects.items()
            if reference.kind == kind and namespace in (None, reference.namespace)
        ]

    # slices

    def _write_slices(self, namespace: str | None) -> None:
        """Of every Service there, those that differ from what is wanted."""
        nodes = {node["metadata"]["name"]: node for node in self._of("Node")}
        for service in self._of("Service", namespace):
            if not slices.wants_slices(service):
                continue
            inside = service["metadata"]["namespace"]
            wanted = slices.slices_of(service, self._of("Pod", inside), nodes)
            for reference, present in self._slices_of(service):
                if reference.name not in wanted:
                    self._erase(reference)
                elif _same_slice(present, wanted[reference.name]):
                    del wanted[reference.name]
            for made in wanted.values():
                now = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
                made["metadata"]["annotations"] = {TRIGGER: now}
                self._put(made)

    def _slices_of(self, service: Object) -> Entries:
        """The lab's own, by owner: hand-made ones stay alone."""
        uid = service["metadata"]["uid"]
        return [
            (reference, thing)
            for reference, thing in self._objects.items()
            if reference.kind == "EndpointSlice"
            and any(owner.get("uid") == uid for owner in thing["metadata"].get("ownerReferences") or [])
        ]

    # files

    def _store(self, reference: Reference, thing: Object) -> None:
        self._version += 1
        thing = {**thing, "metadata": {**thing["metadata"], "resourceVersion": str(self._version)}}
        self._objects[reference] = thing
        text = yaml.dump(thing, Dumper=DUMPER, sort_keys=False)
        for folder in self._folders:
            unfinished = folder / f".{_file(reference)}"
            unfinished.write_text(text)
            unfinished.rename(folder / _file(reference))
        self._changed.notify_all()

    def _erase(self, reference: Reference) -> None:
        thing = self._objects.pop(reference)
        for folder in self._folders:
            (folder / _file(reference)).unlink(missing_ok=True)
        if reference.kind == "Pod":
            assert self._kubelets is not None
            self._kubelets.gone(thing["metadata"]["uid"])
            self._write_slices(reference.namespace)
        elif reference.kind == "Service":
            for owned, _ in self._slices_of(thing):
                self._erase(owned)
        if reference.namespace:
            self._end_namespace(reference.namespace)
        self._changed.notify_all()


def _reference(thing: Object) -> Reference:
    return Reference(thing["kind"], thing["metadata"].get("namespace", ""), thing["metadata"]["name"])


def _file(reference: Reference) -> str:
    return "_".join(filter(None, (reference.kind.lower(), reference.namespace, reference.name))) + ".yaml"


def _grace(pod: Object) -> int:
    """Seconds that its deletion takes: none for what has ended or never was on a node."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed") or not spec.get("nodeName"):
        return 0
    return int(spec.get("terminationGracePeriodSeconds", 30))


def _another_pod(old: Object, new: Object) -> bool:
    """Is this more than a living Pod may change?"""
    before, after = old.get("spec") or {}, new.get("spec") or {}
    fixed = ("nodeName", "hostNetwork", "hostname", "subdomain")
    return any(before.get(key) != after.get(key) for key in fixed) or _declared(before) != _declared(after)


def _declared(spec: Object) -> list[tuple[Any, ...]]:
    return [
        (container.get("name"), port.get("name"), port.get("protocol") or "TCP", port.get("containerPort"))
        for container in spec.get("containers") or []
        for port in container.get("ports") or []
    ]


def _same_slice(one: Object, other: Object) -> bool:
    keys = ("addressType", "endpoints", "ports")
    return all(one[key] == other[key] for key in keys) and one["metadata"]["labels"] == other["metadata"]["labels"]


def _stamp(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
