"""Routes to other nodes' pods, against the real kernel; `ip route` and packets are the witnesses."""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import Sequence

import pytest

from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch
from kuberouter_py.kernel.pod_routes import BROKEN, PodRoutes
from kuberouter_py.model import notation
from kuberouter_py.model.podnet import PodRoute, RouteKey
from kuberouter_py.model.values import parse_cidr
from kuberouter_py.ports import Plan
from tests.kernel.exam import bring, check_parts, settle, sh

PODS = {4: "10.244.2.0/24", 6: "fd00:10:244:2::/64"}
OTHERS = {4: "10.244.3.0/24", 6: "fd00:10:244:3::/64"}
NODE = {4: "192.0.2.2", 6: "fd00:9::2"}
PEER = {4: "192.0.2.3", 6: "fd00:9::3"}
OTHER_PEER = {4: "192.0.2.4", 6: "fd00:9::4"}
POD = {4: "10.244.2.7", 6: "fd00:10:244:2::7"}
FAR = {4: "198.51.100.3", 6: "fd00:99::3"}

pytestmark = pytest.mark.usefixtures("netns")
by_family = pytest.mark.parametrize("family", [4, 6])


def packed(text: str) -> bytes:
    return parse_cidr(text).network


def key(cidr: str, table: int = 254) -> RouteKey:
    return RouteKey(table, *parse_cidr(cidr))


def via(family: int, gateway: str = "", source: bool = False) -> PodRoute:
    return PodRoute("up0", packed(gateway or PEER[family]), packed(NODE[family]) if source else b"")


@pytest.fixture(autouse=True)
def links(netns: None) -> None:
    sh(f"""ip link add up0 type dummy; ip link set up0 up; ip link add tun0 type dummy; ip link set tun0 up
           ip address add {NODE[4]}/24 dev up0; ip address add {NODE[6]}/64 dev up0 nodad""")


@pytest.fixture
def routes(batch: Batch) -> PodRoutes:
    return PodRoutes(batch)


def table(family: int, which: str = "254") -> list[str]:
    return [
        line.strip()
        for line in sh(f"ip -{family} route show table {which} 2>/dev/null || true").splitlines()
        if " proto 158 " in line
    ]


def everything() -> str:
    return sh("ip route show table all; ip -6 route show table all")


def ours_of_both(*tables: int) -> dict[RouteKey, PodRoute]:
    return {key(PODS[family], where): via(family, source=True) for family in (4, 6) for where in tables}


def test_through_gateways_and_links_in_both_tables(routes: PodRoutes) -> None:
    before = everything()
    wanted = ours_of_both(254, 160)
    wanted |= {key(f"{FAR[family]}/{32 if family == 4 else 128}", 160): PodRoute("tun0") for family in (4, 6)}
    settle(routes, wanted)
    assert table(4) == [f"{PODS[4]} via {PEER[4]} dev up0 proto 158 src {NODE[4]} metric 1580"]
    assert table(6) == [f"{PODS[6]} via {PEER[6]} dev up0 proto 158 src {NODE[6]} metric 1580 pref medium"]
    assert f"{FAR[4]} dev tun0 proto 158 scope link metric 1580" in table(4, "160")
    assert len(table(6, "160")) == 2
    assert routes.read().ours == wanted
    settle(routes, {})
    assert everything() == before


@by_family
def test_from_gateway_to_link_and_back(routes: PodRoutes, family: int) -> None:
    ways = [via(family), PodRoute("tun0"), via(family, source=True), via(family, OTHER_PEER[family]), PodRoute("tun0")]
    for way in ways:
        settle(routes, {key(PODS[family]): way})
        assert len(table(family)) == 1
        assert way.link in table(family)[0]


@by_family
def test_another_metric_stands_beside_ours(routes: PodRoutes, family: int) -> None:
    sh(f"""ip -{family} route add {PODS[family]} dev tun0 proto bird metric 32
           ip -{family} route add {PODS[family]} dev tun0 proto static metric 4000""")
    before = everything()
    settle(routes, {key(PODS[family]): via(family)})
    settle(routes, {key(PODS[family]): PodRoute("tun0")})
    settle(routes, {})
    assert everything() == before


