"""What is not understood in a scenario file is an error that names file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.labkit.scenario import ScenarioErrors, load, parse

POD = """\
- apply: |
    apiVersion: v1
    kind: Pod
    metadata: {name: client, namespace: default}
"""
OUTSIDE = "outside: {client: {addresses: [203.0.113.10]}}\n"


def errors_of(text: str) -> list[str]:
    with pytest.raises(ScenarioErrors) as error:
        parse(text, Path("f.yaml"))
    return [str(entry) for entry in error.value.errors]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.yaml:1: steps: is missing"),
        ("nodes: {}\n", "f.yaml:1: steps: is missing"),
        ("steps: []\n", "f.yaml:1: steps: wants at least one step"),
        ("steps: {}\n", "f.yaml:1: steps: wants a list of steps, not a mapping"),
        ("- 1\n", "f.yaml:1: wants a mapping, not a list"),
        ("step: []\nsteps: [api: {do: stop}]\n", "f.yaml:1: step: unknown key (did you mean steps?)"),
        ("nodes: {n1: {adresses: []}}\nsteps: [x]\n",
         "f.yaml:1: nodes.n1.adresses: unknown key (did you mean addresses?)"),
        ("nodes: {n1: {addresses: [192.0.2.300]}}\nsteps: [x]\n",
         "f.yaml:1: nodes.n1.addresses[1]: wants an IP address, with or without /LENGTH, not '192.0.2.300'"),
        ("nodes: {n1: {addresses: []}}\nsteps: [x]\n", "f.yaml:1: nodes.n1.addresses: wants at least one address"),
        ("nodes: {n1: {podCIDRs: [10.244.1.1/24]}}\nsteps: [x]\n", "f.yaml:1: nodes.n1.podCIDRs[1]: wants a CIDR"),
        ("nodes: {n1: {labels: {a: true}}}\nsteps: [x]\n",
         "f.yaml:1: nodes.n1.labels.a: wants text, not true (true or false) (quote it)"),
        ("nodes: {n1: {pods: bridge}}\nsteps: [x]\n",
         "f.yaml:1: nodes.n1.pods: wants one of bridged, routed, cni, not 'bridge' (did you mean bridged?)"),
        ("nodes: {N1: {}}\nsteps: [x]\n", "f.yaml:1: nodes.N1: 'N1' is not a node's name"),
        ("nodes: {a: {addresses: [192.0.2.1]}, b: {addresses: [192.0.2.1]}}\nsteps: [x]\n",
         "f.yaml:1: nodes.b: address 192.0.2.1 belongs to a already"),
        ("serviceCIDRs: [10.96.0.0/16, 10.97.0.0/16]\nsteps: [x]\n",
         "f.yaml:1: serviceCIDRs: wants one CIDR of each family"),
        ("outside: {c: {}}\nsteps: [x]\n", "f.yaml:1: outside.c.addresses: is missing"),
        ("outside: {n1: {addresses: [203.0.113.1]}}\nsteps: [x]\n", "f.yaml:1: outside.n1: 'n1' is a node already"),
        ("outside: {c: {addresses: [203.0.113.1], serve: [tcp/0]}}\nsteps: [x]\n",
         "f.yaml:1: outside.c.serve[1]: wants PROTOCOL/PORT"),
        ("outside: {c: {addresses: [203.0.113.1], routes: {10.0.0.0/8: n9}}}\nsteps: [x]\n",
         "f.yaml:1: outside.c.routes.10.0.0.0/8: wants another host's name"),
        ("agents: {source: kubelet}\nsteps: [x]\n", "f.yaml:1: agents.source: wants one of manifests, apiserver"),
        ("agents: {flags: --run-router}\nsteps: [x]\n", "f.yaml:1: agents.flags: wants a list of flags"),
        ("agents: {flags: [run-router]}\nsteps: [x]\n", "f.yaml:1: agents.flags[1]: wants a flag"),
        ("agents: {nodes: [n4]}\nsteps: [x]\n", "f.yaml:1: agents.nodes[1]: no node 'n4'"),
        ("agents: {source: apiserver}\nprograms: [kube-prox]\nsteps: [x]\n",
         "f.yaml:2: programs[1]: wants one of kube-proxy, kubectl, not 'kube-prox' (did you mean kube-proxy?)"),
        ("programs: [kube-proxy]\nsteps: [x]\n", "f.yaml:1: programs: wants agents.source: apiserver"),
    ],
)  # fmt: skip
def test_sections(text: str, message: str) -> None:
    assert any(error.startswith(message) for error in errors_of(text)), errors_of(text)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("prob: {}", "prob: unknown step (did you mean probe?)"),
        ("name: x", "steps[2]: a step without a kind"),
        ("{api: {do: stop}, delete: [pod/a/b]}", "delete: a second kind in one step (the first is api)"),
        ("{name: 5, delete: [pod/a/b]}", "name: wants text, not 5"),
        ("probe: {to: 'tcp://10.96.0.10:80'}", "probe.from: is missing"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10:80', withn: 1s}",
         "probe.withn: unknown key (did you mean within?)"),
        ("probe: {from: node/n9, to: 'tcp://10.96.0.10:80'}", "probe.from: no node 'n9'"),
        ("probe: {from: n1, to: 'tcp://10.96.0.10:80'}", "probe.from: wants a place"),
        ("probe: {from: outside/other, to: 'tcp://10.96.0.10:80'}", "probe.from: no outside 'other'"),
        ("probe: {from: pod/client, to: 'tcp://10.96.0.10:80'}", "probe.from: wants a place"),
        ("probe: {from: pod/default/clint, to: 'tcp://10.96.0.10:80'}",
         "probe.from: no step before this one applies pod default/clint (did you mean default/client?)"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10'}", "probe.to: wants tcp://ADDRESS:PORT"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10:0'}", "probe.to: wants tcp://ADDRESS:PORT"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10:65536'}",
         "probe.to: 'tcp://10.96.0.10:65536': Port out of range"),
        ("probe: {from: node/n1, to: 'ftp://10.96.0.10:21'}", "probe.to: wants tcp://, udp://, sctp://, http://, icmp://"),
        ("probe: {from: node/n1, to: 'icmp://10.96.0.10:80'}", "probe.to: wants icmp://ADDRESS"),
        ("probe: {from: node/n1, to: 'icmp://10.96.0.10', sport: 7}", "probe.sport: not for icmp://"),
        ("probe: {from: node/n1, to: 'tcp://fd00::1:80'}", "probe.to: "),
        ("probe: {from: node/n1, to: 'tcp://web:80'}", "probe.to: wants an IP address"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10:80/x'}", "probe.to: wants tcp://ADDRESS:PORT"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10:80', expect: opened}",
         "probe.expect: wants one of open, refused, silent, closed, not 'opened'"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10:80', within: 5}", "probe.within: wants a duration"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10:80', within: 5 s}", "probe.within: wants a duration"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10:80', for: 1h}", "probe.for: wants a duration"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10:80', count: 0}", "probe.count: wants a whole number"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10:80', count: '3'}", "probe.count: wants a whole number"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10:80', sport: 70000}", "probe.sport: wants a whole number"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10:80', size: 255}", "probe.size: wants a whole number"),
        ("probe: {from: node/n1, to: 'http://10.96.0.10:80', size: 300}", "probe.size: only for tcp://, udp://"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10:80', backends: web-1}", "probe.backends: wants a list"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10:80', backends: [a, b], count: 1}",
         "probe.backends: 2 cannot answer 1 tries"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10:80', source: 'fd00::1'}",
         "probe.source: is of the other family"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10:80', expect: silent, backends: [a]}",
         "probe.backends: only an answer has one"),
        ("probe: {from: node/n1, to: 'tcp://10.96.0.10:80', status: 200}", "probe.status: only for http://"),
        ("probe: {from: node/n1, to: 'http://10.96.0.10:80', contains: x}", "probe.contains: wants a list"),
        ("held: {name: c1}", "held.name: no step before this one holds 'c1'"),
        ("streamed: {name: s1, failed: 0}", "streamed.name: no stream 's1' goes on here"),
        ("hold: {name: c1, from: node/n1, to: 'http://10.96.0.10:80'}", "hold.to: wants tcp://, udp://, sctp://"),
        ("hold: {name: c1, from: node/n1, to: 'tcp://10.96.0.10:80', within: 1s}", "hold.within: unknown key"),
        ("hold: {name: c1, from: node/n1, to: 'udp://10.96.0.10:80', pushed: true}", "hold.pushed: only for tcp://"),
        ("stream: {name: s, from: node/n1, to: 'icmp://10.96.0.10'}", "stream.to: wants tcp://, udp://, sctp://, http://"),
        ("stream: {name: s, from: node/n1, to: 'tcp://10.96.0.10:80', every: 10}", "stream.every: wants a duration"),
        ("stream: {name: s, from: node/n1, to: 'tcp://10.96.0.10:80', every: 0ms}", "stream.every: wants more"),
        ("stream: {name: s, from: node/n1, to: 'tcp://10.96.0.10:80', kept: 0}", "stream.kept: wants"),
        ("stream: {name: s, from: node/n1, to: 'http://10.96.0.10/x', timeout: 0s}", "stream.timeout: wants more"),
        ("agent: {node: n3, do: stop}", "agent.node: node n3 runs no agent"),
        ("agent: {node: n1, do: reboot}", "agent.do: wants one of"),
        ("agent: {node: n1, do: kill-brid}", "agent.do: wants one of stop, kill, start, restart, cleanup, kill-bird"),
        ("agent: {node: n1, do: stop, refused: true}", "agent.refused: only a start can be refused"),
        ("agent: {node: n1, do: start, refused: yes}", "agent.refused: wants true or false, not 'yes'"),
        ("agent: {node: n1, do: start, env: {A: 1}}", "agent.env.A: wants text, not 1"),
        ("api: {do: stop}", "api: there is no API server with agents.source: manifests"),
        ("api: {}", "api: wants exactly one of do, slow"),
        ("link: {node: n1}", "link: wants exactly one of do, address, loss beside node"),
        ("link: {node: n1, loss: 30}", "link.loss: wants a percentage"),
        ("link: {node: n1, address: 192.0.2.5}", 'link.address: wants "+ADDRESS" or "-ADDRESS"'),
        ("run: {at: node/n1}", "run.command: is missing"),
        ("run: {at: node/n1, command: x, contains: [80]}", "run.contains[1]: wants text, not 80 (a number) (quote it)"),
        ("run: {at: node/n1, command: x, for: 1s}", "run.for: unknown key"),
        ("foreign: {at: node/n1, command: x}", "foreign.check: is missing"),
        ("expectStatus: {node: n1, failures: 0}", "expectStatus.controller: is missing"),
        ("patch: {svc/default: {}}", None),
        ("patch: {thing/default/web: {}}", "patch.thing/default/web: kind 'thing'"),
        ("patch: {pod/default/a: {metadata: {annotations: {lab/phase: Running}}}}",
         "patch.pod/default/a.metadata.annotations.lab/phase: wants one of Succeeded, Failed, not 'Running'"),
        ("patch: {pod/default/a: {metadata: {annotations: {lab/ready: maybe}}}}",
         "patch.pod/default/a.metadata.annotations.lab/ready: wants one of true, false"),
        ("delete: [namespace/a/b]", "delete[1]: "),
        ("delete: pod/a/b", "delete: wants a list of objects"),
    ],
)  # fmt: skip
def test_steps(step: str, message: str | None) -> None:
    text = OUTSIDE + "agents: {nodes: [n1, n2]}\nsteps:\n" + POD + f"- {step}\n"
    if message is None:
        parse(text, Path("f.yaml"))
    else:
        assert [error for error in errors_of(text) if error.startswith(f"f.yaml:8: {message}")], errors_of(text)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("apiVersion: v1", "f.yaml:3: apply: a document without kind"),
        ("[1, 2]", "f.yaml:3: apply: wants a mapping, not a list"),
        ("{apiVersion: v1, kind: Pod, metadata: {namespace: x}}", "f.yaml:3: apply.metadata: metadata without name"),
        ("{apiVersion: v1, kind: Pot, metadata: {name: x}}", "f.yaml:3: apply.kind: kind 'Pot'"),
        ("{apiVersion: v1, kind: Pod, metadata: {name: x, name: y}}", "f.yaml:3: apply.metadata.name: written twice"),
        ("{apiVersion: v1, kind: Pod, metadata: {name: x, annotations: {lab/ips: '10.0.0.1'}}}",
         "f.yaml:3: apply.metadata.annotations.lab/ips: unknown annotation (did you mean lab/ip?)"),
        ("{apiVersion: v1, kind: Pod, metadata: {name: x, annotations: {lab/ip: '10.0.0.1,10.0.0.2'}}}",
         "f.yaml:3: apply.metadata.annotations.lab/ip: wants at most one address of each family"),
        ("{apiVersion: v1, kind: Pod, metadata: {name: x, annotations: {lab/ready: false}}}",
         "f.yaml:3: apply.metadata.annotations.lab/ready: wants one of true, false"),
        ("a: }", "f.yaml:3: apply: not YAML"),
        ("# nothing", "f.yaml:2: apply: holds no document"),
    ],
)  # fmt: skip
def test_documents(document: str, message: str) -> None:
    assert errors_of(f"steps:\n- apply: |\n    {document}\n")[0].startswith(message)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("x/a: - .\n      x/b: . -", None),
        ("x/b: - .\n      x/a: . -", None),
        ("x/a: - .", "f.yaml:9: matrix.expect: no row for x/b"),
        ("x/a: - . .\n      x/b: . -", "f.yaml:10: matrix.expect: x/a has 3 cells, and there are 2 pods"),
        ("x/a: - .\n      x/c: . -", "f.yaml:11: matrix.expect: wants a row"),
        ("x/a: - .\n      x/a: . -", "f.yaml:11: matrix.expect: a second row for x/a"),
        ("x/a: - x\n      x/b: . -", "f.yaml:10: matrix.expect: wants '.' (open), 'X' (closed)"),
    ],
)
def test_matrix(rows: str, message: str | None) -> None:
    text = f"""\
steps:
- apply: |
    {{apiVersion: v1, kind: Pod, metadata: {{name: a, namespace: x}}}}
    ---
    {{apiVersion: v1, kind: Pod, metadata: {{name: b, namespace: x}}}}
- matrix:
    pods: [x/a, x/b]
    to: {{ports: [tcp/80]}}
    expect: |
      {rows}
"""
    if message is None:
        parse(text, Path("f.yaml"))
    else:
        assert errors_of(text)[0].startswith(message)


def test_every_mistake_is_named() -> None:
    text = "nodes: {n1: {x: 1}}\nagents: {y: 1}\nsteps:\n- probe: {}\n- link: {}\n"
    assert [error.split(":")[1] for error in errors_of(text)] == ["1", "2", "4", "5"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ScenarioErrors, match="cannot be read: No such file"):
        load(tmp_path / "missing.yaml")
