"""What the firewall's rules expect of the kernel's matches and targets, each with packets, in every flavour and family.

The packets are made by hand: a header is all that these matches look at. They leave over `lo`, through OUTPUT.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

import pytest

from kuberouter_py.kernel import netlink
from kuberouter_py.kernel.ipset import Members, Sets
from kuberouter_py.kernel.iptables import Chains
from kuberouter_py.kernel.iptables_flavours import Flavour, nf_tables_lacks
from kuberouter_py.kernel.netlink_socket import NETLINK_NETFILTER
from kuberouter_py.model.bytecode import SAME_ADDRESS
from kuberouter_py.model.kernel import Chain, IpSet, MemberValue, Protocol, Rules, SetEntry, SetMember
from kuberouter_py.model.names import FIREWALL_CHAINS, FIREWALL_SETS
from kuberouter_py.ports import Plan
from tests.kernel.exam import sh

HERE: list[Flavour] = ["legacy"] if nf_tables_lacks(4) else ["legacy", "nft"]
HOOK = "OUTPUT"
PODS, FROM, TO, GUARD, REFUSE = (FIREWALL_CHAINS + name for name in ("PODS", "FROM", "TO", "E-1", "REFUSE"))
ONE, OTHER = {4: "192.0.2.1", 6: "fd00:9::1"}, {4: "192.0.2.2", 6: "fd00:9::2"}
STRANGER = {4: "198.51.100.9", 6: "fd00:8::9"}  # no address of this host
SYN, SYN_ACK, ACK = 0x02, 0x12, 0x10
TRANSPARENT = {4: (socket.IPPROTO_IP, 19), 6: (socket.IPPROTO_IPV6, 75)}  # IP_TRANSPARENT, IPV6_TRANSPARENT
REJECT = {4: "-j REJECT --reject-with icmp-port-unreachable", 6: "-j REJECT --reject-with icmp6-port-unreachable"}


class Node(NamedTuple):
    """One family of one flavour."""

    flavour: Flavour
    family: int

    @property
    def stem(self) -> str:
        return "iptables" if self.family == 4 else "ip6tables"

    def stand(self, chains: dict[str, tuple[str, ...]]) -> None:
        wanted = {Chain(self.family, "filter", name): Rules(rules) for name, rules in chains.items()}
        assert Chains(FIREWALL_CHAINS, self.flavour).apply(Plan(add=wanted)) == {}

    def hits(self, chain: str) -> list[int]:
        """Packets that each rule of a chain has matched."""
        saved = sh(f"{self.stem}-{self.flavour}-save -c -t filter 2>/dev/null").splitlines()
        rules = [line.split(" ", 3) for line in saved if line.startswith("[")]
        return [int(words[0][1:].split(":")[0]) for words in rules if words[2] == chain]

    def sets(self, **types: str) -> None:
        edge = Sets(FIREWALL_SETS)
        assert (
            edge.apply(Plan(add={FIREWALL_SETS + name: IpSet(kind, self.family) for name, kind in types.items()})) == {}
        )
        edge.close()

    def send(
        self, protocol: Protocol, port: int, *, source: str = "", to: str = "", sport: int = 40000, flags: int = SYN
    ) -> None:
        """One packet from ONE to OTHER, unless said otherwise."""
        with socket.socket(
            socket.AF_INET if self.family == 4 else socket.AF_INET6, socket.SOCK_RAW, protocol
        ) as opened:
            opened.setsockopt(*TRANSPARENT[self.family], 1)
            opened.bind((source or ONE[self.family], 0))
            opened.sendto(_header(protocol, sport, port, flags), (to or OTHER[self.family], 0))


def _header(protocol: Protocol, sport: int, port: int, flags: int) -> bytes:
    if protocol == Protocol.TCP:
        return struct.pack(">HHIIBBHHH", sport, port, 1, 1, 5 << 4, flags, 1024, 0, 0)
    return struct.pack(">HHHH", sport, port, 8, 0) + (bytes(4) if protocol == Protocol.SCTP else b"")


@pytest.fixture(
    params=[Node(*each) for each in itertools.product(HERE, (4, 6))], ids=lambda node: f"{node[0]}-{node[1]}"
)
def node(netns: None, request: pytest.FixtureRequest) -> Node:
    for address in (ONE, OTHER):
        sh(f"ip address add {address[4]}/32 dev lo && ip address add {address[6]}/128 dev lo nodad")
    found: Node = request.param
    return found


def packed(text: str) -> bytes:
    return ip_address(text).packed


def test_a_packet_is_counted_at_its_member_once_and_by_one_rule(node: Node) -> None:
    """Of each rule that matches the set only the one counts that is not told otherwise."""
    name = FIREWALL_SETS + "isolated"
    node.sets(isolated="hash:ip counters")
    member = SetMember(name, SetEntry(packed(ONE[node.family])))
    members = Members(FIREWALL_SETS, counting=[name])
    wanted: dict[SetMember, MemberValue] = {
        member: None,
        SetMember(name, SetEntry(packed(STRANGER[node.family]))): None,
    }
    assert members.apply(Plan(add=wanted)) == {}
    silent = f"-m set --match-set {name} src ! --update-counters"
    node.stand({
        HOOK: (f"-p udp -j {PODS}",),
        PODS: (f"-m set ! --match-set {name} src ! --update-counters -j RETURN", silent, f"{silent} -j {REFUSE}"),
        REFUSE: (f"-m set --match-set {name} src",),
    })  # fmt: skip
    node.send(Protocol.UDP, 80)
    node.send(Protocol.UDP, 80)
    node.send(Protocol.UDP, 80, source=OTHER[node.family], to=ONE[node.family])
    assert node.hits(PODS) == [1, 2, 2]
    assert {each: packets for each, (packets, _) in members.counters([name]).items()} == {
        **dict.fromkeys(wanted, 0),
        member: 2,
    }
    members.close()


@pytest.mark.parametrize("protocol", Protocol)
def test_multiport_takes_ports_and_ranges_of_each_protocol(node: Node, protocol: Protocol) -> None:
    node.stand({
        HOOK: (f"-p {protocol.name.lower()} --source {ONE[node.family]} -j {PODS}",),
        PODS: (f"-p {protocol.name.lower()} -m multiport --dports 80,8000:9000,53",),
    })  # fmt: skip
    matching = (80, 53, 8000, 8500, 9000)
    for port in (*matching, 79, 7999, 9001):
        node.send(protocol, port)
    assert node.hits(PODS) == [len(matching)]
    assert node.hits(HOOK) == [len(matching) + 3]


def test_what_a_guard_returns_goes_on_behind_the_last_jump(node: Node) -> None:
    """Never behind the goto: so one guard judges a packet, though there be others that would."""
    node.stand({
        HOOK: (f"-p udp -j {PODS}",),
        PODS: (f"-j {FROM}", f"-j {TO}"),
        FROM: (f"-g {GUARD}", "-j DROP"),
        GUARD: ("-p udp -m multiport --dports 80 -j RETURN", f"-g {REFUSE}"),
        TO: ("-m comment --comment counts",),
        REFUSE: ("-j DROP",),
    })  # fmt: skip
    node.send(Protocol.UDP, 80)
    assert (node.hits(FROM), node.hits(TO), node.hits(REFUSE)) == ([1, 0], [1], [0])
    with pytest.raises(PermissionError):
        node.send(Protocol.UDP, 81)
    assert (node.hits(FROM), node.hits(TO), node.hits(REFUSE)) == ([2, 0], [1], [1])


def test_a_tcp_connection_begins_with_syn_alone(node: Node) -> None:
    node.stand({HOOK: (f"-p tcp -s {ONE[node.family]} -j {PODS}",), PODS: ("-p tcp --syn", "-p tcp ! --syn")})
    for flags in (SYN, SYN_ACK, ACK, ACK):
        node.send(Protocol.TCP, 80, flags=flags)
    assert node.hits(PODS) == [1, 3]


def test_a_cut_flow_is_known_by_its_server_port_and_client(node: Node) -> None:
    node.sets(cut="hash:ip,port,ip")
    name = FIREWALL_SETS + "cut"
    members = Members(FIREWALL_SETS)
    entry = SetEntry(packed(ONE[node.family]), Protocol.TCP, 80, packed(OTHER[node.family]))
    assert members.apply(Plan(add={SetMember(name, entry): None})) == {}
    members.close()
    node.stand({HOOK: (f"-s {ONE[node.family]} -j {PODS}",), PODS: (f"-m set --match-set {name} src,src,dst",)})
    node.send(Protocol.TCP, 40000, sport=80, flags=ACK)
    node.send(Protocol.TCP, 40001, sport=80, flags=ACK)
    assert node.hits(PODS) == [2]
    node.send(Protocol.TCP, 80, sport=81)
    node.send(Protocol.UDP, 40000, sport=80)
    node.send(Protocol.TCP, 40000, sport=80, to=ONE[node.family])
    assert node.hits(PODS) == [2]


def test_a_pod_to_itself_is_told_by_its_addresses(node: Node) -> None:
    """Differing in any part of the address, they are two."""
    node.stand({HOOK: (f"-p udp --dport 9 -j {PODS}",), PODS: (f'-m bpf --bytecode "{SAME_ADDRESS[node.family]}"',)})
    for address in (ONE[node.family], OTHER[node.family]):
        node.send(Protocol.UDP, 9, source=address, to=address)
    assert node.hits(PODS) == [2]
    one = packed(ONE[node.family])
    for byte in range(0, len(one), 2):
        changed = bytearray(one)
        changed[byte] ^= 1
        node.send(Protocol.UDP, 9, source=str(ip_address(bytes(changed))), to=ONE[node.family])
    assert node.hits(PODS) == [2]
    assert node.hits(HOOK) == [2 + len(one) // 2]


def test_what_this_node_sends_has_a_source_of_its_own(node: Node) -> None:
    """Others' packets come through OUTPUT too: ip_vs sends them there."""
    node.stand({HOOK: (f"-p udp --dport 9 -j {PODS}",), PODS: ("-m addrtype --src-type LOCAL -j RETURN", "-j DROP")})
    node.send(Protocol.UDP, 9)
    with pytest.raises(PermissionError):
        node.send(Protocol.UDP, 9, source=STRANGER[node.family])
    assert node.hits(PODS) == [1, 1]


