"""Remembered flows, against the real kernel; `conntrack` is the witness."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from kuberouter_py.kernel.conntrack import Conntrack
from kuberouter_py.model.kernel import Flow, Protocol
from tests.kernel.exam import sh

pytestmark = pytest.mark.usefixtures("netns")
by_family = pytest.mark.parametrize("family", [4, 6])

SERVER, OTHER = {4: "192.0.2.1", 6: "fd00:9::1"}, {4: "192.0.2.2", 6: "fd00:9::2"}
BEHIND = {4: "192.0.2.9", 6: "fd00:9::9"}  # who answers for SERVER


@pytest.fixture
def conntrack() -> Iterator[Conntrack]:
    """Packets to SERVER port 53 are answered by BEHIND, port 5353."""
    addresses = "\n".join(
        f"ip address add {each[family]}/{32 if family == 4 else 128} dev lo {'nodad' if family == 6 else ''}"
        for each in (SERVER, OTHER, BEHIND)
        for family in (4, 6)
    )
    sh(addresses)
    for family, program, to in ((4, "iptables", "192.0.2.9:5353"), (6, "ip6tables", "[fd00:9::9]:5353")):
        sh(f"{program}-legacy -t nat -A OUTPUT -p udp -d {SERVER[family]} --dport 53 -j DNAT --to {to}")
    edge = Conntrack()
    yield edge
    edge.close()


def packed(text: str) -> bytes:
    return ip_address(text).packed


def send(family: int, to: str, port: int, sport: int, protocol: int = socket.SOCK_DGRAM) -> None:
    with socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, protocol) as opened:
        opened.bind((OTHER[family], sport))
        opened.setblocking(False)
        opened.connect_ex((to, port))
        if protocol == socket.SOCK_DGRAM:
            opened.send(b"?")


def known(family: int) -> str:
    return sh(f"conntrack -L -f ipv{family} -p udp 2>/dev/null")


@by_family
def test_tells_who_asked_whom_and_who_answers(conntrack: Conntrack, family: int) -> None:
    send(family, SERVER[family], 53, 4001)
    (flow,) = conntrack.udp_flows(family)
    expected = Flow(
        protocol=Protocol.UDP,
        source=packed(OTHER[family]),
        source_port=4001,
        destination=packed(SERVER[family]),
        port=53,
        answers=packed(BEHIND[family]),
        answers_port=5353,
        replies_to=packed(OTHER[family]),
        replies_to_port=4001,
    )
    assert flow._replace(identity=0) == expected
    assert flow.identity


def test_tells_udp_of_one_family_alone(conntrack: Conntrack) -> None:
    for family in (4, 6):
        send(family, SERVER[family], 53, 4001)
        send(family, OTHER[family], 80, 4001, socket.SOCK_STREAM)
    for family in (4, 6):
        assert [len(flow.source) for flow in conntrack.udp_flows(family)] == [4 if family == 4 else 16]


@by_family
def test_forgets_just_those_and_a_second_time_is_no_failure(conntrack: Conntrack, family: int) -> None:
    send(family, SERVER[family], 53, 4001)
    send(family, SERVER[family], 53, 4002)
    gone = [flow for flow in conntrack.udp_flows(family) if flow.source_port == 4001]
    conntrack.forget(gone)
    assert "sport=4001" not in known(family)
    assert "sport=4002" in known(family)
    conntrack.forget(gone)
    assert "sport=4002" in known(family)


PROTOCOLS = {
    Protocol.TCP: (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    Protocol.UDP: (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    Protocol.SCTP: (socket.SOCK_STREAM, 132),
}


@contextlib.contextmanager
def connected(family: int, protocol: Protocol, sport: int) -> Iterator[None]:
    """A client of SERVER's port 80 with a connection, or a datagram on its way, to a process there."""
    af = socket.AF_INET if family == 4 else socket.AF_INET6
    kind, number = PROTOCOLS[protocol]
    with socket.socket(af, kind, number) as server, socket.socket(af, kind, number) as client:
        server.bind((SERVER[family], 80))
        if protocol != Protocol.UDP:
            server.listen()
        client.bind((OTHER[family], sport))
        client.settimeout(30)
        client.connect((SERVER[family], 80))
        if protocol == Protocol.UDP:
            client.send(b"?")
        yield


@by_family
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_is_told_with_its_masqueraded_client_and_forgotten(
    conntrack: Conntrack, family: int, protocol: Protocol
) -> None:
    program = "iptables" if family == 4 else "ip6tables"
    to = BEHIND[family] if family == 4 else f"[{BEHIND[family]}]"
    sh(f"{program}-legacy -t nat -A POSTROUTING -p {protocol.name.lower()} -s {OTHER[family]} -j SNAT --to {to}:6001")
    with connected(family, protocol, 4001):
        other = 10 - family
        send(other, SERVER[other], 53, 4009)
        (flow,) = conntrack.flows(family)
        expected = Flow(
            protocol=protocol,
            source=packed(OTHER[family]),
            source_port=4001,
            destination=packed(SERVER[family]),
            port=80,
            answers=packed(SERVER[family]),
            answers_port=80,
            replies_to=packed(BEHIND[family]),
            replies_to_port=6001,
        )
        assert flow._replace(identity=0) == expected
        conntrack.forget([flow._replace(identity=flow.identity ^ 1)])
        assert list(conntrack.flows(family)) == [flow], "another entry with the same ends"
        conntrack.forget([flow])
        assert list(conntrack.flows(family)) == []
        conntrack.forget([flow])


def test_other_protocols_are_not_told(conntrack: Conntrack) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as echo:
        echo.connect((SERVER[4], 0))
        echo.send(bytes.fromhex("0800f7fd00010001"))
    assert "icmp" in sh("conntrack -L -p icmp 2>/dev/null")
    assert list(conntrack.flows(4)) == []


def test_some_are_forgotten_while_they_are_told(conntrack: Conntrack) -> None:
    """The table is read a piece at a time: a reader need not come to its end, and another may begin."""
    for sport in range(10_000, 11_500):
        send(4, SERVER[4], 53, sport)
    first = next(iter(conntrack.flows(4)))
    conntrack.forget([first])
    seen = []
    for flow in conntrack.flows(4):
        seen.append(flow)
        if len(seen) % 100 == 0:
            conntrack.forget([flow])
    assert len(seen) >= 1499 - 15 and first not in seen
    assert len(list(conntrack.flows(4))) == 1499 - len(seen) // 100


def test_many(conntrack: Conntrack) -> None:
    """More than one datagram of a dump holds, and more than one batch of deletions."""
    for sport in range(10_000, 11_500):
        send(4, SERVER[4], 53, sport)
    flows = list(conntrack.udp_flows(4))
    assert len(flows) == 1500
    conntrack.forget(flows)
    assert list(conntrack.udp_flows(4)) == []
