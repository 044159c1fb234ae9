"""Every annotation of a Node: what it says, what is wrong with it, what then stays in force."""

from __future__ import annotations

from base64 import b64encode
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.controllers.routing.annotations import NOTHING, OF_OTHERS, Said, hear, relevant
from kuberouter_py.controllers.routing.peer_annotations import PEER_KEYS
from kuberouter_py.model.bgp import Bfd, BgpPeer, Password
from kuberouter_py.model.values import parse_cidr

KEYS = (
    "node.asn",
    "rr.server",
    "rr.client",
    "path-prepend.as",
    "path-prepend.repeat-n",
    "node.bgp.communities",
    "node.bgp.customimportreject",
    "bgp-local-addresses",
)

AS, TIMES = "kube-router.io/path-prepend.as", "kube-router.io/path-prepend.repeat-n"


def packed(text: str) -> bytes:
    return ip_address(text).packed


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ({"node.asn": "64513"}, Said(asn=64513)),
        ({"node.asn": " 0xfc01 "}, Said(asn=64513)),
        ({"rr.server": "42"}, Said(server=bytes((0, 0, 0, 42)))),
        ({"rr.server": "10.0.0.1"}, Said(server=packed("10.0.0.1"))),
        ({"rr.client": "4294967295"}, Said(client=b"\xff" * 4)),
        ({"path-prepend.as": "64999", "path-prepend.repeat-n": "3"}, Said(prepend=(64999, 3))),
        ({"path-prepend.as": "64999", "path-prepend.repeat-n": "0"}, Said()),
        (
            {"node.bgp.communities": "4259840001, 65000:2,no-export,BLACKHOLE,65000:1:2,65000:2"},
            Said(communities=("65000:1", "65000:2", "65535:65281", "65535:666", "65000:1:2")),
        ),
        (
            {"node.bgp.customimportreject": "10.0.0.0/8, fd00::/8"},
            Said(rejects=(parse_cidr("10.0.0.0/8"), parse_cidr("fd00::/8"))),
        ),
        ({"bgp-local-addresses": "10.0.0.1,fd00::1"}, Said(listen=(packed("10.0.0.1"), packed("fd00::1")))),
    ],
)
def test_good_values(annotations: dict[str, str], said: Said) -> None:
    assert hear({f"kube-router.io/{key}": text for key, text in annotations.items()}) == (said, ())


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ({"node.asn": "0"}, 'kube-router.io/node.asn: "0" is not an AS number (1-4294967294)'),
        ({"rr.server": "fd00::1"}, 'kube-router.io/rr.server: "fd00::1" is no cluster ID'),
        ({"rr.client": "0"}, 'kube-router.io/rr.client: "0" is no cluster ID'),
        (
            {"path-prepend.as": "64999"},
            f"{AS}: {TIMES} is needed",
        ),
        (
            {"path-prepend.repeat-n": "3"},
            f"{TIMES}: {AS} is needed",
        ),
        (
            {"path-prepend.as": "64999", "path-prepend.repeat-n": "256"},
            f"{TIMES}: 256 is more than 255",
        ),
        (
            {"path-prepend.as": "x", "path-prepend.repeat-n": "3"},
            f'{AS}: "x" is not an AS number',
        ),
        (
            {"node.bgp.customimportreject": "10.0.0.0/33"},
            'kube-router.io/node.bgp.customimportreject: "10.0.0.0/33" is not a CIDR',
        ),
        ({"bgp-local-addresses": "eth0"}, 'kube-router.io/bgp-local-addresses: "eth0" is not an IP address'),
    ],
)
def test_a_bad_value_names_itself_and_the_last_good_one_stays(annotations: dict[str, str], reason: str) -> None:
    texts = {f"kube-router.io/{key}": text for key, text in annotations.items()}
    said, reasons = hear(texts)
    assert said == NOTHING
    assert [each.startswith(reason) for each in reasons] == [True]
    before = Said(1, b"abcd", b"efgh", (1, 2), ("1:2",), (parse_cidr("10.0.0.0/8"),), (packed("10.0.0.1"),))
    (part,) = {part for part in Said._fields if getattr(hear(texts, before).said, part)}
    assert getattr(hear(texts, before).said, part) == getattr(before, part)
    assert hear(texts, before).reasons[0].endswith("; what it said before stays in force")


def test_an_annotation_that_is_gone_says_nothing() -> None:
    assert hear({}, Said(asn=64513, communities=("1:2",))) == (NOTHING, ())


