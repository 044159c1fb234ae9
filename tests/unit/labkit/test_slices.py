"""EndpointSlices as kube-controller-manager would write them."""

from __future__ import annotations

from typing import Any

from tests.labkit.slices import slices_of, wants_slices
from tests.unit.labkit.recording_world import pod, service

NODES: dict[str, dict[str, Any]] = {
    "n1": {"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}}},
    "n2": {"metadata": {"name": "n2", "labels": None}},
}


def running(name: str, number: int, node: str = "n1", ready: bool = True, **changes: Any) -> dict[str, Any]:
    made = pod(name, node, **changes)
    made["metadata"] |= {"namespace": "default", "uid": f"uid-{name}"}
    ips = [{"ip": f"10.244.1.{number}"}, {"ip": f"fd00::{number}"}]
    made["status"] = {"phase": "Running", "podIPs": ips, "conditions": [{"type": "Ready", "status": str(ready)}]}
    return made


def of(pods: list[dict[str, Any]], **spec: Any) -> list[dict[str, Any]]:
    made = service(**{"ipFamilies": ["IPv4"], "clusterIP": "10.96.0.9", **spec})
    made["metadata"] |= {"namespace": "default", "uid": "uid-web", "labels": {"team": "x"}}
    return list(slices_of(made, pods, NODES).values())


def test_one_slice_with_everything_in_it() -> None:
    (made,) = of([running("a", 2), running("b", 3, "n2", ready=False), running("other", 4, labels={"app": "db"})])
    assert made["metadata"]["labels"] == {
        "team": "x",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert made["addressType"] == "IPv4"
    assert made["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}]
    first, second = made["endpoints"]
    assert first == {
        "addresses": ["10.244.1.2"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": "n1",
        "zone": "a",
        "targetRef": {"kind": "Pod", "namespace": "default", "name": "a", "uid": "uid-a"},
    }
    assert second["conditions"] == {"ready": False, "serving": False, "terminating": False}
    assert "zone" not in second


def test_one_per_family() -> None:
    made = of([running("a", 2)], ipFamilies=["IPv6", "IPv4"])
    assert [(each["addressType"], each["endpoints"][0]["addresses"]) for each in made] == [
        ("IPv6", ["fd00::2"]),
        ("IPv4", ["10.244.1.2"]),
    ]


def test_a_named_port_that_differs_makes_another_slice() -> None:
    other = running("b", 3)
    other["spec"]["containers"][0]["ports"][0]["containerPort"] = 8080
    made = of([running("a", 2), other])
    assert [(each["ports"][0]["port"], len(each["endpoints"])) for each in made] == [(80, 1), (8080, 1)]


def test_terminating_is_serving_but_not_ready() -> None:
    leaving = running("a", 2)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert of([leaving])[0]["endpoints"][0]["conditions"] == {"ready": False, "serving": True, "terminating": True}
    assert of([leaving], publishNotReadyAddresses=True)[0]["endpoints"][0]["conditions"]["ready"] is True


def test_what_has_ended_or_has_no_address_is_left_out() -> None:
    ended, young = running("a", 2), running("b", 3)
    ended["status"]["phase"] = "Failed"
    young["status"] = {}
    (made,) = of([ended, young])
    assert (made["endpoints"], made["ports"]) == ([], [])


def test_many_endpoints_are_dealt_out() -> None:
    made = of([running(f"p{number}", number % 250) for number in range(250)])
    assert [len(each["endpoints"]) for each in made] == [100, 100, 50]
    assert len({each["metadata"]["name"] for each in made}) == 3


def test_hints_follow_the_distribution() -> None:
    endpoint = of([running("a", 2)], trafficDistribution="PreferSameNode")[0]["endpoints"][0]
    assert endpoint["hints"] == {"forZones": [{"name": "a"}], "forNodes": [{"name": "n1"}]}
    assert "hints" not in of([running("a", 2, ready=False)], trafficDistribution="PreferClose")[0]["endpoints"][0]


def test_headless_is_marked_and_broken_ports_are_left_out() -> None:
    (made,) = of([running("a", 2)], clusterIP="None", ports=[None, {"name": "x"}, {"port": 7}])
    assert made["metadata"]["labels"]["service.kubernetes.io/headless"] == ""
    assert [port["port"] for port in made["ports"]] == [7]


def test_who_gets_none() -> None:
    assert not wants_slices(service(selector=None))
    assert not wants_slices(service(type="ExternalName"))
    assert not wants_slices({"spec": None})
    assert wants_slices(service())
