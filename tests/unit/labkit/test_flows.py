"""Targets as scenario files write them."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.labkit.traffic import sockets
from tests.labkit.traffic.flows import Flow, Target
from tests.labkit.traffic.server import Connection, Owner


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("tcp://10.96.0.10:80", Target("tcp", "10.96.0.10", 80, "/")),
        ("udp://[fd00::35]:53", Target("udp", "fd00::35", 53, "/")),
        ("http://192.0.2.1", Target("http", "192.0.2.1", 80, "/")),
        ("https://192.0.2.1/a?b=c", Target("https", "192.0.2.1", 443, "/a?b=c")),
        ("sctp://192.0.2.1:9", Target("sctp", "192.0.2.1", 9, "/")),
        ("icmp://[fd00::35]", Target("icmp", "fd00::35", 0, "/")),
    ],
)
def test_target(url: str, target: Target) -> None:
    assert Target.of(url) == target


def test_protocol_and_family() -> None:
    target = Target.of("http://[::1]:8080/")
    assert (target.protocol, target.family) == ("tcp", 6)


@pytest.mark.parametrize(
    "url", ["tcp://10.96.0.10", "ftp://10.96.0.10:21", "10.96.0.10:80", "udp://:53", "icmp://10.96.0.10:8"]
)
def test_what_is_no_target(url: str) -> None:
    with pytest.raises(ValueError, match="expected tcp"):
        Target.of(url)


async def asked_twice(close: str) -> tuple[str, str]:
    """What becomes of two questions to a server that reads the first and then closes, with a FIN or with a reset."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if close == "reset":
            sockets.reset_on_close(writer.get_extra_info("socket"))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        flow = Flow("here", f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", None)
        first, second = [(await flow.ask(5))["outcome"] for _ in range(2)]
        flow.close()
    return first, second


@pytest.mark.parametrize(("close", "outcomes"), [("in order", ("open", "reset")), ("reset", ("refused", "refused"))])
def test_who_takes_a_connection_and_closes_it_in_good_order_has_answered(
    close: str, outcomes: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "visiting", lambda namespace: contextlib.nullcontext())
    assert asyncio.run(asked_twice(close)) == outcomes


def test_a_pushed_flow_is_alive_while_its_server_talks_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "visiting", lambda namespace: contextlib.nullcontext())

    async def play() -> list[str]:
        owner = Owner("web")
        loop = asyncio.get_running_loop()
        async with await loop.create_server(lambda: Connection(owner, "tcp", 80), "127.0.0.1", 0) as server:
            flow = Flow("here", f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", None, pushed=True)
            said = [(await flow.ask(5))["outcome"] for _ in range(3)]
            (connection,) = owner.connections
            connection.reset()
            said.append((await flow.ask(5))["outcome"])
            flow.close()
        return said

    assert asyncio.run(play()) == ["open", "open", "open", "reset"]