def test_bad_communities_are_left_out_by_name() -> None:
    said, reasons = hear({"kube-router.io/node.bgp.communities": "65000:1,65536:1,x"}, Said(communities=("1:1",)))
    assert said.communities == ("65000:1",)
    assert [reason.partition(" is no")[0] for reason in reasons] == [
        'kube-router.io/node.bgp.communities: "65536:1"',
        'kube-router.io/node.bgp.communities: "x"',
    ]


PEERS = """
- remoteip: 10.0.0.1
  remoteasn: 64513
- remoteip: "fd00::1"
  remoteasn: 0xfc02
  localip: fd00::2
  password: c2VjcmV0
  port: 1790
  bfd: {enabled: true, detection_multiplier: 5, required_min_rx_interval: 300, desired_min_tx_interval: 200}
"""


def peers(text: str, before: Said = NOTHING) -> tuple[tuple[BgpPeer, ...], tuple[str, ...]]:
    said, reasons = hear({"kube-router.io/peers": text}, before)
    return said.peers, reasons


def test_peers_in_yaml() -> None:
    one = BgpPeer(packed("10.0.0.1"), 64513)
    two = BgpPeer(
        packed("fd00::1"),
        64514,
        port=1790,
        local=packed("fd00::2"),
        password=Password("secret"),
        bfd=Bfd(200, 300, 5),
    )
    assert peers(PEERS) == ((one, two), ())
    assert peers("") == peers("[]") == peers("null") == ((), ())


def test_an_address_of_decimal_groups_is_one() -> None:
    found, reasons = peers("- {remoteip: 2001:10:20:30:40:50:1:2, remoteasn: 64513}")
    assert not reasons
    assert found[0].address == packed("2001:10:20:30:40:50:1:2")


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("{remoteasn: 64513}", "remoteip is missing"),
        ("{remoteip: 10.0.0.1}", "remoteasn is missing"),
        ("{remoteip: 10.0.0.1, remoteasn: 23456}", 'AS number: "23456" is not an AS number that a peer can have'),
        ("{remoteip: 10.0.0, remoteasn: 64513}", 'address: "10.0.0" is not an IP address'),
        ("{remoteip: 10.0.0.1, remoteasn: [1]}", "AS number: it is no single value"),
        ("{remoteip: 10.0.0.1, remoteasn: 64513, port: 0}", 'port: "0" is not a port'),
        ("{remoteip: 10.0.0.1, remoteasn: 64513, localip: fd00::1}", "local address: fd00::1 and 10.0.0.1 are not of"),
        ("{remoteip: 10.0.0.1, remoteasn: 64513, password: '***'}", "password: it is not base64"),
        ("{remoteip: 10.0.0.1, remoteasn: 64513, passwort: x}", '"passwort" is none of bfd, localip, password, port'),
        ("{remoteip: 10.0.0.1, remoteasn: 64513, bfd: {port: 4784}}", "bfd.port: 4784, but BIRD's is 3784"),
        ("{remoteip: 10.0.0.1, remoteasn: 64513, bfd: {detection_multiplier: 256}}", "bfd.detection_multiplier:"),
        ("{remoteip: 10.0.0.1, remoteasn: 64513, bfd: yes}", "it is no mapping of"),
        ("10.0.0.1", "it is no mapping of"),
    ],
)
def test_a_bad_peer_names_itself(item: str, reason: str) -> None:
    """The good ones count where nothing was good before; else all that was good before does."""
    if reason.startswith("bfd.detection"):
        item = item.replace("bfd: {", "bfd: {enabled: true, ")
    text = f"[{{remoteip: 10.0.0.9, remoteasn: 64513}}, {item}]"
    found, reasons = peers(text)
    assert [peer.address for peer in found] == [packed("10.0.0.9")]
    assert reasons[0].startswith(f"kube-router.io/peers: peer 2: {reason}")
    before = Said(peers=(BgpPeer(packed("10.0.0.7"), 64517),))
    assert peers(text, before)[0] == before.peers


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x", "it is no YAML list of peers"),
        ("- a: [", "line 1 is no YAML"),
        ("- a\nb", "line 2 is no YAML"),
        ("!!python/object/apply:os.system [x]", "peer 1: it is no mapping"),
        ("[" * 501, "it is longer than 16384 characters, or nested too deeply"),
        ("- " * 8000, "it is nested too deeply"),
        (" " * 16385, "it is longer than"),
        ("&a [*a]", "line 1 is no YAML"),
    ],
)
def test_what_is_no_list_of_peers(text: str, reason: str) -> None:
    found, reasons = peers(text)
    assert not found
    assert reasons[0].startswith(f"kube-router.io/peers: {reason}")


