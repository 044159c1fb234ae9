"""The command line: Go's booleans, environment, exit statuses, one clear line for every error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kuberouter_py.agent import Planned
from kuberouter_py.cli import main
from kuberouter_py.cli.options import go_style
from kuberouter_py.config import Config
from kuberouter_py.observe.bgp import bgp_text, routes_document, service_document
from kuberouter_py.observe.http import HttpServer, Response, json_response, text_response
from kuberouter_py.observe.listening import Unix
from tests.unit.observe.bgp_documents import DOCUMENT as SESSIONS
from tests.unit.observe.bgp_documents import IN, OUT, ROUTER
from tests.unit.observe.documents import DOCUMENT


class Agent(ModuleType):
    """Stands in for kuberouter_py.agent: remembers what it was called with."""

    def __init__(self) -> None:
        super().__init__("kuberouter_py.agent")
        self.calls: list[tuple[Any, ...]] = []
        self.planned = Planned([], False, [])

    def run_agent(self, config: Config) -> int:
        self.calls.append(("run", config))
        return 0

    def cleanup(self, config: Config) -> int:
        self.calls.append(("cleanup", config))
        return 0

    def take_over(self, config: Config, *, agent_runs: bool, tell: Callable[[str], None]) -> int:
        self.calls.append(("takeover", config, agent_runs))
        tell("told")
        return 2

    def plan(self, config: Config) -> Planned:
        self.calls.append(("plan", config))
        return self.planned


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Agent:
    fake = Agent()
    monkeypatch.setitem(sys.modules, "kuberouter_py.agent", fake)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in [name for name in os.environ if name.startswith("KUBEROUTER_") or name == "NODE_NAME"]:
        monkeypatch.delenv(name)
    return fake


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[str]:
    """A running agent's local socket."""
    path = str(tmp_path / "agent.sock")
    config = Config(socket=path, vip_binding="route")
    server = HttpServer()
    server.serve(
        Unix(path),
        {"/config": lambda: json_response(config.as_texts()), "/status": lambda: json_response(DOCUMENT)},
        {
            "/explain": _explain,
            "/matrix": _matrix,
            "/bgp": lambda _: json_response(SESSIONS),
            "/bgp/routes": _routes,
            "/bgp/service": _service,
        },
    )
    server.start()
    yield path
    server.stop()


def _service(parameters: Mapping[str, str]) -> Response:
    told = [("10.96.0.1", ""), ("203.0.113.1", "it has no EndpointSlice")]
    return json_response(service_document(parameters["service"], told if parameters["service"] == "x/web" else ()))


def _routes(parameters: Mapping[str, str]) -> Response:
    return json_response([routes_document(ROUTER, IN, OUT)] if parameters.get("peers") == "10.0.0.254,n2" else [])


def _explain(parameters: Mapping[str, str]) -> Response:
    """Says what it was asked."""
    if parameters["to"] == "nowhere":
        return text_response(422, "there is no such thing; but there is another\n")
    verdict = f"open: {parameters['from']} to {parameters['to']}"
    state: dict[str, Any] = {"verdict": verdict, "server": None, "destinations": [], "rules": [], "notUnderstood": []}
    differences = ["something"] if parameters["actual"] == "true" else []
    path = {"title": "it", "source": "", "enters": "", "decided": state, "actual": None, "differences": differences}
    path |= {"leftOut": [], "affinity": None, "notes": [], "refused": []}
    return json_response(
        {"verdict": verdict, "paths": [path, path] if "service" in parameters["to"] else [path], "remarks": []}
    )


def _matrix(parameters: Mapping[str, str]) -> Response:
    """One Pod in each namespace, and what it was asked as reasons."""
    ends = [*parameters["namespaces"].split(","), "outside"]
    asked = [{"pod": name, "reason": text} for name, text in parameters.items() if name != "namespaces"]
    return json_response({
        "namespaces": ends[:-1], "port": 80, "protocol": "tcp", "outside": ["198.51.100.1"], "with": [], "without": [],
        "ends": ends, "cells": ["." * len(ends)] * len(ends), "now": None, "changes": [], "leftOut": asked, "notes": [],
    })  # fmt: skip


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_bare_is_the_agent(agent: Agent) -> None:
    assert run() == 0
    assert agent.calls == [("run", Config())]


@pytest.mark.parametrize("flag", ["--cleanup", "--cleanup-config", "--cleanup=true", "--cleanup-config=1"])
def test_cleanup(agent: Agent, flag: str) -> None:
    assert run(flag) == 0
    assert agent.calls == [("cleanup", Config(cleanup=True))]


