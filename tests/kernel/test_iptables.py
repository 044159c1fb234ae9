"""Our chains and jumps against the real iptables, for every flavour that this kernel has."""

from __future__ import annotations

import fcntl
import itertools
import re
import threading
from pathlib import Path

import pytest

from kuberouter_py.kernel import command, iptables
from kuberouter_py.kernel.iptables import Chains
from kuberouter_py.kernel.iptables_flavours import Flavour, nf_tables_lacks
from kuberouter_py.kernel.iptables_text import target
from kuberouter_py.model.kernel import Chain, Rules
from kuberouter_py.ports import Plan, Unavailable
from tests.kernel.exam import bring, difference, settle, sh

PREFIX, FIREWALL = "KRPY-SVC-", "KRPY-FW-"
HERE: list[Flavour] = ["legacy"] if nf_tables_lacks(4) else ["legacy", "nft"]

pytestmark = pytest.mark.usefixtures("netns")


def wanted(family: int = 4) -> dict[Chain, Rules]:
    nat, masquerade, guard = (PREFIX + name for name in ("NAT", "MASQ", "INPUT"))
    return {
        Chain(family, "nat", nat): Rules((
            "-p tcp -m tcp --dport 80 -j CONNMARK --set-xmark 0x1000000/0x1000000",
            f"-p udp -j {masquerade}",
            "-j ACCEPT",
        )),
        Chain(family, "nat", masquerade): Rules(("-m connmark --mark 0x1000000/0x1000000 -j RETURN",)),
        Chain(family, "filter", guard): Rules(("-m conntrack --ctstate NEW,UNTRACKED -j REJECT",)),
        Chain(family, "nat", "PREROUTING"): Rules((f"-j {nat}",)),
        Chain(family, "nat", "OUTPUT"): Rules((f"-j {nat}",)),
        Chain(family, "filter", "INPUT"): Rules((f"-m conntrack --ctstate RELATED -j {guard}", f"-j {guard}")),
    }  # fmt: skip


def both_families() -> dict[Chain, Rules]:
    return {**wanted(4), **wanted(6)}


def saved(flavour: str, family: int = 4) -> str:
    """iptables-save without comments and counters, of tables that hold anything."""
    stem = "iptables" if family == 4 else "ip6tables"
    lines = sh(f"{stem}-{flavour}-save 2>/dev/null").splitlines()
    return "\n".join(line.split(" [")[0] for line in lines if not line.startswith("#"))


def rules_of(flavour: str, table: str, chain: str) -> list[str]:
    return sh(f"iptables-{flavour} -t {table} -S {chain} 2>/dev/null").splitlines()[1:]


@pytest.fixture(params=HERE)
def flavour(request: pytest.FixtureRequest) -> Flavour:
    found: Flavour = request.param
    return found


@pytest.fixture
def chains(flavour: Flavour) -> Chains:
    return Chains(PREFIX, flavour)


def test_writes_reads_back_and_removes_all(chains: Chains, flavour: Flavour) -> None:
    settle(chains, both_families())
    assert rules_of(flavour, "nat", "OUTPUT")[0].endswith(f"-j {PREFIX}NAT")
    assert len(rules_of(flavour, "nat", PREFIX + "NAT")) == 3
    settle(chains, {})
    for family in (4, 6):
        assert PREFIX not in saved(flavour, family)


def test_a_process_without_memory_finds_it_as_wanted(chains: Chains, flavour: Flavour) -> None:
    settle(chains, both_families())
    assert chains.read().ours == Chains(PREFIX, flavour).read().ours
    assert not difference(Chains(PREFIX, flavour), both_families())


def test_words_for_the_reader_stand_behind_the_mark(chains: Chains, flavour: Flavour) -> None:
    key = Chain(4, "filter", PREFIX + "WORDS")
    rules = {key: Rules(('-m comment --comment "shop/web, shop/db and 3 more" -p tcp -j RETURN', "-j RETURN"))}
    settle(chains, rules)
    told, _ = rules_of(flavour, "filter", key.chain)
    assert re.search(r'--comment "krpy:[0-9a-f]{12} shop/web, shop/db and 3 more" ', told)
    assert not difference(Chains(PREFIX, flavour), rules)


