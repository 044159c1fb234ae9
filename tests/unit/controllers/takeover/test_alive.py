"""How a living proxy is found, and what is none."""

from __future__ import annotations

import pytest

from kuberouter_py.controllers.takeover.alive import router, signs
from kuberouter_py.model.others import PROXY, ROUTER_POLICIES, ROUTER_SERVICES, Listener, Owner, Process

ANSWER = Listener(10249, "/proxyMode", "ipvs")


def process(command: str, name: str = "") -> Process:
    words = tuple(command.split())
    return Process(812, name or words[0].rsplit("/", 1)[-1][:15], words)


@pytest.mark.parametrize(
    ("command", "alive"),
    [
        ("/usr/local/bin/kube-proxy --config=/var/lib/kube-proxy/config.conf", {PROXY}),
        ("/hyperkube kube-proxy --v=2", {PROXY}),
        ("/hyperkube proxy", {PROXY}),
        ("/hyperkube kubelet", set()),
        ("kube-proxy-exporter", set()),
        ("grep kube-proxy", set()),
        ("kube-router --run-router=true", {ROUTER_SERVICES, ROUTER_POLICIES}),
        ("kube-router --run-service-proxy=false", {ROUTER_POLICIES}),
        ("kube-router --run-service-proxy=false --run-firewall=false", set()),
        ("kuberouter-py", set()),
    ],
)
def test_processes(command: str, alive: set[Owner]) -> None:
    assert {sign.owner for sign in signs([process(command)], [], ())} == alive


@pytest.mark.parametrize(
    ("command", "remains", "alive"),
    [
        ("/usr/local/bin/k3s server", {ROUTER_POLICIES}, {ROUTER_POLICIES}),
        ("/usr/local/bin/k3s server", {ROUTER_SERVICES}, set()),
        ("/usr/local/bin/k3s server --disable-network-policy", {ROUTER_POLICIES}, set()),
        ("/usr/local/bin/k3s server --disable-network-policy=true", {ROUTER_POLICIES}, set()),
        ("/usr/local/bin/k3s server --disable-network-policy=false", {ROUTER_POLICIES}, {ROUTER_POLICIES}),
        ("/usr/local/bin/k3s agent", set(), set()),
    ],
)
def test_a_policy_controller_inside_k3s(command: str, remains: set[Owner], alive: set[Owner]) -> None:
    found = signs([process(command, "k3s-server")], [], remains)
    assert {sign.owner for sign in found} == alive
    assert all("KUBE-ROUTER-*" in str(sign) for sign in found)


def test_a_port_counts_only_where_kube_proxy_has_left_something() -> None:
    assert signs([], [ANSWER], ()) == ()
    (sign,) = signs([], [ANSWER], {PROXY})
    assert str(sign) == "kube-proxy is alive: port 10249 answers /proxyMode with 'ipvs'"


def test_kube_proxy_inside_k3s_is_named() -> None:
    (sign,) = signs([process("/usr/local/bin/k3s agent")], [ANSWER], {PROXY})
    assert "probably inside 812 (/usr/local/bin/k3s agent)" in sign.how


def test_what_a_proxy_has_started_is_not_told_twice() -> None:
    command = "kube-proxy --config=x"
    first, child = process(command), process(command)._replace(pid=9999)
    assert [sign.how for sign in signs([first, child], [ANSWER], {PROXY})] == ["process 812 (kube-proxy --config=x)"]


def test_a_long_command_is_cut() -> None:
    (sign,) = signs([process("kube-proxy " + "--flag=value " * 20)], [], ())
    assert len(sign.how) < 110
    assert "…" in sign.how


@pytest.mark.parametrize(
    ("command", "how"),
    [
        ("kube-router --run-service-proxy=false", "process 812 (kube-router --run-service-proxy=false)"),
        ("kube-router --run-router=false", ""),
        ("kube-router --run-router", "process 812 (kube-router --run-router)"),
        ("kube-proxy", ""),
        ("k3s server", ""),  # what it has inside does not route
    ],
)
def test_a_kube_router_that_routes(command: str, how: str) -> None:
    assert router([process("sleep 1"), process(command)]) == how