def test_flags_before_environment(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEROUTER_RUN_ROUTER", "false")
    monkeypatch.setenv("KUBEROUTER_HEALTH_PORT", "1")
    monkeypatch.setenv("NODE_NAME", "n1")
    assert run("--health-port=2", "--enable-ipv6", "-v", "3", "--excluded-cidrs", "10.0.0.0/8") == 0
    [(_, config)] = agent.calls
    assert (config.run_router, config.health_port, config.hostname_override) == (False, 2, "n1")
    assert (config.enable_ipv6, config.v, len(config.excluded_cidrs)) == (True, 3, 1)


def test_a_boolean_never_eats_the_next_word(agent: Agent) -> None:
    assert list(go_style(["--run-router", "plan", "-v=2", "--", "--run-router"])) == [
        "--run-router=true", "plan", "--v=2", "--", "--run-router",
    ]  # fmt: skip
    agent.planned = Planned(["ipvsadm -A -t 10.96.0.1:443 -s rr"], True, [])
    assert run("--run-router", "plan") == 2
    assert agent.calls == [("plan", Config())]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--ipvs-sync-period", "abc"], '--ipvs-sync-period: "abc" is not a duration like 30s, 5m or 1h30m'),
        (["--run-router=perhaps"], '--run-router: "perhaps" is neither true nor false'),
        (["--no-run-router"], "No such option '--no-run-router'"),
        (["explain", "--to", "10.96.0.10:80"], "Missing option '--from'"),
        (["explain", "--from", "node"], "Missing option '--to'"),
        (["explain", "--from", "node", "--matrix", "x"], "--matrix stands without --from, --to and --actual"),
        (["explain", "--from", "node", "--to", "10.96.0.10:80", "x"], "x: namespaces only follow --matrix"),
        (["explain", "--from", "node", "--to", "10.96.0.10:80", "--without", "x/a"], "--without: only with --matrix"),
        (["explain", "--matrix", "x", "--with", "/nowhere/p.yaml"], "'/nowhere/p.yaml': No such file"),
        (["--run-router", "false"], "the value of a boolean follows an equals sign, --flag=false"),
        (["--health-port"], "requires an argument"),
        (["status", "--run-router"], "No such option"),
        (["status", "-o", "yaml"], "'yaml' is not one of"),
        (["status", "--socket", "/nowhere/agent.sock"], "no agent answers on /nowhere/agent.sock"),
        (["bird"], "--bird-socket says where BIRD listens"),
        (["plan", "--socket", "/nowhere/agent.sock"], "no agent answers on /nowhere/agent.sock"),
    ],
)
def test_errors_are_one_line(agent: Agent, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str) -> None:
    assert run(*arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("kuberouter-py: ")
    assert line in printed.err
    assert printed.err.count("\n") == 1
    assert agent.calls == []


def test_an_error_of_the_environment_names_the_variable(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBEROUTER_HEALTH_PORT", "abc")
    assert run() == 1
    assert capsys.readouterr().err == (
        'kuberouter-py: --health-port: "abc" is not a port (0 to 65535) (environment variable KUBEROUTER_HEALTH_PORT)\n'
    )
    assert run("--health-port=abc") == 1
    assert "environment" not in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--cleanup"], ["plan"], ["bird", "--bird-socket=/run/b.ctl"]])
def test_root_is_needed(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run(*arguments) == 1
    assert "must be run as root" in capsys.readouterr().err


def test_plan_prints_and_says_whether_there_is_a_difference(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    agent.planned = Planned(["one", "two"], True, [])
    assert run("plan", "--manifests", "/srv/manifests") == 2
    assert capsys.readouterr().out == "one\ntwo\n"
    agent.planned = Planned([], False, [])
    assert run("--manifests", "/srv/manifests", "plan", "--vip-binding=route") == 0
    assert capsys.readouterr().out == ""
    assert agent.calls[-1] == ("plan", Config(manifests="/srv/manifests", vip_binding="route"))


def test_a_plan_with_a_hole_is_an_error(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    agent.planned = Planned(["one"], True, ["virtual servers: this kernel offers no IPVS"])
    assert run("plan", "--manifests", "/srv/manifests") == 1
    printed = capsys.readouterr()
    assert printed.out == "one\n"
    assert printed.err == (
        "kuberouter-py: the plan is not whole, not read: virtual servers: this kernel offers no IPVS\n"
    )


def test_plan_without_options_means_the_running_agent(agent: Agent, socket: str) -> None:
    assert run("plan", "--socket", socket) == 0
    assert agent.calls == [("plan", Config(socket=socket, vip_binding="route"))]


def test_status(agent: Agent, socket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", "--socket", socket, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == DOCUMENT
    assert run("status", "--socket", socket) == 0
    assert capsys.readouterr().out.startswith("kuberouter-py 0.1.0 on n1: degraded")


def test_explain(agent: Agent, socket: str, capsys: pytest.CaptureFixture[str]) -> None:
    question = ("explain", "--socket", socket, "--from", "pod/default/a b", "--to")
    assert run(*question, "10.96.0.10:80/udp") == 0
    assert capsys.readouterr().out.startswith("open: pod/default/a b to 10.96.0.10:80/udp\n")
    assert run(*question, "10.96.0.10:80", "--actual", "-o", "json") == 2
    assert json.loads(capsys.readouterr().out)["paths"][0]["differences"] == ["something"]
    for target, brief in (("service/x/y", True), ("service/x/y:80", False)):
        assert run(*question, target) == 0
        assert capsys.readouterr().out.endswith("told where --to has a port\n") is brief
    assert run(*question, "nowhere") == 1
    assert capsys.readouterr().err == "kuberouter-py: there is no such thing; but there is another\n"


def test_explain_matrix(agent: Agent, socket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "--socket", socket, "--matrix", "x", "y") == 0
    assert capsys.readouterr().out.startswith("80/tcp in x, y: 9 of 9 ways allowed\n")
    file = tmp_path / "p.yaml"
    file.write_text("# " + "long " * 5000)
    options = ("--port", "53/udp", "--with", str(file), "--without", "x/a", "--without", "y/b", "--outside", "fd00::1")
    assert run("explain", "--socket", socket, "--matrix", "x", *options, "-o", "json") == 0
    asked = {one["pod"]: one["reason"] for one in json.loads(capsys.readouterr().out)["leftOut"]}
    assert asked == {
        "port": "53/udp", "with": file.read_text(), "file": str(file), "without": "x/a,y/b", "outside": "fd00::1",
    }  # fmt: skip


def test_help_and_version(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["-h"], ["plan", "--help"]):
        assert run(*arguments) == 0
        assert "--ipvs-sync-period DURATION" in capsys.readouterr().out
    assert run("-V") == 0
    assert capsys.readouterr().out.startswith("kuberouter-py ")


def test_importing_the_command_line_is_cheap() -> None:
    script = "import sys, kuberouter_py.cli; print([name for name in sys.modules])"
    loaded = json.loads(os.popen(f"{sys.executable} -c '{script}'").read().replace("'", '"'))
    assert not {"kubernetes", "pyroute2", "structlog", "prometheus_client", "yaml"} & set(loaded)


def test_takeover_without_an_agent(agent: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    socket = str(tmp_path / "nobody.sock")
    assert run("takeover", "--socket", socket, "--accept-differences", "--kubeconfig=/k") == 2
    assert agent.calls == [("takeover", Config(socket=socket, accept_differences=True, kubeconfig="/k"), False)]
    assert capsys.readouterr().out == "told\n"


def test_takeover_beside_a_running_agent_takes_its_configuration(agent: Agent, socket: str) -> None:
    assert run("takeover", "--socket", socket, "--accept-differences") == 2
    [(_, config, agent_runs)] = agent.calls
    assert (config.vip_binding, config.accept_differences, agent_runs) == ("route", True, True)


def test_takeover_beside_a_running_agent_refuses_another_configuration(
    agent: Agent, socket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("takeover", "--socket", socket, "--vip-binding=address") == 1
    assert "--vip-binding: an agent runs on this node" in capsys.readouterr().err
    assert agent.calls == []


def test_takeover_needs_the_service_proxy(agent: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("takeover", "--socket", str(tmp_path / "nobody.sock"), "--run-service-proxy=false") == 1
    assert "--run-service-proxy" in capsys.readouterr().err


def test_bgp(socket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bgp", "--socket", socket) == 0
    assert capsys.readouterr().out == bgp_text(SESSIONS)
    assert run("--socket", socket, "bgp", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == SESSIONS


def test_bgp_routes(socket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bgp", "--socket", socket, "routes", "10.0.0.254", "n2") == 0
    assert capsys.readouterr().out.startswith("10.0.0.254 (AS 64999), Established, gave us 2 routes:")
    assert run("bgp", "routes", "-o", "json", "--socket", socket) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_bgp_service(socket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bgp", "--socket", socket, "service", "x/web") == 0
    assert capsys.readouterr().out == (
        "Service x/web\n  10.96.0.1 announced\n  203.0.113.1 not announced: it has no EndpointSlice\n"
    )
    assert run("bgp", "service", "y/web", "--socket", socket) == 0
    assert capsys.readouterr().out == "Service y/web\n  it has no address\n"
    assert run("bgp", "service", "x/web", "-o", "json", "--socket", socket) == 0
    first, _ = json.loads(capsys.readouterr().out)["addresses"]
    assert first == {"address": "10.96.0.1", "announced": True, "reason": ""}


def test_bgp_without_an_agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bgp", "--socket", str(tmp_path / "none")) == 1
    assert "no agent answers" in capsys.readouterr().err