def test_a_changed_rule_is_written(chains: Chains) -> None:
    settle(chains, wanted())
    key = Chain(4, "nat", PREFIX + "MASQ")
    changed = {**wanted(), key: Rules(("-j RETURN",))}
    assert list(difference(chains, changed).change) == [key]
    settle(chains, changed)


SABOTAGE = {
    "flushed": "iptables-{0} -t nat -F",
    "a rule deleted": f"iptables-{{0}} -t nat -D {PREFIX}NAT 2",
    "the last rule deleted": f"iptables-{{0}} -t nat -D {PREFIX}NAT 3",
    "a foreign rule in our chain": f"iptables-{{0}} -t nat -I {PREFIX}NAT 2 -j RETURN",
    "a rule moved": f"iptables-{{0}} -t nat -D {PREFIX}NAT 1; iptables-{{0}} -t nat -A {PREFIX}NAT -p tcp -j RETURN",
    "a jump deleted": "iptables-{0} -t nat -D OUTPUT 1",
    "a jump pushed down": "iptables-{0} -t nat -I PREROUTING -p tcp --dport 1 -j ACCEPT",
    "something between two jumps": "iptables-{0} -I INPUT 2 -p tcp --dport 1 -j ACCEPT",
    "a jump of ours by another hand": f"iptables-{{0}} -t nat -A POSTROUTING -j {PREFIX}MASQ",
    "a jump twice": f"iptables-{{0}} -t nat -A OUTPUT -j {PREFIX}NAT",
    "a chain gone": f"iptables-{{0}} -F INPUT; iptables-{{0}} -F {PREFIX}INPUT; iptables-{{0}} -X {PREFIX}INPUT",
}


@pytest.mark.parametrize("what", SABOTAGE)
def test_sabotage_shows_and_heals(chains: Chains, flavour: Flavour, what: str) -> None:
    assert chains.apply(Plan(add=wanted())) == {}
    sh(SABOTAGE[what].format(flavour))
    plan = difference(chains, wanted())
    assert plan
    assert chains.apply(plan) == {}
    assert not difference(chains, wanted())


def test_other_peoples_rules_stay_as_they_are(chains: Chains, flavour: Flavour) -> None:
    sh(f"""iptables-{flavour} -t nat -N OTHERS; iptables-{flavour} -t nat -A OTHERS -p tcp -j ACCEPT
           iptables-{flavour} -t nat -A PREROUTING -m comment --comment 'krpy: not ours' -j OTHERS
           iptables-{flavour} -t nat -A OUTPUT -j OTHERS; iptables-{flavour} -P FORWARD DROP
           iptables-{flavour} -t mangle -A PREROUTING -j MARK --set-mark 7""")
    settle(chains, wanted())
    assert [rule.split()[-1] for rule in rules_of(flavour, "nat", "PREROUTING")] == [PREFIX + "NAT", "OTHERS"]
    assert len(rules_of(flavour, "nat", "OTHERS")) == 1
    before = saved(flavour)
    sh(f"iptables-{flavour} -t nat -I PREROUTING -j OTHERS")
    settle(chains, wanted())
    assert [rule.split()[-1] for rule in rules_of(flavour, "nat", "PREROUTING")] == [PREFIX + "NAT", "OTHERS", "OTHERS"]
    sh(f"iptables-{flavour} -t nat -D PREROUTING -j OTHERS")
    assert saved(flavour) == before
    settle(chains, {})
    after = saved(flavour)
    assert PREFIX not in after
    assert [line for line in before.splitlines() if PREFIX not in line and line not in after.splitlines()] == []
    assert ":FORWARD DROP" in after


