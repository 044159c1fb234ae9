"""What of the kernel's announcements is news for the router: changes by other hands are, our own are not."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator

import pytest

from kuberouter_py.kernel.diversions import Diversions
from kuberouter_py.kernel.handover import Handover
from kuberouter_py.kernel.lookup_rules import LookupRules
from kuberouter_py.kernel.netlink_socket import Batch
from kuberouter_py.kernel.pod_routes import PodRoutes
from kuberouter_py.kernel.router_news import (
    ANNOUNCED_NEWS,
    BRIDGE_NEWS,
    LINK_NEWS,
    POD_ROUTE_NEWS,
    RULE_NEWS,
    TUNNEL_NEWS,
    RouterNews,
)
from kuberouter_py.kernel.tunnels import Tunnels
from kuberouter_py.model.bgp import Announced
from kuberouter_py.model.kernel import Diversion
from kuberouter_py.model.names import TUNNEL_ALIAS, tunnel_name
from kuberouter_py.model.podnet import LookupRule, PodRoute, RouteKey, Tunnel
from kuberouter_py.model.values import parse_cidr
from kuberouter_py.ports import Plan
from tests.kernel.announced import WITHIN, check_lost_announcements, turning
from tests.kernel.exam import sh

VIP_LINK = "kube-dummy-if"
TUNNEL = "krt4-c0000203"
PODS = {4: "10.244.2.0/24", 6: "fd00:10:244:2::/64"}
OWN = {4: "10.244.1.0/24", 6: "fd00:10:244:1::/64"}
VIP = {4: "10.96.0.10/32", 6: "fd00:96::a/128"}
PEER = {4: "192.0.2.3", 6: "fd00:9::3"}

pytestmark = pytest.mark.usefixtures("netns")
by_family = pytest.mark.parametrize("family", [4, 6])


class Listening:
    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.holding: Callable[[str], bool] = {TUNNEL}.__contains__
        self.news: queue.Queue[frozenset[str]] = queue.Queue()
        self.signs = 0
        own = frozenset({self.batch.port_id})
        self.listener = RouterNews([VIP_LINK], ["kube-bridge"], self.news.put, lambda: own, self._holds)

    def _holds(self, name: str) -> bool:
        return self.holding(name)

    def told_before_a_sign(self) -> set[str]:
        """Everything told until a policy rule that others make now is told."""
        self.signs += 1
        sh(f"ip rule add from 203.0.113.{self.signs} lookup 160 protocol 158")
        return self.until(RULE_NEWS) - {RULE_NEWS}

    def until(self, kind: str) -> set[str]:
        told: set[str] = set()
        while kind not in told:
            told |= self.news.get(timeout=WITHIN)
        return told


@pytest.fixture
def listening(batch: Batch) -> Iterator[Listening]:
    sh(f"""ip link add {VIP_LINK} type dummy; ip link set {VIP_LINK} up
           ip link add up0 type dummy; ip link set up0 up
           ip address add 192.0.2.2/24 dev up0; ip address add fd00:9::2/64 dev up0 nodad
           ip link add {TUNNEL} type dummy; ip link set {TUNNEL} up alias "{TUNNEL_ALIAS}"
           ip link add kube-bridge type bridge; ip link set kube-bridge up""")
    found = Listening(batch)
    with turning(found.listener):
        yield found


def key(cidr: str, table: int = 254) -> RouteKey:
    return RouteKey(table, *parse_cidr(cidr))


def routes_of_ours() -> dict[RouteKey, PodRoute]:
    via = {family: PodRoute("up0", parse_cidr(PEER[family]).network) for family in (4, 6)}
    return {
        **{key(PODS[family]): via[family] for family in (4, 6)},
        **{key(f"{PEER[family]}/{32 if family == 4 else 128}", 160): PodRoute(TUNNEL) for family in (4, 6)},
    }


def write_everything(batch: Batch) -> None:
    assert PodRoutes(batch).apply(Plan(add=routes_of_ours())) == {}
    assert LookupRules(batch).apply(Plan(add={LookupRule(*parse_cidr(OWN[family])): 160 for family in (4, 6)})) == {}
    assert Handover(batch).apply(Plan(add={parse_cidr(VIP[family]): Announced.SERVICE for family in (4, 6)})) == {}


def test_own_writes_are_no_news(listening: Listening) -> None:
    batch = listening.batch
    write_everything(batch)
    moved = {where: (route, PodRoute(TUNNEL)) for where, route in routes_of_ours().items() if where.table == 254}
    assert PodRoutes(batch).apply(Plan(change=moved)) == {}
    assert PodRoutes(batch).apply(Plan(remove={where: PodRoute(TUNNEL) for where in routes_of_ours()})) == {}
    held = {parse_cidr(VIP[family]): (Announced.SERVICE, Announced.HELD) for family in (4, 6)}
    assert Handover(batch).apply(Plan(change=held)) == {}
    assert Handover(batch).apply(Plan(remove=dict.fromkeys(held, Announced.HELD))) == {}
    assert listening.told_before_a_sign() == set()


def test_own_rules_are_no_news(listening: Listening) -> None:
    rules = {LookupRule(*parse_cidr(OWN[family])): 160 for family in (4, 6)}
    assert LookupRules(listening.batch).apply(Plan(add=rules)) == {}
    assert LookupRules(listening.batch).apply(Plan(remove=rules)) == {}
    sh("ip address add 192.0.2.9/24 dev up0")
    assert listening.until(LINK_NEWS) == {LINK_NEWS, POD_ROUTE_NEWS}


BY_OTHERS: dict[str, tuple[str, str]] = {
    **{
        f"{what}, IPv{family}": (command.format(ip=f"ip -{family}", pods=PODS[family], vip=VIP[family]), news)
        for family in (4, 6)
        for what, command, news in (
            ("route gone", "{ip} route delete {pods} proto 158", POD_ROUTE_NEWS),
            ("route replaced", "{ip} route replace {pods} dev up0 metric 1580 proto static", POD_ROUTE_NEWS),
            ("routes for pods gone", "{ip} route flush table 160", POD_ROUTE_NEWS),
            ("rule gone", "{ip} rule delete pref 15810", RULE_NEWS),
            ("announced no more", "{ip} route flush table 159", ANNOUNCED_NEWS),
            (
                "announced otherwise",
                "{ip} route replace blackhole {vip} metric 2 table 159 proto static",
                ANNOUNCED_NEWS,
            ),
        )
    },
    "tunnel gone": (f"ip link delete {TUNNEL}", TUNNEL_NEWS),
    "tunnel down": (f"ip link set {TUNNEL} down", TUNNEL_NEWS),
    "routes by way of a tunnel gone": (f"ip link delete {TUNNEL}", POD_ROUTE_NEWS),
    "link down": ("ip link set up0 down", POD_ROUTE_NEWS),
    "link gone": ("ip link delete up0", LINK_NEWS),
    "MTU": ("ip link set up0 mtu 1400", LINK_NEWS),
    "address": ("ip address add 192.0.2.9/24 dev up0", LINK_NEWS),
    "the same address, of a larger network": ("ip address add 192.0.2.2/20 dev up0", LINK_NEWS),
    "address gone": ("ip address delete 192.0.2.2/24 dev up0", POD_ROUTE_NEWS),
    "another name": ("ip link set up0 down; ip link set up0 name up1; ip link set up1 up", LINK_NEWS),
    "bridge gone": ("ip link delete kube-bridge", BRIDGE_NEWS),
    "bridge down": ("ip link set kube-bridge down", BRIDGE_NEWS),
    "bridge MTU": ("ip link set kube-bridge mtu 1400", BRIDGE_NEWS),
}


@pytest.mark.parametrize("what", BY_OTHERS)
def test_changes_by_others_are(listening: Listening, what: str) -> None:
    write_everything(listening.batch)
    assert listening.told_before_a_sign() == set()
    command, news = BY_OTHERS[what]
    sh(command)
    assert news in listening.until(news)


@pytest.mark.parametrize("link", ["up0", TUNNEL])
def test_a_link_that_is_up_again_has_lost_its_routes(listening: Listening, link: str) -> None:
    """So it is told when it is up, and not only when it went down: no route can be written in between."""
    write_everything(listening.batch)
    before = PodRoutes(listening.batch).read().ours
    sh(f"ip link set {link} down")
    assert POD_ROUTE_NEWS in listening.until(POD_ROUTE_NEWS)
    assert listening.told_before_a_sign() <= {LINK_NEWS, POD_ROUTE_NEWS}
    assert PodRoutes(listening.batch).read().ours.keys() < before.keys()
    sh(f"ip link set {link} up")
    assert POD_ROUTE_NEWS in listening.until(POD_ROUTE_NEWS)
    lost = {where: route for where, route in before.items() if route.link == link and len(where.network) == 4}
    assert PodRoutes(listening.batch).apply(Plan(add=lost)) == {}


def test_a_tunnel_of_ours_that_was_made_anew_has_lost_its_routes(listening: Listening) -> None:
    listening.holding = lambda _name: False  # as who deletes it says beforehand
    sh(f"ip link delete {TUNNEL}")
    assert listening.told_before_a_sign() == set()
    sh(f'ip link add {TUNNEL} type dummy; ip link set {TUNNEL} up alias "{TUNNEL_ALIAS}"')
    assert listening.until(POD_ROUTE_NEWS) == {POD_ROUTE_NEWS}


def test_own_tunnels_are_no_news(listening: Listening) -> None:
    """A tunnel's coming and going is announced without a word about who did it."""
    tunnels = Tunnels(listening.batch)
    listening.holding = tunnels.holds
    remote = parse_cidr("192.0.2.4").network
    name, local = tunnel_name(remote), parse_cidr("192.0.2.2").network
    assert tunnels.apply(Plan(add={name: Tunnel(4, local, remote)})) == {}
    assert listening.told_before_a_sign() == set()
    assert tunnels.apply(Plan(remove={name: Tunnel(4, local, remote)})) == {}
    assert listening.told_before_a_sign() == set()
    assert tunnels.apply(Plan(add={name: Tunnel(4, local, remote)})) == {}
    assert listening.told_before_a_sign() <= {POD_ROUTE_NEWS}
    sh(f"ip link delete {name}")
    assert TUNNEL_NEWS in listening.until(TUNNEL_NEWS)


