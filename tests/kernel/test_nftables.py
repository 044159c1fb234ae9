"""kube-proxy's nf_tables table over netlink, where the kernel has nf_tables; elsewhere that there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kuberouter_py.kernel.iptables_flavours import nf_tables_lacks
from kuberouter_py.kernel.nftables import NfTables
from kuberouter_py.kernel.others import OthersInKernel
from kuberouter_py.model.kernel import Protocol, VirtualServerKey
from kuberouter_py.model.names import VIP_LINK
from kuberouter_py.model.others import PROXY, Away
from tests.fakes.objects import packed
from tests.kernel.exam import sh

LACKS = bool(nf_tables_lacks(4))

# As kube-proxy 1.35 lays it out: concatenated keys, and verdicts that lead to chains of Services.
TABLE = """
table {family} kube-proxy {{
    chain service-A {{ {ip} daddr {vip} tcp dport 80 dnat to {endpoint}; }}
    chain external-A {{ goto service-A; }}
    set nodeport-ips {{ type {address}; elements = {{ {node} }}; }}
    map service-ips {{ type {address} . inet_proto . inet_service : verdict;
        elements = {{ {vip} . tcp . 80 : goto service-A, {vip} . udp . 53 : goto service-A }}; }}
    map service-nodeports {{ type inet_proto . inet_service : verdict;
        elements = {{ tcp . 30080 : goto external-A }}; }}
    chain services {{ {ip} daddr . meta l4proto . th dport vmap @service-ips; }}
    chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
}}
table {family} somebody-else {{
    set nodeport-ips {{ type {address}; elements = {{ {node} }}; }}
}}
"""
PLACES = {
    4: {"family": "ip", "ip": "ip", "address": "ipv4_addr", "node": "192.0.2.11", "vip": "10.96.0.10",
        "endpoint": "10.244.2.2:8080"},
    6: {"family": "ip6", "ip": "ip6", "address": "ipv6_addr", "node": "2001:db8::11", "vip": "fd00:10:96::10",
        "endpoint": "[fd00:10:244:2::2]:8080"},
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("netns")


@pytest.fixture
def laid() -> None:
    if not LACKS:
        for places in PLACES.values():
            sh(f"nft -f - <<'END'\n{TABLE.format(**places)}\nEND")


@pytest.fixture
def others() -> Iterator[OthersInKernel]:
    kernel = OthersInKernel((VIP_LINK,))
    yield kernel
    kernel.close()


def test_frontends_are_read(laid: None, others: OthersInKernel) -> None:
    found = others.read().nft
    assert set(found) == (set() if LACKS else {4, 6})
    for family, frontends in found.items():
        places = PLACES[family]
        vip = packed(places["vip"])
        assert frontends.services == {VirtualServerKey(Protocol.TCP, vip, 80), VirtualServerKey(Protocol.UDP, vip, 53)}
        assert frontends.node_ports == {(Protocol.TCP, 30080)}
        assert frontends.addresses == {packed(places["node"])}


def test_only_that_table_is_deleted(laid: None, others: OthersInKernel) -> None:
    gone = others.remove(others.read(), Away(frozenset({PROXY})))
    assert gone.failed == []
    assert gone.done.get("nftables tables", 0) == (0 if LACKS else 2)
    assert others.read().nft == {}
    if not LACKS:
        assert sh("nft list tables").splitlines() == ["table ip somebody-else", "table ip6 somebody-else"]


def test_what_is_not_there_is_told_so() -> None:
    tables = NfTables()
    assert not tables.has(4, "kube-proxy")
    assert list(tables.elements(4, "kube-proxy", "service-ips")) == []
    if not LACKS:
        tables.delete(4, "kube-proxy")  # gone is gone
    tables.close()