def test_a_jump_may_have_to_be_last(chains: Chains, flavour: Flavour) -> None:
    sh(f"iptables-{flavour} -A FORWARD -p tcp --dport 1 -j ACCEPT")
    tail = Chain(4, "filter", "FORWARD")
    last = {
        Chain(4, "filter", PREFIX + "TAIL"): Rules(("-j DROP",)),
        tail: Rules((f"-j {PREFIX}TAIL",), first=False),
    }
    settle(chains, last)
    assert rules_of(flavour, "filter", "FORWARD")[-1].endswith(PREFIX + "TAIL")
    sh(f"iptables-{flavour} -A FORWARD -p udp --dport 1 -j ACCEPT")
    assert list(difference(chains, last).change) == [tail]
    settle(chains, last)
    assert rules_of(flavour, "filter", "FORWARD")[-1].endswith(PREFIX + "TAIL")


def beside(family: int = 4) -> dict[Chain, Rules]:
    """What the firewall's edge wants in the built-in chains of wanted(), and in one of its own."""
    own = Chain(family, "filter", FIREWALL + "INPUT")
    jump = (f"-j {FIREWALL}INPUT",)
    return {
        own: Rules(("-m conntrack --ctstate ESTABLISHED -j RETURN", "-j REJECT")),
        Chain(family, "filter", "INPUT"): Rules(jump),
        Chain(family, "filter", "OUTPUT"): Rules(jump, first=False),
    }


def both_beside() -> dict[Chain, Rules]:
    return {**beside(4), **beside(6)}


def test_two_controllers_do_not_push_each_other_around(chains: Chains, flavour: Flavour) -> None:
    sh(f"iptables-{flavour} -A INPUT -p tcp --dport 1 -j ACCEPT; iptables-{flavour} -A OUTPUT -p tcp --dport 1")
    firewall = Chains(FIREWALL, flavour)
    services = {**both_families(), Chain(4, "filter", "OUTPUT"): Rules((f"-j {PREFIX}INPUT",), first=False)}
    for _ in range(2):  # whoever comes second, and whoever finds itself behind the other
        settle(chains, services)
        settle(firewall, both_beside())
        assert not difference(chains, services)
        jumps = [target(rule) for rule in rules_of(flavour, "filter", "INPUT")]
        assert sorted(jumps[:3]) == [FIREWALL + "INPUT", PREFIX + "INPUT", PREFIX + "INPUT"]
        assert jumps[3:] == ["ACCEPT"]
        sh(f"iptables-{flavour} -D INPUT 1")  # somebody takes the first jump away: only its owner has to do something
        short = [edge for edge, want in ((chains, services), (firewall, both_beside())) if difference(edge, want)]
        assert len(short) == 1
    settle(chains, services)
    settle(firewall, both_beside())
    sh(f"iptables-{flavour} -I INPUT -p udp --dport 1 -j ACCEPT; iptables-{flavour} -A OUTPUT -p udp --dport 1")
    assert difference(chains, services).change.keys() == {Chain(4, "filter", "INPUT"), Chain(4, "filter", "OUTPUT")}
    assert difference(firewall, both_beside()).change.keys() == {
        Chain(4, "filter", "INPUT"), Chain(4, "filter", "OUTPUT"),
    }  # fmt: skip
    settle(chains, services)
    settle(firewall, both_beside())
    assert not difference(chains, services)


@pytest.mark.parametrize("going", [PREFIX, FIREWALL])
def test_one_controller_goes_and_the_other_s_stay(chains: Chains, flavour: Flavour, going: str) -> None:
    firewall = Chains(FIREWALL, flavour)
    settle(firewall, both_beside())
    settle(chains, both_families())
    edges = {PREFIX: (chains, both_families()), FIREWALL: (firewall, both_beside())}
    (stays, want), (goes, _) = edges[FIREWALL if going == PREFIX else PREFIX], edges[going]
    before = stays.read().ours
    settle(goes, {})
    for family in (4, 6):
        assert going not in saved(flavour, family)
    assert stays.read().ours == before
    assert not difference(stays, want)


