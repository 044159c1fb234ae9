"""What an API server would fill in, is filled in; what it would refuse, is left as it is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.labkit.defaults import Pools, admitted
from tests.labkit.merge import merged
from tests.unit.labkit.recording_world import pod, service

CIDRS = ("10.96.0.0/16", "fd00:10:96::/112")


def admit(
    document: dict[str, Any], old: dict[str, Any] | None = None, others: list[Any] | None = None
) -> dict[str, Any]:
    spec: dict[str, Any] = admitted(document, old, Pools(CIDRS, others or []))["spec"]
    return spec


def test_a_service_gets_an_address_of_the_first_family() -> None:
    spec = admit(service())
    assert spec["clusterIP"] == "10.96.1.0"
    assert spec["clusterIPs"] == ["10.96.1.0"]
    assert spec["ipFamilies"] == ["IPv4"]
    assert spec["ipFamilyPolicy"] == "SingleStack"
    assert (spec["type"], spec["sessionAffinity"], spec["internalTrafficPolicy"]) == ("ClusterIP", "None", "Cluster")
    assert spec["ports"] == [{"port": 80, "targetPort": "http", "protocol": "TCP"}]


def test_no_two_services_get_the_same() -> None:
    first = admitted(service(type="NodePort"), None, Pools(CIDRS, []))
    second = admit(service("other", type="NodePort"), others=[first])
    assert second["clusterIP"] == "10.96.1.1"
    assert [port["nodePort"] for port in second["ports"]] == [30087]


@pytest.mark.parametrize("policy", ["PreferDualStack", "RequireDualStack"])
def test_dual_stack(policy: str) -> None:
    spec = admit(service(ipFamilyPolicy=policy))
    assert spec["ipFamilies"] == ["IPv4", "IPv6"]
    assert spec["clusterIPs"] == ["10.96.1.0", "fd00:10:96::100"]


def test_the_family_asked_for() -> None:
    assert admit(service(ipFamilies=["IPv6"]))["clusterIPs"] == ["fd00:10:96::100"]
    assert admit(service(clusterIP="fd00:10:96::35"))["ipFamilies"] == ["IPv6"]
    both = admit(service(clusterIPs=["10.96.0.9", "fd00:10:96::9"]))
    assert (both["clusterIP"], both["ipFamilies"]) == ("10.96.0.9", ["IPv4", "IPv6"])


def test_headless_stays_so() -> None:
    spec = admit(service(clusterIP="None"))
    assert (spec["clusterIP"], spec["clusterIPs"], spec["ipFamilies"]) == ("None", ["None"], ["IPv4"])
    assert admit(service(clusterIP="None", selector=None))["ipFamilies"] == ["IPv4", "IPv6"]


def test_both_protocols_of_a_port_share_a_node_port() -> None:
    ports = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 9153}]
    spec = admit(service(type="LoadBalancer", externalTrafficPolicy="Local", ports=ports))
    assert [port["nodePort"] for port in spec["ports"]] == [30086, 30086, 30087]
    assert spec["healthCheckNodePort"] == 30088
    assert spec["allocateLoadBalancerNodePorts"] is True


def test_affinity_gets_its_timeout_and_loses_it() -> None:
    first = admitted(service(sessionAffinity="ClientIP"), None, Pools(CIDRS, []))
    assert first["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    assert "sessionAffinityConfig" not in admit(merged(first, {"spec": {"sessionAffinity": "None"}}), first)


def test_type_changes_keep_and_drop_what_an_api_server_would() -> None:
    pools = Pools(CIDRS, [])
    plain = admitted(service(), None, pools)
    ported = admitted(merged(plain, {"spec": {"type": "NodePort"}}), plain, pools)
    assert ported["spec"]["clusterIP"] == plain["spec"]["clusterIP"]
    assert ported["spec"]["ports"][0]["nodePort"] == 30086
    named = admitted(merged(ported, {"spec": {"type": "ExternalName", "externalName": "a.example"}}), ported, pools)
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "externalTrafficPolicy"} & set(named["spec"])
    assert "nodePort" not in named["spec"]["ports"][0]
    again = admitted(merged(named, {"spec": {"type": "ClusterIP", "externalName": None}}), named, pools)
    assert again["spec"]["clusterIP"]


def test_a_replacement_that_is_silent_keeps_what_was_allocated() -> None:
    first = admitted(service(type="NodePort"), None, Pools(CIDRS, []))
    again = admit(service(type="NodePort"), first)
    assert again["clusterIP"] == first["spec"]["clusterIP"]
    assert again["ports"] == first["spec"]["ports"]


@pytest.mark.parametrize(
    "broken",
    [
        {"ports": None},
        {"ports": [None, {"name": "x"}, {"port": "http"}]},
        {"clusterIP": "10.96.0.0.1"},
        {"clusterIPs": "nonsense"},
        {"ipFamilies": ["IPv5"]},
        {"type": "Nonsense"},
        {"selector": "x"},
    ],
)
def test_what_an_api_server_would_refuse_goes_through(broken: dict[str, Any]) -> None:
    spec = admit(service(**broken))
    assert spec["type"] == broken.get("type", "ClusterIP")
    admitted({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": None}, None, Pools(CIDRS, []))


def test_pod_and_policy_defaults() -> None:
    assert admit(pod("a"))["containers"][0]["ports"][0]["protocol"] == "TCP"
    policy = {"kind": "NetworkPolicy", "metadata": {"name": "p"}, "spec": {"podSelector": {}, "egress": [{}]}}
    assert admit(policy)["policyTypes"] == ["Ingress", "Egress"]


def test_merge_patch() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": None}, "d": [2], "e": {"f": None}}) == {
        "a": {"c": 2},
        "d": [2],
        "e": {},
    }
