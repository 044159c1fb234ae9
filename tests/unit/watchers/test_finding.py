"""One Pod on demand: from a folder of manifests, from an API server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.ports import EdgeError
from kuberouter_py.watchers.api import ApiClient
from kuberouter_py.watchers.api_errors import Forbidden, NotFound
from kuberouter_py.watchers.finding import find_pod, pods_of
from tests.fakes.objects import packed

KEY = ObjectKey("default", "client")
YAML = """
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: default}
spec: {nodeName: n2}
status: {podIPs: [{ip: 10.244.2.9}, {ip: "fd00::9"}]}
"""


def test_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("no: [yaml")
    (tmp_path / ".hidden.yaml").write_text(YAML.replace("n2", "n3"))
    (tmp_path / "b.yaml").write_text(YAML)
    pod = find_pod(tmp_path, KEY)
    assert pod is not None
    assert (pod.node, pod.ips) == ("n2", (packed("10.244.2.9"), packed("fd00::9")))
    assert find_pod(tmp_path, ObjectKey("default", "other")) is None
    assert (pods_of(tmp_path, "default", 8), pods_of(tmp_path, "other", 8)) == (["client"], [])


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="No such file"):
        find_pod(tmp_path / "gone", KEY)


class Api:
    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def get(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        self.asked.append(f"{path} {query}" if query else path)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def asked(answer: bytes | Exception) -> Any:
    return cast(ApiClient, Api(answer))


def test_from_the_api_server() -> None:
    body = {"metadata": {"name": "client", "namespace": "default"}, "status": {"podIP": "10.244.2.9"}}
    api = asked(json.dumps(body).encode())
    pod = find_pod(api, KEY)
    assert pod is not None
    assert pod.ips == (packed("10.244.2.9"),)
    assert api.asked == ["/api/v1/namespaces/default/pods/client"]


def test_whom_there_is_instead() -> None:
    api = asked(json.dumps({"items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]}).encode())
    assert pods_of(api, "shop", 2) == ["a", "b"]
    assert api.asked == ["/api/v1/namespaces/shop/pods {'limit': '2'}"]
    with pytest.raises(EdgeError, match="Pods of shop cannot be read"):
        pods_of(asked(b"[]"), "shop", 2)


def test_what_the_api_server_says_instead() -> None:
    assert find_pod(asked(NotFound("404")), KEY) is None
    with pytest.raises(Forbidden):
        find_pod(asked(Forbidden("403")), KEY)
    with pytest.raises(EdgeError, match="Pod default/client cannot be read"):
        find_pod(asked(b"{}"), KEY)
