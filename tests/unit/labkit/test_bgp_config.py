"""BGP peers of the lab: how a file describes them, and what their engines are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.labkit import bgp_config
from tests.labkit.bgp_config import Session, Speaker, speaker
from tests.labkit.scenario import ScenarioErrors, parse

HEAD = """\
nodes:
  n1: {addresses: [192.0.2.11, "2001:db8::11"]}
  n4: {addresses: [192.0.2.14]}
  n6: {addresses: ["2001:db8::16"]}
outside:
  client: {addresses: [203.0.113.10]}
"""
STEPS = "steps: [agent: {node: n1, do: kill-bird}]\n"


def peer(bgp: str, addresses: str = '192.0.2.1, "2001:db8::1"') -> Speaker:
    text = f"{HEAD}  tor: {{addresses: [{addresses}], bgp: {{{bgp}}}}}\n{STEPS}"
    return speaker(parse(text, Path("f.yaml")), "tor", {4: "192.0.2.254"})


def test_a_session_leads_to_the_first_ipv4_address_else_ipv6() -> None:
    found = peer("engine: bird, asn: 65000, neighbors: {n1: 64512, n4: 64513}")
    assert (found.router_id, found.local) == ("192.0.2.1", "192.0.2.1")
    assert found.sessions == (Session("n1", "192.0.2.11", 64512), Session("n4", "192.0.2.14", 64513))
    found = peer("engine: bird, asn: 65000, neighbors: {n1: 64512}", '"2001:db8::1"')
    assert (found.router_id, found.local, found.sessions[0].address) == ("0.0.253.232", "2001:db8::1", "2001:db8::11")


def test_the_address_of_the_session_decides_its_family() -> None:
    found = peer('engine: bird, asn: 65000, neighbors: {n1: 64512, n6: 64513}, address: "2001:db8::1"')
    assert (found.router_id, found.local) == ("192.0.2.1", "2001:db8::1")
    assert [session.address for session in found.sessions] == ["2001:db8::11", "2001:db8::16"]


@pytest.mark.parametrize(
    ("bgp", "message"),
    [
        ("engine: quagga, asn: 1, neighbors: {}", "bgp.engine: wants one of gobgp, frr, bird, not 'quagga'"),
        ("engine: frr, asn: 0, neighbors: {}", "bgp.asn: wants a whole number from 1 to 4294967295"),
        ("engine: frr, asn: 1", "bgp.neighbors: is missing"),
        ("engine: frr, asn: 1, neighbors: {n9: 2}", "bgp.neighbors.n9: no other node or outside host 'n9'"),
        ("engine: frr, asn: 1, neighbors: {tor: 2}", "bgp.neighbors.tor: no other node or outside host 'tor'"),
        ("engine: frr, asn: 1, neighbors: {n1: x}", "bgp.neighbors.n1: wants a whole number"),
        ("engine: frr, asn: 1, neighbors: {n1: 2}, password: 'a b'", "bgp.password: wants 1 to 80 letters"),
        ("engine: gobgp, asn: 1, neighbors: {n1: 2}, bfd: true", "bgp.bfd: gobgp has no BFD"),
        ("engine: frr, asn: 1, neighbors: {n1: 2}, bfd: 3", "bgp.bfd: wants true or false"),
        ("engine: frr, asn: 1, neighbors: {n1: 2}, multihop: 256", "bgp.multihop: wants a whole number from 1 to 255"),
        ("engine: frr, asn: 1, neighbors: {n1: 2}, address: 192.0.2.2", "bgp.address: wants one of 192.0.2.1, 2001:"),
        ("engine: frr, asn: 1, neighbors: {n1: 2}, announce: [10.0.0.1/8]", "bgp.announce[1]: wants a CIDR"),
        ("engine: frr, asn: 1, neighbors: {n1: 2}, hold: 3s", "bgp.hold: unknown key"),
        ("engine: frr, asn: 1, neighbors: {n6: 2}, address: 192.0.2.1", "bgp: n6 has no address of a family"),
        ("engine: frr, asn: 1, neighbors: {n4: 2, n6: 3}", "bgp: tor reaches some neighbours over IPv4 only"),
    ],
)
def test_mistakes(bgp: str, message: str) -> None:
    with pytest.raises(ScenarioErrors) as error:
        peer(bgp)
    assert [str(each).startswith(f"f.yaml:7: outside.tor.{message}") for each in error.value.errors] == [True], error


FULL = (
    "asn: 65000, neighbors: {n1: 64512}, announce: [10.9.0.0/16, 'fd09::/64'], password: s-1, multihop: 2, port: 1179, "
    "gracefulRestart: true"
)


def test_bird() -> None:
    text = bgp_config.bird(peer(f"engine: bird, bfd: true, {FULL}"))
    for line in (
        "router id 192.0.2.1;",
        "protocol static { ipv4 { table hops4; }; route 0.0.0.0/0 via 192.0.2.254; }",
        "protocol static announced6 { ipv6; route fd09::/64 blackhole; }",
        "protocol bgp 'peer_n1' {",
        "  local 192.0.2.1 port 1179 as 65000;",
        "  neighbor 192.0.2.11 as 64512;",
        "  multihop 2;",
        "  graceful restart on;",
        "  bfd on;",
        '  password "s-1";',
    ):
        assert line in text.splitlines()
    plain = bgp_config.bird(peer("engine: bird, asn: 65000, neighbors: {n1: 64512}"))
    assert "  direct;" in plain and "graceful restart off" in plain and "bfd" not in plain and "password" not in plain


def test_frr() -> None:
    lines = [line.strip() for line in bgp_config.frr(peer(f"engine: frr, bfd: true, {FULL}")).splitlines()]
    for line in (
        "router bgp 65000",
        "bgp graceful-restart",
        "neighbor 192.0.2.11 remote-as 64512",
        "neighbor 192.0.2.11 ebgp-multihop 2",
        "neighbor 192.0.2.11 bfd 3 300 300",
        "neighbor 192.0.2.11 password s-1",
        "network 10.9.0.0/16",
        "network fd09::/64",
    ):
        assert line in lines
    inside = bgp_config.frr(peer("engine: frr, asn: 65000, neighbors: {n1: 65000}, multihop: 3"))
    assert "ebgp-multihop" not in inside and "graceful-restart-disable" in inside


def test_gobgp() -> None:
    found = peer(f"engine: gobgp, {FULL}")
    text = bgp_config.gobgp(found)
    for line in ('auth-password = "s-1"', "port = 1179", "multihop-ttl = 2", "restart-time = 60"):
        assert line in text.splitlines()
    assert bgp_config.gobgp_orders(found) == [
        "gobgp global rib add 10.9.0.0/16 nexthop 192.0.2.1 -a ipv4",
        "gobgp global rib add fd09::/64 nexthop 2001:db8::1 -a ipv6",
    ]
