"""Which link leads to a node without a router between."""

from __future__ import annotations

import pytest

from kuberouter_py.controllers.routing.subnets import link_toward
from kuberouter_py.model.kernel import LinkState
from kuberouter_py.model.values import parse_cidr


def link(name: str, *addresses: str, up: bool = True) -> LinkState:
    held = tuple((parse_cidr(text.split("/")[0]).network, int(text.split("/")[1])) for text in addresses)
    return LinkState(len(name), name, "", up, "", held)


UPLINK = link("eth0", "192.0.2.2/24", "fd00:9::2/64", "fe80::2/64")
INSIDE = link("eth1", "192.0.2.66/27", "10.0.0.2/8")
DOWN = link("eth2", "198.51.100.2/24", up=False)
ALONE = link("eth3", "203.0.113.2/32", "fd00:8::2/128")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.3", ("eth0", "192.0.2.2")),
        ("192.0.2.70", ("eth1", "192.0.2.66")),  # the longest prefix
        ("10.9.9.9", ("eth1", "10.0.0.2")),
        ("fd00:9::3", ("eth0", "fd00:9::2")),
        ("198.51.100.3", None),  # its link is down
        ("203.0.113.3", None),  # a link with nobody beside us
        ("fd00:8::3", None),
        ("fd00:9:0:1::3", None),
        ("172.16.0.1", None),
    ],
)
def test_the_link_toward_an_address(address: str, expected: tuple[str, str] | None) -> None:
    found = link_toward((UPLINK, INSIDE, DOWN, ALONE), parse_cidr(address).network)
    assert found == (expected and (expected[0], parse_cidr(expected[1]).network))


def test_an_address_of_the_other_family_is_no_prefix() -> None:
    assert link_toward((link("eth0", "::/0"),), parse_cidr("192.0.2.3").network) is None