def test_a_bridge_that_comes(listening: Listening) -> None:
    sh("ip link delete kube-bridge")
    listening.until(BRIDGE_NEWS)
    assert listening.told_before_a_sign() <= {BRIDGE_NEWS}
    sh("ip link add kube-bridge type bridge")
    assert listening.until(BRIDGE_NEWS) == {BRIDGE_NEWS}


def test_no_news(listening: Listening) -> None:
    """Pods, Services, other nodes and routers come and go."""
    assert Diversions(listening.batch).apply(Plan(add={4: Diversion(1 << 30, 1 << 30)})) == {}
    sh(f"""ip link add pod0 type veth peer name pod1; ip link set pod0 master kube-bridge
           ip link set pod0 up; ip link set pod1 up
           ip address add 10.96.0.10/32 dev {VIP_LINK}; ip address delete 10.96.0.10/32 dev {VIP_LINK}
           ip link add krt4-c0000204 type dummy; ip link set krt4-c0000204 up alias "{TUNNEL_ALIAS}"
           ip route add {PODS[4]} dev up0 proto bird metric 32; ip -6 route add {PODS[6]} dev up0 proto bird metric 32
           ip route replace 198.51.100.0/24 dev up0; ip route replace 198.51.100.0/24 dev up0 table 77 proto 158
           ip route add blackhole 198.51.100.0/24 table 159 proto static metric 9
           ip rule del pref 15800; ip rule add pref 99 from 10.244.9.0/24 lookup 160
           ip address change fd00:9::2/64 dev up0 valid_lft 3600 preferred_lft 1800
           ip link delete pod0; ip link add idle type dummy; ip link set idle up; ip link delete idle""")
    assert listening.told_before_a_sign() == set()


def test_lost_announcements_are_everything() -> None:
    sh("ip link add up0 type dummy; ip link set up0 up")
    check_lost_announcements(
        lambda on_news: RouterNews([VIP_LINK], ["kube-bridge"], on_news, frozenset, receive_queue=4096)
    )
