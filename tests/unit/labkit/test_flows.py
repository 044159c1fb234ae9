"""Targets as scenario files write them."""

from __future__ import annotations

import pytest

from tests.labkit.traffic.flows import Target


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("tcp://10.96.0.10:80", Target("tcp", "10.96.0.10", 80, "/")),
        ("udp://[fd00::35]:53", Target("udp", "fd00::35", 53, "/")),
        ("http://192.0.2.1", Target("http", "192.0.2.1", 80, "/")),
        ("https://192.0.2.1/a?b=c", Target("https", "192.0.2.1", 443, "/a?b=c")),
        ("sctp://192.0.2.1:9", Target("sctp", "192.0.2.1", 9, "/")),
    ],
)
def test_target(url: str, target: Target) -> None:
    assert Target.of(url) == target


def test_protocol_and_family() -> None:
    target = Target.of("http://[::1]:8080/")
    assert (target.protocol, target.family) == ("tcp", 6)


@pytest.mark.parametrize("url", ["tcp://10.96.0.10", "ftp://10.96.0.10:21", "10.96.0.10:80", "udp://:53"])
def test_what_is_no_target(url: str) -> None:
    with pytest.raises(ValueError, match="expected tcp"):
        Target.of(url)
