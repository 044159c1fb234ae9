"""Tunnels between nodes, against the real kernel: `ip` and packets are the witnesses."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

import pytest

from kuberouter_py.kernel.namespaces import batch_in
from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch
from kuberouter_py.kernel.tunnels import BROKEN, Tunnels
from kuberouter_py.model import notation
from kuberouter_py.model.names import TUNNEL_ALIAS, tunnel_name
from kuberouter_py.model.podnet import Tunnel
from kuberouter_py.ports import NetworkNamespace, Plan
from tests.kernel.exam import bring, difference, settle, sh

# Two nodes in two subnets, with a router (.1, ::1) between them, and an address of a pod on each.
HERE = {4: "192.0.2.11", 6: "2001:db8:2::11"}
THERE = {4: "198.51.100.12", 6: "2001:db8:3::12"}
POD_HERE = {4: "10.244.1.2", 6: "fd00:10:244:1::2"}
POD_THERE = {4: "10.244.2.2", 6: "fd00:10:244:2::2"}
PORT = 5555
IP_HEADER, UDP_AND_GUE, PING_HEADERS = {4: 20, 6: 40}, 12, {4: 28, 6: 48}
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_WANT, _PMTUDISC_DO = 10, 23, 1, 2  # in.h, in6.h

pytestmark = pytest.mark.usefixtures("netns")
by_family = pytest.mark.parametrize("family", [4, 6])
by_port = pytest.mark.parametrize("port", [0, PORT])


def packed(text: str) -> bytes:
    return ip_address(text).packed


def tunnel(family: int, port: int = 0, mtu: int = 0, local: str = "", remote: str = "") -> Tunnel:
    return Tunnel(family, packed(local or HERE[family]), packed(remote or THERE[family]), port, mtu)


def name(family: int) -> str:
    return tunnel_name(packed(THERE[family]))


def kernel_encapsulates() -> bool:
    """Asks `ip`. Debian's User-Mode Linux lacks CONFIG_NET_FOU_IP_TUNNELS."""
    told = sh("""modprobe -a fou fou6 || true
                 ip link add asked type ipip local 192.0.2.99 remote 192.0.2.98 encap gue encap-dport 9 2>&1 || true""")
    sh("ip link delete asked 2>/dev/null || true")
    return told == ""


@pytest.fixture
def tunnels(batch: Batch) -> Tunnels:
    return Tunnels(batch)


def remotes(count: int) -> Iterator[bytes]:
    return (packed("203.0.0.0")[:2] + number.to_bytes(2, "big") for number in range(1, count + 1))


class CountingBatch(Batch):
    """Counts dumps, each of which is one message and the kernel's whole table."""

    dumps = 0

    def dump(self, request: bytes) -> Iterator[memoryview]:
        self.dumps += 1
        return super().dump(request)


def shown(link: str) -> str:
    return sh(f"ip -d link show dev {link}")


def links() -> str:
    return sh("ip -o link show")


