"""A cluster in a real API server, which the control plane's host side runs; the lab plays kubelet.

Agents come through the door that a step `api` can shut; everything here does not. Objects may also be changed by others
(a step's kubectl, an agent): Pods are watched.
"""

from __future__ import annotations

import concurrent.futures
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from tests.labkit import wires
from tests.labkit.account import agent_token
from tests.labkit.api_objects import ApiObjects
from tests.labkit.apiclient import ApiClient, ApiError, Credentials, Unreachable
from tests.labkit.control import Control
from tests.labkit.kinds import KINDS, Reference, of_document
from tests.labkit.kubeconfig import kubeconfig
from tests.labkit.kubelet import Kubelets, check_annotations
from tests.labkit.model import Scenario
from tests.labkit.node_objects import node_object
from tests.labkit.ports import LabError, World

Object = dict[str, Any]
Objects = list[Object]
Answer = TypeVar("Answer")
P = ParamSpec("P")
PODS: Final = KINDS["Pod"].path()
FIRST_START: Final = 1800.0  # the programs may have to be built
UP_WITHIN: Final = 30.0


class ApiCluster:
    def __init__(self, control: Control | None = None) -> None:
        self._control = control or Control(wires.HOST_ADDRESS, wires.CONTROL_PORT)
        self._directory = Path(tempfile.mkdtemp(prefix="lab-cluster-"))
        self._client: ApiClient | None = None
        self._objects: ApiObjects | None = None
        self._kubelets: Kubelets | None = None
        self._outside = False  # stopped, and nothing was written since
        self._closed = threading.Event()
        self._news = threading.Condition()
        self._failure: Exception | None = None
        self._watching: threading.Thread | None = None
        self._preparing: concurrent.futures.Future[Object] | None = None

    def prepare(self, scenario: Scenario) -> None:
        """Begins to start the API server, while somebody else builds the world."""
        pool = concurrent.futures.ThreadPoolExecutor(1)
        cidrs = list(scenario.service_cidrs)
        self._preparing = pool.submit(self._control.call, "fresh", timeout=FIRST_START, serviceCIDRs=cidrs)
        pool.shutdown(wait=False)

    # ports.Cluster

    def start(self, scenario: Scenario, world: World) -> None:
        if self._preparing is None:
            self.prepare(scenario)
        assert self._preparing is not None
        answer = self._preparing.result()
        who = Credentials(answer["ca"], answer["certificate"], answer["key"])
        self._client = ApiClient(answer["address"], answer["direct"], who, self._directory)
        self._objects = ApiObjects(self._client)
        for node in scenario.nodes.values():
            self._objects.apply(node_object(node))
        token = agent_token(self._objects, scenario.agents.flags)
        server = f"https://{answer['address']}:{answer['door']}"
        for name in scenario.nodes:
            _write_access(world.node_dir(name), server, answer["ca"], token)
            admin = kubeconfig(server, who.ca, certificate=who.certificate, key=who.key)
            (world.node_dir(name) / "admin.kubeconfig").write_text(admin)
        self._kubelets = Kubelets(scenario.nodes, world, self)
        self._watching = threading.Thread(target=self._watch, name="lab-kubelet", daemon=True)
        self._watching.start()

    def agent_arguments(self, node: str) -> tuple[Sequence[str], Mapping[str, str]]:
        return ("--kubeconfig", "/run/lab/kubeconfig"), {}

    def apply(self, documents: Sequence[Object]) -> None:
        for document in documents:
            reference = of_document(document)
            if reference.kind != "Pod":
                self._ask(ApiObjects.apply, document)
                continue
            check_annotations(document)
            status = document.get("status")
            body = {key: value for key, value in document.items() if key != "status"}
            self._ask(ApiObjects.apply, body)
            if status is not None:  # on top of the kubelet's own
                self._wait_for_kubelet(reference)
                self._ask(ApiObjects.patch, str(reference), {"status": status})

    def patch(self, reference: str, merge: Any) -> None:
        if isinstance(merge, dict):
            check_annotations(merge)
        self._ask(ApiObjects.patch, reference, merge)

    def delete(self, references: Sequence[str]) -> None:
        for reference in references:
            self._ask(ApiObjects.delete, reference)

    def get(self, reference: str) -> Object | None:
        return self._ask(ApiObjects.get, reference)

    def list(self, kind: str, namespace: str | None = None) -> Objects:
        return [*self._ask(ApiObjects.list, kind, namespace)]

    def settle(self, timeout: float) -> None:
        if self._outside:
            return  # nothing can have changed
        assert self._kubelets is not None
        deadline = time.monotonic() + timeout
        while (why := self._kubelets.unsettled(self.list("Pod"))) is not None:
            self._wait_for_news(deadline, why)

    def api(self, command: Mapping[str, Any]) -> None:
        if "slow" in command:
            self._control.call("slow", seconds=float(command["slow"]))
            return
        do = command["do"]
        self._control.call(do)
        if do in ("stop", "start", "expire"):
            self._outside = do == "stop"

    def stop(self) -> None:
        self._closed.set()
        if self._kubelets is not None:
            self._kubelets.close()
        if self._client is not None:
            self._control.call("end")
        if self._watching is not None:
            self._watching.join(10)
        shutil.rmtree(self._directory, ignore_errors=True)

    # kubelet.Writer

    def write_status(self, pod: Object, status: Object) -> None:
        assert self._client is not None
        try:
            self._client.request("PATCH", f"{_path(pod)}/status", {"status": status}, patch=True)
        except ApiError as error:
            if error.code != 404:  # it was gone before it was up
                raise LabError(f"{_path(pod)}: {error}") from error

    def remove(self, pod: Object) -> None:
        """As soon as there is an API server that can be told."""
        assert self._client is not None
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        while not self._closed.is_set():
            try:
                self._client.request("DELETE", _path(pod), options)
                return
            except ApiError:
                return  # gone, or another of its name already
            except Unreachable:
                self._closed.wait(0.1)

    # the rest

    def _ask(self, what: Callable[Concatenate[ApiObjects, P], Answer], *args: P.args, **kwargs: P.kwargs) -> Answer:
        """Also while the API server is stopped: then it runs again, without any agent being let in."""
        assert self._objects is not None
        if self._outside:
            self._control.call("inside")
            self._outside = False
        try:
            return what(self._objects, *args, **kwargs)
        except (ApiError, Unreachable) as error:
            raise LabError(str(error)) from error

    def _watch(self) -> None:
        """The kubelets' eyes. A watch that ends for whatever reason is begun again with a list."""
        while not self._closed.is_set():
            try:
                self._list_and_watch()
            except (ApiError, Unreachable):
                self._closed.wait(0.1)
            except Exception as error:
                self._failure = error
                self._closed.wait(0.1)
            with self._news:
                self._news.notify_all()

    def _list_and_watch(self) -> None:
        assert self._client is not None and self._kubelets is not None
        found = self._client.request("GET", PODS)
        for uid in self._kubelets.known() - {pod["metadata"]["uid"] for pod in found["items"]}:
            self._kubelets.gone(uid)
        for pod in found["items"]:
            self._see("ADDED", pod)
        for event in self._client.watch(PODS, resource_version=found["metadata"]["resourceVersion"], seconds=300):
            if self._closed.is_set() or event["type"] == "ERROR":
                return
            if event["type"] != "BOOKMARK":
                self._see(event["type"], event["object"])

    def _see(self, what: str, pod: Object) -> None:
        assert self._kubelets is not None
        if what == "DELETED":
            self._kubelets.gone(pod["metadata"]["uid"])
        else:
            self._kubelets.observe(pod)
        with self._news:
            self._news.notify_all()

    def _wait_for_kubelet(self, reference: Reference) -> None:
        assert self._kubelets is not None
        deadline = time.monotonic() + UP_WITHIN
        while (pod := self.get(str(reference))) is not None and (pod.get("spec") or {}).get("nodeName"):
            if pod["metadata"]["uid"] in self._kubelets.known() and (pod.get("status") or {}).get("podIP"):
                return
            self._wait_for_news(deadline, f"{reference} is not up")

    def _wait_for_news(self, deadline: float, why: str) -> None:
        if self._failure is not None:
            raise LabError(f"{why}: {self._failure}") from self._failure
        if time.monotonic() > deadline:
            raise LabError(why)
        with self._news:
            self._news.wait(0.05)


def _path(pod: Object) -> str:
    return KINDS["Pod"].path(pod["metadata"]["namespace"], pod["metadata"]["name"])


def _write_access(folder: Path, server: str, ca: str, token: str) -> None:
    """A kubeconfig, and beside it what a Pod would find under /var/run/secrets/kubernetes.io/serviceaccount."""
    (folder / "kubeconfig").write_text(kubeconfig(server, ca, token=token))
    mounted = folder / "serviceaccount"
    mounted.mkdir(exist_ok=True)
    (mounted / "token").write_text(token)
    (mounted / "ca.crt").write_text(ca)
    (mounted / "namespace").write_text("kube-system")
