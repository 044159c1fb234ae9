"""What the other proxy served and we would not: why, and which flag changes that."""

from __future__ import annotations

import pytest

from kuberouter_py.controllers.takeover.differences import compare, policies_end
from kuberouter_py.controllers.takeover.served import LOOPBACK
from kuberouter_py.model.kernel import VirtualServerKey
from tests.fakes.objects import port, service
from tests.unit.controllers.takeover.remains import TCP, tcp

WEB = service(
    "web",
    "10.96.0.10",
    "fd00:10:96::10",
    kind="LoadBalancer",
    ports=[port(80, node_port=30080)],
    external=["198.51.100.7"],
    ingress=["203.0.113.8"],
)
OURS = {tcp("10.96.0.10", 80), tcp("192.0.2.11", 30080)}


@pytest.mark.parametrize(
    ("theirs", "why", "flag"),
    [
        (tcp("198.51.100.7", 80), "externalIP 198.51.100.7 lies in no range", "--service-external-ip-range"),
        (tcp("203.0.113.8", 80), "load-balancer address 203.0.113.8 lies in no range", "--loadbalancer-ip-range"),
        (tcp("192.0.2.99", 30080), "NodePorts on 192.0.2.99", "--nodeport-addresses, which must name 192.0.2.99"),
        (VirtualServerKey(TCP, LOOPBACK, 30080), "IPVS serves nothing on loopback", ""),
        (tcp("fd00:10:96::10", 80), "IPv6 is off", "--enable-ipv6"),
        (tcp("10.96.0.10", 443), None, None),
    ],
)
def test_reasons(theirs: VirtualServerKey, why: str | None, flag: str | None) -> None:
    compared = compare({theirs, *OURS}, OURS, [WEB], families=(4,))
    if why is None:
        assert (compared.differences, compared.stale) == ((), ("-t 10.96.0.10:443",))
        return
    (difference,) = compared.differences
    assert why in difference.why
    assert difference.flag.startswith(flag or "") and bool(difference.flag) == bool(flag)
    assert difference.frontends[0].endswith("of default/web")


def test_equal_reasons_are_one_difference() -> None:
    other = service("other", "10.96.0.11", kind="NodePort", ports=[port(80, node_port=30081)])
    theirs = {tcp("192.0.2.99", 30080), tcp("192.0.2.99", 30081)}
    (difference,) = compare(theirs, OURS, [WEB, other], families=(4, 6)).differences
    assert str(difference) == (
        "-t 192.0.2.99:30080 of default/web, -t 192.0.2.99:30081 of default/other: NodePorts on 192.0.2.99 "
        "(changed by --nodeport-addresses, which must name 192.0.2.99)"
    )


def test_what_is_excluded_is_no_difference() -> None:
    theirs = {tcp("198.51.100.7", 80)}
    assert compare(theirs, OURS, [WEB], (4,), excluded=theirs) == ((), ())


def test_no_difference() -> None:
    assert compare(OURS, {*OURS, tcp("10.96.0.99", 80)}, [WEB], families=(4,)) == ((), ())


def test_policies_that_end() -> None:
    assert policies_end({"KUBE-NWPLCY-": 4, "KUBE-ROUTER-INPUT": 1}) == ()
    (difference,) = policies_end({"KUBE-POD-FW-": 7, "KUBE-NWPLCY-": 9, "KUBE-ROUTER-INPUT": 1})
    assert difference.frontends == ("9 chains KUBE-NWPLCY-*", "7 chains KUBE-POD-FW-*")
    assert "NetworkPolicies" in difference.why
