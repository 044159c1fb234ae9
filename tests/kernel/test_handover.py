"""The table by which prefixes are handed over to be announced, against the real kernel; `ip route` is the witness."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kuberouter_py.kernel.handover import Handover
from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch
from kuberouter_py.model import notation
from kuberouter_py.model.bgp import Announced
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.values import parse_cidr
from kuberouter_py.ports import Plan
from tests.kernel.exam import bring, check_parts, settle, sh

PREFIXES = {4: "10.96.0.10/32", 6: "fd00:96::a/128"}
PODS = {4: "10.244.1.0/24", 6: "fd00:10:244:1::/64"}

pytestmark = pytest.mark.usefixtures("netns")
by_family = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def handover(batch: Batch) -> Handover:
    return Handover(batch)


def table(family: int) -> list[str]:
    return sh(f"ip -{family} route show table 159 2>/dev/null || true").splitlines()


def test_what_is_announced_stands_with_its_metric(handover: Handover) -> None:
    wanted = {parse_cidr(PREFIXES[family]): Announced.SERVICE for family in (4, 6)}
    wanted |= {parse_cidr(PODS[family]): Announced.PODS for family in (4, 6)}
    settle(handover, wanted)
    assert table(4) == [
        "blackhole 10.96.0.10 proto 158 metric 2 ",
        "blackhole 10.244.1.0/24 proto 158 metric 1 ",
    ]
    assert sorted(line.split(" dev ")[0] for line in table(6)) == [
        "blackhole fd00:10:244:1::/64",
        "blackhole fd00:96::a",
    ]
    assert handover.read().ours == wanted
    settle(handover, {})
    assert table(4) == table(6) == []


class OneByOne(Batch):
    """After each message it is looked what there is."""

    def __init__(self, witness: Handover) -> None:
        super().__init__(NETLINK_ROUTE, strict=True)
        self.seen: list[dict[Cidr, Announced | None]] = []
        self._witness = witness

    def send(self, messages: Sequence[bytes], details: dict[int, bytes] | None = None) -> dict[int, int]:
        for message in messages:
            assert super().send([message], details) == {}
            self.seen.append(self._witness.read().ours)
        return {}


@by_family
def test_another_value_comes_before_the_old_one_goes(handover: Handover, family: int) -> None:
    cidr = parse_cidr(PREFIXES[family])
    settle(handover, {cidr: Announced.SERVICE})
    batch = OneByOne(handover)
    assert Handover(batch).apply(Plan(change={cidr: (Announced.SERVICE, Announced.HELD)})) == {}
    assert batch.seen == [{cidr: None}, {cidr: Announced.HELD}]
    batch.close()


@by_family
def test_half_of_a_change_is_seen_and_ended(handover: Handover, family: int) -> None:
    cidr = parse_cidr(PREFIXES[family])
    sh(f"""ip -{family} route add blackhole {PREFIXES[family]} table 159 proto 158 metric 2
           ip -{family} route add blackhole {PREFIXES[family]} table 159 proto 158 metric 3""")
    assert handover.read().ours == {cidr: None}
    check_parts(handover)
    settle(handover, {cidr: Announced.HELD})
    assert len(table(family)) == 1 and "metric 3" in table(family)[0]


@by_family
@pytest.mark.parametrize("metrics", [(77,), (2, 77), (1, 2, 3)])
def test_whatever_of_ours_is_left_over_goes(handover: Handover, family: int, metrics: tuple[int, ...]) -> None:
    for metric in metrics:
        sh(f"ip -{family} route add blackhole {PREFIXES[family]} table 159 proto 158 metric {metric}")
    settle(handover, {})
    assert table(family) == []


@by_family
def test_routes_of_others_stay(handover: Handover, family: int) -> None:
    cidr = parse_cidr(PREFIXES[family])
    sh(f"""ip -{family} route add blackhole {PREFIXES[family]} table 159 proto static metric 1
           ip -{family} route add blackhole {PODS[family]} table 159 proto static metric 99
           ip -{family} route add blackhole {PODS[family]} table 77 proto 158 metric 1""")
    before = table(family)
    settle(handover, {cidr: Announced.SERVICE, parse_cidr(PODS[family]): Announced.PODS})
    settle(handover, {})
    assert table(family) == before
    assert len(sh(f"ip -{family} route show table 77").splitlines()) == 1


@by_family
def test_where_somebody_has_the_very_metric_it_is_refused(handover: Handover, family: int) -> None:
    cidr = parse_cidr(PREFIXES[family])
    other = parse_cidr(PODS[family])
    sh(f"ip -{family} route add blackhole {PREFIXES[family]} table 159 proto static metric 2")
    refused = bring(handover, {cidr: Announced.SERVICE, other: Announced.PODS})
    assert refused.keys() == {cidr}
    assert "static" in refused[cidr].reason and PREFIXES[family] in refused[cidr].reason
    assert handover.read().ours == {other: Announced.PODS}
    sh(f"ip -{family} route delete {PREFIXES[family]} table 159 proto static metric 2")
    settle(handover, {cidr: Announced.SERVICE, other: Announced.PODS})


@by_family
def test_a_change_that_is_refused_leaves_the_old_value(handover: Handover, family: int) -> None:
    cidr = parse_cidr(PREFIXES[family])
    settle(handover, {cidr: Announced.HELD})
    sh(f"ip -{family} route add blackhole {PREFIXES[family]} table 159 proto static metric 2")
    assert bring(handover, {cidr: Announced.SERVICE}).keys() == {cidr}
    assert handover.read().ours == {cidr: Announced.HELD}


def test_a_later_process_knows_them(handover: Handover) -> None:
    wanted = {parse_cidr(PREFIXES[family]): Announced.SERVICE for family in (4, 6)}
    settle(handover, wanted)
    batch = Batch(NETLINK_ROUTE, strict=True)
    assert Handover(batch).read().ours == wanted
    batch.close()


def test_what_plan_prints_does_the_same(handover: Handover) -> None:
    four, six = (parse_cidr(PREFIXES[family]) for family in (4, 6))
    plans: list[tuple[Plan[Cidr, Announced | None], dict[Cidr, Announced]]] = [
        (Plan(add={four: Announced.SERVICE, six: Announced.PODS}), {four: Announced.SERVICE, six: Announced.PODS}),
        (
            Plan(change={four: (Announced.SERVICE, Announced.HELD)}, remove={six: Announced.PODS}),
            {four: Announced.HELD},
        ),
        (Plan(remove={four: None}), {}),
    ]
    for plan, left in plans:
        for line in notation.lines({Handover.name: plan}):
            sh(line)
        assert handover.read().ours == left


def many(count: int) -> dict[Cidr, Announced]:
    four = {Cidr(b"\x0a\x60" + number.to_bytes(2, "big"), 32): Announced.SERVICE for number in range(1, count // 2 + 1)}
    head = parse_cidr("fd00:96::/112").network[:14]
    return four | {Cidr(head + n.to_bytes(2, "big"), 128): Announced.SERVICE for n in range(1, count // 2 + 1)}


def test_ten_thousand_in_one_message_each(handover: Handover, batch: Batch) -> None:
    wanted = many(10_000)
    assert handover.apply(Plan(add=wanted)) == {}
    assert batch.sent == 10_000
    assert handover.read().ours == wanted
    check_parts(handover, [parse_cidr("10.97.0.1/32")])
    changes = dict.fromkeys(list(wanted)[:500], (Announced.SERVICE, Announced.HELD))
    before = batch.sent
    assert handover.apply(Plan(change=changes)) == {}
    assert batch.sent == before + 1_000
    settle(handover, {})