def test_what_is_refused_hears_it_at_once(node: Node) -> None:
    node.stand({HOOK: (f"-s {ONE[node.family]} ! -p ipv6-icmp -j {REFUSE}",), REFUSE: (REJECT[node.family],)})
    family = socket.AF_INET if node.family == 4 else socket.AF_INET6
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(family, kind) as server, socket.socket(family, kind) as client:
            server.bind((OTHER[node.family], 8080))
            client.bind((ONE[node.family], 0))
            client.settimeout(30)
            with pytest.raises(ConnectionRefusedError):
                client.connect((OTHER[node.family], 8080))
                with contextlib.suppress(PermissionError):  # who sends from this node hears of it twice
                    client.send(b"?")
                client.recv(1)


@pytest.fixture
def log() -> Iterator[socket.socket]:
    """A listener of NFLOG group 100, as ulogd2 and tcpdump are (include/uapi/linux/netfilter/nfnetlink_log.h)."""
    kind, group = 4 << 8 | 1, struct.pack(">BBH", 0, 0, 100)  # NFNL_SUBSYS_ULOG, NFULNL_MSG_CONFIG
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as opened:
        opened.bind((0, 0))
        opened.settimeout(30)
        for part in (
            netlink.u8(1, 1),  # NFULA_CFG_CMD: NFULNL_CFG_CMD_BIND
            netlink.attribute(2, struct.pack(">IBB", 0xFFFF, 2, 0)),  # NFULA_CFG_MODE: NFULNL_COPY_PACKET
            netlink.be32(5, 1),  # NFULA_CFG_QTHRESH: none is held back
        ):
            opened.send(netlink.message(kind, netlink.NLM_F_ACK, group, part))
            assert struct.unpack_from("=i", opened.recv(4096), 16) == (0,)
        yield opened


def test_refused_packets_are_logged_and_not_too_many(node: Node, log: socket.socket) -> None:
    limited = "-m limit --limit 10/minute --limit-burst 10 -j NFLOG --nflog-group 100"
    node.stand({HOOK: (f"-p udp --dport 9 -j {REFUSE}",), REFUSE: (limited, "-j DROP")})
    for _ in range(30):
        with pytest.raises(PermissionError):
            node.send(Protocol.UDP, 9)
    logged, dropped = node.hits(REFUSE)
    assert dropped == 30
    assert 10 <= logged < 30
    for _ in range(logged):
        message = log.recv(1 << 16)
        payload = bytes(netlink.attributes(memoryview(message), 20)[9])  # NFULA_PAYLOAD: the packet
        assert packed(ONE[node.family]) + packed(OTHER[node.family]) in payload
