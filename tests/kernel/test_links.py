"""Links, addresses and what is told of the node's links, against the real kernel; `ip -j` is the witness."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest

from kuberouter_py.kernel.links import Addresses, Links, find_link, link_states
from kuberouter_py.kernel.netlink_socket import Batch
from kuberouter_py.model.kernel import Address, Link
from kuberouter_py.ports import Plan
from tests.kernel.exam import bring, difference, settle, sh

LINK = "kube-dummy-if"

pytestmark = pytest.mark.usefixtures("netns")


def packed(text: str) -> bytes:
    return ip_address(text).packed


def address(text: str) -> Address:
    return Address(LINK, packed(text))


def addresses_by_ip(link: str = LINK) -> set[str]:
    """What `ip` sees, without IPv6 link-local ones."""
    found = json.loads(sh(f"ip -j address show dev {link}"))[0]["addr_info"]
    return {f"{one['local']}/{one['prefixlen']}" for one in found if not one["local"].startswith("fe80")}


class TestLinks:
    def test_made_up_down_and_gone(self, batch: Batch) -> None:
        links = Links(batch, [LINK])
        settle(links, {LINK: Link("dummy")})
        assert "UP" in json.loads(sh(f"ip -j link show {LINK}"))[0]["flags"]
        sh(f"ip link set {LINK} down")
        assert difference(links, {LINK: Link("dummy")}).change == {LINK: (Link("dummy", up=False), Link("dummy"))}
        settle(links, {LINK: Link("dummy")})
        sh(f"ip link delete {LINK}")
        settle(links, {LINK: Link("dummy")})
        settle(links, {})
        assert find_link(batch, LINK) is None

    def test_other_links_are_neither_read_nor_touched(self, batch: Batch) -> None:
        sh("ip link add other type dummy")
        links = Links(batch, [LINK])
        settle(links, {LINK: Link("dummy")})
        assert links.read().ours.keys() == {LINK}
        refused = links.apply(Plan(add={"other": Link("dummy"), "eth9": Link("dummy")}))
        assert refused.keys() == {"other", "eth9"}
        assert links.apply(Plan(remove={"other": Link("dummy"), "eth9": Link("dummy")})) == {}
        settle(links, {})
        assert find_link(batch, "other") is not None

    def test_known_again_by_its_alias_whatever_the_flag_says_now(self, batch: Batch) -> None:
        sh("ip link add kube-ipvs0 type dummy")  # kube-proxy's
        settle(Links(batch, ["svc0", LINK]), {"svc0": Link("dummy")})
        links = Links(batch, [LINK])
        assert links.read().ours == {"svc0": Link("dummy")}
        settle(links, {LINK: Link("dummy")})
        assert find_link(batch, "svc0") is None and find_link(batch, "kube-ipvs0") is not None

    def test_one_that_the_flag_names_is_adopted_and_gets_the_alias(self, batch: Batch) -> None:
        sh("ip link add kube-ipvs0 type dummy")
        settle(Links(batch, ["kube-ipvs0", LINK]), {"kube-ipvs0": Link("dummy")})
        assert "alias kuberouter-py" in sh("ip link show kube-ipvs0")
        settle(Links(batch, [LINK]), {})
        assert find_link(batch, "kube-ipvs0") is None

    def test_one_of_another_kind_by_our_name_is_left_alone(self, batch: Batch) -> None:
        sh(f"ip link add {LINK} type bridge")
        links = Links(batch, [LINK])
        refused = bring(links, {LINK: Link("dummy")})
        assert "bridge" in refused[LINK].reason
        assert links.read().ours == {}
        settle(links, {})
        found = find_link(batch, LINK)
        assert found is not None and found.kind == "bridge"


class TestAddresses:
    @pytest.fixture(autouse=True)
    def link(self, netns: None) -> None:
        sh(f"ip link add {LINK} type dummy; ip link set {LINK} up")

    def test_written_read_back_and_removed(self, batch: Batch) -> None:
        addresses = Addresses(batch, [LINK])
        wanted = {address(text): None for text in ("10.96.0.1", "10.96.0.10", "fd00:96::1", "fd00:96::a")}
        settle(addresses, wanted)
        assert addresses_by_ip() == {"10.96.0.1/32", "10.96.0.10/32", "fd00:96::1/128", "fd00:96::a/128"}
        assert all(addresses.holds(key.address) for key in wanted)
        sh(f"ip address delete 10.96.0.1/32 dev {LINK}; ip address add 10.96.0.11/32 dev {LINK}")
        plan = difference(addresses, wanted)
        assert plan.add.keys() == {address("10.96.0.1")} and plan.remove.keys() == {address("10.96.0.11")}
        settle(addresses, wanted)
        settle(addresses, {})
        assert addresses_by_ip() == set()
        assert not addresses.holds(packed("10.96.0.1"))

    def test_many_at_once(self, batch: Batch) -> None:
        wanted: dict[Address, None] = {}
        for number in range(500):
            wanted[Address(LINK, packed("10.96.0.0")[:2] + number.to_bytes(2, "big"))] = None
            wanted[Address(LINK, packed("fd00:96::")[:14] + (number + 1).to_bytes(2, "big"))] = None
        addresses = Addresses(batch, [LINK])
        settle(addresses, wanted)
        assert len(addresses_by_ip()) == 1000
        settle(addresses, {})

    def test_what_stands_on_other_links_is_not_ours(self, batch: Batch) -> None:
        sh(f"""ip link add other type dummy; ip link set other up; ip address add 10.96.0.1/32 dev other
               ip address add 192.0.2.1/24 dev {LINK}""")
        addresses = Addresses(batch, [LINK])
        settle(addresses, {address("10.96.0.2"): None})
        settle(addresses, {})
        assert addresses_by_ip("other") == {"10.96.0.1/32"}
        assert addresses_by_ip() == {"192.0.2.1/24"}

    def test_nothing_is_bound_on_a_link_that_is_no_dummy(self, batch: Batch) -> None:
        sh("ip link add br0 type bridge; ip address add 192.0.2.1/32 dev br0")
        addresses = Addresses(batch, ["br0"])
        assert addresses.read().ours == {}
        refused = bring(addresses, {Address("br0", packed("10.96.0.1")): None})
        assert [reason.reason for reason in refused.values()] == ["link br0 is not ours, but of kind bridge"]
        assert addresses_by_ip("br0") == {"192.0.2.1/32"}

    def test_refused_without_the_link_or_the_family(self, batch: Batch) -> None:
        addresses = Addresses(batch, [LINK])
        v4, v6 = address("10.96.0.1"), address("fd00:96::1")
        sh(f"echo 1 > /proc/sys/net/ipv6/conf/{LINK}/disable_ipv6")
        refused = bring(addresses, {v4: None, v6: None})
        assert refused.keys() == {v6} and "disable_ipv6" in refused[v6].reason
        assert not addresses.holds(v6.address)
        sh(f"ip link delete {LINK}")
        assert bring(addresses, {v4: None}).keys() == {v4}
        assert addresses.apply(Plan(remove={v4: None})) == {}

    def test_is_never_a_source_by_itself(self, batch: Batch) -> None:
        """A connection from a link that has no address of its own must not pick a VIP."""
        settle(Addresses(batch, [LINK]), {address("10.96.0.1"): None, address("fd00:96::1"): None})
        sh("ip link add bare type dummy; ip link set bare up; ip route add 198.51.100.0/24 dev bare")
        assert "10.96.0.1" not in sh("ip route get 198.51.100.1 || true")
        sh("""ip link add up0 type dummy; ip link set up0 up; ip address add 2001:db8::2/64 dev up0 nodad
              ip -6 route add fd00:97::/64 dev bare""")
        assert "src 2001:db8::2" in sh("ip -6 route get fd00:97::1")


def test_link_states_tell_everything(batch: Batch) -> None:
    sh("""ip link add br0 type bridge; ip link set br0 up promisc on; ip address add 10.244.1.1/24 dev br0
          ip link add port0 type veth peer name peer0; ip link set port0 master br0
          ip link add up0 type dummy; ip link set up0 up; ip address add fd00:9::2/64 dev up0 nodad
          ip address add 192.0.2.1 peer 192.0.2.2/32 dev up0""")
    links = {link.name: link for link in link_states(batch)}
    assert links["lo"].up and (packed("127.0.0.1"), 8) in links["lo"].addresses
    assert links["br0"].kind == "bridge" and links["br0"].promiscuous
    assert links["br0"].addresses[0] == (packed("10.244.1.1"), 24)
    assert links["port0"].master == "br0" and not links["port0"].up and not links["port0"].promiscuous
    assert links["up0"].kind == "dummy" and (packed("fd00:9::2"), 64) in links["up0"].addresses
    assert (packed("192.0.2.1"), 32) in links["up0"].addresses  # its own, not the other end's
