"""What BIRD does with our configuration, against other BIRDs: what is announced, taken, refused and reflected."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from kuberouter_py.bgp.control import command
from kuberouter_py.bgp.engine import KEY, Engine
from kuberouter_py.bgp.files import Files
from kuberouter_py.bgp.process import end
from kuberouter_py.kernel.tcp_digests import refused_digests
from kuberouter_py.model.bgp import Bfd, BgpPeer, Password
from tests.fakes.speakers import cidr, packed
from tests.kernel.birds import (
    PEER,
    ROUTER,
    SPEAKER,
    US,
    US6,
    Router,
    announce,
    established,
    state,
    until,
)
from tests.kernel.exam import settle, sh

pytestmark = pytest.mark.usefixtures("netns")


def test_what_is_announced_to_an_external_peer(engine: Engine, router: Router) -> None:
    router.configure()
    for prefix, metric in (("10.244.1.0/24", 1), ("10.96.0.10/32", 2), ("10.96.0.11/32", 3), ("fd00:96::10/128", 2)):
        announce(prefix, metric)
    settle(engine, {KEY: SPEAKER._replace(communities=("65000:5", "65000:1:2", "65535:65284"), prepend=(64999, 2))})
    router.wait_for("10.244.1.0/24")
    routes = {4: router.wait_for("10.96.0.10/32"), 6: router.wait_for("fd00:96::10/128")}
    assert "10.244.1.0/24" in routes[4] and "10.96.0.11/32" not in routes[4]
    for family, hop in ((4, "192.0.2.1"), (6, "fd00:9::1")):
        assert re.search(rf"BGP.next_hop: {hop}\s", routes[family])  # in IPv6 maybe a link-local one besides
        assert "BGP.as_path: 64512 64999 64999\n" in routes[family]
        assert "BGP.community: (65000,5) (65535,65284)\n" in routes[family]
        assert "BGP.large_community: (65000, 1, 2)" in routes[family]
    _, out = engine.routes(ROUTER)
    assert {route.network for route in out} == {
        cidr("10.244.1.0/24"), cidr("10.96.0.10/32"), cidr("fd00:96::10/128")
    }  # fmt: skip
    assert out[0].as_path == (64512, 64999, 64999)
    assert out[0].communities == ("65000:5", "65535:65284", "65000:1:2")
    assert {route.next_hop for route in out} == {US, US6}

    settle(engine, {KEY: SPEAKER._replace(pods_to_external=False)})
    until(lambda: "10.244.1.0/24" not in router.routes(), "pods are announced")
    assert "10.96.0.10/32" in router.routes()
    sh("ip route delete blackhole 10.96.0.10/32 table 159")
    until(lambda: "10.96.0.10/32" not in router.routes(), "a Service is announced")


def test_what_is_taken_from_a_peer(engine: Engine, router: Router) -> None:
    router.configure(
        routes="route 203.0.113.0/24 blackhole; route 0.0.0.0/0 blackhole; route 10.96.0.10/32 blackhole;"
        " route 10.244.1.0/24 blackhole; route 198.51.100.1/32 blackhole;",
        routes6="route 2001:db8:77::/48 blackhole; route ::/0 blackhole; route fd00:96::10/128 blackhole;",
    )
    announce("198.51.100.1/32", 3)
    settle(engine, {KEY: SPEAKER})
    established(engine)
    for prefix in ("10.244.1.0/24", "203.0.113.0/24", "2001:db8:77::/48"):
        until(lambda prefix=prefix: prefix in sh("ip route; ip -6 route"), f"{prefix} is not taken")  # type: ignore[misc]
    until(lambda: state(engine).received == {4: 5, 6: 3}, f"it has not heard all: {state(engine)}")
    assert sh("ip route show proto bird").split()[:6] == ["10.244.1.0/24", "via", "192.0.2.254", "dev", "up0", "metric"]
    assert {line.split()[0] for line in sh("ip route show proto bird; ip -6 route show proto bird").splitlines()} == {
        "10.244.1.0/24", "203.0.113.0/24", "2001:db8:77::/48"
    }  # fmt: skip
    found, _ = engine.routes(ROUTER)
    assert {route.network for route in found if route.accepted} == {
        cidr("10.244.1.0/24"), cidr("203.0.113.0/24"), cidr("2001:db8:77::/48")
    }  # fmt: skip
    assert {route.network for route in found if not route.accepted} == {
        cidr("0.0.0.0/0"), cidr("10.96.0.10/32"), cidr("198.51.100.1/32"), cidr("::/0"), cidr("fd00:96::10/128")
    }  # fmt: skip
    assert state(engine).accepted == {4: 3, 6: 1}

    settle(engine, {KEY: SPEAKER._replace(refused=(*SPEAKER.refused, cidr("10.244.0.0/16")))})
    until(lambda: "10.244.1.0/24" not in sh("ip route"), "still taken")
    assert state(engine).state == "Established"


def test_both_sides_need_the_same_password(engine: Engine, router: Router) -> None:
    router.configure(session='password "right one";')
    settle(engine, {KEY: SPEAKER._replace(peers=(PEER._replace(password=Password("wrong one")),))})
    until(lambda: "Connection" in state(engine).reason or state(engine).state != "Idle", "nothing was tried")
    assert state(engine).state != "Established"
    before = refused_digests()
    until(lambda: refused_digests().wrong > before.wrong, "the kernel refused nothing")
    settle(engine, {KEY: SPEAKER._replace(peers=(PEER._replace(password=Password("right one")),))})
    established(engine)
    assert stat.S_IMODE(engine.files.configuration.stat().st_mode) == 0o600
    for file in (engine.files.log, engine.files.pid):
        assert "right one" not in file.read_text() and "wrong one" not in file.read_text()


def test_a_password_on_one_side_only(engine: Engine, router: Router) -> None:
    router.configure()
    before = refused_digests()
    settle(engine, {KEY: SPEAKER._replace(peers=(PEER._replace(password=Password("ours")),))})
    until(lambda: refused_digests().missing > before.missing, "what has no digest is taken")
    assert state(engine).state != "Established"


def test_bfd(engine: Engine, router: Router) -> None:
    router.configure(session="bfd on;")
    settle(engine, {KEY: SPEAKER._replace(peers=(PEER._replace(bfd=Bfd(100, 100, 3)),))})
    established(engine)
    until(lambda: state(engine).bfd == "Up", "no BFD session")
    sh("ip -n router link set up1 down")
    until(lambda: state(engine).state != "Established", "still up")


def test_a_reflector_passes_on_what_nodes_gave_it_and_nothing_else(engine: Engine, tmp_path: Path) -> None:
    """Nodes 192.0.2.11 and .12 are clients; the routers 192.0.2.253 and .254 are external peers, with equal routes."""
    sh("ip link add br0 type bridge; ip link set br0 up; ip address add 192.0.2.1/24 dev br0")
    others: dict[str, str] = {}
    try:
        for number, asn, prefix in (
            (11, 64512, "10.244.11.0/24"),
            (12, 64512, "10.244.12.0/24"),
            (253, 65001, "203.0.113.0/24"),
            (254, 65001, "203.0.113.0/24"),
        ):
            name = f"n{number}"
            sh(f"""ip netns add {name}; ip link add {name} type veth peer name up1 netns {name}
                   ip link set {name} master br0 up
                   ip -n {name} link set lo up; ip -n {name} link set up1 up
                   ip -n {name} address add 192.0.2.{number}/24 dev up1""")
            others[name] = str(tmp_path / f"{name}.ctl")
            (tmp_path / f"{name}.conf").write_text(f"""
                router id 192.0.2.{number}; protocol device {{ }} protocol direct {{ ipv4; }}
                protocol static s4 {{ ipv4; route {prefix} blackhole; route 10.96.0.{number}/32 blackhole; }}
                protocol bgp reflector {{ local 192.0.2.{number} as {asn}; neighbor 192.0.2.1 as 64512;
                  connect delay time 1; ipv4 {{ import all; export where source = RTS_STATIC; }}; }}""")
            sh(f"ip netns exec {name} bird -c {tmp_path}/{name}.conf -s {others[name]} -P {tmp_path}/{name}.pid")
        announce("10.244.1.0/24", 1)
        announce("10.96.0.10/32", 2)
        nodes = [BgpPeer(packed(f"192.0.2.{number}"), 64512, node=f"n{number}", client=True) for number in (11, 12)]
        routers = [BgpPeer(packed(f"192.0.2.{number}"), 65001) for number in (253, 254)]
        wanted = SPEAKER._replace(families=(4,), reflects=packed("192.0.2.9"), peers=(*routers, *nodes))
        settle(engine, {KEY: wanted})

        def got(name: str) -> str:
            return "\n".join(line.text for line in command(others[name], "show route protocol reflector all"))

        until(lambda: "10.244.11.0/24" in got("n12") and "10.244.12.0/24" in got("n11"), "nothing is reflected")
        until(lambda: all("10.244.1.0/24" in got(name) for name in ("n11", "n12", "n254")), "our own is not announced")
        until(lambda: "10.96.0.10/32" in got("n254"), "Services are not announced to the router")
        until(lambda: sh("ip route show 203.0.113.0/24").count("nexthop via 192.0.2.25") == 2, "not both ways are used")
        for name in ("n11", "n12"):
            for other in ("203.0.113.0/24", "10.96.0."):
                assert other not in got(name)
        assert "BGP.next_hop: 192.0.2.11\n" in got("n12") and "BGP.cluster_list: 192.0.2.9" in got("n12")
        assert "10.244.11." not in got("n254") and "10.244.12." not in got("n254")
        assert "10.244.11." not in sh("ip route"), "routes to other nodes' pods are not BIRD's to write"
        for router in routers:
            route = next(each for each in engine.routes(router.address)[0] if each.network == cidr("203.0.113.0/24"))
            assert route.accepted
        assert {peer.node for peer in engine.peers()} == {"", "n11", "n12"}
    finally:
        for name, socket in others.items():
            end(Files(Path(socket)))
            sh(f"ip netns delete {name}")