class TestTable:
    @by_family
    def test_made_read_back_and_gone(self, tunnels: Tunnels, family: int) -> None:
        before = links()
        settle(tunnels, {name(family): tunnel(family, mtu=1400)})
        told = shown(name(family))
        assert f"remote {THERE[family]} local {HERE[family]}" in told and f"alias {TUNNEL_ALIAS}" in told
        assert "mtu 1400" in told and "UP" in told
        assert ("pmtudisc" if family == 4 else "encaplimit none") in told.replace("nopmtudisc", "")
        settle(tunnels, {})
        assert name(family) not in links() and "tunl0" in links() + "tunl0" * ("tunl0" not in before)

    def test_a_new_one_lets_in_what_goes_back_another_way(self, tunnels: Tunnels) -> None:
        sh("echo 1 > /proc/sys/net/ipv4/conf/default/rp_filter")
        settle(tunnels, {name(4): tunnel(4)})
        assert sh(f"cat /proc/sys/net/ipv4/conf/{name(4)}/rp_filter").strip() == "0"

    def test_many_at_once(self, tunnels: Tunnels) -> None:
        """An odd number in each batch: none is left without its alias between two of them."""
        wanted = {tunnel_name(remote): Tunnel(4, packed(HERE[4]), remote, mtu=1400) for remote in remotes(501)}
        settle(tunnels, wanted)
        settle(tunnels, {})
        assert "krt4" not in links()

    def test_one_change_asks_for_one_link(self) -> None:
        """However many there are: a look at all is for many changes, and for the name of what stands in the way."""
        batch = CountingBatch(NETLINK_ROUTE, strict=True)
        tunnels = Tunnels(batch)
        many = {tunnel_name(remote): Tunnel(4, packed(HERE[4]), remote, mtu=1400) for remote in remotes(500)}
        assert bring(tunnels, many) == {}

        def cost(plan: Plan[str, Tunnel]) -> tuple[int, int]:
            sent, dumps = batch.sent, batch.dumps
            assert tunnels.apply(plan) == {}
            return batch.sent - sent, batch.dumps - dumps

        new, moved = tunnel(4, mtu=1400), tunnel(4, mtu=1300)
        assert cost(Plan(add={name(4): new})) == (1 + 2, 0)
        assert cost(Plan(change={name(4): (new, moved)})) == (1 + 2, 0)
        assert cost(Plan(add={name(4): moved})) == (1, 0)  # it is there already
        assert cost(Plan(remove={name(4): moved})) == (1 + 1, 0)
        assert cost(Plan(remove={name(4): moved})) == (1, 0)
        assert tunnels.read().ours == many
        assert cost(Plan(remove=many)) == (1 + 500, 1)
        batch.close()

    @by_family
    def test_a_change_leaves_the_link_and_its_routes(self, tunnels: Tunnels, family: int) -> None:
        settle(tunnels, {name(family): tunnel(family, mtu=1400)})
        sh(f"ip -{family} route add {POD_THERE[family]} dev {name(family)}")
        index = links().split(f": {name(family)}@")[0].splitlines()[-1]
        other = {4: "192.0.2.99", 6: "2001:db8:2::99"}[family]
        settle(tunnels, {name(family): tunnel(family, mtu=1300, local=other)})
        assert f"local {other}" in shown(name(family)) and "mtu 1300" in shown(name(family))
        assert links().split(f": {name(family)}@")[0].splitlines()[-1] == index
        assert POD_THERE[family] in sh(f"ip -{family} route show dev {name(family)}")

    @by_family
    def test_an_mtu_that_was_left_to_the_kernel_is_no_difference(self, tunnels: Tunnels, family: int) -> None:
        settle(tunnels, {name(family): tunnel(family)})
        later = Tunnels(Batch(NETLINK_ROUTE))
        assert later.read().ours[name(family)].mtu > 1000
        settle(later, {name(family): tunnel(family)})
        assert not difference(later, {name(family): tunnel(family)})

    def test_a_later_process_finds_everything(self, tunnels: Tunnels) -> None:
        wanted = {name(family): tunnel(family, mtu=1400) for family in (4, 6)}
        settle(tunnels, wanted)
        later = Tunnels(Batch(NETLINK_ROUTE))
        assert later.read().ours == wanted
        settle(later, {})
        assert "krt" not in links()

    @by_family
    @pytest.mark.parametrize("harm", ["set {name} down", "set {name} type {kind} ttl 7", "delete {name}"])
    def test_damage_shows_and_is_repaired(self, tunnels: Tunnels, family: int, harm: str) -> None:
        wanted = {name(family): tunnel(family, mtu=1400)}
        settle(tunnels, wanted)
        kind = {4: "ipip", 6: "ip6tnl"}[family]
        sh("ip link " + harm.format(name=name(family), kind=kind))
        assert difference(tunnels, wanted)
        settle(tunnels, wanted)
        assert "UP" in shown(name(family)) and ("ttl 64" if family == 4 else "hoplimit 64") in shown(name(family))

    def test_strict_again_shows_and_is_repaired(self, tunnels: Tunnels) -> None:
        wanted = {name(4): tunnel(4, mtu=1400)}
        settle(tunnels, wanted)
        sh(f"echo 1 > /proc/sys/net/ipv4/conf/{name(4)}/rp_filter")
        assert tunnels.read().ours == {name(4): BROKEN}
        settle(tunnels, wanted)

    @by_family
    def test_one_that_cannot_be_changed_where_it_stands_is_replaced(self, tunnels: Tunnels, family: int) -> None:
        kind = {4: "ip6tnl", 6: "ipip"}[family]
        sh(f"""ip link add {name(family)} type {kind} local {HERE[10 - family]} remote {THERE[10 - family]}
               ip link set {name(family)} alias "{TUNNEL_ALIAS}" """)
        assert tunnels.read().ours == {name(family): BROKEN}
        settle(tunnels, {name(family): tunnel(family, mtu=1400)})

    @by_family
    def test_what_is_not_ours_stays(self, tunnels: Tunnels, family: int) -> None:
        kind = {4: "ipip", 6: "ip6tnl"}[family]
        sh(f"""ip link add {name(family)} type {kind} local {HERE[family]} remote {THERE[family]}
               ip link add krt0 type dummy""")
        before = links()
        refused = bring(tunnels, {name(family): tunnel(family)})
        assert refused[name(family)].reason == f"link {name(family)} is there already, of kind {kind}, and is not ours"
        assert tunnels.apply(Plan(remove={name(family): BROKEN, "tunl0": BROKEN, "krt0": BROKEN})) == {}
        assert tunnels.read().ours == {}
        assert links() == before

    def test_one_of_another_kind_by_our_name(self, tunnels: Tunnels) -> None:
        sh(f'ip link add {name(4)} type dummy; ip link set {name(4)} alias "{TUNNEL_ALIAS}"')
        assert "of kind dummy" in bring(tunnels, {name(4): tunnel(4)})[name(4)].reason

    @by_family
    def test_another_one_with_the_same_ends_is_named_and_holds_up_none(self, tunnels: Tunnels, family: int) -> None:
        kind = {4: "ipip", 6: "ip6tnl"}[family]
        sh(f"ip link add tun-605495d4fb6 type {kind} local {HERE[family]} remote {THERE[family]}")
        third = {4: "203.0.113.13", 6: "2001:db8:4::13"}[family]
        wanted = {
            name(family): tunnel(family),
            tunnel_name(packed(third)): tunnel(family, remote=third),
        }
        refused = bring(tunnels, wanted)
        assert refused.keys() == {name(family)} and "tun-605495d4fb6 leads from" in refused[name(family)].reason
        sh("ip link delete tun-605495d4fb6")
        settle(tunnels, wanted)

    @by_family
    def test_one_of_kube_routers_is_replaced_when_it_may_be(self, family: int) -> None:
        """One that only has such a name stays, and so does one with other ends."""
        kind, batch = {4: "ipip", 6: "ip6tnl"}[family], Batch(NETLINK_ROUTE, strict=True)
        third = {4: "203.0.113.13", 6: "2001:db8:4::13"}[family]
        sh(f"""ip link add tun-605495d4fb6 type {kind} local {HERE[family]} remote {THERE[family]}
               ip link set tun-605495d4fb6 up
               ip -{family} route add {POD_THERE[family]} dev tun-605495d4fb6
               ip link add tun-e443169117a type {kind} local {third} remote {THERE[family]}
               ip link add tun-of-mine type {kind} local {HERE[family]} remote {third}""")
        wanted = {name(family): tunnel(family), tunnel_name(packed(third)): tunnel(family, remote=third)}
        reason = "goes when that has ended: process 7"
        tunnels = Tunnels(batch, lambda: reason)
        refused = bring(tunnels, wanted)
        assert refused.keys() == wanted.keys()
        assert refused[name(family)].reason == (
            f"link {name(family)}: tun-605495d4fb6 leads from {HERE[family]} to {THERE[family]} already, and is not"
            " ours; it is named as kube-router's are, and goes when that has ended: process 7"
        )
        assert "tun-605495d4fb6" in links()
        reason = ""
        refused = bring(tunnels, wanted)
        assert refused.keys() == {tunnel_name(packed(third))}
        assert refused[tunnel_name(packed(third))].reason.endswith(f"to {third} already, and is not ours")
        assert "tun-605495d4fb6" not in links() and "tun-e443169117a" in links() and "tun-of-mine" in links()
        assert "UP" in shown(name(family)) and TUNNEL_ALIAS in shown(name(family))
        batch.close()

    def test_an_mtu_that_no_link_can_have(self, tunnels: Tunnels) -> None:
        wanted = {name(4): tunnel(4, mtu=67), name(6): tunnel(6, mtu=1279)}
        refused = bring(tunnels, wanted)
        assert refused.keys() == wanted.keys() and "1279 is less than the 1280" in refused[name(6)].reason
        assert "krt" not in links()

    @by_family
    def test_inside_udp(self, tunnels: Tunnels, family: int) -> None:
        settle(tunnels, {name(family): tunnel(family, mtu=1400)})
        wanted = {name(family): tunnel(family, PORT, mtu=1400)}
        if kernel_encapsulates():
            settle(tunnels, wanted)
            assert f"encap gue encap-sport auto encap-dport {PORT}" in shown(name(family))
            settle(tunnels, {name(family): tunnel(family, mtu=1400)})
            assert "encap gue" not in shown(name(family))
        else:
            refused = bring(tunnels, wanted)[name(family)]
            assert refused.missing and "modprobe fou" in refused.reason
            assert tunnels.read().ours == {name(family): tunnel(family, mtu=1400)}, "the old one goes on"

    @by_family
    def test_what_plan_prints_is_what_ip_takes(self, tunnels: Tunnels, family: int) -> None:
        ports = [0, PORT, 0] if kernel_encapsulates() else [0, 0]
        wanted = [tunnel(family, port, mtu) for port, mtu in zip(ports, (1400, 1390, 1380), strict=False)]
        there: dict[str, Tunnel] = {}
        for each in wanted:
            link = name(family)
            plan = Plan(change={link: (there[link], each)}) if there else Plan(add={link: each})
            for line in notation.lines({"tunnels": plan}):
                sh(line)
            there = {link: each}
            assert tunnels.read().ours == there
        assert notation.lines({"tunnels": Plan(change={name(family): (wanted[0], wanted[0]._replace(mtu=0))})}) == []
        for line in notation.lines({"tunnels": Plan(remove=there)}):
            sh(line)
        assert tunnels.read().ours == {}


