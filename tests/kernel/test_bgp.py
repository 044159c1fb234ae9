"""BIRD driven by the engine, against other BIRDs in namespaces of their own: what is announced, taken and refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from kuberouter_py.bgp.control import command
from kuberouter_py.bgp.engine import BROKEN, KEY, Engine
from kuberouter_py.bgp.process import end
from kuberouter_py.kernel.command import run
from kuberouter_py.model.bgp import BgpPeer, GracefulRestart, Password, PeerState, Speaker
from kuberouter_py.model.cluster import Cidr
from tests.kernel.exam import bring, settle, sh

WITHIN = 30.0

pytestmark = pytest.mark.usefixtures("netns")


def packed(text: str) -> bytes:
    return ip_address(text).packed


def cidr(text: str) -> Cidr:
    found = ip_network(text)
    return Cidr(found.network_address.packed, found.prefixlen)


US, US6, ROUTER, ROUTER6 = packed("192.0.2.1"), packed("fd00:9::1"), packed("192.0.2.254"), packed("fd00:9::fe")
PEER = BgpPeer(ROUTER, 65001)
SPEAKER = Speaker(
    asn=64512,
    router_id=US,
    families=(4, 6),
    next_hops={4: US, 6: US6},
    refused=(cidr("10.96.0.0/12"), cidr("fd00:96::/108")),
    peers=(PEER,),
)


def until(met: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN
    while not met():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Router:
    """A BIRD in the namespace "router", on the same link, with a configuration of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.socket = str(directory / "router.ctl")
        self._file = directory / "router.conf"
        self._running = False

    def configure(self, session: str = "", routes: str = "", routes6: str = "") -> None:
        self._file.write_text(f"""
            router id 192.0.2.254;
            protocol device {{ }}
            protocol bfd {{ }}
            protocol static s4 {{ ipv4; {routes} }}
            protocol static s6 {{ ipv6; {routes6} }}
            protocol bgp node {{
              local 192.0.2.254 as 65001; neighbor 192.0.2.1 as 64512;
              connect delay time 1; error wait time 1, 2; {session}
              ipv4 {{ import all; export all; }};
              ipv6 {{ import all; export all; next hop address fd00:9::fe; }};
            }}""")
        if self._running:
            command(self.socket, "configure")
        else:
            sh(f"ip netns exec router bird -c {self._file} -s {self.socket} -P {self.socket}.pid")
            self._running = True

    def routes(self, family: int = 4) -> str:
        return "\n".join(line.text for line in command(self.socket, f"show route table master{family} all"))

    def wait_for(self, prefix: str) -> str:
        family = 6 if ":" in prefix else 4
        until(lambda: prefix in self.routes(family), f"{prefix} is not announced")
        return self.routes(family)

    def stop(self) -> None:
        if self._running:
            command(self.socket, "down")


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Router]:
    sh("""ip netns add router; ip link add up0 type veth peer name up1 netns router
          ip link set up0 up; ip address add 192.0.2.1/24 dev up0; ip address add fd00:9::1/64 dev up0 nodad
          ip -n router link set lo up; ip -n router link set up1 up
          ip -n router address add 192.0.2.254/24 dev up1; ip -n router address add fd00:9::fe/64 dev up1 nodad""")
    found = Router(tmp_path)
    yield found
    found.stop()
    sh("ip netns delete router")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    found = Engine(run, run_dir=str(tmp_path / "run"))
    yield found
    end(found.files)


def state(engine: Engine) -> PeerState:
    [found] = engine.peers()
    return found


def established(engine: Engine) -> None:
    until(lambda: state(engine).state == "Established", f"no session: {state(engine)}")


def announce(prefix: str, metric: int) -> None:
    family = 6 if ":" in prefix else 4
    sh(f"ip -{family} route add blackhole {prefix} table 159 proto 158 metric {metric}")


def test_it_reads_what_it_was_told(engine: Engine) -> None:
    assert engine.read().ours == {}
    settle(engine, {KEY: SPEAKER})
    settle(engine, {KEY: SPEAKER._replace(hold_time=30, graceful_restart=GracefulRestart())})
    assert Engine(run, run_dir=str(engine.files.socket.parent)).read() == engine.read()
    settle(engine, {})
    assert list(engine.files.socket.parent.iterdir()) == []


def test_what_is_announced_to_an_external_peer(engine: Engine, router: Router) -> None:
    router.configure()
    for prefix, metric in (("10.244.1.0/24", 1), ("10.96.0.10/32", 2), ("10.96.0.11/32", 3), ("fd00:96::10/128", 2)):
        announce(prefix, metric)
    settle(engine, {KEY: SPEAKER._replace(communities=("65000:5", "65000:1:2", "no-peer"), prepend=(64999, 2))})
    routes = {4: router.wait_for("10.244.1.0/24"), 6: router.wait_for("fd00:96::10/128")}
    assert "10.96.0.10/32" in routes[4] and "10.96.0.11/32" not in routes[4]
    for family, hop in ((4, "192.0.2.1"), (6, "fd00:9::1")):
        assert f"BGP.next_hop: {hop}\n" in routes[family]
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
    until(lambda: "203.0.113.0/24" in sh("ip route"), "nothing is taken")
    until(lambda: "2001:db8:77::/48" in sh("ip -6 route"), "nothing is taken")
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
    assert (state(engine).received, state(engine).accepted) == ({4: 5, 6: 3}, {4: 3, 6: 1})

    settle(engine, {KEY: SPEAKER._replace(refused=(*SPEAKER.refused, cidr("10.244.0.0/16")))})
    until(lambda: "10.244.1.0/24" not in sh("ip route"), "still taken")
    assert state(engine).state == "Established"


