"""Policy rules for this node's pods, against the real kernel; `ip rule` and `ip route get` are the witnesses."""

from __future__ import annotations

import pytest

from kuberouter_py.kernel.diversions import Diversions
from kuberouter_py.kernel.lookup_rules import BROKEN, LookupRules
from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch
from kuberouter_py.model import notation
from kuberouter_py.model.kernel import Diversion
from kuberouter_py.model.podnet import LookupRule
from kuberouter_py.model.values import parse_cidr
from kuberouter_py.ports import Plan
from tests.kernel.exam import bring, settle, sh

PODS = {4: "10.244.1.0/24", 6: "fd00:10:244:1::/64"}
POD = {4: "10.244.1.7", 6: "fd00:10:244:1::7"}
FAR = {4: "198.51.100.7", 6: "2001:db8:99::7"}
MARKS = Diversion(0x4000_0000, 0xC00F_FF00)

pytestmark = pytest.mark.usefixtures("netns")
by_family = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def rules(batch: Batch) -> LookupRules:
    return LookupRules(batch)


def key(cidr: str) -> LookupRule:
    return LookupRule(*parse_cidr(cidr))


def everything() -> str:
    return sh("ip rule show; ip -6 rule show")


WANTED = {key(cidr): 160 for cidr in PODS.values()}


def test_pods_look_there_and_nobody_else_does(rules: LookupRules) -> None:
    before = everything()
    sh("echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
    settle(rules, WANTED)
    assert f"15810:\tfrom {PODS[4]} lookup 160 proto 158" in everything()
    for family in (4, 6):
        sh(f"""ip link add up{family} type dummy; ip link set up{family} up
               ip -{family} route add {FAR[family]} dev up{family} table 160
               ip link add pods{family} type dummy; ip link set pods{family} up
               ip -{family} route add {PODS[family]} dev pods{family}""")
        got = sh(f"ip -{family} route get {FAR[family]} from {POD[family]} iif pods{family} 2>&1 || true")
        assert f"dev up{family} table 160" in got
        assert "nreachable" in sh(f"ip -{family} route get {FAR[family]} 2>&1 || true")
    settle(rules, {})
    assert everything() == before


@by_family
def test_every_source(rules: LookupRules, family: int) -> None:
    wanted = {LookupRule(bytes(4 if family == 4 else 16), 0): 160}
    settle(rules, wanted)
    assert "from all lookup 160" in everything()
    settle(rules, {})


@by_family
def test_another_table_comes_before_the_old_one_goes(rules: LookupRules, family: int) -> None:
    settle(rules, {key(PODS[family]): 160})
    settle(rules, {key(PODS[family]): 161})
    assert "lookup 161" in everything() and "lookup 160" not in everything()


@by_family
@pytest.mark.parametrize(
    "harm",
    [
        "from {cidr} lookup 160 pref 15811",
        "from {cidr} lookup 160 pref 15810 fwmark 7",
        "from {cidr} lookup 99 pref 15810",
    ],
)
def test_damage_shows_and_is_repaired(rules: LookupRules, family: int, harm: str) -> None:
    before = everything()
    settle(rules, {key(PODS[family]): 160})
    right = everything()
    sh(f"ip -{family} rule add protocol 158 {harm.format(cidr=PODS[family])}")
    assert rules.read().ours == {key(PODS[family]): BROKEN}
    settle(rules, {key(PODS[family]): 160})
    assert everything() == right
    sh(f"ip -{family} rule add protocol 158 {harm.format(cidr=PODS[family])}")
    settle(rules, {})
    assert everything() == before


@by_family
def test_rules_of_others_stay(rules: LookupRules, batch: Batch, family: int) -> None:
    diversions = Diversions(batch)
    settle(diversions, {4: MARKS, 6: MARKS})
    sh(f"""ip -{family} rule add from {PODS[family]} lookup 160 pref 99
           ip -{family} rule add from {PODS[family]} lookup 77 pref 15810""")
    before = everything()
    settle(rules, WANTED)
    assert diversions.read().ours == {4: MARKS, 6: MARKS}
    settle(diversions, {})
    assert rules.read().ours == WANTED
    settle(diversions, {4: MARKS, 6: MARKS})
    settle(rules, {})
    assert sorted(everything().splitlines()) == sorted(before.splitlines())


@by_family
def test_somebody_has_the_very_rule(rules: LookupRules, family: int) -> None:
    sh(f"ip -{family} rule add from {PODS[family]} lookup 160 pref 15810 protocol static")
    before = everything()
    refused = bring(rules, {key(PODS[family]): 160})
    assert {one.reason for one in refused.values()} <= {f"rule from {PODS[family]}: somebody else has this very rule"}
    settle(rules, {})
    assert everything() == before


def test_a_later_process_knows_them(rules: LookupRules) -> None:
    settle(rules, WANTED)
    batch = Batch(NETLINK_ROUTE, strict=True)
    later = LookupRules(batch)
    assert later.read().ours == WANTED
    assert later.apply(Plan(remove=WANTED)) == {}
    assert later.apply(Plan(remove=WANTED)) == {}
    batch.close()
    assert rules.read().ours == {}


def test_what_plan_prints_does_the_same(rules: LookupRules) -> None:
    other = dict.fromkeys(WANTED, 161)
    plans: list[tuple[Plan[LookupRule, int], dict[LookupRule, int]]] = [
        (Plan(add=WANTED), WANTED),
        (Plan(change=dict.fromkeys(WANTED, (160, 161))), other),
        (Plan(remove=other), {}),
    ]
    for plan, left in plans:
        for line in notation.lines({LookupRules.name: plan}):
            sh(line)
        assert rules.read().ours == left
