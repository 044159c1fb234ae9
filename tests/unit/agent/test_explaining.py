"""A question by HTTP to its answer: Pods are found, syncs may come between, and every no has its reason."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from kuberouter_py.agent.explaining import Explaining
from kuberouter_py.agent.explaining_policies import PolicyExplaining
from kuberouter_py.config import Config
from kuberouter_py.controllers.firewall.explain.explanation import actual_state
from kuberouter_py.controllers.services.explain.explanation import Path, compared
from kuberouter_py.model.cluster import ObjectKey, Pod, SlicePort
from kuberouter_py.model.kernel import Protocol, SetEntry, SetMember
from kuberouter_py.model.names import firewall_set
from kuberouter_py.observe.explanation import explanation_text
from kuberouter_py.ports import EdgeError
from kuberouter_py.watchers.cache import Cache
from tests.fakes.agent import FakeAgent
from tests.fakes.firewall import FakeFirewall
from tests.fakes.lookups import FakeFirewallLookups, FakeLookups
from tests.fakes.objects import NODE_NAME, cidr, endpoint, endpoint_slice, node, packed, service
from tests.fakes.policies import namespace, pod, policy

CONFIG = Config(run_firewall=False, hostname_override=NODE_NAME)
WEB, PODS = service("web"), endpoint_slice("web", endpoint("10.244.1.2", "n1"), endpoint("10.244.2.3"))


class Source:
    """Knows three Pods, and those that are watched."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def find_pod(self, key: ObjectKey) -> Pod | None:
        if watched := self._cache.pod(key):
            return watched
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


def explained(agent: FakeAgent, config: Config = CONFIG, firewall: FakeFirewall | None = None) -> Explaining:
    """Without a firewall that runs, unless one is given."""
    held = firewall or FakeFirewall(config=config)
    policies = PolicyExplaining(NODE_NAME, held.controller, held.cache, FakeFirewallLookups(held.kernel))
    source: Any = Source(held.cache)
    return Explaining(config, agent.controller, policies, source, FakeLookups(agent.kernel))


def started(*objects: Any) -> tuple[FakeAgent, Explaining]:
    agent = FakeAgent(node("192.168.0.1"), *(objects or (WEB, PODS)))
    agent.start()
    return agent, explained(agent)


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
    answer = explained(FakeAgent(node("192.168.0.1"), WEB)).answer({"from": "node", "to": "10.96.0.10:80"})
    assert answer.status == 422
    assert "first sync" in answer.body.decode()


def test_without_the_service_proxy_there_is_nothing_to_tell_either() -> None:
    config = Config(run_service_proxy=False, run_firewall=False, hostname_override=NODE_NAME)
    agent = FakeAgent(node("192.168.0.1"), WEB, config=config)
    answer = explained(agent, config).answer({"from": "node", "to": "10.96.0.10:80"})
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


# -- with a firewall ---------------------------------------------------------------------------------------------------

CLIENT = pod("x/client", "10.244.1.9", "fd00:10:244:1::9")
HERE = pod("x/here", "10.244.1.2", ports=[("web", Protocol.TCP, 8080), ("dns", Protocol.UDP, 53)])
THERE = pod("x/there", "10.244.2.3", node="n2")
HOST = pod("x/host", "192.168.0.1", host_network=True)
DENY_HERE = policy("x/deny-here", "{podSelector: {matchLabels: {pod: here}}, policyTypes: [Ingress]}")
DENY_THERE = policy("x/deny-there", "{podSelector: {matchLabels: {pod: there}}, policyTypes: [Ingress]}")
DENY_OUT = policy("x/deny-out", "{podSelector: {matchLabels: {pod: client}}, policyTypes: [Egress]}")
BOTH = Config(hostname_override=NODE_NAME)


def walled(*policies: Any, config: Config = BOTH) -> tuple[FakeFirewall, Explaining]:
    agent = FakeAgent(node("192.168.0.1"), WEB, PODS, config=config)
    agent.start()
    firewall = FakeFirewall(node("192.168.0.1"), namespace("x"), CLIENT, HERE, THERE, HOST, *policies, config=config)
    firewall.start()
    return firewall, explained(agent, config, firewall)


