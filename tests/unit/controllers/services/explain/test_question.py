"""From words to what is meant, and what is said of words that mean nothing."""

from __future__ import annotations

import pytest

from kuberouter_py.controllers.services.explain.question import Origin, Target, Unanswerable, origin_of, target_of
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import Protocol
from tests.fakes.objects import packed

WEB = ObjectKey("default", "web")


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("node", Origin("node", "node")),
        ("pod/default/web-1", Origin("pod", "default/web-1")),
        ("10.244.1.9", Origin("address", "10.244.1.9", (packed("10.244.1.9"),))),
        ("fd00::9", Origin("address", "fd00::9", (packed("fd00::9"),))),
    ],
)
def test_who(text: str, origin: Origin) -> None:
    assert origin_of(text) == origin


@pytest.mark.parametrize("text", ["", "pod/web-1", "pod//x", "nodes", "10.244.1.9:80", "service/default/web"])
def test_nobody(text: str) -> None:
    with pytest.raises(Unanswerable, match="neither pod/NAMESPACE/NAME nor node nor an address"):
        origin_of(text)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("10.96.0.10:80", Target(Protocol.TCP, None, "80", packed("10.96.0.10"))),
        ("10.96.0.10:53/udp", Target(Protocol.UDP, None, "53", packed("10.96.0.10"))),
        ("[fd00::10]:9/SCTP", Target(Protocol.SCTP, None, "9", packed("fd00::10"))),
        ("service/default/web:80", Target(Protocol.TCP, WEB, "80")),
        ("service/default/web:http", Target(Protocol.TCP, WEB, "http")),
        ("service/default/web:53/udp", Target(Protocol.UDP, WEB, "53")),
        ("service/default/web", Target(Protocol.TCP, WEB, "")),
        ("pod/default/web:80/sctp", Target(Protocol.SCTP, port="80", pod=WEB)),
        ("pod/default/web:http", Target(Protocol.TCP, port="http", pod=WEB)),
        ("service/default/udp:80", Target(Protocol.TCP, ObjectKey("default", "udp"), "80")),
    ],
)
def test_where_to(text: str, target: Target) -> None:
    assert target_of(text) == target


@pytest.mark.parametrize(
    "text",
    ["", "10.96.0.10", "10.96.0.10:http", "10.96.0.10:0", "10.96.0.10:65536", "fd00::10:80", "[10.96.0.10]:80",
     "service/web:80", "service/a/b/c:80", "pod/default/web", "pod/web:80"],
)  # fmt: skip
def test_nowhere(text: str) -> None:
    with pytest.raises(Unanswerable, match="--to"):
        target_of(text)
