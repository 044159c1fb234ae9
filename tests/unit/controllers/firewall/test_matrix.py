"""Who reaches whom, as a table: now, and under policies that are tried."""

from __future__ import annotations

from typing import Any

from kuberouter_py.controllers.firewall.explain.explanation import moment
from kuberouter_py.controllers.firewall.explain.matrix import Asked, Matrix, matrix, matrix_document
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import Protocol
from kuberouter_py.observe.policy_matrix import matrix_text
from tests.fakes.firewall import FakeFirewall
from tests.fakes.objects import node, packed
from tests.fakes.policies import namespace, pod, policy

WORLD = (packed("198.51.100.1"), packed("2001:db8::1"))
A = pod("x/a", "10.244.1.2", "fd00::2")
B = pod("x/b", "10.244.1.3", "fd00::3")
C = pod("y/c", "10.244.2.4", node="n2")
V6 = pod("y/v6", "fd00::6", node="n2")
DENY_A = policy("x/deny-a", "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress]}")
A_FROM_B = policy(
    "x/a-from-b",
    "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}",
)


def found(*objects: Any, of: tuple[str, ...] = ("x", "y"), **asked: Any) -> tuple[Asked, Matrix]:
    agent = FakeFirewall(node("192.168.0.1"), namespace("x"), namespace("y"), *objects)
    agent.start()
    question = Asked(of, Protocol.TCP, 80, WORLD, **asked)
    return question, matrix(question, agent.controller.inquire(moment))


def table(*objects: Any, **asked: Any) -> dict[str, str]:
    _, answer = found(*objects, **asked)
    return {end.name: row for end, row in zip(answer.ends, answer.cells, strict=True)}


def test_everybody_reaches_everybody_and_nobody_is_asked_about_himself() -> None:
    assert table(A, B, C) == {"x/a": "-...", "x/b": ".-..", "y/c": "..-.", "outside": "...-"}


def test_rows_send_and_columns_receive() -> None:
    assert table(A, B, C, DENY_A, A_FROM_B) == {"x/a": "-...", "x/b": ".-..", "y/c": "X.-.", "outside": "X..-"}


def test_a_family_of_its_own() -> None:
    by_block = policy("x/block", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}")
    by_other = policy("x/block", '{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "::/0"}}]}]}')
    assert table(A, B, by_block, of=("x",)) == {"x/a": "-4.", "x/b": "4-.", "outside": "44-"}
    assert table(A, B, by_other, of=("x",))["outside"] == "66-"


def test_without_a_family_in_common_nothing_is_asked() -> None:
    assert table(C, V6, of=("y",)) == {"y/c": "--.", "y/v6": "--.", "outside": "..-"}


def test_who_is_left_out() -> None:
    host = pod("y/host", "192.168.0.1", host_network=True)
    done = pod("y/done", "10.244.2.9", phase="Succeeded")
    new, twin = pod("y/new"), pod("y/twin", "10.244.2.4", node="n2", deleting=True)
    _, answer = found(C, host, done, new, twin, of=("y",))
    assert [end.name for end in answer.ends] == ["y/c", "outside"]
    assert {str(key): why for key, why in answer.left_out} == {
        "y/done": "succeeded: its address may be another pod's",
        "y/host": "on its node's network: policies are not about it",
        "y/new": "has no address yet",
        "y/twin": "its address is another pod's",
    }


def test_policies_that_are_tried() -> None:
    question, answer = found(A, B, C, DENY_A, plus=(A_FROM_B, policy("y/none", "{podSelector: {}}")))
    assert matrix_text(matrix_document("n1", question, answer)).splitlines() == [
        "80/tcp in x, y: 7 of 12 ways allowed as it would be, 4 other than now",
        "  with x/a-from-b, y/none",
        "",
        "             1  2  3  4",
        "  1 x/a      -  .  X* .",
        "  2 x/b      .* -  X* .",
        "  3 y/c      X  .  -  .",
        "  4 outside  X  .  X* -",
        "",
        "  rows send, columns receive; . allowed, X denied, * other than now; outside is 198.51.100.1 and 2001:db8::1",
        "  what would change:",
        "    x/a to y/c: allowed, would be denied: ingress of y/c: isolated by y/none, which does not allow it",
        "    x/b to x/a: denied, would be allowed: ingress of x/a: x/a-from-b ingress rule 1 allows it",
        "    x/b to y/c: allowed, would be denied: ingress of y/c: isolated by y/none, which does not allow it",
        "    outside to y/c: allowed, would be denied: ingress of y/c: isolated by y/none, which does not allow it",
    ]


def test_a_policy_that_is_tried_stands_for_the_one_of_its_name() -> None:
    everybody = policy("x/deny-a", "{podSelector: {}, ingress: [{}]}")
    assert table(A, B, DENY_A, plus=(everybody,), of=("x",)) == {"x/a": "-..", "x/b": ".-.", "outside": "..-"}


def test_policies_that_are_left_away() -> None:
    question, answer = found(A, B, DENY_A, minus=(ObjectKey("x", "deny-a"),), of=("x",))
    lines = matrix_text(matrix_document("n1", question, answer)).splitlines()
    assert lines[:2] == ["80/tcp in x: 6 of 6 ways allowed as it would be, 2 other than now", "  without x/deny-a"]
    assert "    outside to x/a: denied, would be allowed: no policy isolates either end" in lines


def test_what_changes_nothing_and_what_is_not_understood() -> None:
    odd = policy("x/odd", "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{}]}]}")
    question, answer = found(A, B, DENY_A, plus=(odd,), of=("x",))
    lines = matrix_text(matrix_document("n1", question, answer)).splitlines()
    assert lines[0] == "80/tcp in x: 4 of 6 ways allowed, as now"
    assert lines[-2:] == [
        "  not understood of the policies that are tried:",
        "    x/odd: spec.ingress[0].from[0]: names no peer; it matches nothing",
    ]