class Place(NamedTuple):
    """A network namespace that a process holds."""

    process: int

    def sh(self, command: str) -> str:
        return sh(f"nsenter --net=/proc/{self.process}/ns/net sh -ec {shlex.quote(command)}")

    def tunnels(self) -> Tunnels:
        path = f"/proc/{self.process}/ns/net"
        return Tunnels(batch_in(NetworkNamespace(os.stat(path).st_ino, path)))


class World(NamedTuple):
    router: Place
    there: Place


@pytest.fixture
def world(netns: None) -> Iterator[World]:
    """This node is the test's own namespace; links of 1500 bytes to the router and behind it."""
    processes = [subprocess.Popen(["unshare", "--net", "sleep", "600"]) for _ in range(2)]
    own = os.stat("/proc/self/ns/net").st_ino
    for process in processes:
        while os.stat(f"/proc/{process.pid}/ns/net").st_ino == own:
            pass
    router, there = (Place(process.pid) for process in processes)
    sh(f"""ip link add eth0 type veth peer name left netns {router.process}
           ip link set eth0 up
           ip address add {HERE[4]}/24 dev eth0; ip address add {HERE[6]}/64 dev eth0 nodad
           ip address add {POD_HERE[4]} dev lo; ip address add {POD_HERE[6]} dev lo""")
    router.sh(f"""ip link add right type veth peer name eth0 netns {there.process}
                  ip link set lo up; ip link set left up; ip link set right up
                  ip address add 192.0.2.1/24 dev left; ip address add 2001:db8:2::1/64 dev left nodad
                  ip address add 198.51.100.1/24 dev right; ip address add 2001:db8:3::1/64 dev right nodad
                  sysctl -qw net/ipv4/ip_forward=1 net/ipv6/conf/all/forwarding=1""")
    there.sh(f"""ip link set lo up; ip link set eth0 up
                 ip address add {THERE[4]}/24 dev eth0; ip address add {THERE[6]}/64 dev eth0 nodad
                 ip address add {POD_THERE[4]} dev lo; ip address add {POD_THERE[6]} dev lo
                 ip route add default via 198.51.100.1; ip -6 route add default via 2001:db8:3::1""")
    sh("ip route add default via 192.0.2.1; ip -6 route add default via 2001:db8:2::1")
    yield World(router, there)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.wait()


