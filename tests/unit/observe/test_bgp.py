"""What `bgp` and `bgp routes` say, as documents and on a screen."""

from __future__ import annotations

import json

from kuberouter_py.observe.bgp import bgp_document, bgp_text, routes_document, routes_text
from tests.unit.observe.bgp_documents import DEAD, DOCUMENT, IN, NODE, NOW, OUT, ROUTER, SPEAKER


def test_sessions() -> None:
    assert bgp_text(DOCUMENT) == (
        """\
BGP on n1: AS 64512, router ID 10.0.0.1; 2 of 3 sessions up

peer           AS  node  state        for     BFD  received  accepted  announced
10.0.0.254  64999        Established  1h2m5s  Up        3+1       2+0       12+5
fd00::fe    65000        Active       1m1s                0         0          0
10.0.0.2    64512  n2    Established  5s                  1         1          1

not up:
  fd00::fe (AS 65000): Received: Peer de-configured

not as asked:
  Node n3: no BGP session with it: it has no address yet (NotPeered)
"""
    )


def test_the_document_has_everything_but_passwords() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    assert "secret" not in json.dumps(DOCUMENT)
    assert DOCUMENT["speaker"] == {
        "asn": 64512,
        "routerId": "10.0.0.1",
        "port": 179,
        "nextHops": ["10.0.0.1", "fd00::1"],
        "listen": [],
        "clusterId": "",
        "communities": ["65000:1"],
        "prepend": {"asn": 64900, "times": 2},
        "gracefulRestart": {"time": 90, "deferral": 360},
        "refused": ["10.96.0.0/12"],
        "peers": 3,
    }
    assert DOCUMENT["peers"][0] == {
        "address": "10.0.0.254",
        "asn": 64999,
        "node": "",
        "state": "Established",
        "since": NOW - 3725,
        "reason": "",
        "capabilities": ["Route refresh", "4-octet AS numbers"],
        "bfd": "Up",
        "holdTime": 90,
        "routes": {
            "IPv4": {"received": 3, "accepted": 2, "announced": 12},
            "IPv6": {"received": 1, "accepted": 0, "announced": 5},
        },
    }


def test_a_reflector_says_so() -> None:
    reflector = SPEAKER._replace(reflects=bytes((0, 0, 0, 42)))
    document = bgp_document(node="n1", now=NOW, speaker=reflector, states=(), notes=(), problem="nobody answers")
    assert bgp_text(document) == (
        "BGP on n1: AS 64512, router ID 10.0.0.1, reflects routes (cluster ID 0.0.0.42); 0 of 3 sessions up\n\n"
        "the sessions are not known: nobody answers\n"
    )


def test_a_session_that_is_up_though_its_peer_has_no_bfd() -> None:
    states = ROUTER._replace(bfd="Down"), DEAD._replace(bfd="Down"), NODE
    told = bgp_text(bgp_document(node="n1", now=NOW, speaker=SPEAKER, states=states, notes=(), problem=""))
    assert told.endswith(
        """\
not up:
  fd00::fe (AS 65000): Received: Peer de-configured

up, and nothing is heard of BFD: they have none, or a packet filter drops it:
  10.0.0.254 (AS 64999): only its hold time, 90 s, tells when it is gone
"""
    )
    assert "BFD: they have none" not in bgp_text(DOCUMENT)


def test_bgp_that_is_off() -> None:
    document = bgp_document(node="n1", now=NOW, speaker=None, states=(), notes=(), problem="")
    assert bgp_text(document) == "BGP on n1: off, there are no peers\n"


def test_routes() -> None:
    documents = [routes_document(ROUTER, IN, OUT), routes_document(NODE, (), OUT), routes_document(DEAD, (), ())]
    assert routes_text(documents) == (
        """\
10.0.0.254 (AS 64999), Established, gave us 2 routes:
  0.0.0.0/0 via 10.0.0.254, path 64999, not used
  192.0.2.0/24 via 10.0.0.254, path 64999 65001, communities 65000:7
10.0.0.254 (AS 64999), Established, got from us 1 route:
  10.96.0.10/32 via 10.0.0.1, path 64512

Node n2 (10.0.0.2), Established, gave us no routes
Node n2 (10.0.0.2), Established, got from us 1 route:
  10.96.0.10/32 via 10.0.0.1, path 64512

fd00::fe (AS 65000), Active, gave us no routes
fd00::fe (AS 65000), Active, got from us no routes
"""
    )
    assert routes_text([]) == "no peers\n"
    assert documents[0]["in"][1] == {
        "network": "192.0.2.0/24",
        "nextHop": "10.0.0.254",
        "asPath": [64999, 65001],
        "communities": ["65000:7"],
        "accepted": True,
    }
