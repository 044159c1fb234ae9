"""Bytes in, model objects or reasons out: S1.03, S1.05, S1.09, S2.04, S3.01, S11.06, M4.05-M4.16."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kuberouter_py.model.cluster import (
    READY,
    SERVING,
    TERMINATING,
    Cidr,
    ContainerPort,
    Endpoint,
    EndpointSlice,
    Node,
    ObjectKey,
    Pod,
    Service,
    ServiceCidr,
    ServicePort,
    SlicePort,
)
from kuberouter_py.model.kernel import Protocol
from kuberouter_py.watchers.decode import _FORMS, DecodeError, decode, decode_versioned, head
from kuberouter_py.watchers.decode_fields import address, cidr, timestamp

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
            },
            {"addresses": ["010.1.0.002"], "conditions": {}},
        ],
        ports=[{"port": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}],
    )
    assert (got.service, got.family, got.trigger_time, got.unusable) == (WEB, 4, 1767225600.5, ())
    assert got.ports == (SlicePort("", 6, 8080), SlicePort("dns", 17, 53))
    first, second = got.endpoints
    assert first == Endpoint(ip("10.1.0.1"), SERVING | TERMINATING, "n1", "z1", ("z1", "z2"), ("n1",))
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


def node(**fields: Any) -> Node:
    decoded = decode("Node", json.dumps({"metadata": {"name": "n1"}} | fields).encode())
    assert isinstance(decoded, Node)
    return decoded


def test_node() -> None:
    got = node(
        metadata={
            "name": "n1",
            "namespace": "ignored",
            "labels": {"topology.kubernetes.io/zone": "z1"},
            "deletionTimestamp": "2026-01-01T00:00:00Z",
        },
        spec={
            "podCIDR": "10.244.1.0/24",
            "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"],
            "taints": [{"key": "k", "effect": "e"}],
        },
        status={
            "addresses": [
                {"type": "InternalIP", "address": "192.0.2.1"},
                {"type": "Hostname", "address": "n1"},
                {"type": "InternalIP", "address": "fd00::1"},
                {"type": "ExternalIP", "address": "203.0.113.1"},
                {"type": "InternalIP", "address": "bad"},
            ]
        },
    )
    assert got.key == ObjectKey("", "n1")
    assert got.internal_ips == (ip("192.0.2.1"), ip("fd00::1"))
    assert got.external_ips == (ip("203.0.113.1"),)
    assert got.pod_cidrs == (cidr("10.244.1.0/24"), cidr("fd00:1::/64"))
    assert got.labels == {"topology.kubernetes.io/zone": "z1"}
    assert (got.taints, got.deleting, len(got.unusable)) == (("k",), True, 1)


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({"kube-router.io/pod-cidrs": "10.1.0.0/24, fd00:2::/64"}, ["10.1.0.0/24", "fd00:2::/64"]),
        ({"kube-router.io/pod-cidr": "10.2.0.0/24"}, ["10.2.0.0/24"]),
        ({"kube-router.io/pod-cidrs": "10.1.0.0/24", "kube-router.io/pod-cidr": "10.2.0.0/24"}, ["10.1.0.0/24"]),
        ({"kube-router.io/pod-cidrs": "10.1.0.7/24,bad"}, ["10.1.0.0/24"]),
        ({"kube-router.io/pod-cidrs": ""}, ["10.244.1.0/24"]),
        ({"kube-router.io/pod-cidrs": "bad"}, ["10.244.1.0/24"]),
    ],
)
def test_pod_cidrs_of_annotations_come_first(annotations: dict[str, str], expected: list[str]) -> None:
    got = node(metadata={"name": "n1", "annotations": annotations}, spec={"podCIDR": "10.244.1.0/24"})
    assert got.pod_cidrs == tuple(cidr(text) for text in expected)


def test_pod() -> None:
    raw = {
        "metadata": {"name": "p", "namespace": "shop", "uid": "u", "labels": {"app": "web"}},
        "spec": {
            "nodeName": "n1",
            "hostNetwork": True,
            "containers": [{"ports": [{"name": "http", "containerPort": 80}, {"containerPort": 0}]}, {}],
            "initContainers": [
                {"restartPolicy": "Always", "ports": [{"containerPort": 9, "protocol": "UDP"}]},
                {"ports": [{"containerPort": 10}]},
            ],
        },
        "status": {"phase": "Running", "podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}, {}]},
    }
    got = decode("Pod", json.dumps(raw).encode())
    assert got == Pod(
        key=ObjectKey("shop", "p"),
        uid="u",
        ips=(ip("10.1.0.1"), ip("fd00::1")),
        node="n1",
        host_network=True,
        phase="Running",
        labels={"app": "web"},
        ports=(ContainerPort("http", 6, 80), ContainerPort("", 17, 9)),
    )
    assert decode("Pod", b'{"metadata":{"name":"p"},"status":{"podIP":""}}').ips == ()  # type: ignore[union-attr]


def test_service_cidr() -> None:
    got = decode("ServiceCIDR", b'{"metadata":{"name":"kubernetes"},"spec":{"cidrs":["10.96.0.0/16","fd00::/112"]}}')
    assert got == ServiceCidr(ObjectKey("", "kubernetes"), (cidr("10.96.0.0/16"), cidr("fd00::/112")))
    with pytest.raises(DecodeError):
        decode("ServiceCIDR", b'{"metadata":{"name":"kubernetes"},"spec":{"cidrs":["10.96.0.0/16","x"]}}')


def test_versioned_and_head() -> None:
    raw = b'{"kind":"Service","apiVersion":"v1","metadata":{"name":"web","namespace":"shop","resourceVersion":"9"}}'
    assert decode_versioned("Service", raw)[:2] == (WEB, "9")
    about = head(raw)
    assert (about.kind, about.api_version, about.resource_version, about.key("Node")) == (
        "Service",
        "v1",
        "9",
        ObjectKey("", "web"),
    )
    assert head(b'{"metadata":{"name":"web","labels":{"a":1}}}').name == "web"
    assert head(b"{}").name == ""


@pytest.mark.parametrize(
    ("text", "packed"),
    [
        ("1.2.3.4", b"\x01\x02\x03\x04"),
        ("010.008.0.00001", b"\x0a\x08\x00\x01"),
        ("::1", b"\0" * 15 + b"\x01"),
        ("::ffff:1.2.3.4", b"\x01\x02\x03\x04"),
        ("::FFFF:01.2.3.4", b"\x01\x02\x03\x04"),
        ("FD00::A", b"\xfd" + b"\0" * 14 + b"\x0a"),
    ],
)
def test_addresses(text: str, packed: bytes) -> None:
    assert address(text) == packed


NOT_ADDRESSES = (
    "1.2.3 1.2.3.4.5 1.2.3.256 1.2.3.-4 1.2.3.+4 1.2.3.1_0 1.2.3.١ 1..3.4 a 1.2.3.4/32 fe80::1%eth0 ::: 12345::"
)


@pytest.mark.parametrize("text", ["", " 1.2.3.4", "::1 ", "::ffff:1.2.3.400", *NOT_ADDRESSES.split()])
def test_not_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|zone"):
        address(text)


def test_cidrs_lose_their_host_bits() -> None:
    assert cidr("10.1.2.3/16") == Cidr(b"\x0a\x01\0\0", 16)
    assert cidr("0.0.0.0/0") == Cidr(b"\0\0\0\0", 0)
    for bad in ("10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "x/8", "::/129"):
        with pytest.raises(ValueError):
            cidr(bad)


def test_timestamps() -> None:
    assert timestamp("2026-01-01T00:00:00.123456789Z") == pytest.approx(1767225600.123456)
    assert timestamp("2026-01-01T02:00:00+02:00") == 1767225600.0
    assert timestamp(None) == 0.0
    for bad in ("soon", "2026-13-01T00:00:00Z"):
        with pytest.raises(ValueError):
            timestamp(bad)


KINDS = sorted(_FORMS)
FIELDS = sorted(
    {"metadata", "spec", "status", "endpoints", "ports", "addresses", "name", "namespace", "labels", "annotations"}
    | {
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "port",
        "protocol",
        "nodePort",
        "conditions",
        "ready",
        "hints",
        "forZones",
    }
    | {"addressType", "creationTimestamp", "podCIDRs", "cidrs", "loadBalancer", "ingress", "ip", "podIPs", "containers"}
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.sampled_from(["web", "IPv4", "10.0.0.1"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner), max_leaves=30
)


@given(st.sampled_from(KINDS), st.binary())
@example("Service", b"[" * 100_000)
@example("Service", b'{"metadata":{"name":' + b'{"a":' * 100_000)
@example("NetworkPolicy", b'{"metadata":{"name":"a"},"spec":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001)
@example("Service", b'{"metadata":{"name":"\xff"}}')
@example("Service", b'{"metadata":{"name":"a","creationTimestamp":"0001-01-01T00:00:00+23:59"}}')
def test_any_bytes_decode_or_raise_our_error(kind: str, raw: bytes) -> None:
    try:
        decode(kind, raw)
    except DecodeError:
        pass


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), VALUES), st.text(min_size=1, max_size=3))
def test_any_json_decodes_or_raises_our_error(kind: str, fields: dict[str, Any], name: str) -> None:
    raw = json.dumps({"metadata": {"name": name}, "addressType": "IPv4"} | fields).encode()
    try:
        decode(kind, raw)
    except DecodeError as error:
        assert error.reason