def dig(world: World, family: int, port: int, mtu: int = 0) -> str:
    """Both ends, and the routes into them; why not, where this kernel cannot."""
    if port:
        receive = f"modprobe -a fou fou6 || true; ip -{family} fou add port {port} gue"
        sh(receive)
        world.there.sh(receive)
    ends = (
        (Tunnels(Batch(NETLINK_ROUTE)), THERE[family], tunnel(family, port, mtu)),
        (world.there.tunnels(), HERE[family], tunnel(family, port, mtu, THERE[family], HERE[family])),
    )
    for table, remote, wanted in ends:
        if refused := bring(table, {tunnel_name(packed(remote)): wanted}):
            return next(iter(refused.values())).reason
    sh(f"ip -{family} route add {POD_THERE[family]} dev {name(family)} src {POD_HERE[family]}")
    back = tunnel_name(packed(HERE[family]))
    world.there.sh(f"ip -{family} route add {POD_HERE[family]} dev {back} src {POD_THERE[family]}")
    return ""


def ping(family: int, size: int, source: str = "", whole: bool = False) -> bool:
    """One echo request of that size, headers included, and its answer. whole: no router may fragment it."""
    af, protocol, request, answer = (
        (socket.AF_INET, socket.IPPROTO_ICMP, 8, 0)
        if family == 4
        else (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129)
    )
    with socket.socket(af, socket.SOCK_RAW, protocol) as channel:
        level, option = (
            (socket.IPPROTO_IP, _IP_MTU_DISCOVER) if family == 4 else (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER)
        )
        channel.setsockopt(level, option, _PMTUDISC_DO if whole else _PMTUDISC_WANT)
        channel.settimeout(1)
        channel.bind((source or POD_HERE[family], 0))
        channel.connect((POD_THERE[family], 0))
        data = os.urandom(8) + bytes(size - PING_HEADERS[family] - 8)
        packet = struct.pack(">BBHHH", request, 0, 0, 1, 1) + data
        if family == 4:
            packet = packet[:2] + checksum(packet) + packet[4:]
        try:
            channel.send(packet)
            while True:
                got = channel.recv(65536)[20 if family == 4 else 0 :]
                if got[0] == answer and got[8:] == data:
                    return True
        except OSError:
            return False  # too long, or no answer