@pytest.mark.parametrize(
    ("sender", "target", "verdict"),
    [
        ("pod/x/client", "pod/x/here:80", "denied: ingress of x/here: isolated by x/deny-here"),
        ("pod/x/client", "pod/x/here:web", "denied: ingress of x/here: isolated by x/deny-here"),
        ("pod/x/client", "10.244.1.2:80", "denied: ingress of x/here: isolated by x/deny-here"),
        ("pod/x/client", "pod/x/there:80/udp", "allowed: no policy isolates either end"),
        ("pod/x/here", "pod/x/here:80", "allowed: x/here always reaches itself"),
        ("node", "pod/x/here:80", "allowed: ingress of x/here: its own node always reaches it"),
        ("192.168.0.1", "pod/x/here:80", "allowed: ingress of x/here: its own node always reaches it"),
        ("pod/x/host", "pod/x/here:80", "allowed: ingress of x/here: its own node always reaches it"),
        ("203.0.113.9", "pod/x/here:80", "denied: ingress of x/here: isolated by x/deny-here"),
    ],
)
def test_what_policies_say_of_pods(sender: str, target: str, verdict: str) -> None:
    document = told(walled(DENY_HERE)[1], sender, target, "true")
    assert document["verdict"].startswith(verdict)
    assert document["outcome"] == verdict.partition(":")[0]
    assert document["paths"] == []
    (connection,) = document["policies"]["connections"]
    assert connection["verdict"] == document["verdict"]
    assert connection["differences"] == []
    assert explanation_text(document).splitlines()[0] == document["verdict"]


def test_whose_address_it_is_to_policies() -> None:
    ended = pod("x/ended", "10.244.1.2", phase="Succeeded")
    _, explaining = walled(ended, DENY_HERE)
    assert told(explaining, "pod/x/client", "pod/x/ended:80")["remarks"] == [
        "10.244.1.2 is not x/ended's own: to policies it is x/here"
    ]
    assert told(explaining, "pod/x/host", "pod/x/there:80")["remarks"] == [
        "192.168.0.1 is not x/host's own: to policies it is no Pod"
    ]


def test_every_family_that_both_ends_have_is_asked_about() -> None:
    other = pod("x/other", "10.244.1.5", "fd00:10:244:1::5")
    connections = told(walled(other)[1], "pod/x/client", "pod/x/other:80")["policies"]["connections"]
    assert [one["destination"]["address"] for one in connections] == ["10.244.1.5", "fd00:10:244:1::5"]


@pytest.mark.parametrize(
    ("sender", "target", "reason"),
    [
        ("pod/x/client", "pod/x/nobody:80", "there is no Pod x/nobody; in x there are"),
        ("pod/x/client", "pod/x/here:http", "Pod x/here has no port http/tcp; it has web"),
        ("pod/x/client", "pod/x/here:dns", "Pod x/here has no port dns/tcp; it has web"),
        ("pod/x/client", "pod/x/here:0", "0 is no port"),
        ("pod/x/client", "pod/x/here", "which port? pod/NAMESPACE/NAME:PORT"),
        ("fd00::9", "pod/x/here:80", "address fd00::9 has no IPv4 address: it cannot send there"),
    ],
)
def test_what_cannot_be_answered(sender: str, target: str, reason: str) -> None:
    answer = walled()[1].answer({"from": sender, "to": target})
    assert (answer.status, reason in answer.body.decode()) == (422, True), answer.body


def test_what_policies_say_of_each_destination_of_a_service() -> None:
    document = told(walled(DENY_HERE)[1], "pod/x/client", actual="true")
    assert document["outcome"] == "open"
    assert document["verdict"].endswith("; NetworkPolicy denies 1 of 2")
    here, there = document["policies"]["connections"]
    assert (here["destination"]["pod"], here["allowed"], here["hooks"]) == ("x/here", False, ["INPUT", "OUTPUT"])
    assert (there["destination"]["pod"], there["allowed"], there["ingress"]["here"]) == ("x/there", True, False)
    lines = explanation_text(document).splitlines()
    assert lines[:2] == [document["verdict"], "  the Service proxy by itself:"]
    assert (
        f"  NetworkPolicy, to x/here 10.244.1.2:8080/tcp on n1: {here['verdict']}" in lines
    )  # fmt: skip
    assert "    ingress of x/there, judged on n2: no policy isolates it" in lines


def test_of_a_service_with_several_addresses_each_destination_is_judged_once() -> None:
    config = Config(hostname_override=NODE_NAME, service_external_ip_range=(cidr("198.51.100.0/24"),))
    agent = FakeAgent(
        node("192.168.0.1"), service("web", external=["198.51.100.7", "198.51.100.8"]), PODS, config=config
    )
    agent.start()
    firewall = FakeFirewall(node("192.168.0.1"), namespace("x"), CLIENT, HERE, THERE, DENY_HERE, config=config)
    firewall.start()
    document = told(explained(agent, config, firewall), "pod/x/client", "service/default/web", actual="true")
    assert (len(document["paths"]), len(document["policies"]["connections"])) == (3, 6)
    lines = explanation_text(document, brief=True).splitlines()
    assert sum(line.startswith("  NetworkPolicy, to x/here 10.244.1.2:8080/tcp on n1: denied") for line in lines) == 1
    assert sum(line.startswith("  NetworkPolicy, ") for line in lines) == 2
    assert sum(line == "  destinations:" for line in lines) == 2  # with the pod's own address, and masqueraded
    assert not any("rules that it meets at" in line for line in lines)
    assert any("rules that it meets at" in line for line in explanation_text(document).splitlines())


