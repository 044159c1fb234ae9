"""Local routes with the node's address as source, against the real kernel; `ip route get` is the witness."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from kuberouter_py.kernel.links import Addresses, Links
from kuberouter_py.kernel.netlink_socket import Batch
from kuberouter_py.kernel.routes import Routes
from kuberouter_py.model.kernel import Address, Link, Route
from kuberouter_py.ports import Plan
from tests.kernel.exam import bring, difference, settle, sh

LINK = "kube-dummy-if"
NODE = {4: "192.0.2.2", 6: "fd00:9::2"}
VIPS = {4: ("10.96.0.1", "10.96.0.10"), 6: ("fd00:96::1", "fd00:96::a")}

pytestmark = pytest.mark.usefixtures("netns")
by_family = pytest.mark.parametrize("family", [4, 6])


def packed(text: str) -> bytes:
    return ip_address(text).packed


@pytest.fixture
def routes(batch: Batch) -> Routes:
    sh(f"""ip link add {LINK} type dummy; ip link set {LINK} up; ip link add up0 type dummy; ip link set up0 up
           ip address add {NODE[4]}/24 dev up0; ip address add {NODE[6]}/64 dev up0 nodad""")
    return Routes(batch, [LINK])


@pytest.fixture
def addresses(batch: Batch, routes: Routes) -> Addresses:
    return Addresses(batch, [LINK], routes.write_again)


def wanted(*families: int, source: dict[int, str] = NODE) -> dict[bytes, Route]:
    return {packed(vip): Route(LINK, packed(source[family])) for family in families for vip in VIPS[family]}


def bound(*families: int) -> dict[Address, None]:
    return {Address(LINK, packed(vip)): None for family in families for vip in VIPS[family]}


def source_to(vip: str) -> str:
    """The source that the node itself would use towards a VIP; "" where the VIP is not local."""
    words = sh(f"ip route get {vip} 2>/dev/null || true").split()
    return words[words.index("src") + 1] if words[:1] == ["local"] else ""


def table(vip: str) -> str:
    return sh(f"ip -{6 if ':' in vip else 4} route show table local {vip}")


def assert_right(*families: int) -> None:
    for family in families:
        for vip in VIPS[family]:
            assert source_to(vip) == NODE[family]
            assert len(table(vip).splitlines()) == 1


def test_a_route_alone_makes_a_vip_local(routes: Routes) -> None:
    settle(routes, wanted(4, 6))
    assert_right(4, 6)
    assert "proto 158" in table(VIPS[4][0])
    settle(routes, {})
    assert [table(vip) for vip in VIPS[4] + VIPS[6]] == ["", "", "", ""]


def test_beside_addresses_ours_wins(routes: Routes, addresses: Addresses) -> None:
    settle(addresses, bound(4, 6))
    assert source_to(VIPS[6][0]) == VIPS[6][0]  # the defect that these routes are there for
    assert difference(routes, wanted(4, 6)).change.keys() == wanted(4, 6).keys()
    settle(routes, wanted(4, 6))
    assert_right(4, 6)
    settle(routes, {})
    settle(addresses, {})


@by_family
def test_the_address_may_come_after_the_route(routes: Routes, addresses: Addresses, family: int) -> None:
    settle(routes, wanted(family))
    settle(addresses, bound(family))
    settle(routes, wanted(family))
    assert_right(family)


def test_kernel_routes_alone_are_foreign(routes: Routes, addresses: Addresses) -> None:
    settle(addresses, bound(4, 6))
    actual = routes.read()
    assert actual.ours == {}
    assert actual.foreign.keys() == {packed(vip) for vip in VIPS[4] + VIPS[6]}


@by_family
def test_another_source_shows_and_is_corrected(routes: Routes, family: int) -> None:
    other = {4: "192.0.2.3", 6: "fd00:9::3"}
    sh(f"ip address add {other[4]}/24 dev up0; ip address add {other[6]}/64 dev up0 nodad")
    settle(routes, wanted(family, source=other))
    sh(f"ip address delete {other[4]}/24 dev up0; ip address delete {other[6]}/64 dev up0")
    assert difference(routes, wanted(family)).change.keys() == wanted(family).keys()
    settle(routes, wanted(family))
    assert_right(family)


def test_a_node_without_addresses_yet(routes: Routes) -> None:
    bare = {key: Route(LINK, b"") for key in wanted(4, 6)}
    settle(routes, bare)
    assert source_to(VIPS[4][0])
    settle(routes, wanted(4, 6))
    assert_right(4, 6)


@by_family
def test_healed_after_sabotage(routes: Routes, addresses: Addresses, family: int) -> None:
    settle(addresses, bound(family))
    settle(routes, wanted(family))
    first, second = VIPS[family]
    sh(f"ip -{family} route delete local {first} dev {LINK} table local")
    sh(f"ip -{family} route append local {second} dev {LINK} table local proto kernel" if family == 4 else "true")
    assert difference(routes, wanted(family))
    settle(routes, wanted(family))
    assert_right(family)


def test_healed_after_the_link_went_down_and_up(batch: Batch, routes: Routes, addresses: Addresses) -> None:
    settle(addresses, bound(4, 6))
    settle(routes, wanted(4, 6))
    sh(f"ip link set {LINK} down; ip link set {LINK} up")
    assert {packed(vip) for vip in VIPS[6]} <= difference(routes, wanted(4, 6)).add.keys()
    for edge, state in (
        (Links(batch, [LINK]), {LINK: Link("dummy")}),
        (addresses, bound(4, 6)),
        (routes, wanted(4, 6)),
    ):
        settle(edge, state)
    assert_right(4, 6)


@pytest.mark.parametrize("many", [False, True])
@by_family
def test_moves_to_another_link_of_ours(batch: Batch, family: int, many: bool) -> None:
    """Where --vip-link changed: the new route takes the old one's place before the old link goes."""
    sh(f"""ip link add {LINK} type dummy; ip link set {LINK} up; ip link add up0 type dummy; ip link set up0 up
           ip address add {NODE[4]}/24 dev up0; ip address add {NODE[6]}/64 dev up0 nodad
           ip link add svc0 type dummy; ip link set svc0 up""")
    source = packed(NODE[family])
    vips = [packed(VIPS[family][0])[:-2] + (1000 + number).to_bytes(2, "big") for number in range(200 if many else 1)]
    addresses, routes = Addresses(batch, ["svc0", LINK]), Routes(batch, ["svc0", LINK])
    settle(addresses, {Address(LINK, vip): None for vip in vips})
    settle(routes, {vip: Route(LINK, source) for vip in vips})
    assert addresses.apply(Plan(add={Address("svc0", vip): None for vip in vips})) == {}
    moved = {vip: Route("svc0", source) for vip in vips}
    assert difference(routes, moved).change.keys() == set(vips)
    settle(routes, moved)
    shown = sh(f"ip -{family} route show table local dev {LINK}")
    assert "proto 158" not in shown
    sh(f"ip link delete {LINK}")
    settle(routes, moved)
    assert sh(f"ip -{family} route show table local dev svc0").count(f"src {NODE[family]}") == len(vips)