def test_one_is_read_while_the_other_writes(chains: Chains, flavour: Flavour) -> None:
    firewall, reader = Chains(FIREWALL, flavour), Chains(PREFIX, flavour)
    settle(chains, both_families())
    refused: list[object] = []

    def write() -> None:
        for turn in range(12):
            refused.extend(bring(firewall, both_beside() if turn % 2 == 0 else {}))

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while writer.is_alive():
        assert not difference(reader, both_families())
        reads += 1
    writer.join()
    assert refused == [] and reads > 1
    assert firewall.read().ours == {}


GUILTY = {
    "no such set": "-m set --match-set no-such-set dst -j ACCEPT",
    "no such target": "-j NO-SUCH-TARGET",
    "only valid elsewhere": "-j DNAT --to-destination 10.0.0.1",
}


@pytest.mark.parametrize("what", GUILTY)
def test_one_bad_chain_harms_only_what_leads_to_it(chains: Chains, flavour: Flavour, what: str) -> None:
    bad, jump = Chain(4, "filter", PREFIX + "BAD"), Chain(4, "filter", "FORWARD")
    mixed = {bad: Rules((GUILTY[what],)), jump: Rules((f"-j {PREFIX}BAD",)), **both_families()}
    refused = bring(chains, mixed)
    assert refused.keys() == {bad, jump}
    assert all(refusal.reason for refusal in refused.values())
    assert not rules_of(flavour, "filter", "FORWARD")
    settle(chains, {**mixed, bad: Rules(("-j DROP",))})


def test_a_chain_that_others_jump_to_is_refused_and_the_rest_goes(chains: Chains, flavour: Flavour) -> None:
    settle(chains, wanted())
    sh(f"iptables-{flavour} -t nat -N OTHERS; iptables-{flavour} -t nat -A OTHERS -j {PREFIX}MASQ")
    held = Chain(4, "nat", PREFIX + "MASQ")
    assert bring(chains, {}).keys() == {held}
    assert chains.read().ours.keys() == {held}
    sh(f"iptables-{flavour} -t nat -F OTHERS")
    settle(chains, {})


def test_what_is_not_ours_to_write_is_refused(chains: Chains, flavour: Flavour) -> None:
    foreign = {
        Chain(4, "filter", "OTHERS"): Rules(("-j ACCEPT",)),
        Chain(4, "filter", "FORWARD"): Rules(("-j ACCEPT",)),
    }
    assert chains.apply(Plan(add=foreign)).keys() == foreign.keys()
    assert "OTHERS" not in saved(flavour)


def test_one_process_each_way_for_a_family(chains: Chains) -> None:
    chains.read()
    before = command.programs_run()
    assert chains.apply(Plan(add=wanted())) == {}
    assert command.programs_run() - before == 2  # a save for the jumps that stand there, a restore
    content = {key: (rules, Rules(("-j RETURN",))) for key, rules in wanted().items() if key.chain.startswith(PREFIX)}
    before = command.programs_run()
    assert chains.apply(Plan(change=content)) == {}
    assert command.programs_run() - before == 1
    free = {Chain(4, "filter", f"{PREFIX}{number}"): Rules(("-j RETURN",)) for number in range(3)}
    assert chains.apply(Plan(add=free)) == {}
    before = command.programs_run()
    assert chains.apply(Plan(remove=free)) == {}
    assert command.programs_run() - before == 1
    assert chains.apply(Plan(remove=free)) == {}, "gone already"
    assert not difference(chains, {**wanted(), **{key: new for key, (_old, new) in content.items()}})


def guards(port: int) -> dict[Chain, Rules]:
    """Chains of several rules, that any half-written content would show in."""
    return {
        Chain(4, "filter", f"{PREFIX}{number}"): Rules(
            (*(f"-p tcp --dport {port + one} -j RETURN" for one in range(5)), "-j REJECT")
        )
        for number in range(8)
    }


@pytest.mark.parametrize("what", GUILTY)
def test_a_chain_that_is_refused_keeps_its_old_content_whole(chains: Chains, what: str) -> None:
    settle(chains, guards(80))
    bad = Chain(4, "filter", PREFIX + "3")
    changed = {**guards(8080), bad: Rules((*guards(8080)[bad].rules, GUILTY[what]))}
    assert bring(chains, changed).keys() == {bad}
    assert not difference(chains, {**guards(8080), bad: guards(80)[bad]})


