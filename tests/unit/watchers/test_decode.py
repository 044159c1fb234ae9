"""Nodes, pods and single values; and the law that any bytes decode or raise our error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kuberouter_py.model.cluster import (
    Cidr,
    ContainerPort,
    Node,
    ObjectKey,
    Pod,
    ServiceCidr,
)
from kuberouter_py.watchers.decode import _FORMS, DecodeError, decode, decode_versioned, head
from kuberouter_py.watchers.decode_fields import address, cidr, timestamp
from kuberouter_py.watchers.decode_workloads import as_said_before

WEB = ObjectKey("shop", "web")


def ip(text: str) -> bytes:
    return address(text)


def node(**fields: Any) -> Node:
    decoded = decode("Node", json.dumps({"metadata": {"name": "n1"}} | fields).encode())
    assert isinstance(decoded, Node)
    return decoded


def annotated(annotations: dict[str, str], uid: str = "u") -> Node:
    about = {"name": "n1", "uid": uid, "annotations": annotations}
    return node(metadata=about, spec={"podCIDR": "10.244.1.0/24"})


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
        ({"kube-router.io/pod-cidrs": ""}, ["10.244.1.0/24"]),
    ],
)
def test_pod_cidrs_of_annotations_come_first(annotations: dict[str, str], expected: list[str]) -> None:
    got = annotated(annotations)
    assert got.pod_cidrs == tuple(cidr(text) for text in expected)
    assert (got.annotated, got.refused) == (expected != ["10.244.1.0/24"], ())


BAD = "kube-router.io/pod-cidrs: 'bad' is not a CIDR"


@pytest.mark.parametrize(
    ("text", "first", "after"),
    [
        ("bad", "10.244.1.0/24", "10.9.0.0/24"),
        ("10.1.0.7/24,bad", "10.1.0.0/24", "10.9.0.0/24"),
        ("10.9.0.0/24,bad", "10.9.0.0/24", "10.9.0.0/24"),
    ],
)
def test_pod_cidrs_that_make_no_sense_leave_those_of_before_in_force(text: str, first: str, after: str) -> None:
    """Before there were any: the good ones of the list, else spec.podCIDRs."""
    bad, good = annotated({"kube-router.io/pod-cidrs": text}), annotated({"kube-router.io/pod-cidrs": "10.9.0.0/24"})
    assert (bad.pod_cidrs, bad.refused, bad.unusable) == ((cidr(first),), (BAD,), ())
    for before in (None, annotated({}), annotated({"kube-router.io/pod-cidrs": "10.9.0.0/24"}, uid="another")):
        assert as_said_before(bad, before) == bad
    kept = as_said_before(bad, good)
    assert kept.pod_cidrs == (cidr(after),)
    assert kept.refused == ((f"{BAD}; what it said before stays in force" if first != after else BAD),)
    assert as_said_before(bad, kept) == kept
    assert as_said_before(annotated({}), kept) == annotated({})


def test_pod_cidrs_of_spec_are_no_word_of_the_annotations() -> None:
    fallen_back = annotated({"kube-router.io/pod-cidrs": "bad"})
    better = annotated({"kube-router.io/pod-cidrs": "10.1.0.0/24,bad"})
    assert as_said_before(better, fallen_back) == better


def test_pod() -> None:
    raw = {
        "metadata": {
            "name": "p",
            "namespace": "shop",
            "uid": "u",
            "labels": {"app": "web"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
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
        created=1767225600.0,
    )
    assert decode("Pod", b'{"metadata":{"name":"p","creationTimestamp":"soon"}}').created == 0.0  # type: ignore[union-attr]
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
