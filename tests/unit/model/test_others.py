"""Names of kube-proxy and kube-router, and names that only look like theirs."""

from __future__ import annotations

import pytest

from kuberouter_py.model.others import (
    PROXY,
    ROUTER_POLICIES,
    ROUTER_SERVICES,
    Owner,
    marking,
    owner_of_chain,
    owner_of_set,
)


@pytest.mark.parametrize(
    ("table", "chain", "owner"),
    [
        ("nat", "KUBE-SERVICES", PROXY),
        ("nat", "KUBE-SVC-NPX46M4PTMTKRN6Y", PROXY),
        ("filter", "KUBE-PROXY-FIREWALL", PROXY),
        ("nat", "KUBE-FW-LOLE4ISW44XBNF3G", PROXY),
        ("nat", "KUBE-FIREWALL", PROXY),
        ("filter", "KUBE-FIREWALL", None),
        ("mangle", "KUBE-KUBELET-CANARY", None),
        ("mangle", "KUBE-IPTABLES-HINT", None),
        ("nat", "KUBE-SERVICES-OF-SOMEBODY", None),
        ("filter", "KUBE-ROUTER-SERVICES", ROUTER_SERVICES),
        ("filter", "KUBE-ROUTER-FORWARD", ROUTER_POLICIES),
        ("filter", "KUBE-POD-FW-C23KD7UE4TAT3Y5M", ROUTER_POLICIES),
        ("filter", "KRPY-SVC-INPUT", None),
    ],
)
def test_chains(table: str, chain: str, owner: Owner | None) -> None:
    assert owner_of_chain(table, chain) == owner


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("KUBE-CLUSTER-IP", PROXY),
        ("KUBE-6-LOAD-BALANCER-SOURCE-CID", PROXY),
        ("KUBE-6-NODE-PORT-LOCAL-SCTP-HAS", PROXY),
        ("KUBE-LOAD-BALANCER-SOURCE-CIDR", PROXY),
        ("KUBE-OTHER", None),
        ("kube-router-svip-prt", ROUTER_SERVICES),
        ("inet6:kube-router-svip", ROUTER_SERVICES),
        ("kube-router-pod-subnets", None),
        ("inet6:KUBE-DST-GZIEGRFLGG6BN3N7", ROUTER_POLICIES),
        ("krpy-svc-owned-4", None),
    ],
)
def test_sets(name: str, owner: Owner | None) -> None:
    assert owner_of_set(name) == owner


@pytest.mark.parametrize(
    ("rule", "mark"),
    [
        ("-d 203.0.113.7/32 -p tcp -m tcp --dport 80 -j MARK --set-xmark 0xce2/0xffffffff", 0xCE2),
        ("-d 203.0.113.7/32 -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x4000/0x4000", 0),
        ("-d 203.0.113.7/32 -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x40000001/0xffffffff", 0),
        ("-s 203.0.113.7/32 -p tcp -m tcp --dport 80 -j MARK --set-xmark 0xce2/0xffffffff", 0),
        ("-d 203.0.113.7/32 -p tcp -j MARK --set-xmark 0xce2/0xffffffff", 0),
    ],
)
def test_marks_of_direct_server_return(rule: str, mark: int) -> None:
    assert marking(rule) == mark
