"""ipsets and their members against the real kernel; `ipset save` is the witness. Runs in any network namespace."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address, ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kuberouter_py.kernel.ipset import Members, Sets
from kuberouter_py.model.kernel import NOMATCH, IpSet, MemberValue, SetEntry, SetMember
from kuberouter_py.model.names import BALANCING_MARKS, balancing_mark
from kuberouter_py.model.notation_sets import entry_text, set_text
from kuberouter_py.ports import Plan
from tests.kernel.exam import bring, check_parts, difference, settle, sh

pytestmark = pytest.mark.usefixtures("netns")

PREFIX = "krpy-svc-"
IP4, IP6 = PREFIX + "ip-4", PREFIX + "ip-6"
PORT4, PORT6 = PREFIX + "port-4", PREFIX + "port-6"
HAIRPIN4, HAIRPIN6 = PREFIX + "hairpin-4", PREFIX + "hairpin-6"
NET4, NET6 = PREFIX + "net-4", PREFIX + "net-6"
SOURCES4, SOURCES6 = PREFIX + "sources-4", PREFIX + "sources-6"
MARKS4, MARKS6 = PREFIX + "marks-4", PREFIX + "marks-6"
COUNTED4, COUNTED6 = PREFIX + "counted-4", PREFIX + "counted-6"
EVERY_KIND = {
    IP4: IpSet("hash:ip", 4),
    IP6: IpSet("hash:ip", 6),
    PORT4: IpSet("hash:ip,port", 4),
    PORT6: IpSet("hash:ip,port", 6, maxelem=1234),
    HAIRPIN4: IpSet("hash:ip,port,ip", 4),
    HAIRPIN6: IpSet("hash:ip,port,ip", 6),
    NET4: IpSet("hash:net", 4),
    NET6: IpSet("hash:net", 6),
    SOURCES4: IpSet("hash:ip,port,net", 4),
    SOURCES6: IpSet("hash:ip,port,net", 6),
    MARKS4: IpSet("hash:ip,port skbinfo", 4),
    MARKS6: IpSet("hash:ip,port skbinfo", 6),
    COUNTED4: IpSet("hash:ip counters", 4),
    COUNTED6: IpSet("hash:ip counters", 6),
}


def ip(text: str) -> SetEntry:
    return SetEntry(ip_address(text).packed)


def port(text: str, protocol: int, number: int) -> SetEntry:
    return SetEntry(ip_address(text).packed, protocol, number)


def hairpin(text: str, protocol: int, number: int) -> SetEntry:
    packed = ip_address(text).packed
    return SetEntry(packed, protocol, number, packed)


def net(text: str) -> SetEntry:
    network = ip_network(text)
    return SetEntry(network.network_address.packed, prefix=network.prefixlen)


def ip_network_around(text: str) -> SetEntry:
    return net(str(ip_network(text).supernet()))


def source(text: str, protocol: int, number: int, allowed: str) -> SetEntry:
    network = ip_network(allowed)
    return SetEntry(ip_address(text).packed, protocol, number, network.network_address.packed, network.prefixlen)


def of(name: str, *entries: SetEntry) -> dict[SetMember, MemberValue]:
    return {SetMember(name, entry): None for entry in entries}


MEMBERS = {
    **of(IP4, ip("10.96.0.1"), ip("255.255.255.255")),
    **of(IP6, ip("fd00::1")),
    **of(PORT4, port("10.96.0.1", 6, 80), port("10.96.0.1", 17, 80), port("10.96.0.1", 132, 65535)),
    **of(PORT6, port("fd00::1", 6, 80), port("fd00::1", 17, 80), port("fd00::1", 132, 65535)),
    **of(HAIRPIN4, hairpin("10.244.1.2", 6, 8080), SetEntry(b"\n\0\0\1", 17, 1, b"\n\0\0\2")),
    **of(HAIRPIN6, hairpin("fd00:1::2", 132, 8080)),
    **of(NET4, net("10.0.0.0/8"), net("10.96.0.0/12"), net("192.0.2.1/32"), net("128.0.0.0/1")),
    **of(NET6, net("fd00::/8"), net("2000::/3"), net("fd00::1/128")),
    **of(SOURCES4, source("203.0.113.8", 6, 80, "198.51.100.0/24"), source("203.0.113.8", 6, 80, "128.0.0.0/1")),
    **of(SOURCES6, source("2001:db8::8", 17, 53, "2001:db8:f::/48"), source("2001:db8::8", 17, 53, "2001:db8::8/128")),
    SetMember(MARKS4, port("203.0.113.8", 6, 80)): balancing_mark(0),
    SetMember(MARKS4, port("203.0.113.8", 132, 80)): balancing_mark(BALANCING_MARKS - 1),
    SetMember(MARKS4, port("203.0.113.8", 17, 80)): 0,
    SetMember(MARKS6, port("2001:db8::8", 17, 53)): 0xFFFF_FFFF,
    SetMember(NET4, net("10.96.1.0/24")): NOMATCH,
    SetMember(NET6, net("8000::/1")): NOMATCH,
    **of(COUNTED4, ip("10.244.1.2"), ip("10.244.1.3")),
    **of(COUNTED6, ip("fd00:1::2")),
}


@pytest.fixture
def sets(netns: None) -> Iterator[Sets]:
    sets = Sets(PREFIX)
    yield sets
    sets.close()


@pytest.fixture
def members(netns: None) -> Iterator[Members]:
    members = Members(PREFIX, counting=(COUNTED4, COUNTED6))
    yield members
    members.close()


def witness() -> tuple[list[str], list[str]]:
    """What ipset sees: sets without the sizes that the kernel chose, members without the full prefix length."""
    saved = sh("ipset save").splitlines()
    created = [line.split() for line in saved if line.startswith("create ")]
    headers = []
    for words in created:
        drop = {
            at + offset
            for at, word in enumerate(words)
            if word in ("hashsize", "bucketsize", "initval")
            for offset in (0, 1)
        }
        headers.append(" ".join(word for at, word in enumerate(words) if at not in drop))
    added = [line.removeprefix("add ").removesuffix(" packets 0 bytes 0") for line in saved if line.startswith("add ")]
    return sorted(headers), sorted(added)


def texts(members: dict[SetMember, MemberValue]) -> list[str]:
    found = []
    for (name, entry), value in members.items():
        held = "" if value is None else " nomatch" if value is NOMATCH else f" skbmark 0x{value:x}"
        found.append(f"{name} {entry_text(entry).removesuffix('/32').removesuffix('/128')}{held}")
    return sorted(found)


class TestSets:
    def test_every_kind_is_in_the_kernel_as_written(self, sets: Sets) -> None:
        settle(sets, EVERY_KIND)
        assert witness()[0] == sorted(set_text(*each) for each in EVERY_KIND.items())
        settle(sets, {})
        assert witness() == ([], [])

    def test_of_others_are_neither_read_nor_written(self, sets: Sets) -> None:
        sh("ipset create KUBE-CLUSTER-IP hash:ip,port && ipset create krpy-fw-x hash:ip")
        sh("ipset add krpy-fw-x 10.0.0.1 && ipset add KUBE-CLUSTER-IP 10.0.0.1,80")
        before = witness()
        settle(sets, EVERY_KIND)
        assert sets.read().ours.keys() == EVERY_KIND.keys()
        theirs = IpSet("hash:ip", 4)
        assert sets.apply(Plan(remove={"krpy-fw-x": theirs})).keys() == {"krpy-fw-x"}
        assert sets.apply(Plan(add={"KUBE-CLUSTER-IP": theirs})).keys() == {"KUBE-CLUSTER-IP"}
        settle(sets, {})
        assert witness() == before
        with pytest.raises(ValueError, match="prefix"):
            Sets("")

    @pytest.mark.parametrize(
        "other", ["maxelem 10", "timeout 60", "counters", "comment skbinfo", "netmask 24 forceadd", "family inet6"]
    )
    def test_with_other_options_is_replaced(self, sets: Sets, other: str) -> None:
        sh(f"ipset create {IP4} hash:ip {other}")
        assert difference(sets, {IP4: EVERY_KIND[IP4]}).change.keys() == {IP4}
        settle(sets, {IP4: EVERY_KIND[IP4]})
        assert witness()[0] == [set_text(IP4, EVERY_KIND[IP4])]

    def test_replaced_under_its_rule_keeps_its_members(self, sets: Sets, members: Members) -> None:
        sh(f"ipset create {PORT4} hash:ip,port comment timeout 600")
        sh(f"iptables-legacy -A INPUT -m set --match-set {PORT4} dst,dst -j ACCEPT")
        kept = of(PORT4, *(port("10.96.0.1", 6, number) for number in range(1, 1500)))
        assert members.apply(Plan(add=kept)) == {}
        settle(sets, {PORT4: EVERY_KIND[PORT4]})
        assert witness() == ([set_text(PORT4, EVERY_KIND[PORT4])], texts(kept))
        assert f"--match-set {PORT4} " in sh("iptables-legacy -S INPUT")

    def test_in_use_cannot_go_nor_become_another_type(self, sets: Sets) -> None:
        settle(sets, EVERY_KIND)
        sh(f"iptables-legacy -A INPUT -m set --match-set {PORT4} dst,dst -j ACCEPT")
        refused = bring(sets, {PORT4: IpSet("hash:ip", 4)})
        assert refused.keys() == {PORT4} and "in use by a rule" in refused[PORT4].reason
        refused = bring(sets, {})
        assert refused.keys() == {PORT4} and "in use by a rule" in refused[PORT4].reason
        sh("iptables-legacy -F INPUT")
        settle(sets, {})

    def test_leftovers_of_a_replacement_cut_short_do_no_harm(self, sets: Sets, members: Members) -> None:
        settle(sets, EVERY_KIND)
        change = {IP4: (EVERY_KIND[IP4], IpSet("hash:ip", 4, 77))}
        assert sets.apply(Plan(change=change)) == {}
        assert sets.read().ours.keys() == EVERY_KIND.keys()
        spare = PREFIX + "swap-left"
        sh(f"ipset create {spare} hash:net && ipset add {spare} 10.0.0.0/8")
        assert difference(sets, EVERY_KIND).remove.keys() == {spare}
        settle(sets, EVERY_KIND)

    def test_type_that_the_kernel_lacks(self, sets: Sets) -> None:
        refused = bring(sets, {IP4: IpSet("hash:none-such", 4), IP6: EVERY_KIND[IP6]})
        assert refused.keys() == {IP4}
        assert refused[IP4].missing and "ip_set_hash_none-such" in refused[IP4].reason

    def test_name_too_long_or_empty(self, sets: Sets) -> None:
        name = PREFIX + "x" * 23
        assert len(name) == 32
        assert sets.apply(Plan(add={name: EVERY_KIND[IP4]})).keys() == {name}
        assert sets.apply(Plan(remove={name: EVERY_KIND[IP4], "": EVERY_KIND[IP4]})).keys() == {name, ""}


class TestMembers:
    @pytest.fixture(autouse=True)
    def made(self, sets: Sets) -> None:
        settle(sets, EVERY_KIND)

    def test_a_mark_is_changed_in_place(self, members: Members) -> None:
        marked, plain = SetMember(MARKS6, port("fd00::1", 6, 80)), SetMember(PORT6, port("fd00::1", 6, 80))
        for mark in (1, 2, 0, 0xFFFF_FFFF):
            settle(members, {marked: mark, plain: None})
            assert witness()[1] == texts({marked: mark, plain: None})
        refused = members.apply(Plan(add={plain: 1}))
        assert refused.keys() == {plain}, "a set without skbinfo holds no marks"

    def test_a_mark_that_others_gave_less_than_32_bits_is_put_right(self, members: Members) -> None:
        marked = SetMember(MARKS4, port("10.0.0.1", 6, 80))
        sh(f"ipset add {MARKS4} 10.0.0.1,tcp:80 skbmark 0x5/0xff")
        assert members.read().ours == {marked: -1}
        settle(members, {marked: 5})
        assert witness()[1] == texts({marked: 5})

    def test_every_kind_is_in_the_kernel_as_written(self, members: Members) -> None:
        settle(members, MEMBERS)
        assert witness()[1] == texts(MEMBERS)
        later = Members(PREFIX)
        assert later.read().ours == MEMBERS
        assert later.entries(IP6) == [ip("fd00::1")]
        assert later.entries(MARKS6) == [port("2001:db8::8", 17, 53)]
        assert later.entries(PREFIX + "none-such") == []
        settle(later, {})
        assert witness()[1] == []

    def test_of_others_are_neither_read_nor_written(self, members: Members) -> None:
        sh("ipset create krpy-fw-x hash:ip && ipset add krpy-fw-x 10.0.0.1")
        theirs = of("krpy-fw-x", ip("10.0.0.1"))
        settle(members, MEMBERS)
        assert not theirs.keys() & members.read().ours.keys()
        assert members.apply(Plan(add=of("krpy-fw-x", ip("10.0.0.2")), remove=theirs)).keys() == {
            *theirs, *of("krpy-fw-x", ip("10.0.0.2")),
        }  # fmt: skip
        settle(members, {})
        assert witness()[1] == texts(theirs)

    def test_many_take_few_messages(self, members: Members) -> None:
        many = of(PORT4, *(SetEntry(bytes((10, 96, i >> 8, i & 255)), 6, 80 + i % 9) for i in range(10_000)))
        many |= of(HAIRPIN6, *(hairpin(f"fd00:1::{i:x}", 17, 53) for i in range(2_000)))
        before = members.sent
        assert members.apply(Plan(add=many)) == {}
        assert members.sent - before == 25 + 5
        assert members.read().ours == many
        before = members.sent
        assert members.apply(Plan(remove=of(HAIRPIN6, hairpin("fd00:1::5", 17, 53)))) == {}
        assert members.sent - before == 1
        assert members.apply(Plan(add=many)) == {}
        assert members.apply(Plan(remove=many)) == {}
        assert members.apply(Plan(remove=many)) == {}
        assert members.read().ours == {}

    def test_a_set_found_short_is_refilled(self, members: Members) -> None:
        settle(members, MEMBERS)
        sh(f"ipset flush {PORT4} && ipset del {NET4} 10.0.0.0/8 && ipset add {NET4} 11.0.0.0/8")
        settle(members, MEMBERS)
        assert witness()[1] == texts(MEMBERS)

    def test_a_set_with_options_or_exceptions_is_read_all_the_same(self, members: Members) -> None:
        sh(f"ipset create {PREFIX}odd hash:ip,port comment counters timeout 600")
        sh(f"ipset add {PREFIX}odd 10.0.0.1,80 comment one && ipset add {PREFIX}odd 10.0.0.2,udp:53")
        sh(f"ipset add {NET4} 10.0.0.0/8 && ipset add {NET4} 10.1.0.0/16 nomatch")
        assert members.read().ours == {
            **of(PREFIX + "odd", port("10.0.0.1", 6, 80), port("10.0.0.2", 17, 53)),
            **of(NET4, net("10.0.0.0/8")),
            SetMember(NET4, net("10.1.0.0/16")): NOMATCH,
        }

    @pytest.mark.parametrize(("name", "network"), [(NET4, "10.0.0.0/9"), (NET6, "fd00::/9")])
    def test_a_network_becomes_an_exception_and_back_in_place(self, members: Members, name: str, network: str) -> None:
        around = of(name, ip_network_around(network))
        for value in (None, NOMATCH, None, NOMATCH):
            wanted = {**around, SetMember(name, net(network)): value}
            settle(members, wanted)
            assert witness()[1] == texts(wanted)
        within = SetMember(name, ip(str(ip_network(network).network_address + 1)))
        outside = SetMember(name, ip(str(ip_network(network).broadcast_address + 1)))
        assert members.holds([within, outside]) == [outside]

    def test_what_a_set_cannot_hold_harms_no_other_member(self, members: Members) -> None:
        bad = SetMember(IP4, ip("10.0.0.2"))
        wanted = of(IP4, ip("10.0.0.1"), ip("10.0.0.3"))
        assert members.apply(Plan(add={**wanted, bad: NOMATCH})).keys() == {bad}
        assert members.read().ours == wanted

    def test_what_is_counted_is_told_and_no_difference(self, members: Members) -> None:
        wanted = of(COUNTED4, ip("127.0.0.1"), ip("10.0.0.9")) | of(COUNTED6, ip("::1"))
        settle(members, wanted)
        assert members.counters([COUNTED4, COUNTED6]) == dict.fromkeys(wanted, (0, 0))
        sh(f"iptables-legacy -A OUTPUT -p udp -m set --match-set {COUNTED4} src")
        sh(f"ip6tables-legacy -A OUTPUT -p udp -m set --match-set {COUNTED6} src")
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family, socket.SOCK_DGRAM) as opened:
                opened.sendto(b"ten bytes.", (address, 9))
        counted = dict.fromkeys(wanted, (0, 0)) | {
            SetMember(COUNTED4, ip("127.0.0.1")): (2, 2 * 38), SetMember(COUNTED6, ip("::1")): (1, 58),
        }  # fmt: skip
        assert members.counters([COUNTED4, COUNTED6, IP4, PREFIX + "none-such"]) == counted
        assert members.read().ours == wanted
        check_parts(members)
        assert members.apply(Plan(add=wanted | of(COUNTED4, ip("10.0.0.10")))) == {}
        assert members.counters([COUNTED4, COUNTED6]) == {**counted, SetMember(COUNTED4, ip("10.0.0.10")): (0, 0)}

    def test_a_new_member_takes_over_no_counters_of_one_that_went(self, members: Members) -> None:
        """It may come to lie where that one lay."""
        old = of(COUNTED4, *(ip(f"10.0.{i // 250}.{i % 250}") for i in range(2000)))
        new = of(COUNTED4, *(ip(f"10.1.{i // 250}.{i % 250}") for i in range(2000)))
        adds = "".join(f"add {name} {entry_text(entry)} packets 7 bytes 700\n" for name, entry in old)
        sh("ipset restore", adds)
        going = dict(list(old.items())[:1500])
        assert members.apply(Plan(remove=going)) == {}
        assert members.apply(Plan(add=new | old)) == {}
        assert {
            m for m, counted in members.counters([COUNTED4]).items() if counted != (0, 0)
        } == old.keys() - going.keys()


class TestRefusedMembers:
    def test_one_of_many_harms_nobody(self, sets: Sets, members: Members) -> None:
        settle(sets, EVERY_KIND)
        wanted = of(NET4, *(net(f"10.{i >> 8}.{i & 255}.0/24") for i in range(2000)))
        everything = SetMember(NET4, SetEntry(bytes(4), prefix=0))
        position = list(wanted)
        for bad in (
            everything,
            SetMember(NET4, SetEntry(bytes(4), prefix=33)),
            SetMember(NET4, SetEntry(b"odd", prefix=8)),
        ):
            position.insert(777, bad)
        position.append(SetMember(NET4, SetEntry(bytes(16), prefix=8)))
        refused = members.apply(Plan(add=dict.fromkeys(position)))
        assert refused.keys() == set(position) - wanted.keys()
        assert refused[everything].reason == f"add {NET4} 0.0.0.0/0: invalid prefix length"
        assert members.read().ours == wanted

    def test_missing_set(self, sets: Sets, members: Members) -> None:
        settle(sets, {IP6: EVERY_KIND[IP6]})
        wanted = of(IP4, ip("10.0.0.1"), ip("10.0.0.2")) | of(IP6, ip("fd00::1"))
        refused = bring(members, wanted)
        assert refused.keys() == of(IP4, ip("10.0.0.1"), ip("10.0.0.2")).keys()
        assert {each.reason for each in refused.values()} == {f"set {IP4} is missing"}
        assert members.apply(Plan(remove=of(IP4, ip("10.0.0.1")))) == {}

    def test_full_set(self, sets: Sets, members: Members) -> None:
        settle(sets, {IP4: IpSet("hash:ip", 4, maxelem=64)})
        wanted = of(IP4, *(ip(f"10.0.{i >> 8}.{i & 255}") for i in range(600)))
        refused = members.apply(Plan(add=wanted))
        assert {each.reason.split(": ")[1] for each in refused.values()} == {"the set is full (maxelem)"}
        there = members.read().ours
        assert there.keys() == wanted.keys() - refused.keys() and len(there) >= 64
        # What is there counts as done although the set is full; what goes makes room for what comes, in one plan.
        new = of(IP4, *(ip(f"10.1.0.{i}") for i in range(50)))
        assert members.apply(Plan(add={**there, **new}, remove={})).keys() == new.keys()
        assert members.apply(Plan(add=new, remove=there)) == {}
        assert members.read().ours == new


_protocols, _ports = st.sampled_from((6, 17, 132)), st.integers(0, 65535)
# Newer kernels refuse the unspecified address in some types (6.18 does, 6.1 does not).
_ip4, _ip6 = (st.binary(min_size=size, max_size=size).filter(any) for size in (4, 16))
_entries = {
    IP4: _ip4.map(SetEntry),
    PORT6: st.tuples(_ip6, _protocols, _ports).map(lambda parts: SetEntry(*parts)),
    HAIRPIN4: st.tuples(_ip4, _protocols, _ports, _ip4).map(lambda parts: SetEntry(*parts)),
    NET6: st.tuples(st.integers(0, (1 << 128) - 1), st.integers(1, 128)).map(
        lambda parts: net(f"{IPv6Address(parts[0] >> (128 - parts[1]) << (128 - parts[1]))}/{parts[1]}")
    ),
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_members_follow_any_others(sets: Sets, members: Members, data: st.DataObject) -> None:
    settle(sets, {name: EVERY_KIND[name] for name in _entries})
    wanted: dict[SetMember, MemberValue] = {}
    for name, entries in _entries.items():
        wanted |= of(name, *data.draw(st.sets(entries, max_size=20)))
    settle(members, wanted)