def test_a_session_that_is_as_before_stays_up(engine: Engine, router: Router) -> None:
    router.configure()
    settle(engine, {KEY: SPEAKER})
    established(engine)
    since = state(engine).since
    settle(engine, {KEY: SPEAKER._replace(peers=(PEER, BgpPeer(packed("192.0.2.77"), 65002)))})
    assert len(engine.peers()) == 2
    settle(engine, {KEY: SPEAKER})
    assert abs(state(engine).since - since) < 0.05 and state(engine).state == "Established"


def test_a_wrong_configuration_is_refused_and_the_last_good_one_stays(engine: Engine, router: Router) -> None:
    router.configure()
    settle(engine, {KEY: SPEAKER})
    established(engine)
    text = engine.files.configuration.read_text()
    wrong = SPEAKER._replace(peers=(PEER._replace(password=Password("hush"), multihop=1000),))
    [refused] = bring(engine, {KEY: wrong}).values()
    assert refused.reason.startswith("BIRD: bird.conf:") and "hush" not in refused.reason
    assert engine.read().ours == {KEY: SPEAKER} and state(engine).state == "Established"
    assert engine.files.configuration.read_text() == text and not engine.files.candidate.exists()


def test_a_first_configuration_may_be_refused_too(engine: Engine) -> None:
    [refused] = bring(engine, {KEY: SPEAKER._replace(hold_time=1)}).values()
    assert "bird.conf" in refused.reason and "old time" in refused.reason
    assert engine.read().ours == {}
    settle(engine, {KEY: SPEAKER})


def test_one_that_died_is_started_again(engine: Engine) -> None:
    assert engine.revive() == "" and engine.read().ours == {}
    settle(engine, {KEY: SPEAKER})
    sh(f"kill -9 $(cat {engine.files.pid})")
    until(lambda: engine.read().ours == {KEY: BROKEN}, "it lives")
    assert engine.revive() == ""
    assert engine.read().ours == {KEY: SPEAKER}


def test_routes_go_with_it_even_where_they_are_kept_for_a_restart(engine: Engine, router: Router) -> None:
    router.configure(routes="route 203.0.113.0/24 blackhole;", session="graceful restart on;")
    announce("10.96.0.10/32", 2)
    settle(engine, {KEY: SPEAKER._replace(graceful_restart=GracefulRestart())})
    router.wait_for("10.96.0.10/32")
    until(lambda: "203.0.113.0/24" in sh("ip route"), "nothing is taken")
    settle(engine, {})
    assert "203.0.113.0/24" not in sh("ip route") and "10.96.0.10/32" not in router.routes()
    assert list(engine.files.socket.parent.iterdir()) == []


def test_routes_that_it_left_go_too(engine: Engine, router: Router) -> None:
    router.configure(routes="route 203.0.113.0/24 blackhole;", session="graceful restart on;")
    announce("10.96.0.10/32", 2)
    settle(engine, {KEY: SPEAKER._replace(graceful_restart=GracefulRestart())})
    router.wait_for("10.96.0.10/32")
    until(lambda: "203.0.113.0/24" in sh("ip route"), "nothing is taken")
    end(engine.files, "graceful restart")
    assert "203.0.113.0/24" in sh("ip route") and "10.96.0.10/32" in router.routes()
    settle(engine, {})
    assert "203.0.113.0/24" not in sh("ip route")
    assert list(engine.files.socket.parent.iterdir()) == []


def test_a_restart_is_waited_for_only_where_one_ran_before(engine: Engine, router: Router) -> None:
    router.configure(routes="route 203.0.113.0/24 blackhole;", session="graceful restart on;")
    announce("10.96.0.10/32", 2)
    wanted = SPEAKER._replace(graceful_restart=GracefulRestart())
    settle(engine, {KEY: wanted})
    assert "raceful" not in "".join(line.text for line in command(str(engine.files.socket), "show status"))
    router.wait_for("10.96.0.10/32")
    until(lambda: "203.0.113.0/24" in sh("ip route"), "nothing is taken")
    sh(f"kill -9 $(cat {engine.files.pid})")
    until(lambda: engine.read().ours == {KEY: BROKEN}, "it lives")
    assert engine.revive() == ""
    assert "203.0.113.0/24" in sh("ip route") and "10.96.0.10/32" in router.routes()
    assert "Graceful restart" in "".join(line.text for line in command(str(engine.files.socket), "show status"))
    established(engine)
    assert "203.0.113.0/24" in sh("ip route") and "10.96.0.10/32" in router.routes()
