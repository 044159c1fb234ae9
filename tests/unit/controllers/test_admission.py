"""Which external addresses are served, and why not the others."""

from __future__ import annotations

import pytest

from kuberouter_py.config import Config
from kuberouter_py.controllers.admission import Admission
from tests.fakes.objects import cidr, packed

SERVICES = (cidr("10.96.0.0/12"), cidr("fd00:96::/112"))


def admission(
    *, external: str = "", balancer: str = "", strict: bool = True, cidrs: bool = True, seen: str = ""
) -> Admission:
    config = Config(
        service_external_ip_range=tuple(map(cidr, external.split())),
        loadbalancer_ip_range=tuple(map(cidr, balancer.split())),
        strict_external_ip_validation=strict,
    )
    return Admission(
        config, SERVICES if cidrs else (), lambda address: address in {packed(one) for one in seen.split()}
    )


def test_external_addresses_only_inside_the_range() -> None:
    judge = admission(external="203.0.113.0/24 2001:db8::/64")
    assert judge.refuse_external(packed("203.0.113.7")) == ""
    assert judge.refuse_external(packed("2001:db8::7")) == ""
    assert (
        judge.refuse_external(packed("198.51.100.7"))
        == "outside --service-external-ip-range (203.0.113.0/24, 2001:db8::/64)"
    )


def test_without_a_range_no_external_address() -> None:
    assert admission().refuse_external(packed("203.0.113.7")) == "outside --service-external-ip-range (none given)"


def test_not_strict_serves_all_but_cluster_addresses() -> None:
    judge = admission(strict=False)
    assert judge.refuse_external(packed("203.0.113.7")) == ""
    assert judge.refuse_external(packed("10.96.0.7")) == "inside the Service CIDR 10.96.0.0/12"


def test_load_balancer_addresses_are_served_unless_a_range_does_not_hold_them() -> None:
    assert admission().refuse_ingress(packed("198.51.100.7")) == ""
    judge = admission(balancer="203.0.113.0/24")
    assert judge.refuse_ingress(packed("203.0.113.7")) == ""
    assert judge.refuse_ingress(packed("198.51.100.7")) == "outside --loadbalancer-ip-range (203.0.113.0/24)"
    assert admission(external="203.0.113.0/24").refuse_ingress(packed("198.51.100.7")) == ""


@pytest.mark.parametrize(("address", "held"), [("10.100.1.1", "10.96.0.0/12"), ("fd00:96::1", "fd00:96::/112")])
def test_never_inside_a_service_cidr(address: str, held: str) -> None:
    judge = admission(external="10.0.0.0/8 fd00::/8", balancer="10.0.0.0/8 fd00::/8")
    assert judge.refuse_external(packed(address)) == f"inside the Service CIDR {held}"
    assert judge.refuse_ingress(packed(address)) == f"inside the Service CIDR {held}"


def test_the_cluster_ips_seen_stand_in_where_no_service_cidr_is_known() -> None:
    """kube-router's default range (10.96.0.0/12) is never a reason: it is ordinary address space elsewhere."""
    judge = admission(external="10.0.0.0/8", cidrs=False, seen="10.96.0.1")
    assert judge.refuse_external(packed("10.96.0.1")) == "a ClusterIP of this cluster"
    assert judge.refuse_ingress(packed("10.96.0.1")) == "a ClusterIP of this cluster"
    assert judge.refuse_external(packed("10.96.0.2")) == ""


def test_a_cluster_ip_outside_the_known_service_cidrs_is_nobodys_external_address() -> None:
    """A flag that names the IPv4 range only does not give away the IPv6 ClusterIPs."""
    known = admission(external="fd00:97::/112", strict=False, seen="fd00:97::10")
    assert known.refuse_external(packed("fd00:97::10")) == "a ClusterIP of this cluster"
    assert known.refuse_ingress(packed("fd00:97::10")) == "a ClusterIP of this cluster"
    assert known.refuse_external(packed("fd00:97::11")) == ""


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1", "a loopback address"),
        ("127.9.9.9", "a loopback address"),
        ("::1", "a loopback address"),
        ("0.0.0.0", "the unspecified address"),
        ("::", "the unspecified address"),
        ("224.0.0.1", "no unicast address"),
        ("255.255.255.255", "no unicast address"),
        ("ff02::1", "no unicast address"),
    ],
)
def test_addresses_that_nobody_can_be_sent_to(address: str, reason: str) -> None:
    judge = admission(external="0.0.0.0/0 ::/0", strict=False)
    assert judge.refuse_external(packed(address)) == reason
    assert judge.refuse_ingress(packed(address)) == reason


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1"])
def test_users_may_not_take_a_link_local_address(address: str) -> None:
    """As the API server says too; the cloud's metadata service is one. A controller's status may hold one."""
    judge = admission(external="0.0.0.0/0 ::/0")
    assert judge.refuse_external(packed(address)) == "a link-local address"
    assert judge.refuse_ingress(packed(address)) == ""
