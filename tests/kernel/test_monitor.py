"""What the kernel announces and what of it is news: changes by other hands are, our own are not."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from kuberouter_py.kernel.bridge import BridgePorts
from kuberouter_py.kernel.diversions import Diversions
from kuberouter_py.kernel.links import Addresses, Links
from kuberouter_py.kernel.monitor import (
    DIVERSION_NEWS,
    NODE_ADDRESS_NEWS,
    PORT_NEWS,
    VIP_LINK_NEWS,
    Monitor,
)
from kuberouter_py.kernel.netlink_socket import Batch
from kuberouter_py.kernel.routes import Routes
from kuberouter_py.model.kernel import Address, Diversion, Link, Route
from kuberouter_py.ports import Plan
from tests.kernel.announced import WITHIN, check_lost_announcements, turning
from tests.kernel.exam import sh

LINK = "kube-dummy-if"

pytestmark = pytest.mark.usefixtures("netns")


def packed(text: str) -> bytes:
    return ip_address(text).packed


VIP = {4: packed("10.96.0.1"), 6: packed("fd00:96::1")}
NODE = {4: packed("192.0.2.2"), 6: packed("fd00:9::2")}


class Listening:
    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.routes = Routes(self.batch, [LINK])
        self.addresses = Addresses(self.batch, [LINK], self.routes.write_again)
        self.news: queue.Queue[str] = queue.Queue()
        self.signs = 0
        own = frozenset({self.batch.port_id})
        self.monitor = Monitor([LINK], self._tell, lambda: own, self.addresses.holds)

    def _tell(self, news: frozenset[str]) -> None:
        for one in sorted(news):
            self.news.put(one)

    def until(self, last: str) -> list[str]:
        """Everything told up to and with `last`."""
        told = [self.news.get(timeout=WITHIN)]
        while told[-1] != last:
            told.append(self.news.get(timeout=WITHIN))
        return told

    def told_before_a_sign(self) -> list[str]:
        """Everything told until an address, put on another link now, is told."""
        self.signs += 1
        sh(f"ip address add 192.0.2.{100 + self.signs}/24 dev up0")
        return self.until(NODE_ADDRESS_NEWS)[:-1]


@pytest.fixture
def listening(batch: Batch) -> Iterator[Listening]:
    sh(f"""ip link add {LINK} type dummy; ip link set {LINK} up; ip link add up0 type dummy; ip link set up0 up
           ip address add 192.0.2.2/24 dev up0; ip address add fd00:9::2/64 dev up0 nodad
           ip link add br0 type bridge; ip link set br0 up""")
    found = Listening(batch)
    with turning(found.monitor):
        yield found


@pytest.mark.parametrize(
    "harm",
    ["ip rule del pref 15800", "ip -6 rule del pref 15800", "ip route flush table 158", "ip -6 route flush table 158"],
)
def test_a_diversion_that_others_take_away_is_news_and_our_own_is_not(listening: Listening, harm: str) -> None:
    ours = Diversion(0x4000_0000, 0xC00F_FF00)
    assert Diversions(listening.batch).apply(Plan({4: ours, 6: ours})) == {}
    sh("ip rule add pref 99 fwmark 7 lookup 158; ip route add local 198.51.100.7 dev lo table 158")
    assert listening.told_before_a_sign() == []
    sh(harm)
    assert DIVERSION_NEWS in listening.told_before_a_sign()


def test_own_writes_are_no_news(listening: Listening) -> None:
    addresses = {Address(LINK, VIP[family]): None for family in (4, 6)}
    routes = {VIP[family]: Route(LINK, NODE[family]) for family in (4, 6)}
    assert listening.addresses.apply(Plan(add=addresses)) == {}
    assert listening.routes.apply(Plan(add=routes)) == {}
    assert listening.told_before_a_sign() == []  # who hears of an address when it has gone again cannot know it
    assert listening.routes.apply(Plan(remove=routes)) == {}
    assert listening.addresses.apply(Plan(remove=addresses)) == {}
    assert listening.told_before_a_sign() == []


BY_OTHERS: dict[str, tuple[str, str]] = {
    "link deleted": (f"ip link delete {LINK}", VIP_LINK_NEWS),
    "link down": (f"ip link set {LINK} down", VIP_LINK_NEWS),
    "VIP deleted": (f"ip address delete 10.96.0.1/32 dev {LINK}", VIP_LINK_NEWS),
    "VIP deleted, IPv6": (f"ip address delete fd00:96::1/128 dev {LINK}", VIP_LINK_NEWS),
    "address added to our link": (f"ip address add 10.96.0.9/32 dev {LINK}", VIP_LINK_NEWS),
    "route deleted": (f"ip route delete local 10.96.0.1 dev {LINK} table local", VIP_LINK_NEWS),
    "route deleted, IPv6": (f"ip -6 route delete local fd00:96::1 dev {LINK} table local", VIP_LINK_NEWS),
    "route replaced": ("ip route replace local 10.96.0.1 dev up0 table local", VIP_LINK_NEWS),
    "node address": ("ip address add 192.0.2.3/24 dev up0", NODE_ADDRESS_NEWS),
    "node address gone": ("ip address delete 192.0.2.2/24 dev up0", NODE_ADDRESS_NEWS),
    "node address, IPv6": ("ip address add fd00:9::3/64 dev up0 nodad", NODE_ADDRESS_NEWS),
    "new port": ("ip link add port0 type veth peer name peer0; ip link set port0 master br0", PORT_NEWS),
    "promiscuous bridge": ("ip link set br0 promisc on", PORT_NEWS),
}


@pytest.mark.parametrize("what", BY_OTHERS)
def test_changes_by_others_are(listening: Listening, what: str) -> None:
    assert listening.addresses.apply(Plan(add={Address(LINK, VIP[f]): None for f in (4, 6)})) == {}
    assert listening.routes.apply(Plan(add={VIP[f]: Route(LINK, NODE[f]) for f in (4, 6)})) == {}
    assert listening.told_before_a_sign() == []
    command, news = BY_OTHERS[what]
    sh(command)
    assert listening.news.get(timeout=WITHIN) == news


def test_hairpin_mode_switched_off(listening: Listening, tmp_path: Path) -> None:
    sh("ip link add port0 type veth peer name peer0; ip link set port0 master br0")
    assert PORT_NEWS in listening.told_before_a_sign()  # all that there is of it: it may be told in parts
    ports = BridgePorts(listening.batch, run_dir=tmp_path)
    assert ports.apply(Plan(add={"port0": True})) == {}
    assert PORT_NEWS not in listening.told_before_a_sign()
    sh("bridge link set dev port0 hairpin off")
    assert listening.until(PORT_NEWS)[-1] == PORT_NEWS


def test_no_news(listening: Listening) -> None:
    """Pods come and go with links, link-local addresses and routes of their own; routers repeat themselves."""
    sh("""ip link add pod0 type veth peer name pod1; ip link set pod0 up; ip link set pod1 up
          ip route add 10.244.1.7/32 dev pod0; ip -6 route add fd00:244::7/128 dev pod0
          ip address change fd00:9::2/64 dev up0 valid_lft 3600 preferred_lft 1800; ip link delete pod0""")
    assert listening.told_before_a_sign() == []


def test_a_link_of_ours_that_comes_back_is_known(listening: Listening) -> None:
    sh(f"ip link delete {LINK}")
    assert VIP_LINK_NEWS in listening.told_before_a_sign()
    assert Links(listening.batch, [LINK]).apply(Plan(add={LINK: Link("dummy")})) == {}
    listening.told_before_a_sign()
    sh(f"ip address add 10.96.0.9/32 dev {LINK}")
    assert listening.until(VIP_LINK_NEWS)


def test_lost_announcements_are_everything(listening: Listening) -> None:
    check_lost_announcements(lambda on_news: Monitor([LINK], on_news, frozenset, receive_queue=4096))
