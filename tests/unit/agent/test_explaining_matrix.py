"""The words of `explain --matrix`, and why some of them have no answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kuberouter_py.agent.explaining_matrix import MOST, MatrixExplaining
from kuberouter_py.config import Config
from tests.fakes.firewall import FakeFirewall
from tests.fakes.objects import NODE_NAME, node
from tests.fakes.policies import namespace, pod, policy

POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: %s, namespace: x}
spec: {podSelector: %s, policyTypes: [Ingress]}
---
"""
DENY_A = POLICY % ("deny-a", "{matchLabels: {pod: a}}")
OBJECTS = (
    namespace("x"), namespace("y"), namespace("empty"), pod("x/a", "10.244.1.2"), pod("x/b", "10.244.1.3"),
    pod("y/c", "10.244.2.4", node="n2"), policy("x/deny-b", "{podSelector: {matchLabels: {pod: b}}}"),
)  # fmt: skip


def answer(*objects: Any, config: Config | None = None, **parameters: str) -> tuple[int, str]:
    agent = FakeFirewall(node("192.168.0.1"), *(objects or OBJECTS), config=config)
    agent.start()
    given = {"namespaces": "x,y", "port": "80", **{name.rstrip("_"): text for name, text in parameters.items()}}
    response = MatrixExplaining(NODE_NAME, agent.controller).answer(given)
    return response.status, response.body.decode().rstrip()


def told(**parameters: Any) -> dict[str, Any]:
    status, body = answer(**parameters)
    assert status == 200, body
    document: dict[str, Any] = json.loads(body)
    return document


def test_as_it_is() -> None:
    document = told()
    assert document["ends"] == ["x/a", "x/b", "y/c", "outside"]
    assert document["cells"] == ["-X..", ".-..", ".X-.", ".X.-"]
    assert (document["now"], document["changes"], document["protocol"]) == (None, [], "tcp")
    assert document["outside"] == ["198.51.100.1", "2001:db8::1"]


def test_with_and_without() -> None:
    document = told(with_=DENY_A, file="deny.yaml", without="x/deny-b", port="53/UDP", outside="203.0.113.9")
    assert document["cells"] == ["-...", "X-..", "X.-.", "X..-"]
    assert document["now"] == ["-X..", ".-..", ".X-.", ".X.-"]
    assert (document["with"], document["without"]) == (["x/deny-a"], ["x/deny-b"])
    assert (document["port"], document["protocol"], document["outside"]) == (53, "udp", ["203.0.113.9"])


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"namespaces": ""}, "--matrix: of which namespaces?"),
        ({"namespaces": "x,z"}, "there is no namespace z; there are empty, x, y"),
        ({"namespaces": "empty"}, "there is no Pod in empty"),
        ({"port": "http"}, "--port http: neither a number nor NUMBER/udp or NUMBER/sctp"),
        ({"port": "80/icmp"}, "--port 80/icmp: neither"),
        ({"port": "65536"}, "--port 65536: neither"),
        ({"outside": "world"}, "--outside world: no address"),
        ({"without": "x/gone"}, "--without x/gone: there is no such NetworkPolicy; there are x/deny-b"),
        ({"without": "gone"}, "--without gone: there is no such NetworkPolicy; there are x/deny-b"),
        ({"with_": "", "file": "p.yaml"}, "p.yaml holds no NetworkPolicy of networking.k8s.io/v1"),
        ({"with_": "kind: Pod", "file": "p.yaml"}, "p.yaml holds no NetworkPolicy"),
        ({"with_": "a: [", "file": "p.yaml"}, "p.yaml:"),
        ({"with_": DENY_A + DENY_A, "file": "p.yaml"}, "p.yaml:8: NetworkPolicy x/deny-a stands there twice"),
        (
            {"with_": DENY_A + POLICY % ("odd", "{matchExpressions: [{key: a, operator: Like}]}"), "file": "p.yaml"},
            "p.yaml:8: NetworkPolicy x/odd: spec.podSelector.matchExpressions[0].operator: 'Like' is not known",
        ),
    ],
)
def test_what_has_no_answer(asked: dict[str, Any], reason: str) -> None:
    status, body = answer(**asked)
    assert (status, body[: len(reason)]) == (422, reason)


def test_too_many_pods() -> None:
    pods = [pod(f"x/p{number}", f"10.244.1.{number + 1}") for number in range(MOST + 1)]
    assert answer(namespace("x"), *pods, namespaces="x") == (
        422, f"{MOST + 1} Pods are too many for one table, {MOST} are the most: name fewer namespaces",
    )  # fmt: skip


def test_a_firewall_that_is_off_has_no_table() -> None:
    status, body = answer(config=Config(run_firewall=False))
    assert (status, body.partition(":")[0]) == (422, "--run-firewall=false")
