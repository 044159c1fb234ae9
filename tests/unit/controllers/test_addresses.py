"""Whose an address is that a Service names."""

from __future__ import annotations

import pytest

from kuberouter_py.config import Config
from kuberouter_py.controllers.addresses import addresses_of, holder, is_link_local, on_other_links
from tests.fakes.objects import ETH0, link, node, packed

OURS = link("kube-dummy-if", "10.96.0.10/32", kind="dummy")
CACHE = link("nodelocaldns", "10.96.0.10/32", kind="dummy")
KUBE_PROXY = link("kube-ipvs0", "10.96.0.10/32", "10.96.0.11/32", kind="dummy")


def test_internal_addresses_of_a_node_come_first() -> None:
    assert addresses_of(node("192.168.0.1", external=["203.0.113.1"])) == (packed("192.168.0.1"), packed("203.0.113.1"))


@pytest.mark.parametrize(
    ("address", "is_so"),
    [("169.254.1.1", True), ("127.0.0.1", True), ("fe80::1", True), ("febf::1", True), ("fec0::1", False),
     ("192.168.0.1", False), ("2001:db8::1", False)],
)  # fmt: skip
def test_addresses_of_one_link(address: str, is_so: bool) -> None:
    assert is_link_local(packed(address)) == is_so


def test_our_own_link_is_none_of_the_others() -> None:
    found = on_other_links(Config(), [ETH0, OURS])
    assert (found.get(packed("192.168.0.1")), found.get(packed("10.96.0.10"))) == ("eth0", None)


def test_what_another_proxy_has_bound_counts_less_than_what_answers() -> None:
    found = on_other_links(Config(), [CACHE, KUBE_PROXY])
    assert holder(found, packed("10.96.0.10")) == "nodelocaldns"
    assert found[packed("10.96.0.11")] == "kube-ipvs0"
    assert holder(found, packed("10.96.0.11")) == ""
    assert packed("10.96.0.11") not in on_other_links(Config(takeover=True), [KUBE_PROXY])
