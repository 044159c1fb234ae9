"""Values as people write them: Go's spelling, both ways."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.model import values
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.values import Kind


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("5m0s", 300.0),
        ("1m30s", 90.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("1h0m0.25s", 3600.25),
        ("10us", 0.00001),
        ("10µs", 0.00001),
        ("3ns", 3e-9),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert values.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "abc", "-5s", "5 m", "5m ", "s", ".s", "1e3s", "5M", "٣s", "300000000h"])
def test_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        values.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (300.0, "5m0s"),
        (90.0, "1m30s"),
        (0.5, "500ms"),
        (1.5, "1.5s"),
        (86400.0, "24h0m0s"),
        (0.00001, "10µs"),
        (3e-9, "3ns"),
        (100.0, "1m40s"),
        (60.25, "1m0.25s"),
    ],
)
def test_durations_as_go_prints_them(seconds: float, text: str) -> None:
    assert values.duration_text(seconds) == text


@given(st.integers(0, 10**15))
def test_a_duration_survives_its_text(nanoseconds: int) -> None:
    text = values.duration_text(nanoseconds / 10**9)
    assert values.duration_text(values.parse_duration(text)) == text
    assert values.parse_duration(text) == nanoseconds / 10**9


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.96.0.0/12", "10.96.0.0/12"),
        ("10.96.1.2/12", "10.96.0.0/12"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("fd00:10:96::/112", "fd00:10:96::/112"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_cidrs(text: str, canonical: str) -> None:
    network = ip_network(canonical)
    assert values.parse_cidr(text) == Cidr(network.network_address.packed, network.prefixlen)
    assert values.cidr_text(values.parse_cidr(text)) == canonical


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (values.BOOL, "yes"),
        (values.BOOL, ""),
        (values.TRISTATE, "maybe"),
        (values.POSITIVE_DURATION, "0s"),
        (values.IPVS_TIMEOUT, "500ms"),
        (values.IPVS_TIMEOUT, "600h"),
        (values.WHOLE_SECONDS, "1.5s"),
        (values.CIDRS, "10.96.0.0/33"),
        (values.CIDRS, "10.96.0.0/12,web"),
        (values.CIDRS, "fe80::%eth0/64"),
        (values.ADDRESS, "localhost"),
        (values.PORT, "65536"),
        (values.PORT, "-1"),
        (values.PORT, "http"),
        (values.PORT, "1" * 5000),
        (values.NODE_NAME, "Node_1"),
        (values.NODE_NAME, "a" * 254),
        (values.LINK_NAME, "a-very-long-link"),
        (values.LINK_NAME, "a/b"),
        (values.URL_PATH, "metrics"),
        (values.URL_PATH, ""),
        (values.SOCKET_PATH, "agent.sock"),
        (values.SOCKET_PATH, "/" + "x" * 107),
        (values.SOCKET_PATH, ""),
        (values.URL, "ftp://192.0.2.1"),
        (values.URL, "https://"),
        (values.URL, "https://[::1"),
        (values.VERBOSITY, "11"),
        (values.choice("a", "b"), "c"),
    ],
)
def test_refused(kind: Kind[Any], text: str) -> None:
    with pytest.raises(ValueError):
        kind.parse(text)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (values.BOOL, "True", True),
        (values.BOOL, "0", False),
        (values.TRISTATE, "auto", None),
        (
            values.CIDRS,
            " 10.0.0.0/8 , ,192.168.0.0/16",
            (values.parse_cidr("10.0.0.0/8"), values.parse_cidr("192.168.0.0/16")),
        ),
        (values.CIDRS, "", ()),
        (values.ADDRESS, "0:0::1", "::1"),
        (values.ADDRESS, "", ""),
        (values.NODE_NAME, "node-1.example.org", "node-1.example.org"),
        (values.LINK_NAME, "cni0", "cni0"),
        (values.URL, "192.0.2.10:6443", "192.0.2.10:6443"),
        (values.URL, "", ""),
    ],
)
def test_accepted(kind: Kind[Any], text: str, value: object) -> None:
    assert kind.parse(text) == value
    assert kind.parse(kind.render(value)) == value