def test_one_address_is_one_peer() -> None:
    found, reasons = peers("[{remoteip: fd00::1, remoteasn: 64513}, {remoteip: 'fd00:0::1', remoteasn: 64514}]")
    assert [peer.asn for peer in found] == [64513]
    assert reasons == ("kube-router.io/peers: peer 2: fd00::1 is there twice",)


def lists(**texts: str) -> tuple[tuple[BgpPeer, ...], tuple[str, ...]]:
    said, reasons = hear({f"kube-router.io/peer.{key}": text for key, text in texts.items()})
    return said.peers, reasons


def test_peers_in_lists() -> None:
    found, reasons = lists(
        ips="10.0.0.1, 10.0.0.2",
        asns="64513,64514",
        ports="179,1790",
        passwords=",c2VjcmV0",
        localips="10.0.0.8,",
    )
    assert not reasons
    assert found == (
        BgpPeer(packed("10.0.0.1"), 64513, local=packed("10.0.0.8")),
        BgpPeer(packed("10.0.0.2"), 64514, port=1790, password=Password("secret")),
    )
    assert lists(ips="10.0.0.1,10.0.0.2", asns="64513,64514", passwords="")[0][1] == BgpPeer(packed("10.0.0.2"), 64514)


def test_lists_of_different_lengths() -> None:
    assert lists(ips="10.0.0.1,10.0.0.2", asns="64513") == (
        (),
        ("kube-router.io/peer.asns: 1 for 2 in kube-router.io/peer.ips",),
    )
    assert lists(asns="64513") == lists(ips="10.0.0.1") == ((), ())


def test_the_list_in_yaml_counts_before_the_others() -> None:
    annotations = {
        "kube-router.io/peers": PEERS,
        "kube-router.io/peer.ips": "10.0.0.3",
        "kube-router.io/peer.asns": "1",
    }
    assert [peer.address for peer in hear(annotations).said.peers] == [packed("10.0.0.1"), packed("fd00::1")]


def test_of_other_nodes_only_what_concerns_us_is_heard() -> None:
    annotations = {"kube-router.io/node.asn": "64513", "kube-router.io/peers": "x", "kube-router.io/rr.server": "1"}
    assert hear(annotations, parts=OF_OTHERS) == (Said(asn=64513, server=bytes((0, 0, 0, 1))), ())
    assert relevant(annotations, own=False) == relevant({**annotations, "kube-router.io/peers": "y"}, own=False)
    assert relevant(annotations, own=True) != relevant({**annotations, "kube-router.io/peers": "y"}, own=True)


ANY_TEXT = st.text(max_size=40) | st.text("0123456789abcdef.:,/x- {}[]\n&*!'\"#", max_size=60) | st.just(PEERS)


@given(
    st.dictionaries(st.sampled_from([*(f"kube-router.io/{key}" for key in KEYS), *PEER_KEYS]), ANY_TEXT),
    st.sampled_from([NOTHING, Said(asn=64513, peers=(BgpPeer(packed("10.0.0.1"), 64513),))]),
)
def test_any_text_is_a_value_or_a_reason(annotations: dict[str, str], before: Said) -> None:
    said, reasons = hear(annotations, before)
    assert all(reason.startswith("kube-router.io/") for reason in reasons)
    assert hear(annotations, said).said == said


SECRET = "Qx7-only-here"


@given(
    st.sampled_from([SECRET, f"{SECRET}\n", f"{SECRET}\0", SECRET * 10, f'{SECRET}"']),
    st.booleans(),
    st.sampled_from(["64513", "x", "0"]),
    st.sampled_from(["", "port: x", "bfd: 1", "bfd: {port: 1}", "other: 1", "localip: fd00::1"]),
    st.booleans(),
)
def test_a_password_shows_nowhere(plain: str, encoded: bool, asn: str, more: str, flow: bool) -> None:
    text = b64encode(plain.encode()).decode() if encoded else plain.strip('\n\0"')
    lines = ["remoteip: 10.0.0.1", f"remoteasn: {asn}", f"password: '{text}'", *([more] if more else [])]
    written = f"[{{{', '.join(lines)}}}]" if flow else "- " + "\n  ".join(lines)
    for said in (
        {"kube-router.io/peers": written},
        {"kube-router.io/peers": f"{written} ]"},
        {"kube-router.io/peer.ips": "10.0.0.1", "kube-router.io/peer.asns": asn, "kube-router.io/peer.passwords": text},
    ):
        shown = repr(hear(said))
        assert SECRET not in shown
        assert b64encode(SECRET.encode()).decode()[:12] not in shown