@by_family
def test_who_has_our_metric_keeps_the_prefix(routes: PodRoutes, family: int) -> None:
    sh(f"ip -{family} route add {PODS[family]} dev tun0 proto static metric 1580")
    before = everything()
    refused = bring(routes, {key(PODS[family]): via(family), key(OTHERS[family]): via(family)})
    assert refused.keys() == {key(PODS[family])}
    assert refused[key(PODS[family])].reason == f"{PODS[family]} has a route of static with metric 1580"
    assert len(table(family)) == 1
    settle(routes, {})
    assert everything() == before
    sh(f"ip -{family} route delete {PODS[family]} dev tun0 proto static metric 1580")
    settle(routes, {key(PODS[family]): via(family)})


@by_family
def test_somebody_took_its_place(routes: PodRoutes, family: int) -> None:
    """A change that is asked for when the route is not ours any more."""
    settle(routes, {key(PODS[family]): via(family)})
    sh(f"ip -{family} route delete {PODS[family]} proto 158")
    sh(f"ip -{family} route add {PODS[family]} dev tun0 proto static metric 1580")
    before = everything()
    change = {key(PODS[family]): (via(family), PodRoute("tun0"))}
    assert "static" in routes.apply(Plan(change=change))[key(PODS[family])].reason
    assert routes.apply(Plan(remove={key(PODS[family]): via(family)})) == {}
    assert everything() == before


@by_family
def test_an_addition_that_is_there_in_another_way(routes: PodRoutes, family: int) -> None:
    settle(routes, {key(PODS[family]): PodRoute("tun0")})
    assert routes.apply(Plan(add={key(PODS[family]): via(family)})) == {}
    assert routes.read().ours == {key(PODS[family]): via(family)}


@by_family
@pytest.mark.parametrize("metrics", [(1581,), (1580, 1581), (77,), (77, 1580, 1581, 9000)])
def test_left_over_with_other_metrics(routes: PodRoutes, family: int, metrics: tuple[int, ...]) -> None:
    def leave() -> None:
        for metric in metrics:
            sh(f"ip -{family} route add {PODS[family]} dev tun0 proto 158 metric {metric}")
        assert routes.read().ours == {key(PODS[family]): BROKEN}
        check_parts(routes)

    leave()
    settle(routes, {key(PODS[family]): via(family)})
    assert len(table(family)) == 1
    settle(routes, {})
    leave()
    settle(routes, {})
    assert table(family) == []


@by_family
def test_routes_of_others_are_none_of_ours(routes: PodRoutes, family: int) -> None:
    sh(f"""ip -{family} route add {OTHERS[family]} dev tun0 proto 157 metric 1580
           ip -{family} route add {OTHERS[family]} dev tun0 proto 158 metric 1580 table 77""")
    before = everything()
    assert routes.read().ours == {}
    settle(routes, {key(PODS[family]): via(family)})
    settle(routes, {})
    assert everything() == before


def test_a_gateway_that_somebody_joined_to_ours(routes: PodRoutes) -> None:
    """IPv6 makes one route of all gateways with one metric: theirs stays when ours goes."""
    settle(routes, {key(PODS[6]): via(6)})
    sh(f"ip -6 route append {PODS[6]} via fd00:9::7 dev up0 proto static metric 1580")
    assert routes.apply(Plan(remove={key(PODS[6]): via(6)})) == {}
    assert "via fd00:9::7" in sh(f"ip -6 route show {PODS[6]}") and PEER[6] not in sh(f"ip -6 route show {PODS[6]}")


@by_family
def test_an_address_without_a_route_to_its_network(routes: PodRoutes, family: int) -> None:
    sh(f"ip -{family} route delete {NODE[family].removesuffix('2') + ('0/24' if family == 4 else '/64')} dev up0")
    settle(routes, {key(PODS[family]): via(family)})
    settle(routes, {key(PODS[family]): PodRoute("tun0")})
    settle(routes, {key(PODS[family]): via(family, source=True)})
    assert "onlink" in table(family)[0]


@by_family
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ("", "link up1 is not there"),
        ("ip link add up1 type dummy", "link up1 is down"),
    ],
)
def test_a_link_that_does_not_carry_it(routes: PodRoutes, family: int, harm: str, reason: str) -> None:
    sh(harm or "true")
    wanted = {key(PODS[family]): PodRoute("up1"), key(OTHERS[family]): PodRoute("tun0")}
    refused = bring(routes, wanted)
    assert refused.keys() == {key(PODS[family])}
    assert reason in refused[key(PODS[family])].reason
    settle(routes, {key(PODS[family]): PodRoute("tun0")})
    assert reason in bring(routes, {key(PODS[family]): PodRoute("up1")})[key(PODS[family])].reason
    assert routes.read().ours == {key(PODS[family]): PodRoute("tun0")}  # the old way is better than none


