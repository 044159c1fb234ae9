"""What a file leaves out has the value that the format promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.labkit.model import AgentSpec, NodeSpec
from tests.labkit.scenario import parse

STEP = "steps: [run: {at: node/n1, command: 'true'}]\n"


def test_the_default_world() -> None:
    scenario = parse(STEP, Path("f.yaml"))
    assert list(scenario.nodes) == ["n1", "n2", "n3"]
    assert scenario.nodes["n2"] == NodeSpec(
        "n2", ("192.0.2.12", "2001:db8::12"), ("10.244.2.0/24", "fd00:10:244:2::/64"), {}, {}
    )
    assert scenario.service_cidrs == ("10.96.0.0/16", "fd00:10:96::/112")
    assert scenario.outside == {}
    assert scenario.agents == AgentSpec(
        "manifests", ("--run-service-proxy", "--run-router=false", "--run-firewall=false"), None, {}
    )
    assert scenario.programs == ()


def test_a_node_of_which_little_is_said() -> None:
    scenario = parse("nodes: {n1: , n4: {podCIDRs: []}, edge: {labels: {zone: on}}}\n" + STEP, Path("f.yaml"))
    assert scenario.nodes["n1"].addresses == ("192.0.2.11", "2001:db8::11")
    assert scenario.nodes["n4"].addresses == ("192.0.2.14", "2001:db8::14")
    assert scenario.nodes["n4"].pod_cidrs == ()
    assert scenario.nodes["edge"].addresses == ("192.0.2.13", "2001:db8::13")
    assert scenario.nodes["edge"].labels == {"zone": "on"}


def args_of(step: str) -> Any:
    text = (
        f"agents: {{source: apiserver}}\nsteps:\n- hold: {{name: h, from: node/n1, to: 'tcp://10.96.0.1:1'}}\n- {step}"
    )
    return parse(text, Path("f.yaml")).steps[1].args


def test_probe() -> None:
    args = args_of("probe: {from: node/n1, to: 'tcp://10.96.0.10:80'}")
    assert args == {
        "from": "node/n1", "to": "tcp://10.96.0.10:80", "expect": "open", "backends": None, "distinct": None,
        "source": None, "count": 1, "sport": None, "size": None, "within": 5.0, "for": 0.0, "status": None,
        "contains": (),
    }  # fmt: skip
    assert args_of("probe: {from: node/n1, to: 'tcp://10.96.0.10:80', expect: silent}")["for"] == 1.0
    assert args_of("probe: {from: node/n1, to: 'tcp://10.96.0.10:80', backends: [a, b]}")["count"] == 8
    assert args_of("probe: {from: node/n1, to: 'http://[fd00::1]'}")["to"] == "http://[fd00::1]:80/"


def test_durations() -> None:
    step = "stream: {{name: s, from: node/n1, to: 'udp://10.96.0.10:53', every: {}, timeout: {}}}"
    assert args_of(step.format("500ms", "2m"))["every"] == 0.5
    assert args_of(step.format("500ms", "2m"))["timeout"] == 120.0


def test_the_other_kinds() -> None:
    assert args_of("held: {name: h}") == {"name": "h", "alive": True, "backend": None, "within": 0.0}
    assert args_of("run: {at: node/n1, command: x}")["status"] == 0
    assert args_of("run: {at: node/n1, command: x, contains: [y]}")["status"] is None
    assert args_of("agent: {node: all, do: restart}")["nodes"] == ("n1", "n2", "n3")
    assert args_of("api: {slow: 500ms}") == {"slow": 0.5}
    assert args_of('link: {node: n1, address: "+192.0.2.50"}') == {"node": "n1", "address": "+192.0.2.50"}
    assert args_of("expectStatus: {node: n1, controller: services, failures: 0}") == {
        "node": "n1", "controller": "services", "within": 5.0, "wanted": {"failures": 0},
    }  # fmt: skip


def test_steps_know_their_line_and_name() -> None:
    (step,) = parse("steps:\n- name: on\n  run: {at: node/n1, command: x}\n", Path("f.yaml")).steps
    assert (step.name, step.kind, step.line) == ("on", "run", 3)


def test_documents_keep_their_words() -> None:
    text = """\
steps:
- apply: |
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: c}
    data: {on: off, time: 12:30:00, octal: "0777", y: y}
    ---
    ---
    apiVersion: v1
    kind: List
    items:
    - {apiVersion: v1, kind: Namespace, metadata: {name: x}}
"""
    first, second = parse(text, Path("f.yaml")).steps[0].args
    assert first["data"] == {"on": "off", "time": "12:30:00", "octal": "0777", "y": "y"}
    assert second["kind"] == "Namespace"


def test_within_of_steps_that_do_not_say_may_be_given() -> None:
    probe = "- probe: {from: node/n1, to: 'tcp://10.96.0.10:80'%s}\n"
    text = f"steps:\n{probe % ''}{probe % ', within: 5s'}"
    assert [step.args["within"] for step in parse(text, Path("f.yaml"), 20.0).steps] == [20.0, 5.0]
