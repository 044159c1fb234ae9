"""Who this node is to BGP, who its peers are, and why somebody is none."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.bgp.configuration import render
from kuberouter_py.config import Config
from kuberouter_py.controllers.routing.roster import Roster
from kuberouter_py.controllers.routing.speaker import Around, Decided, flag_passwords, generated_router_id, speaker
from kuberouter_py.model.bgp import WITHHELD, Bfd, BgpPeer, GracefulRestart, Password
from kuberouter_py.model.cluster import Cidr, Node, ObjectKey
from kuberouter_py.model.kernel import LinkState, family_of
from kuberouter_py.model.values import parse_cidr


def packed(text: str) -> bytes:
    return ip_address(text).packed


def node(name: str, *addresses: str, external: str = "", **said: str) -> Node:
    return Node(
        ObjectKey("", name),
        f"uid-{name}",
        internal_ips=tuple(map(packed, addresses)),
        external_ips=(packed(external),) if external else (),
        annotations={f"kube-router.io/{key.replace('_', '.')}": text for key, text in said.items()},
    )


def roster_of(own: str, *nodes: Node) -> Roster:
    roster = Roster(own)
    for each in nodes:
        roster.hear(each.key.name, each)
    return roster


def around(*addresses: str, **more: Any) -> Around:
    primary: dict[int, bytes] = {}
    for address in map(packed, addresses):
        primary.setdefault(family_of(address), address)
    made = Around(tuple(sorted(primary)), primary, frozenset(map(packed, addresses)))
    return made._replace(**more)


def config(**texts: str) -> Config:
    return Config.from_texts({name.replace("_", "-"): [text] for name, text in texts.items()})


def decide(own: Node, *others: Node, flags: Mapping[str, str] | None = None, **more: Any) -> Decided:
    texts = [str(ip_address(address)) for address in (*own.internal_ips, *own.external_ips)]
    return speaker(config(**flags or {}), roster_of(own.key.name, own, *others), around(*texts, **more))


def peers(decided: Decided) -> tuple[BgpPeer, ...]:
    return decided.speaker.peers if decided.speaker else ()


def told(decided: Decided) -> list[tuple[str, str]]:
    return [(note.owner.name if note.owner else "", note.message) for note in decided.notes]


A, B, C = node("a", "10.0.0.1"), node("b", "10.0.0.2"), node("c", "10.0.1.3")
ROUTER = {"peer_router_ips": "10.0.0.254", "peer_router_asns": "64999"}


# -- sessions with Nodes ---------------------------------------------------------------------------------------------


def test_full_mesh() -> None:
    decided = decide(B, C, A)
    assert peers(decided) == (
        BgpPeer(packed("10.0.0.1"), 64512, "a", local=packed("10.0.0.2")),
        BgpPeer(packed("10.0.1.3"), 64512, "c", local=packed("10.0.0.2"), passive=True),
    )
    assert decided.speaker is not None
    assert decided.speaker.asn == 64512
    assert decided.speaker.next_hops == {4: packed("10.0.0.2")}
    assert not decided.notes


def test_flags_of_the_mesh() -> None:
    decided = decide(A, B, flags={"cluster_asn": "4200000001", "bgp_port": "1179"})
    assert peers(decided)[0][1:4] == (4200000001, "b", 1179)
    assert decided.speaker is not None
    assert (decided.speaker.asn, decided.speaker.port) == (4200000001, 1179)
    assert decide(A, B, flags={"enable_ibgp": "false"}) == Decided(None)


def test_without_a_mesh_those_of_one_as_are_peers() -> None:
    flags = {"nodes_full_mesh": "false"}
    own = node("a", "10.0.0.1", node_asn="64601")
    same, other = node("b", "10.0.0.2", node_asn="64601"), node("c", "10.0.0.3", node_asn="64602")
    none, bad = node("d", "10.0.0.4"), node("e", "10.0.0.5", node_asn="x")
    decided = decide(own, same, other, none, bad, flags=flags)
    assert [(peer.node, peer.asn) for peer in peers(decided)] == [("b", 64601)]
    missing = "no BGP session with it: it has no AS number (annotation kube-router.io/node.asn)"
    assert told(decided)[0] == ("d", missing)
    assert told(decided)[1][1].startswith(f'{missing} (kube-router.io/node.asn: "x" is not')
    decided = decide(A, same, flags={**flags, **ROUTER})
    assert decided.speaker is None
    assert told(decided) == [
        ("a", "no BGP: --nodes-full-mesh=false, and the Node has no AS number (annotation kube-router.io/node.asn)")
    ]


def test_clients_have_sessions_with_reflectors_alone() -> None:
    server = node("s", "10.0.0.1", rr_server="42", rr_client="42")
    client, other = node("c", "10.0.0.2", rr_client="42"), node("d", "10.0.0.3", rr_client="42")
    plain = node("p", "10.0.0.4")
    everybody = (server, client, other, plain)
    sessions = {each.key.name: [peer.node for peer in peers(decide(each, *everybody))] for each in everybody}
    assert sessions == {"s": ["c", "d", "p"], "c": ["s"], "d": ["s"], "p": ["s"]}
    reflector = decide(server, *everybody).speaker
    assert reflector is not None
    assert reflector.reflects == bytes((0, 0, 0, 42))
    assert {peer.node: peer.client for peer in reflector.peers} == {"c": True, "d": True, "p": False}
    assert not any(peer.client for peer in peers(decide(client, *everybody)))


def test_a_client_without_any_reflector_is_told() -> None:
    client, plain = node("c", "10.0.0.2", rr_client="42"), node("p", "10.0.0.4")
    decided = decide(client, plain)
    assert decided.speaker is None
    why = "this one is a client (kube-router.io/rr.client), and no other is a reflector (kube-router.io/rr.server)"
    assert told(decided) == [("c", f"no session with Nodes: {why}")]
    assert not told(decide(client, plain, node("s", "10.0.0.1", rr_server="42")))


def test_a_router_that_no_link_leads_to() -> None:
    eth0 = LinkState(1, "eth0", "", True, "", ((packed("10.0.0.1"), 24),))
    far = {"peer_router_ips": "10.0.1.254", "peer_router_asns": "64999"}
    decided = decide(A, flags=far, links=(eth0,))
    assert [peer.address for peer in peers(decided)] == [packed("10.0.1.254")]  # a link may come
    assert told(decided) == [
        ("a", "no session with 10.0.1.254: no link of this node leads there (yet), and --peer-router-multihop-ttl is 0")
    ]
    assert told(decide(A, flags=ROUTER, links=(eth0._replace(up=False),)))
    assert not told(decide(A, flags=ROUTER, links=(eth0,)))
    assert not told(decide(A, flags={**far, "peer_router_multihop_ttl": "3"}, links=(eth0,)))
    assert not told(decide(A, flags={**far, "peer_router_asns": "64512"}, links=(eth0,)))


NODES = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["10.0.0.{}", "fd00::{}", "192.0.2.{}"]), max_size=3, unique=True),
        st.sampled_from(["", "64601", "64602"]),
        st.sampled_from(["", "rr_server", "rr_client"]),
    ),
    min_size=2,
    max_size=6,
)


@given(NODES, st.booleans())
def test_two_nodes_agree_about_their_session(made: list[tuple[list[str], str, str]], mesh: bool) -> None:
    nodes = [
        node(
            f"n{number}",
            *(text.format(number + 1) for text in texts),
            **({"node_asn": asn} if asn else {}),
            **({role: "7"} if role else {}),
        )
        for number, (texts, asn, role) in enumerate(made)
    ]
    flags = {"nodes_full_mesh": str(mesh).lower()}
    ends = {
        (one.key.name, peer.node): (peer.local, peer.address, peer.passive, peer.asn)
        for one in nodes
        for peer in peers(decide(one, *nodes, flags=flags))
    }
    for (one, other), (local, address, passive, asn) in ends.items():
        assert ends[other, one] == (address, local, not passive, asn)


def test_the_family_that_both_nodes_have_first() -> None:
    dual = node("a", "fd00::1", "10.0.0.1")
    assert peers(decide(dual, node("b", "fd00::2", "10.0.0.2")))[0].address == packed("fd00::2")
    assert peers(decide(dual, node("b", "10.0.0.2", "fd00::2")))[0].address == packed("10.0.0.2")
    assert peers(decide(dual, node("b", "fd00::2")))[0].address == packed("fd00::2")


def test_a_node_without_an_address_is_followed_when_it_has_one() -> None:
    roster = roster_of("a", A, node("b"), node("c", "fd00::3"))
    decided = speaker(Config(), roster, around("10.0.0.1"))
    assert told(decided) == [
        ("b", "no BGP session with it: it has no address yet"),
        ("c", "no BGP session with it: the two have no address family"),
    ]
    assert roster.hear("b", B)
    assert [peer.node for peer in peers(speaker(Config(), roster, around("10.0.0.1")))] == ["b"]


def test_an_address_is_one_node() -> None:
    decided = decide(A, node("b", "10.0.0.2"), node("c", "10.0.0.2"), node("d", "10.0.0.1"))
    assert [peer.node for peer in peers(decided)] == ["b"]
    assert told(decided) == [
        ("c", "no BGP session with it: its address 10.0.0.2 is that of b, too"),
        ("d", "no BGP session with it: its address 10.0.0.1 is that of a, too"),
    ]


# -- sessions with routers outside the cluster -----------------------------------------------------------------------


def test_peers_of_flags() -> None:
    flags = {
        "peer_router_ips": "10.0.0.254,fd00::fe",
        "peer_router_asns": "64999,65000",
        "peer_router_ports": "179,1790",
        "peer_router_multihop_ttl": "5",
        "enable_bfd": "true",
        "bfd_desired_min_tx_interval": "100",
        "bfd_required_min_rx_interval": "200",
        "bfd_detection_multiplier": "4",
    }
    own = node("a", "10.0.0.1", peers="[{remoteip: 10.0.0.253, remoteasn: 1}]")
    decided = decide(own, flags=flags, passwords=(None, Password("secret")))
    bfd = Bfd(100, 200, 4)
    assert peers(decided) == (
        BgpPeer(packed("10.0.0.254"), 64999, multihop=5, bfd=bfd),
        BgpPeer(packed("fd00::fe"), 65000, port=1790, multihop=5, bfd=bfd, password=Password("secret")),
    )
    assert "secret" not in repr(decided)


def test_peers_of_annotations_without_flags() -> None:
    own = node("a", "10.0.0.1", peers="[{remoteip: 10.0.0.253, remoteasn: 64998, localip: 10.0.0.1}]")
    decided = decide(own, flags={"peer_router_multihop_ttl": "3", "enable_bfd": "true"})
    assert peers(decided) == (BgpPeer(packed("10.0.0.253"), 64998, local=packed("10.0.0.1"), multihop=3),)


def test_peers_in_this_as_may_be_anywhere() -> None:
    flags = {"peer_router_ips": "10.9.0.1", "peer_router_asns": "64512"}
    assert [peer.multihop for peer in peers(decide(A, flags=flags))] == [255]
    assert [peer.multihop for peer in peers(decide(A, flags={**flags, "peer_router_multihop_ttl": "4"}))] == [4]
    assert [peer.multihop for peer in peers(decide(A, flags={**flags, "enable_bfd": "true"}))] == [0]


def test_unknown_passwords_are_no_reason_to_peer_without() -> None:
    decided = decide(A, B, flags=ROUTER, no_passwords="/etc/passwords: no such file")
    assert [peer.node for peer in peers(decided)] == ["b"]
    assert told(decided)[0][1] == (
        "no session with the peers of --peer-router-ips: their passwords are not known: /etc/passwords: no such file"
    )


@pytest.mark.parametrize(
    ("own", "left", "message"),
    [
        (
            node("a", "10.0.0.1", peers="[{remoteip: 10.0.0.1, remoteasn: 64998}]"),
            [],
            "no session with 10.0.0.1: that is an address of this node",
        ),
        (
            node("a", "10.0.0.1", peers="[{remoteip: 10.0.0.9, remoteasn: 64998, localip: 10.0.0.8}]"),
            ["10.0.0.9"],
            "no session with 10.0.0.9: its local address 10.0.0.8 is none of this node (yet)",
        ),
        (
            node(
                "a", "10.0.0.1", peers="[{remoteip: fd00::9, remoteasn: 64998}]", **{"bgp-local-addresses": "10.0.0.1"}
            ),
            [],
            "no session with fd00::9: no IPv6 address is in kube-router.io/bgp-local-addresses",
        ),
        (
            node(
                "a",
                "10.0.0.1",
                peers="[{remoteip: 10.0.0.9, remoteasn: 1, localip: 10.0.0.8}]",
                **{"bgp-local-addresses": "10.0.0.1"},
            ),
            [],
            "no session with 10.0.0.9: 10.0.0.8 is not in kube-router.io/bgp-local-addresses",
        ),
    ],
)
def test_why_somebody_is_no_peer(own: Node, left: list[str], message: str) -> None:
    decided = decide(own)
    assert [str(ip_address(peer.address)) for peer in peers(decided)] == left
    assert told(decided) == [("a", message)]


def test_listening_on_some_addresses() -> None:
    own = node("a", "10.0.0.1", **{"bgp-local-addresses": "192.0.2.1,10.0.0.1"})
    decided = decide(own, B, flags=ROUTER)
    assert decided.speaker is not None
    assert decided.speaker.listen == (packed("10.0.0.1"), packed("192.0.2.1"))
    assert {peer.node: peer.local for peer in decided.speaker.peers} == {
        "b": packed("10.0.0.1"),
        "": packed("192.0.2.1"),
    }
    elsewhere = node("a", "10.0.0.1", **{"bgp-local-addresses": "192.0.2.1"})
    decided = decide(elsewhere, B)
    assert decided.speaker is None
    assert told(decided) == [
        ("b", "no BGP session with it: 10.0.0.1 is not in this Node's kube-router.io/bgp-local-addresses")
    ]


def test_an_external_peer_comes_before_a_node() -> None:
    decided = decide(A, B, flags={"peer_router_ips": "10.0.0.2", "peer_router_asns": "64999"})
    assert [(peer.node, peer.asn) for peer in peers(decided)] == [("", 64999)]
    assert told(decided) == [("a", "no session with Node b as one: 10.0.0.2 is an external peer's")]


def test_sessions_that_stand_keep_their_passwords_while_the_file_cannot_be_read() -> None:
    flags = {"peer_router_ips": "10.0.0.9,10.0.0.8", "peer_router_asns": "64990,64991"}
    held = {packed("10.0.0.9"): Password("secret")}
    decided = decide(A, flags=flags, no_passwords="/etc/passwords: no such file", held=held)
    assert peers(decided) == (BgpPeer(packed("10.0.0.9"), 64990, password=Password("secret")),)
    assert told(decided)[0][1].endswith("/etc/passwords: no such file; sessions that stand keep theirs")


def test_passwords_of_flag_or_file() -> None:
    flags = {"peer_router_ips": "10.0.0.9,10.0.0.8", "peer_router_asns": "1,2"}
    assert flag_passwords(config(**flags), "") == ()
    assert flag_passwords(config(**flags, peer_router_passwords="c2VjcmV0,"), "") == (Password("secret"), None)
    shown = config(**flags, peer_router_passwords="***,")
    running = decide(A, flags={**flags, "peer_router_passwords": "c2VjcmV0,"}, passwords=(Password("secret"), None))
    assert flag_passwords(shown, "", running.speaker) == (Password("secret"), None)
    assert flag_passwords(shown, "") == (WITHHELD, None)
    from_file = config(**flags, peer_router_passwords_file="/etc/passwords")
    assert flag_passwords(from_file, ",c2VjcmV0\n") == (None, Password("secret"))
    with pytest.raises(ValueError, match=r"^1 passwords for 2 of --peer-router-ips$"):
        flag_passwords(from_file, "c2VjcmV0")


SAID = st.fixed_dictionaries(
    {},
    optional={
        "bgp-local-addresses": st.sampled_from(["10.0.0.1", "192.0.2.1,fd00::1", "fd00::1"]),
        "peers": st.lists(
            st.builds(
                "{{remoteip: {}, remoteasn: {}, {}}}".format,
                st.sampled_from(["10.0.0.9", "fd00::9", "10.0.0.2"]),
                st.sampled_from(["64512", "64999"]),
                st.sampled_from(["", "localip: 10.0.0.1", "localip: fd00::8", "password: wqcgJMOpIFwnIH4=", "bfd: {}"]),
            ),
            max_size=3,
        ).map(lambda items: f"[{', '.join(items)}]"),
        "node.bgp.communities": st.sampled_from(["65000:1,no-export", "0", "4294967295:1:2"]),
        "rr.server": st.just("42"),
        "path-prepend.as": st.just("4294967294"),
        "path-prepend.repeat-n": st.just("255"),
    },
)


@given(SAID, st.sampled_from(["10.0.0.1", "fd00::1", "both"]))
def test_whatever_is_decided_can_be_written_down_for_bird(said: dict[str, str], address: str) -> None:
    own = node("a", *(("10.0.0.1", "fd00::1") if address == "both" else (address,)), **said)
    made = decide(own, B, node("c", "fd00::3", "10.0.0.3", rr_client="1"), passwords=()).speaker
    if made is not None:
        text = render(made, "/run/kuberouter-py/bird.log")
        assert text.count("protocol bgp ") == len(made.peers)


# -- who we are ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "flag", "router_id"),
    [
        (node("a", "fd00::1", "10.0.0.1"), "", "10.0.0.1"),
        (node("a", "10.0.0.1"), "192.0.2.9", "192.0.2.9"),
        (node("a", "10.0.0.1"), "generate", "0.15.248.254"),  # kube-router's for this address
        (node("a", "fd00::1"), "", str(IPv4Address(generated_router_id(packed("fd00::1"))))),
    ],
)
def test_router_id(own: Node, flag: str, router_id: str) -> None:
    made = decide(own, flags={**ROUTER, "router_id": flag}).speaker
    assert made is not None
    assert made.router_id == packed(router_id)


@given(st.ip_addresses().map(lambda address: address.packed))
def test_a_generated_router_id_is_one(address: bytes) -> None:
    assert len(generated_router_id(address)) == 4
    assert any(generated_router_id(address))


def test_the_whole_of_a_speaker() -> None:
    own = node(
        "a",
        "10.0.0.1",
        "fd00::1",
        **{
            "node.bgp.communities": "65000:1,no-export",
            "node.bgp.customimportreject": "172.16.0.0/12",
            "path-prepend.as": "64900",
            "path-prepend.repeat-n": "2",
        },
    )
    flags = {
        **ROUTER,
        "bgp_holdtime": "30s",
        "bgp_graceful_restart": "true",
        "bgp_graceful_restart_time": "2m",
        "override_nexthop": "true",
        "advertise_pod_cidr": "false",
        "service_external_ip_range": "198.51.100.0/24,10.0.0.0/8",
        "loadbalancer_ip_range": "fd00:1b::/64",
    }
    pods, services = (parse_cidr("10.244.1.0/24"),), (parse_cidr("fd00:96::/112"), parse_cidr("10.96.0.0/12"))
    decided = decide(own, flags=flags, pod_cidrs=pods, service_cidrs=services)
    made = decided.speaker
    assert made is not None
    assert made.families == (4, 6)
    assert made.next_hops == {4: packed("10.0.0.1"), 6: packed("fd00::1")}
    assert (made.pod_cidrs, made.pods_to_external, made.own_next_hop) == (pods, False, True)
    assert made.communities == ("65000:1", "65535:65281")
    assert made.prepend == (64900, 2)
    assert made.hold_time == 30
    assert made.graceful_restart == GracefulRestart(120, 360)
    texts = ["10.96.0.0/12", "10.244.1.0/24", "172.16.0.0/12", "198.51.100.0/24", "fd00:1b::/64", "fd00:96::/112"]
    assert made.refused == tuple(map(parse_cidr, texts))
    assert told(decided) == [
        ("a", "--service-external-ip-range: 10.0.0.0/8 holds 10.0.0.1 of this node: peers may announce what lies in it")
    ]


def test_the_flag_for_service_ranges_counts_before_the_objects() -> None:
    made = decide(A, B, flags={"service_cluster_ip_range": "10.96.0.0/16"}, service_cidrs=(Cidr(bytes(4), 8),)).speaker
    assert made is not None
    assert made.refused == (parse_cidr("10.96.0.0/16"),)


def test_a_node_without_an_address_speaks_to_nobody() -> None:
    decided = decide(node("a"), B)
    assert decided.speaker is None
    assert told(decided) == [("a", "no BGP: the Node has no address yet")]
    assert speaker(Config(), roster_of("a", B), around("10.0.0.1")) == Decided(None)


def test_what_an_annotation_gets_wrong_is_told_its_owner() -> None:
    decided = decide(node("a", "10.0.0.1", node_bgp_communities="x"), B)
    assert [(note.reason, note.event) for note in decided.notes] == [("AnnotationRefused", True)]


# -- what is news ----------------------------------------------------------------------------------------------------


def test_only_what_a_speaker_depends_on_is_news() -> None:
    roster = roster_of("a", A, B)
    assert not roster.hear("b", Node(B.key, B.uid, B.internal_ips, labels={"x": "y"}, taints=("t",), deleting=True))
    assert not roster.hear("b", node("b", "10.0.0.2", peers="x"))  # concerns b alone
    assert roster.hear("a", node("a", "10.0.0.1", peers="x"))
    assert roster.hear("b", node("b", "10.0.0.2", external="192.0.2.2"))
    assert roster.hear("b", node("b", "10.0.0.2", rr_client="1"))
    assert roster.hear("b", None)
    assert not roster.hear("b", None)


def test_a_node_that_loses_its_addresses_for_a_moment_keeps_its_session() -> None:
    roster = roster_of("a", A, B)
    assert not roster.hear("b", node("b"))
    assert not roster.hear("a", node("a"))
    assert [peer.node for peer in peers(speaker(Config(), roster, around("10.0.0.1")))] == ["b"]


def test_a_bad_edit_of_another_node_changes_nothing() -> None:
    flags = config(nodes_full_mesh="false")
    roster = roster_of("a", node("a", "10.0.0.1", node_asn="64601"), node("b", "10.0.0.2", node_asn="64601"))
    before = speaker(flags, roster, around("10.0.0.1"))
    roster.hear("b", node("b", "10.0.0.2", node_asn="none"))
    assert speaker(flags, roster, around("10.0.0.1")).speaker == before.speaker
    roster.hear("b", node("b", "10.0.0.2"))
    assert not peers(speaker(flags, roster, around("10.0.0.1")))