@by_family
def test_a_source_that_is_not_there_is_refused(routes: PodRoutes, family: int) -> None:
    refused = bring(routes, {key(PODS[family]): via(family)._replace(source=packed(FAR[family]))})
    assert FAR[family] in refused[key(PODS[family])].reason


def test_gone_with_their_link(routes: PodRoutes) -> None:
    wanted = ours_of_both(254)
    settle(routes, wanted)
    sh("ip link delete up0")
    assert routes.read().ours == {}
    assert routes.apply(Plan(remove=wanted)) == {}


def test_a_bounce_of_the_link(routes: PodRoutes) -> None:
    wanted = ours_of_both(254, 160)
    settle(routes, wanted)
    sh(f"ip link set up0 down; ip link set up0 up; ip address replace {NODE[6]}/64 dev up0 nodad")
    assert routes.read().ours == {}
    settle(routes, wanted)


class Watched(Batch):
    """One message at a time, and after each a packet to the pods: one without a way fails at once."""

    def __init__(self, pod: str) -> None:
        super().__init__(NETLINK_ROUTE, strict=True)
        self.packets = 0
        self._pod = pod
        self._channel = socket.socket(socket.AF_INET6 if ":" in pod else socket.AF_INET, socket.SOCK_DGRAM)

    def send(self, messages: Sequence[bytes], details: dict[int, bytes] | None = None) -> dict[int, int]:
        failed: dict[int, int] = {}
        for at, message in enumerate(messages):
            failed |= dict.fromkeys([at] if super().send([message], details) else [], errno.EIO)
            self._channel.sendto(b"x", (self._pod, 9))
            self.packets += 1
        return failed

    def close(self) -> None:
        super().close()
        self._channel.close()


@by_family
def test_no_packet_is_lost_when_the_way_changes(routes: PodRoutes, family: int) -> None:
    settle(routes, {key(PODS[family]): via(family)})
    watched = Watched(POD[family])
    ways = [via(family), PodRoute("tun0"), via(family, source=True), via(family, OTHER_PEER[family]), PodRoute("tun0")]
    for old, new in itertools.pairwise(ways):
        assert PodRoutes(watched).apply(Plan(change={key(PODS[family]): (old, new)})) == {}
        assert routes.read().ours == {key(PODS[family]): new}
    assert watched.packets == 4 * 4
    watched.close()


@by_family
def test_what_plan_prints_does_the_same(routes: PodRoutes, family: int) -> None:
    ways = [via(family, source=True), PodRoute("tun0"), via(family)]
    where = (key(PODS[family]), key(PODS[family], 160))
    run(Plan(add=dict.fromkeys(where, ways[0])))
    assert routes.read().ours == dict.fromkeys(where, ways[0])
    for old, new in itertools.pairwise(ways):
        run(Plan(change=dict.fromkeys(where, (old, new))))
        assert routes.read().ours == dict.fromkeys(where, new)
    run(Plan(remove=dict.fromkeys(where, ways[-1])))
    assert routes.read().ours == {}


def run(plan: Plan[RouteKey, PodRoute]) -> None:
    for line in notation.lines({PodRoutes.name: plan}):
        sh(line)


def many(count: int) -> dict[RouteKey, PodRoute]:
    four = {RouteKey(254, b"\x0a" + (number << 8).to_bytes(3, "big"), 24): via(4) for number in range(count // 2)}
    head = packed("fd00:10::")[:6]
    return four | {RouteKey(254, head + n.to_bytes(2, "big") + bytes(8), 64): via(6) for n in range(count // 2)}


def test_thousands_at_once(routes: PodRoutes, batch: Batch) -> None:
    wanted = many(5_000)
    assert routes.apply(Plan(add=wanted)) == {}
    assert batch.sent == 5_000
    assert routes.read().ours == wanted
    check_parts(routes, [key("10.99.0.0/16")])
    changed = dict.fromkeys(wanted, PodRoute("tun0"))
    settle(routes, changed)
    settle(routes, {})
