"""Pods' addresses: one of each family, none twice, or those that were asked for."""

from __future__ import annotations

import pytest

from tests.labkit.addresses import AddressBook, primary
from tests.labkit.model import NodeSpec
from tests.labkit.ports import LabError

NODE = NodeSpec("n1", ("192.0.2.11/25", "2001:db8::11", "192.0.2.50"), ("10.244.1.0/29", "fd00:10:244:1::/64"))


def test_one_of_each_family_and_the_next_one_next() -> None:
    book = AddressBook({"n1": NODE})
    assert book.choose("n1", None, set()) == ("10.244.1.2", "fd00:10:244:1::2")
    assert book.choose("n1", None, set()) == ("10.244.1.3", "fd00:10:244:1::3")


def test_full_and_around() -> None:
    book = AddressBook({"n1": NODE})
    in_use: set[str] = set()
    for _ in range(5):
        in_use |= set(book.choose("n1", None, in_use))
    with pytest.raises(LabError, match=r"no free address in 10\.244\.1\.0/29"):
        book.choose("n1", None, in_use)
    assert book.choose("n1", None, in_use - {"10.244.1.4"})[0] == "10.244.1.4"


def test_asked_for() -> None:
    book = AddressBook({"n1": NODE})
    assert book.choose("n1", "fd00:0::9", set()) == ("fd00::9",)
    assert book.choose("n1", "10.244.1.9, fd00::9", {"10.244.1.8"}) == ("10.244.1.9", "fd00::9")


@pytest.mark.parametrize("wanted", ["", "10.244.1.9,10.244.1.8", "10.244.1.300", "10.244.1.7"])
def test_refused(wanted: str) -> None:
    with pytest.raises(LabError, match="lab/ip"):
        AddressBook({"n1": NODE}).choose("n1", wanted, {"10.244.1.7"})


def test_primary_is_the_first_of_each_family() -> None:
    assert primary(NODE) == ("192.0.2.11", "2001:db8::11")
