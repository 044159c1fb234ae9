"""A question by HTTP to its answer: Pods are found, syncs may come between, and every no has its reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kuberouter_py.agent.explaining import Explaining
from kuberouter_py.config import Config
from kuberouter_py.controllers.services.explain.explanation import Path, compared
from kuberouter_py.model.cluster import ObjectKey, Pod
from kuberouter_py.ports import EdgeError
from tests.fakes.agent import FakeAgent
from tests.fakes.lookups import FakeLookups
from tests.fakes.objects import endpoint, endpoint_slice, node, packed, service

WEB, PODS = service("web"), endpoint_slice("web", endpoint("10.244.1.2", "n1"), endpoint("10.244.2.3"))


class Source:
    """Knows three Pods."""

    def find_pod(self, key: ObjectKey) -> Pod | None:
        if key.namespace == "secret":
            raise EdgeError("GET /api/v1/namespaces/secret/pods/x: 403 forbidden")
        pods = {
            "client": Pod(key, "uid", (packed("10.244.1.9"),), "n1"),
            "far": Pod(key, "uid", (packed("10.244.2.9"),), "n2"),
            "new": Pod(key, "uid"),
        }
        return pods.get(key.name)

    def pods_of(self, namespace: str, most: int) -> list[str]:
        return ["client", "far", "new"][:most]


def started(*objects: Any) -> tuple[FakeAgent, Explaining]:
    agent = FakeAgent(node("192.168.0.1"), *(objects or (WEB, PODS)))
    agent.start()
    source: Any = Source()
    return agent, Explaining("n1", agent.controller, source, FakeLookups(agent.kernel))


def told(explaining: Explaining, sender: str, target: str = "10.96.0.10:80", actual: str = "") -> dict[str, Any]:
    answer = explaining.answer({"from": sender, "to": target, "actual": actual})
    assert answer.status == 200, answer.body
    document: dict[str, Any] = json.loads(answer.body)
    return document


def test_a_pod_of_this_node() -> None:
    document = told(started()[1], "pod/default/client")
    assert document["from"] == {
        "kind": "pod", "name": "default/client", "node": "n1", "addresses": ["10.244.1.9"],
    }  # fmt: skip
    assert document["verdict"].startswith("open: 2 destinations")
    assert document["remarks"] == []


def test_a_pod_of_another_node_is_asked_about_there() -> None:
    (remark,) = told(started()[1], "pod/default/far")["remarks"]
    assert remark.startswith("default/far runs on n2, whose agent knows the path from there")


@pytest.mark.parametrize(
    ("sender", "reason"),
    [
        ("pod/default/nobody", "there is no Pod default/nobody; in default there are client, far, new"),
        ("pod/default/new", "Pod default/new has no address yet; ask with --from ADDRESS"),
        ("pod/secret/x", "ask with --from ADDRESS"),
        ("nobody", "neither pod/NAMESPACE/NAME nor node nor an address"),
    ],
)
def test_who_cannot_be_known(sender: str, reason: str) -> None:
    answer = started()[1].answer({"from": sender, "to": "10.96.0.10:80"})
    assert answer.status == 422
    assert reason in answer.body.decode()


def test_before_the_first_sync_there_is_nothing_to_tell() -> None:
    agent = FakeAgent(node("192.168.0.1"), WEB)
    source: Any = Source()
    answer = Explaining("n1", agent.controller, source, FakeLookups(agent.kernel)).answer(
        {"from": "node", "to": "10.96.0.10:80"}
    )
    assert answer.status == 422
    assert "first sync" in answer.body.decode()


def test_without_the_service_proxy_there_is_nothing_to_tell_either() -> None:
    agent = FakeAgent(node("192.168.0.1"), WEB, config=Config(run_service_proxy=False))
    source: Any = Source()
    explaining = Explaining("n1", agent.controller, source, FakeLookups(agent.kernel))
    answer = explaining.answer({"from": "node", "to": "10.96.0.10:80"})
    assert answer.status == 422
    assert answer.body.startswith(b"--run-service-proxy=false")


def test_a_sync_that_comes_between_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, explaining = started()
    between = [lambda: agent.tell(endpoint_slice("web", endpoint("10.244.2.4")))]

    def compared_late(path: Path, *kernel: Any) -> Path:
        while between:
            between.pop()()
        return compared(path, *kernel)

    monkeypatch.setattr("kuberouter_py.agent.explaining.compared", compared_late)
    document = told(explaining, "node", actual="true")
    assert document["paths"][0]["differences"] == []
    assert [one["address"] for one in document["paths"][0]["actual"]["destinations"]] == ["10.244.2.4"]