def checksum(packet: bytes) -> bytes:
    total = sum(struct.unpack(f">{(len(packet) + 1) // 2}H", packet + b"\0" * (len(packet) & 1)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", total ^ 0xFFFF)


def wait_for_ping(family: int, size: int, source: str = "", whole: bool = False) -> None:
    deadline = time.monotonic() + 60
    while not ping(family, size, source, whole):
        assert time.monotonic() < deadline, f"{size} bytes do not pass"


def room(family: int, port: int, path: int) -> int:
    return path - IP_HEADER[family] - (UDP_AND_GUE if port else 0)


class TestPackets:
    @by_family
    @by_port
    def test_of_every_size_pass(self, world: World, family: int, port: int) -> None:
        if reason := dig(world, family, port):
            assert port and not kernel_encapsulates() and "GUE" in reason
            return
        wait_for_ping(family, 100)
        full = room(family, port, 1500)
        assert f"mtu {full} " in shown(name(family)), "what the kernel chooses fits the link"
        wait_for_ping(family, full, whole=True)
        assert not ping(family, full + 1, whole=True)
        wait_for_ping(family, 6000)

    @by_family
    @by_port
    def test_a_narrow_place_on_the_way_is_found(self, world: World, family: int, port: int) -> None:
        """The router's "fragmentation needed" speaks of the outer packet; the inner one's sender has to hear it."""
        world.router.sh("ip link set right mtu 1400")
        world.there.sh("ip link set eth0 mtu 1400")
        if reason := dig(world, family, port, mtu=room(family, port, 1500)):
            assert port and not kernel_encapsulates() and "GUE" in reason
            return
        narrow = room(family, port, 1400)
        deadline = time.monotonic() + 60
        while f"mtu {narrow}" not in sh(f"ip -{family} route get {POD_THERE[family]}"):
            assert not ping(family, room(family, port, 1500), whole=True)
            assert time.monotonic() < deadline, sh(f"ip -{family} route get {POD_THERE[family]}")
        wait_for_ping(family, narrow, whole=True)
        wait_for_ping(family, 6000)

    @by_family
    def test_what_goes_back_another_way_is_let_in(self, world: World, family: int) -> None:
        """From a node's own address to a pod of another node: the answer goes beside the tunnel."""
        world.there.sh("echo 1 > /proc/sys/net/ipv4/conf/default/rp_filter")
        assert dig(world, family, 0) == ""
        wait_for_ping(family, 100, HERE[family])

    def test_where_all_links_are_strict_a_table_of_the_pods_own_leads_back(self, world: World) -> None:
        world.there.sh("echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter")
        assert dig(world, 4, 0) == ""
        assert not ping(4, 100, HERE[4])
        back = tunnel_name(packed(HERE[4]))
        world.there.sh(f"""ip rule add from {POD_THERE[4]} lookup 160 pref 15810
                           ip route add {HERE[4]} dev {back} table 160""")
        wait_for_ping(4, 100, HERE[4])
