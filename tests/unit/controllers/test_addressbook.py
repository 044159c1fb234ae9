"""Who names which address, and who is to be decided again when a ClusterIP comes or goes."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.controllers.addressbook import AddressBook
from kuberouter_py.model.cluster import ObjectKey, Service
from tests.fakes.objects import key_of, packed, service

A, B = "10.96.0.1", "10.96.0.2"
WEB, DNS = key_of("web"), key_of("dns")


def test_a_cluster_ip_that_comes_or_goes_rings_who_names_it_as_external() -> None:
    book = AddressBook()
    assert book.update({WEB: service("web", A, external=[B])}) == set()
    assert book.update({DNS: service("dns", B)}) == {WEB}
    assert book.is_cluster_ip(packed(B))
    assert book.holders(packed(B)) == {WEB, DNS}
    assert book.update({DNS: None}) == {WEB}
    assert not book.is_cluster_ip(packed(B))
    assert book.holders(packed(B)) == {WEB}


def test_an_ingress_address_counts_as_external() -> None:
    book = AddressBook()
    book.update({WEB: service("web", A, ingress=[B])})
    assert book.update({DNS: service("dns", B)}) == {WEB}


def test_one_address_of_two_services_stays_until_both_are_gone() -> None:
    book = AddressBook()
    book.update({WEB: service("web", A), DNS: service("dns", A)})
    book.update({WEB: None})
    assert book.is_cluster_ip(packed(A))
    book.update({DNS: None})
    assert not book.is_cluster_ip(packed(A))
    assert book.holders(packed(A)) == set()


def test_no_change_rings_nobody() -> None:
    book = AddressBook()
    book.update({WEB: service("web", A, external=[A])})
    assert book.update({WEB: service("web", A, external=[A])}) == set()


_ADDRESSES = ("10.96.0.1", "10.96.0.2", "10.96.0.3")
_some = st.sets(st.sampled_from(_ADDRESSES)).map(sorted)


@st.composite
def _services(draw: st.DrawFn) -> Service | None:
    if draw(st.booleans()):
        return None
    return service("x", draw(st.sampled_from(_ADDRESSES)), external=draw(_some), ingress=draw(_some))


@given(st.lists(st.tuples(st.sampled_from([WEB, DNS]), _services()), max_size=8))
def test_the_path_does_not_matter(updates: Sequence[tuple[ObjectKey, Service | None]]) -> None:
    book, straight = AddressBook(), AddressBook()
    for key, one in updates:
        book.update({key: one})
    straight.update(dict(updates))
    for text in _ADDRESSES:
        assert book.holders(packed(text)) == straight.holders(packed(text))
        assert book.is_cluster_ip(packed(text)) == straight.is_cluster_ip(packed(text))
