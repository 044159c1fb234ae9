"""Who is to be decided again when direct server return for an address comes or goes."""

from __future__ import annotations

from kuberouter_py.controllers.services.addressbook import ServicesBook
from tests.fakes.objects import key_of, packed, service

VIP, OTHER = "203.0.113.10", "203.0.113.11"
WEB, DNS = key_of("web"), key_of("dns")
DIRECT = {"kube-router.io/service.dsr": "tunnel"}


def test_direct_return_of_one_service_rings_all_that_share_the_address() -> None:
    book = ServicesBook()
    assert book.update({WEB: service("web", "10.96.0.1", external=[VIP])}) == set()
    assert book.update({DNS: service("dns", "10.96.0.2", external=[VIP], annotations=DIRECT)}) == {WEB, DNS}
    assert (book.is_direct(packed(VIP)), book.direct()) == (True, {DNS})
    assert book.update({DNS: service("dns", "10.96.0.2", external=[VIP])}) == {WEB, DNS}
    assert (book.is_direct(packed(VIP)), book.direct()) == (False, set())


def test_an_address_of_direct_return_that_is_exchanged() -> None:
    book = ServicesBook()
    book.update({WEB: service("web", ingress=[VIP], annotations=DIRECT), DNS: service("dns", external=[VIP])})
    assert book.update({WEB: service("web", ingress=[OTHER], annotations=DIRECT)}) == {WEB, DNS}
    assert (book.is_direct(packed(VIP)), book.is_direct(packed(OTHER))) == (False, True)
    assert book.update({WEB: None}) == set()
    assert not book.is_direct(packed(OTHER))


def test_a_cluster_ip_that_comes_rings_as_in_every_book() -> None:
    book = ServicesBook()
    book.update({WEB: service("web", "10.96.0.1", external=[VIP])})
    assert book.update({DNS: service("dns", VIP)}) == {WEB}