def test_of_many_destinations_all_are_judged_and_some_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("explaining", "explaining_policies"):
        monkeypatch.setattr(f"kuberouter_py.agent.{module}.FOLLOWED", 1)
    document = told(walled(DENY_OUT)[1], "pod/x/client", actual="true")
    first, second = document["policies"]["connections"]
    assert (first["allowed"], second["allowed"]) == (False, False)
    assert (first["actual"] is None, second["actual"] is None) == (False, True)
    assert document["remarks"] == ["the firewall's rules are followed to 1 of 2 destinations only"]


def test_what_direct_server_return_leads_to_is_not_judged() -> None:
    dsr = service("web", annotations={"kube-router.io/service.dsr": "tunnel"}, external=["198.51.100.7"])
    config = Config(hostname_override=NODE_NAME, service_external_ip_range=(cidr("198.51.100.0/24"),))
    one = msgspec.structs.replace(endpoint("10.244.1.2", "n1"), pod="uid-1")
    slices = endpoint_slice("web", one, ports=[SlicePort("", Protocol.TCP, 80)])
    agent = FakeAgent(node("192.168.0.1"), dsr, slices, config=config)
    agent.start()
    firewall = FakeFirewall(node("192.168.0.1"), namespace("x"), CLIENT, HERE, THERE, config=config)
    firewall.start()
    document = told(explained(agent, config, firewall), "203.0.113.9", "198.51.100.7:80")
    assert document["policies"]["connections"] == []
    (remark,) = document["remarks"]
    assert remark.startswith("direct server return: policies see the tunnel")


def test_a_service_of_which_nothing_is_allowed_is_not_open() -> None:
    document = told(walled(DENY_OUT)[1], "pod/x/client")
    assert document["outcome"] == "denied"
    assert document["verdict"].startswith("denied: egress of x/client: isolated by x/deny-out, which does not allow it")
    assert "(without policies open: 2 destinations" in document["verdict"]


def test_policies_are_about_what_is_no_service_too() -> None:
    explaining = walled(DENY_OUT)[1]
    away = told(explaining, "pod/x/client", "203.0.113.9:443")
    assert away["verdict"].startswith("denied: egress of x/client")
    assert away["policies"]["connections"][0]["hooks"] == ["FORWARD"]
    own = told(explaining, "pod/x/client", "192.168.0.1:22")
    assert own["verdict"].startswith("denied: egress of x/client")
    assert own["policies"]["connections"][0]["hooks"] == ["INPUT"]


def test_what_a_service_refuses_is_no_matter_of_policies() -> None:
    document = told(walled(DENY_OUT)[1], "pod/x/client", "10.96.0.10:81")
    assert document["outcome"] == "refused"
    assert document["policies"]["connections"] == []


def test_a_firewall_that_is_off_has_nothing_to_say() -> None:
    _, explaining = started()
    document = told(explaining, "pod/default/client", "pod/default/far:80")
    assert document["outcome"] == "not ours"
    assert explanation_text(document) == (
        "not ours: --run-firewall=false: this agent enforces no NetworkPolicy, and hears of none\n"
    )
    of_service = told(explaining, "pod/default/client")
    assert of_service["policies"] == {
        "enforced": False,
        "reason": "--run-firewall=false: this agent enforces no NetworkPolicy, and hears of none",
        "connections": [],
    }
    assert of_service["verdict"].startswith("open: 2 destinations")


def test_a_firewall_without_a_service_proxy_answers_for_every_address() -> None:
    _, explaining = walled(DENY_OUT, config=Config(run_service_proxy=False, hostname_override=NODE_NAME))
    assert told(explaining, "pod/x/client", "203.0.113.9:443")["outcome"] == "denied"
    assert told(explaining, "pod/x/here", "203.0.113.9:443")["outcome"] == "allowed"
    answer = explaining.answer({"from": "node", "to": "service/default/web"})
    assert answer.body.startswith(b"--run-service-proxy=false")


def test_what_the_kernel_has_otherwise() -> None:
    firewall, explaining = walled(DENY_HERE)
    del firewall.kernel.members[SetMember(firewall_set("ingress", 4), SetEntry(packed("10.244.1.2")))]
    document = told(explaining, "pod/x/client", "pod/x/here:80", "true")
    assert document["verdict"].startswith("allowed by this node's rules, and should be denied: ingress of x/here")
    assert "  NOT AS DECIDED:\n    ipset krpy-fw-ingress-4 lacks 10.244.1.2\n" in explanation_text(document)


def test_a_sync_of_the_firewall_that_comes_between_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    firewall, explaining = walled()
    between = [lambda: firewall.tell(DENY_HERE)]

    def late(*asked: Any) -> Any:
        while between:
            between.pop()()
        return actual_state(*asked)

    monkeypatch.setattr("kuberouter_py.agent.explaining_policies.actual_state", late)
    document = told(explaining, "pod/x/client", "pod/x/here:80", "true")
    (connection,) = document["policies"]["connections"]
    assert (connection["allowed"], connection["differences"]) == (False, [])