@pytest.mark.parametrize("count", [1, 200])
@by_family
def test_an_address_of_another_link_keeps_its_route(routes: Routes, family: int, count: int) -> None:
    taken, free = VIPS[family]
    sh(f"ip address add {taken}/{32 if family == 4 else 128} dev up0 {'nodad' if family == 6 else ''}")
    before = table(taken)
    stem = packed(free)[:-2]
    many = {stem + (1000 + number).to_bytes(2, "big"): Route(LINK, packed(NODE[family])) for number in range(count)}
    refused = bring(routes, {**wanted(family), **many})
    assert refused.keys() == {packed(taken)}
    assert "another link" in refused[packed(taken)].reason
    assert table(taken) == before
    assert source_to(free) == NODE[family]
    settle(routes, {})
    assert table(taken) == before


def test_other_peoples_local_routes_stay(routes: Routes) -> None:
    sh(f"""ip route add local 198.51.100.1 dev {LINK} table local proto 77; ip route add local 198.51.100.0/28 dev lo
           ip -6 route add local fd00:98::/64 dev lo table local""")
    before = sh("ip route show table all; ip -6 route show table all")
    settle(routes, wanted(4, 6))
    settle(routes, {})
    assert sh("ip route show table all; ip -6 route show table all") == before


@by_family
def test_a_source_that_is_not_there_is_refused(routes: Routes, family: int) -> None:
    stranger = {4: "192.0.2.77", 6: "fd00:9::77"}
    good, bad = map(packed, VIPS[family])
    mixed = {good: Route(LINK, packed(NODE[family])), bad: Route(LINK, packed(stranger[family]))}
    refused = bring(routes, mixed)
    assert refused.keys() == {bad}
    assert stranger[family] in refused[bad].reason
    assert source_to(VIPS[family][0]) == NODE[family]


def test_without_the_link(routes: Routes) -> None:
    sh(f"ip link delete {LINK}")
    assert bring(routes, wanted(4, 6)).keys() == wanted(4, 6).keys()
    assert routes.apply(Plan(remove=wanted(4, 6))) == {}
    foreign = {packed("10.96.0.1"): Route("up0", packed(NODE[4]))}
    assert routes.apply(Plan(add=foreign)).keys() == foreign.keys()


def test_many_at_once(routes: Routes, addresses: Addresses) -> None:
    many = {
        **{b"\x0a\x60" + number.to_bytes(2, "big"): Route(LINK, packed(NODE[4])) for number in range(1, 500)},
        **{packed("fd00:96::")[:14] + n.to_bytes(2, "big"): Route(LINK, packed(NODE[6])) for n in range(1, 500)},
    }
    settle(addresses, {Address(LINK, key): None for key in many})
    settle(routes, many)
    assert source_to("10.96.1.7") == NODE[4] and source_to("fd00:96::17") == NODE[6]
    settle(routes, {})
    settle(addresses, {})


def test_the_last_address_of_the_link_takes_no_route_with_it(routes: Routes, addresses: Addresses) -> None:
    """From --vip-binding=address to =route: routes stay wanted, addresses go."""
    settle(addresses, bound(4, 6))
    settle(routes, wanted(4, 6))
    settle(addresses, {})
    assert not difference(routes, wanted(4, 6))
    assert_right(4, 6)
