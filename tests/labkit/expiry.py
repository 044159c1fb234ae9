"""How every resourceVersion that a client may hold is made too old, and the proof that it is.

A live watch survives an etcd compaction and a resume is served from the API server's memory, so compacting alone does
nothing: writes of every kind, the compaction and a restart of the API server together do.
"""

from __future__ import annotations

import json
import urllib.request
from typing import Any, Final

from tests.labkit.apiclient import ApiClient
from tests.labkit.kinds import KINDS, Kind
from tests.labkit.ports import LabError

WATCHED: Final = ("Service", "EndpointSlice", "Node", "Pod", "Namespace", "NetworkPolicy", "ConfigMap", "ServiceCIDR")
# Gone again before a client is let in. No controller and no kubelet acts on any of them.
SPECS: Final[dict[str, dict[str, Any]]] = {
    "Service": {"spec": {"clusterIP": "None", "ports": [{"port": 9}]}},
    "EndpointSlice": {"addressType": "IPv4", "endpoints": []},
    "Pod": {"spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "none", "image": "none"}]}},
    "NetworkPolicy": {"spec": {"podSelector": {}}},
}
# What is deleted would need its controller to go (finalizers): one that stays is changed.
STAYS: Final = {"Namespace": "default", "ServiceCIDR": "kubernetes"}
NAME: Final = "lab-expire"


class Expiry:
    def __init__(self, client: ApiClient, etcd_url: str) -> None:
        self._client = client
        self._etcd = etcd_url
        self._before: dict[str, str] = {}

    def write_and_compact(self) -> None:
        kinds = [KINDS[name] for name in WATCHED]
        for kind in kinds:
            self._before[kind.name] = self._client.get(f"{kind.path()}?limit=1")["metadata"]["resourceVersion"]
        for kind in kinds:
            self._touch(kind)
        revision = int(self._ask("/v3/kv/range", {"key": "AA=="})["header"]["revision"])
        self._ask("/v3/kv/compaction", {"revision": revision, "physical": True})

    def check(self) -> list[str]:
        """The kinds whose resume from before ended with 410, by watching: all, or LabError."""
        for name, version in self._before.items():
            path = KINDS[name].path()
            first = next(self._client.watch(path, resource_version=version, seconds=5), {})
            if first.get("type") != "ERROR" or first["object"].get("code") != 410:
                raise LabError(f"expire: a watch of {name} resumed from {version} was answered {first.get('type')}")
        return list(self._before)

    def _touch(self, kind: Kind) -> None:
        namespace = "default" if kind.namespaced else None
        if kind.name in STAYS:
            labels = {"labels": {"lab/expired": self._before[kind.name]}}
            self._client.request("PATCH", kind.path(name=STAYS[kind.name]), {"metadata": labels}, patch=True)
            return
        thing = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {"name": NAME},
            **SPECS.get(kind.name, {}),
        }
        self._client.request("POST", kind.path(namespace), thing)
        self._client.request("DELETE", kind.path(namespace, NAME))

    def _ask(self, path: str, question: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(self._etcd + path, json.dumps(question).encode())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found
