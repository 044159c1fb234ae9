"""What real proxies left, as values: kube-proxy's dumps are of 1.35 on node n1 of the lab with the Service default/web
(ClusterIP, NodePort 30080, externalIP 198.51.100.7), kube-router's are made after its behaviour.
"""

from __future__ import annotations

from pathlib import Path

from kuberouter_py.model.kernel import Protocol, SetEntry, VirtualServerKey
from kuberouter_py.model.others import MarkRule, Remains
from tests.fakes.objects import packed

DUMPS = Path(__file__).parent / "dumps"
LOCAL = frozenset(map(packed, ("192.0.2.11", "10.244.1.1", "2001:db8::11", "fd00:10:244:1::1")))
TCP = Protocol.TCP


def dump(name: str) -> str:
    return (DUMPS / f"{name}.txt").read_text()


def tcp(address: str, port: int) -> VirtualServerKey:
    return VirtualServerKey(TCP, packed(address), port)


def iptables_mode() -> Remains:
    rules = {("legacy", family): dump(f"kube-proxy-iptables-{family}") for family in (4, 6)}
    return Remains(rules=rules, local=LOCAL)


IPVS_SERVED = frozenset({
    tcp("10.96.0.1", 443), tcp("10.96.0.10", 80), tcp("198.51.100.7", 80), tcp("192.0.2.11", 30080),
    tcp("10.244.1.1", 30080), tcp("fd00:10:96::10", 80), tcp("2001:db8::11", 30080), tcp("fd00:10:244:1::1", 30080),
})  # fmt: skip


def ipvs_mode(*more: VirtualServerKey) -> Remains:
    """more: virtual servers of somebody else."""
    return Remains(
        rules={("legacy", family): dump(f"kube-proxy-ipvs-{family}") for family in (4, 6)},
        sets={
            "KUBE-CLUSTER-IP": frozenset({SetEntry(packed("10.96.0.1"), 6, 443)}),
            "KUBE-NODE-PORT-TCP": frozenset({SetEntry(b"", 0, 30080)}),
            "KUBE-6-NODE-PORT-TCP": frozenset({SetEntry(b"", 0, 30080)}),
        },
        ipvs_link=frozenset(map(packed, ("10.96.0.1", "10.96.0.10", "198.51.100.7", "fd00:10:96::10"))),
        servers=IPVS_SERVED | frozenset(more),
        local=LOCAL,
    )


def kube_router() -> Remains:
    named = {tcp("10.96.0.10", 80), tcp("192.0.2.11", 30080)}
    return Remains(
        rules={("legacy", 4): dump("kube-router-4")},
        sets={
            "kube-router-svip-prt": frozenset(SetEntry(key.address, key.protocol, key.port) for key in named),
            "KUBE-DST-IZ5JGF4W6BKI7CEV": frozenset({SetEntry(packed("10.244.1.7"))}),
        },
        servers=frozenset(named),
        mark_rules=frozenset({MarkRule(4, 32764, 78, 0xCE2)}),
        local=LOCAL,
    )
