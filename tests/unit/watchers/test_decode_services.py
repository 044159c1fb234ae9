"""Bytes in, model objects or reasons out: S1.03, S1.05, S1.09, S2.04, S3.01, S11.06, M4.05-M4.16."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kuberouter_py.controllers.services.sources import SourceRanges, source_ranges
from kuberouter_py.model.cluster import (
    READY,
    SERVING,
    TERMINATING,
    Endpoint,
    EndpointSlice,
    ObjectKey,
    Service,
    ServicePort,
    SlicePort,
)
from kuberouter_py.model.kernel import Protocol
from kuberouter_py.watchers.decode import DecodeError, decode
from kuberouter_py.watchers.decode_fields import address, cidr

WEB = ObjectKey("shop", "web")


def service(metadata: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **spec: Any) -> Service:
    raw = {
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "creationTimestamp": "2026-01-01T00:00:00Z"}
        | (metadata or {}),
        "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]} | spec,
        "status": status or {},
    }
    decoded = decode("Service", json.dumps(raw).encode())
    assert isinstance(decoded, Service)
    return decoded


def slice_of(
    labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None, **fields: Any
) -> EndpointSlice:
    raw = {
        "metadata": {
            "name": "web-x1",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web"} if labels is None else labels,
            "annotations": annotations,
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.0.1"]}],
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
    } | fields
    decoded = decode("EndpointSlice", json.dumps(raw).encode())
    assert isinstance(decoded, EndpointSlice)
    return decoded


def ip(text: str) -> bytes:
    return address(text)


def test_service_in_full() -> None:
    got = service(
        metadata={"annotations": {"kube-router.io/service.scheduler": "sh", "example.com/other": "x"}},
        type="LoadBalancer",
        clusterIPs=["10.96.0.10", "fd00::10"],
        ipFamilies=["IPv4", "IPv6"],
        ports=[
            {"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080, "targetPort": "web"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "sig", "port": 5, "protocol": "SCTP"},
        ],
        externalIPs=["192.0.2.1", "192.0.2.1", "2001:db8::1"],
        sessionAffinity="ClientIP",
        sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}},
        internalTrafficPolicy="Local",
        externalTrafficPolicy="Local",
        healthCheckNodePort=31000,
        loadBalancerSourceRanges=["198.51.100.0/24"],
        status={"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}},
    )
    assert got == Service(
        key=WEB,
        uid="u1",
        created=1767225600.0,
        type="LoadBalancer",
        cluster_ips=(ip("10.96.0.10"), ip("fd00::10")),
        ports=(
            ServicePort("http", Protocol.TCP, 80, 30080),
            ServicePort("dns", Protocol.UDP, 53),
            ServicePort("sig", Protocol.SCTP, 5),
        ),
        external_ips=(ip("192.0.2.1"), ip("2001:db8::1")),
        ingress_ips=(ip("203.0.113.1"),),
        affinity_timeout=60,
        internal_local=True,
        external_local=True,
        health_check_node_port=31000,
        source_ranges=("198.51.100.0/24",),
        annotations={"kube-router.io/service.scheduler": "sh"},
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"clusterIP": "None"}, []),
        ({"clusterIP": "None", "clusterIPs": ["None"]}, []),
        ({"clusterIP": "", "clusterIPs": None}, []),
        ({"clusterIP": None}, []),
        ({"type": "ExternalName", "clusterIP": "10.96.0.1"}, []),
        ({"clusterIP": "10.96.0.1"}, ["10.96.0.1"]),
        ({"clusterIPs": ["fd00::1", "10.96.0.1"], "ipFamilies": ["IPv6", "IPv4"]}, ["fd00::1", "10.96.0.1"]),
        ({"clusterIPs": ["10.96.0.1", "fd00::1"]}, ["10.96.0.1", "fd00::1"]),
        ({"clusterIP": "010.096.000.001"}, ["10.96.0.1"]),
    ],
)
def test_cluster_ips(spec: dict[str, Any], expected: list[str]) -> None:
    """S1.03, S1.05, S11.06."""
    got = service(**spec)
    assert got.cluster_ips == tuple(ip(text) for text in expected)
    assert got.unusable == ()


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"clusterIPs": ["10.96.0.1", "fd00::1"], "ipFamilies": ["IPv4"]}, "not of the family"),
        ({"clusterIPs": ["10.96.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv4"]}, "not of the family"),
        ({"clusterIPs": ["10.96.0.1", "10.96.0.2"]}, "second address"),
        ({"clusterIPs": ["10.96.0.1", "nonsense"]}, "not an address"),
        ({"clusterIPs": ["10.96.0.1", 7], "ipFamilies": ["IPv4", "IPv6"]}, "Expected `str | null`"),
    ],
)
def test_one_bad_cluster_ip_leaves_the_other(spec: dict[str, Any], reason: str) -> None:
    got = service(**spec)
    assert got.cluster_ips == (ip("10.96.0.1"),)
    assert reason in got.unusable[0]


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        ({"name": "x"}, "spec.ports[1] has no port"),
        ({"port": None}, "spec.ports[1] has no port"),
        ({"port": 0}, "spec.ports[1] has no port"),
        ({"port": 65536}, "65536 is not a port"),
        ({"port": 81, "protocol": "QUIC"}, "'QUIC'"),
        ({"port": 81, "nodePort": -1}, "-1 is not a port"),
        ({"port": "81"}, "spec.ports[1].port"),
        (7, "spec.ports[1]"),
    ],
)
def test_one_bad_port_leaves_the_others(port: Any, reason: str) -> None:
    got = service(ports=[{"port": 80}, port, {"port": 82, "name": "c"}])
    assert got.ports == (ServicePort("", 6, 80), ServicePort("c", 6, 82))
    assert reason in got.unusable[0]
    assert len(got.unusable) == 1


def test_service_without_ports() -> None:
    assert service(ports=None).ports == ()
    assert service(ports=[]).unusable == ()


@pytest.mark.parametrize("number", [65536, 70000, -1])
def test_a_health_check_port_that_does_not_exist_is_none(number: int) -> None:
    got = service(ports=[{"port": 80}], type="LoadBalancer", healthCheckNodePort=number)
    assert (got.health_check_node_port, len(got.ports)) == (0, 1)
    assert got.unusable == (f"spec.healthCheckNodePort: {number} is not a port",)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("010.0.0.0/8", "10.0.0.0/8"),
        (" 198.051.100.007/24 ", "198.51.100.0/24"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:010.0.0.0/8", "10.0.0.0/8"),
        ("192.000.002.001", "192.0.2.1/32"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::/0", "::/0"),
    ],
)
def test_source_ranges_are_read_as_every_other_address(text: str, network: str) -> None:
    """S7.02, S11.06"""
    got = source_ranges(service(loadBalancerSourceRanges=[text]))
    assert got == SourceRanges({4 if "." in network else 6: (cidr(network),)}, ())


@pytest.mark.parametrize(
    "text", ["", "10.0.0.256/8", "10.0.0.0/33", "::ffff:10.0.0.0/129", "::ffff:10.0.0.0/40", "any"]
)
def test_one_bad_source_range_still_closes_both_families(text: str) -> None:
    got = source_ranges(service(loadBalancerSourceRanges=[text, "010.0.0.0/8"]))
    assert got.by_family == {4: (cidr("10.0.0.0/8"),), 6: ()}
    assert len(got.reasons) == 1


def test_ingress_by_ip_mode() -> None:
    """S2.04: Proxy and hostnames are none of ours; an address that does not parse is a reason."""
    entries = [
        {"ip": "203.0.113.1", "ipMode": "VIP"},
        {"ip": "203.0.113.2", "ipMode": "Proxy"},
        {"hostname": "lb.example"},
        {"ip": "bad"},
        {"ip": "2001:db8::9"},
    ]
    got = service(status={"loadBalancer": {"ingress": entries}})
    assert got.ingress_ips == (ip("203.0.113.1"), ip("2001:db8::9"))
    assert len(got.unusable) == 1


def test_affinity_timeout() -> None:
    assert service(sessionAffinity="None").affinity_timeout == 0
    assert service(sessionAffinity="ClientIP").affinity_timeout == 10800
    bad = service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 90000}})
    assert bad.affinity_timeout == 10800
    assert "90000" in bad.unusable[0]


@pytest.mark.parametrize(
    "raw",
    [
        {"metadata": {"name": "web"}, "spec": {"loadBalancerSourceRanges": [5]}},
        {"metadata": {"name": "web"}, "spec": {"externalTrafficPolicy": "Loca"}},
        {"metadata": {"name": "web"}, "spec": {"internalTrafficPolicy": 1}},
        {"metadata": {"name": "web", "creationTimestamp": "yesterday"}},
        {"metadata": {"name": "web", "labels": {"version": 1}}},
        {"metadata": {"name": "web"}, "spec": {"ports": "none"}},
        {"metadata": {"name": "web"}, "spec": []},
        {"metadata": {"name": "web"}, "spec": {"ports": [{"port": "x"}] * 65}},
    ],
)
def test_what_would_open_or_mislead_is_an_error_with_the_key(raw: dict[str, Any]) -> None:
    raw["metadata"]["resourceVersion"] = "17"
    with pytest.raises(DecodeError) as caught:
        decode("Service", json.dumps(raw).encode())
    assert caught.value.key == ObjectKey("default", "web")
    assert caught.value.resource_version == "17"


@pytest.mark.parametrize("name", ["", None, 5, "a b", "a\nb", "-x", "x" * 254, "é"])
def test_no_usable_name(name: Any) -> None:
    with pytest.raises(DecodeError) as caught:
        decode("Service", json.dumps({"metadata": {"name": name}}).encode())
    assert caught.value.key is None


def test_slice_in_full() -> None:
    got = slice_of(
        annotations={"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00.5Z"},
        endpoints=[
            {
                "addresses": ["10.1.0.1", "10.1.0.9"],
                "conditions": {"ready": False, "serving": True, "terminating": True},
                "nodeName": "n1",
                "zone": "z1",
                "hints": {"forZones": [{"name": "z1"}, {"name": "z2"}], "forNodes": [{"name": "n1"}]},
                "targetRef": {"kind": "Pod", "namespace": "default", "name": "web-1", "uid": "7a7b"},
            },
            {"addresses": ["010.1.0.002"], "conditions": {}, "targetRef": {"kind": "VirtualMachine", "uid": "1"}},
        ],
        ports=[{"port": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}],
    )
    assert (got.service, got.family, got.trigger_time, got.unusable) == (WEB, 4, 1767225600.5, ())
    assert got.ports == (SlicePort("", 6, 8080), SlicePort("dns", 17, 53))
    first, second = got.endpoints
    assert first == Endpoint(ip("10.1.0.1"), SERVING | TERMINATING, "n1", "z1", ("z1", "z2"), ("n1",), "7a7b")
    assert second == Endpoint(ip("10.1.0.2"), READY | SERVING, "", "", (), ())


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (None, READY | SERVING),
        ({}, READY | SERVING),
        ({"ready": None, "serving": None, "terminating": None}, READY | SERVING),
        ({"ready": False}, SERVING),
        ({"ready": False, "serving": False, "terminating": True}, TERMINATING),
    ],
)
def test_conditions(conditions: Any, expected: int) -> None:
    """S3.01, M4.06."""
    assert (
        slice_of(endpoints=[{"addresses": ["10.1.0.1"], "conditions": conditions}]).endpoints[0].conditions == expected
    )


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ({}, "endpoints[0] has no address"),
        ({"addresses": []}, "endpoints[0] has no address"),
        ({"addresses": ["10.1.0.256"]}, "not an address"),
        ({"addresses": ["fd00::1"]}, "not an IPv4 address"),
        ({"addresses": [5]}, "endpoints[0]"),
        ({"addresses": ["10.1.0.5"], "conditions": {"ready": "yes"}}, "endpoints[0]"),
        (3, "endpoints[0]"),
    ],
)
def test_one_bad_endpoint_leaves_the_others(endpoint: Any, reason: str) -> None:
    got = slice_of(endpoints=[endpoint, {"addresses": ["10.1.0.1"]}])
    assert [found.address for found in got.endpoints] == [ip("10.1.0.1")]
    assert len(got.unusable) == 1
    assert reason in got.unusable[0]


def test_nil_port_of_a_slice() -> None:
    got = slice_of(ports=[{"name": "a"}, {"name": "b", "port": 2}])
    assert got.ports == (SlicePort("b", 6, 2),)
    assert "ports[0] has no port" in got.unusable[0]


def test_null_lists() -> None:
    """The API writes `endpoints: null` for a Service without pods."""
    got = slice_of(endpoints=None, ports=None)
    assert (got.endpoints, got.ports, got.unusable) == ((), (), ())


@pytest.mark.parametrize("labels", [{}, {"kubernetes.io/service-name": ""}])
def test_slice_without_a_service_is_no_error(labels: dict[str, str]) -> None:
    """S1.09, M4.01."""
    got = slice_of(labels=labels)
    assert (got.service.name, got.endpoints, got.unusable) == ("", (), ())


def test_address_types() -> None:
    """M4.09."""
    assert slice_of(addressType="IPv6", endpoints=[{"addresses": ["fd00::1"]}]).family == 6
    named = slice_of(addressType="FQDN", endpoints=[{"addresses": ["a.example"]}])
    assert (named.endpoints, len(named.unusable)) == ((), 1)
    with pytest.raises(DecodeError, match="IPv5"):
        slice_of(addressType="IPv5")


def test_repeated_names_are_one_object() -> None:
    first, second = slice_of(), slice_of()
    assert first.service.namespace is second.service.namespace
    endpoints = [{"addresses": ["10.1.0.1"], "nodeName": "node-" + "1", "zone": "z"}]
    one, two = slice_of(endpoints=endpoints).endpoints[0], slice_of(endpoints=endpoints).endpoints[0]
    assert one.node is two.node
    assert one.zone is two.zone