def test_a_restore_that_fails_now_and_then_leaves_nothing_half_written(flavour: Flavour) -> None:
    """However it fails: before it begins, after it has done it, or for want of the program."""
    turns = itertools.cycle(["fails", "", "fails late", "is missing", "", "fails"])

    def unreliable(argv: list[str], **more: object) -> str:
        how = next(turns) if argv[0].endswith("-restore") else ""
        if how == "is missing":
            raise Unavailable(f"{argv[0]}: No such file or directory")
        printed = command.run(argv, **more) if how != "fails" else ""  # type: ignore[arg-type]
        if how:
            raise command.CommandFailed(argv, 1, "exit")
        return printed

    chains, witness = Chains(PREFIX, flavour, run=unreliable), Chains(PREFIX, flavour)
    settle(witness, guards(80))
    refusals = 0
    for attempt in range(20):
        old, new = (guards(80), guards(8080)) if attempt % 2 == 0 else (guards(8080), guards(80))
        refused = chains.apply(Plan(change={key: (old[key], new[key]) for key in new}))
        refusals += len(refused)
        assert not difference(witness, {**new, **{key: there for key, there in witness.read().ours.items()
                                                  if key in refused and there == old[key]}})  # fmt: skip
        settle(witness, new)
    assert refusals


def test_a_held_lock_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iptables, "LOCK_WAIT", 1)
    chains = Chains(PREFIX, "legacy")
    with Path("/run/xtables.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = chains.apply(Plan(add=wanted()))
    assert refused.keys() == wanted().keys()
    assert all("lock" in refusal.reason and not refusal.missing for refusal in refused.values())
    settle(chains, wanted())


def test_a_flavour_that_the_node_lacks_is_refused_as_missing() -> None:
    def without_nft(argv: list[str], **more: object) -> str:
        if "legacy" not in argv[0]:
            raise Unavailable(f"{argv[0]}: No such file or directory")
        return command.run(argv, **more)  # type: ignore[arg-type]

    chains = Chains(PREFIX, "nft", run=without_nft)
    refused = chains.apply(Plan(add=wanted()))
    assert refused.keys() == wanted().keys()
    assert all(refusal.missing for refusal in refused.values())
    assert Chains(PREFIX, "auto", run=without_nft).apply(Plan(add=wanted())) == {}


@pytest.mark.parametrize("evidence", ["kubelet's hint", "rules"])
def test_auto_follows_what_is_there(flavour: Flavour, evidence: str) -> None:
    if evidence == "rules":
        sh(f"iptables-{flavour} -A FORWARD -p tcp --dport 1 -j ACCEPT")
    else:
        for other in HERE:
            sh(f"iptables-{other} -A FORWARD -p tcp --dport 1 -j ACCEPT" if other != flavour else "true")
        sh(f"iptables-{flavour} -t mangle -N KUBE-IPTABLES-HINT")
    chains = Chains(PREFIX, "auto")
    settle(chains, both_families())
    assert chains.flavour == flavour
    assert chains.rules_in_both is False
    assert PREFIX in saved(flavour)


if len(HERE) > 1:

    def test_left_overs_in_the_other_flavour_go(flavour: Flavour) -> None:
        other: Flavour = next(one for one in HERE if one != flavour)
        settle(Chains(PREFIX, other), both_families())
        chains = Chains(PREFIX, flavour)
        assert difference(chains, both_families()).change.keys() == both_families().keys()
        settle(chains, both_families())
        for family in (4, 6):
            assert PREFIX not in saved(other, family)
            assert PREFIX in saved(flavour, family)
        settle(Chains(PREFIX, other), {})
        for one, family in itertools.product(HERE, (4, 6)):
            assert PREFIX not in saved(one, family)

    def test_rules_in_both_flavours_are_told() -> None:
        for one in HERE:
            sh(f"iptables-{one} -A FORWARD -p tcp --dport 1 -j ACCEPT")
        chains = Chains(PREFIX)
        chains.read()
        assert chains.rules_in_both
