"""Our rules are read as the kernel reads them. That all we write can be read is the law that keeps `explain` true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from kuberouter_py.config import Config
from kuberouter_py.controllers.matches import Packet
from kuberouter_py.controllers.reading import Passage, pass_hook
from kuberouter_py.controllers.services.chains import chains
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model.bytecode import SAME_ADDRESS
from kuberouter_py.model.kernel import Chain, Protocol, SetEntry
from tests.fakes.objects import cidr, packed
from tests.fakes.rules import understands

CONFIGS = [
    Config(),
    Config(masquerade_all=True),
    Config(ipvs_permit_all=False),
    Config(excluded_cidrs=(cidr("10.96.9.0/24"), cidr("fd00:96::9/128"))),
]
VIEWS = [
    NodeView("n1"),
    NodeView("n1", direct_return=True, allocated_cidrs=(cidr("10.96.0.0/16"), cidr("fd00:96::/112"))),
    NodeView("n1", detector="NodeCIDR", detector_cidrs=(cidr("10.244.1.0/24"), cidr("fd00:244:1::/64"))),
    NodeView("n1", detector="InterfaceNamePrefix", detector_interface="veth+"),
    NodeView("n1", primary={6: packed("fd00::1")}, local={packed("fd00::1"): "eth0"}),
]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("family", [4, 6])
def test_every_rule_of_ours_is_understood(config: Config, view: NodeView, family: int) -> None:
    rules = [rule for _, content in chains(config, view, family) for rule in content.rules]
    assert [rule for rule in rules if not understands(rule)] == []


class Tables:
    def __init__(
        self,
        rules: Mapping[str, Sequence[str]],
        sets: Mapping[str, set[SetEntry]] | None = None,
        marks: Mapping[SetEntry, int] | None = None,
    ) -> None:
        self._rules, self._sets, self._marks = rules, sets or {}, marks or {}

    def rules(self, chain: Chain) -> Sequence[str]:
        return self._rules.get(chain.chain, ())

    def holds(self, name: str, entry: SetEntry) -> bool:
        return entry in self._sets.get(name, set())

    def mark_of(self, name: str, entry: SetEntry) -> int:
        return self._marks.get(entry, 0)

    def is_local(self, address: bytes) -> bool:
        return address == packed("192.0.2.1")


PACKET = Packet(packed("10.0.0.1"), packed("192.0.2.1"), Protocol.TCP, 80, incoming="eth0")
FRONTEND = SetEntry(packed("192.0.2.1"), Protocol.TCP, 80)


def passed(*rules: str, packet: Packet = PACKET, tables: Tables | None = None) -> Passage:
    return pass_hook(tables or Tables({"PREROUTING": rules}), packet, "PREROUTING", ("mangle",))


@pytest.mark.parametrize(
    ("match", "met"),
    [
        ("", True),
        ("-s 10.0.0.0/8", True),
        ("-s 11.0.0.0/8,10.0.0.1", True),
        ("! -s 10.0.0.0/8", False),
        ("-d 192.0.2.0/24 -p tcp -m tcp --dport 80", True),
        ("-p udp -m udp --dport 80", False),
        ("-p tcp -m tcp --dport 81:90", False),
        ("-i eth0", True),
        ("-i eth+", True),
        ("! -i eth+", False),
        ("-o eth0", False),
        ("-m addrtype --dst-type LOCAL", True),
        ("-m addrtype --src-type LOCAL ! --dst-type LOCAL", False),
        ("-m conntrack --ctstate NEW,UNTRACKED", True),
        ("-m conntrack --ctstate RELATED,ESTABLISHED", False),
        ("-p icmp -m icmp --icmp-type echo-request", False),
        ("-p tcp -m tcp --tcp-flags SYN,RST SYN", True),
        ("-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN", False),
        ("-m mark --mark 0x5", False),
        ("-m connmark --mark 0x0/0x5", True),
        ('-m comment --comment "krpy: two words"', True),
        ("-p tcp -m multiport --dports 79,80", True),
        ("-p tcp -m multiport --dports 22,79:81", True),
        ("-p tcp -m multiport --dports 79,81:90", False),
        ("-p tcp --syn", True),
        ("-p 41 -m addrtype --src-type LOCAL", False),
        ("-m limit --limit 10/minute --limit-burst 10", True),
        (f'-m bpf --bytecode "{SAME_ADDRESS[4]}"', False),
    ],
)
def test_matches(match: str, met: bool) -> None:
    passage = passed(f"{match} -j DROP".lstrip())
    assert (passage.ended == "DROP", passage.unread) == (met, [])


def test_sets_by_direction() -> None:
    hairpin = FRONTEND._replace(address2=packed("10.0.0.1"))
    sets = {"to": {FRONTEND}, "from": {SetEntry(packed("10.0.0.1"))}, "both": {hairpin}}
    for match, ended in (
        ("--match-set to dst,dst", "DROP"),
        ("! --match-set to dst,dst", ""),
        ("--match-set from src", "DROP"),
        ("--match-set both dst,dst,src", "DROP"),
        ("--match-set to src,src", ""),
        ("--match-set gone dst,dst", ""),
    ):
        assert passed(tables=Tables({"PREROUTING": [f"-m set {match} -j DROP"]}, sets)).ended == ended


def test_chains_are_followed_and_returned_from() -> None:
    tables = Tables({
        "PREROUTING": ["-j OURS", "-j DROP"],
        "OURS": ["-s 11.0.0.0/8 -j ACCEPT", "-s 10.0.0.0/8 -j RETURN", "-j REJECT"],
    })  # fmt: skip
    passage = passed(tables=tables)
    assert passage.ended == "DROP"
    assert [met.rule for met in passage.met] == ["-j OURS", "-s 10.0.0.0/8 -j RETURN", "-j DROP"]


def test_what_a_goto_leads_to_returns_past_the_chain_with_the_goto() -> None:
    tables = Tables({
        "PREROUTING": ["-j OURS", "-s 10.0.0.0/8 -j DROP"],
        "OURS": ["-g GUARD", "-j REJECT"],
        "GUARD": ["-p tcp -j RETURN", "-j REJECT"],
    })  # fmt: skip
    passage = passed(tables=tables)
    assert passage.ended == "DROP"
    assert [(met.chain.chain, met.number) for met in passage.met] == [
        ("PREROUTING", 1), ("OURS", 1), ("GUARD", 1), ("PREROUTING", 2),
    ]  # fmt: skip


def test_a_set_is_the_same_match_whether_it_counts_or_not() -> None:
    sets = {"here": {SetEntry(packed("10.0.0.1"))}}
    for match, ended in (
        ("--match-set here src ! --update-counters", "DROP"),
        ("! --match-set here src ! --update-counters", ""),
        ("! --match-set here dst ! --update-counters -p tcp", "DROP"),
    ):
        assert passed(tables=Tables({"PREROUTING": [f"-m set {match} -j DROP"]}, sets)).ended == ended


def test_a_rule_without_a_target_only_counts() -> None:
    passage = passed("-p tcp", "-j DROP")
    assert (passage.ended, [met.rule for met in passage.met]) == ("DROP", ["-p tcp", "-j DROP"])


def test_source_and_destination_the_same() -> None:
    to_itself = Packet(packed("fd00::1"), packed("fd00::1"), Protocol.TCP, 80)
    assert passed(f'-m bpf --bytecode "{SAME_ADDRESS[6]}" -j DROP', packet=to_itself).ended == "DROP"


def test_marks_are_set_and_read() -> None:
    tables = Tables(
        {
            "PREROUTING": [
                "-j CONNMARK --set-xmark 0x2000000/0x2000000",
                "-j SET --map-set marks dst,dst --map-mark",
                "-m connmark --mark 0x2000000/0x2000000 -m mark --mark 0x40000005 -j DROP",
            ]
        },
        marks={FRONTEND: 0x4000_0005},
    )
    assert passed(tables=tables).ended == "DROP"
    assert passed("-j MARK --set-xmark 0x5/0xffffffff", "-j MARK --set-xmark 0x0/0x1").packet.mark == 4


def test_what_is_not_understood_is_said_and_taken_as_not_met() -> None:
    passage = passed(
        "-m statistic --mode random -j DROP",
        "-j MARK --or-mark 0x1",
        "-p tcp -j",
        '-m bpf --bytecode "1,6 0 0 1" -j DROP',
    )
    assert (passage.ended, passage.met) == ("", [])
    assert [met.number for met in passage.unread] == [1, 2, 3, 4]
