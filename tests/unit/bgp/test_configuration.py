"""The text of BIRD's configuration. That BIRD takes it, tests/kernel/test_bgp_configuration.py shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kuberouter_py.bgp.configuration import fingerprint_of, render
from kuberouter_py.bgp.sessions import address_of, protocol_name
from kuberouter_py.model.bgp import Bfd, BgpPeer, GracefulRestart, Password, Speaker
from tests.fakes.speakers import FULL, NODE6, PLAIN, ROUTER, packed

LOG = "/run/kuberouter-py/bird.log"
GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(("name", "speaker"), [("plain", PLAIN), ("full", FULL)])
def test_whole_files(name: str, speaker: Speaker) -> None:
    assert render(speaker, LOG, console=name == "full") == (GOLDEN / f"{name}.conf").read_text()


def test_the_order_of_what_has_none_does_not_matter() -> None:
    turned = FULL._replace(peers=FULL.peers[::-1], refused=FULL.refused[::-1], families=(6, 4))
    assert render(turned, LOG) == render(FULL, LOG)


def test_every_text_says_which_it_is() -> None:
    texts = [render(PLAIN, LOG), render(FULL, LOG), render(PLAIN, LOG, console=True)]
    prints = [fingerprint_of(text) for text in texts]
    assert len(set(prints)) == 3 and "" not in prints
    assert fingerprint_of("router id 192.0.2.1;") == ""


def with_peer(**changed: object) -> Speaker:
    return PLAIN._replace(peers=(BgpPeer(ROUTER, 65001)._replace(**changed),))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ['a"b', "a\nb", "a\rb", "a\0b", "", "x" * 81, "é" * 41])
def test_a_password_that_bird_cannot_read_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"^the password of peer 192.0.2.254 ") as caught:
        render(with_peer(password=Password(text)), LOG)
    assert not text or text not in str(caught.value)


def test_a_password_shows_in_the_file_alone() -> None:
    speaker = with_peer(password=Password("hush"))
    assert '  password "hush";\n' in render(speaker, LOG)
    assert "hush" not in repr(speaker)


@pytest.mark.parametrize(
    ("speaker", "reason"),
    [
        (PLAIN._replace(communities=("65000:5:",)), '"65000:5:" is no community'),
        (PLAIN._replace(communities=("5",)), '"5" is no community'),
        (PLAIN._replace(communities=("1:2); accept; #:3",)), "is no community"),
        (PLAIN._replace(listen=(NODE6,)), "192.0.2.2: no local address of IPv4 to listen on"),
        (with_peer(multihop=2, bfd=Bfd())._replace(next_hops={}), "no local address of IPv4 for BFD over several hops"),
        (with_peer(node='worker"; }'), "cannot be written"),
    ],
)
def test_what_cannot_be_written_down_is_refused(speaker: Speaker, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        render(speaker, LOG)


def test_routes_are_kept_over_a_restart_only_with_graceful_restart() -> None:
    assert "persist" not in render(PLAIN, LOG)
    assert "persist" in render(PLAIN._replace(graceful_restart=GracefulRestart()), LOG)


def test_a_family_without_an_address_is_not_announced_over_a_session_of_the_other() -> None:
    text = render(FULL._replace(next_hops={4: FULL.next_hops[4]}), LOG)
    session = text.partition("protocol bgp peer_192_0_2_254")[2].partition("\nprotocol")[0]
    assert "ipv4 {" in session and "ipv6 {" not in session
    session = text.partition("protocol bgp peer_fd00_8__fe")[2]
    assert "ipv6 {" in session


@pytest.mark.parametrize(
    ("address", "node", "name"),
    [
        ("192.0.2.2", "worker-2", "node_192_0_2_2"),
        ("192.0.2.2", "", "peer_192_0_2_2"),
        ("fd00::1", "", "peer_fd00__1"),
        ("1:2:3:4:5:6:7:8", "n", "node_1_2_3_4_5_6_7_8"),
        ("::", "n", "node___"),
    ],
)
def test_names_stand_for_addresses(address: str, node: str, name: str) -> None:
    peer = BgpPeer(packed(address), 1, node=node)
    assert protocol_name(peer) == name
    assert address_of(name) == peer.address


@pytest.mark.parametrize("name", ["learn4", "peer_", "peer_x", "node_1_2_3", "bfd1", "peer_1_2_3_4_5"])
def test_other_protocols_are_no_sessions(name: str) -> None:
    assert address_of(name) == b""
