"""What BIRD 2.0.12 says, and what is taken from it; and that nothing which it may say brings us down."""

from __future__ import annotations

import math
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.bgp import answers
from kuberouter_py.bgp.replies import Line, lines_of
from kuberouter_py.model.bgp import PeerRoute, PeerState
from tests.fakes.speakers import cidr, packed

STATUS = b"""1000-BIRD 2.0.12
1011-Router ID is 10.0.0.1
 Hostname is vm
 Current server time is 2026-11-30 02:43:10.843
 Last reboot on 2026-11-30 02:43:05.524
 Last reconfiguration on 2026-11-30 02:43:05.524
0013 Daemon is up and running
"""

GIVEN_UP = b"""2002-Name       Proto      Table      State  Since         Info
1002-device1    Device     ---        up     18:41:44.829  \n \
peer_10_0_0_2 BGP        ---        down   18:41:44.830  Error: No listening socket
 peer_10_0_0_3 BGP        ---        start  18:41:58.841  Active        Error: No listening socket
 peer_10_0_0_4 BGP        ---        down   18:41:44.830  Received: Peer de-configured
 other      BGP        ---        down   18:41:44.830  Error: No listening socket
0000 \n"""

PROTOCOLS = b"""2002-Name       Proto      Table      State  Since         Info
1002-device1    Device     ---        up     2026-11-30 02:43:05.524  \n1006-
1002-learn4     Kernel     handover4  up     2026-11-30 02:43:05.524  \n1006-  Channel ipv4
     State:          UP
     Routes:         1 imported, 0 exported, 1 preferred
 \n1002-peer_10_0_0_2 BGP        ---        up     2026-11-30 02:43:06.416  Established   \
\n1006-  BGP state:          Established
     Neighbor address: 10.0.0.2
     Neighbor AS:      65001
     Local AS:         65000
     Neighbor ID:      10.0.0.2
     Local capabilities
       Multiprotocol
         AF announced: ipv4 ipv6
       Route refresh
       Long-lived graceful restart
     Neighbor capabilities
       Multiprotocol
         AF announced: ipv4 ipv6
       Graceful restart
         Restart time: 120
         AF supported: ipv4
         AF preserved:
       4-octet AS numbers
     Session:          external AS4
     Source address:   10.0.0.1
     Hold timer:       68.676/90
     Keepalive timer:  21.663/30
   Channel ipv4
     State:          UP
     Table:          master4
     Input filter:   from_peers4
     Routes:         2 imported, 3 filtered, 4 exported, 2 preferred
     Route change stats:     received   rejected   filtered    ignored   accepted
       Import updates:              2          0          0          0          2
     BGP Next hop:   10.0.0.1
   Channel ipv6
     State:          UP
     Routes:         1 imported, 0 filtered, 5 exported, 1 preferred
     BGP Next hop:   fd00::1 fe80::98c2:3dff:fe5d:ceeb
 \n1002-node_fd00__2 BGP        ---        start  2026-11-30 02:43:08.843  Active        Socket: Connection refused
1006-  Description:    worker-2
   BGP state:          Active
     Neighbor address: fd00::2
     Neighbor AS:      65000
     Local AS:         65000
     Last error:       Socket: Connection refused
   Channel ipv4
     State:          DOWN
   Channel ipv6
     State:          DOWN
 \n0000 \n"""

BFD = b"""1020-bfd1:
 IP address                Interface  State      Since         Interval  Timeout
 10.0.0.2                  ea         Up         2026-11-30 02:43:06.262    0.300    1.500
0000 \n"""

ROUTES = b"""1007-Table master4:
 203.0.113.0/24       unicast [peer_10_0_0_3 2026-11-30 02:43:09.416] * (100) [AS65001i]
 \tvia 10.0.0.3 on ea
1008-\tType: BGP univ
1012-\tBGP.origin: IGP
 \tBGP.as_path: 65001 {65002 4200000000}
 \tBGP.next_hop: 10.0.0.3
 \tBGP.local_pref: 100
 \tBGP.community: (65000,5) (65535,65284)
 \tBGP.large_community: (65000, 1, 2)
1007-                     unicast [peer_10_0_0_2 2026-11-30 02:43:09.416] (100) [AS65001i]
 \tvia 10.0.0.2 on ea
1008-\tType: BGP univ
1012-\tBGP.as_path: 65001
 \tBGP.next_hop: 10.0.0.2
1007-
 Table master6:
 2001:db8:77::/48     unicast [peer_10_0_0_2 2026-11-30 02:43:09.460 from 10.0.0.2] * (100) [AS65001i]
 \tvia fd00::2 on ea
1008-\tType: BGP univ
1012-\tBGP.as_path: 65001
 \tBGP.next_hop: fd00::2 fe80::d8bf:7aff:fe6b:85e6
0000 \n"""

OUT = b"""1007-Table master4:
 10.96.0.10/32        blackhole [learn4 2026-11-30 02:43:05.548] * (1000)
1008-\tType: inherit univ
1012-\tKernel.source: 158
 \tKernel.metric: 2
 \tBGP.as_path: 65000 65000
1007-
 Table master6:
 fd00:244::/64        blackhole [learn6 2026-11-30 02:43:05.548] * (1000)
1008-\tType: inherit univ
0000 \n"""


def said(data: bytes) -> list[Line]:
    return list(lines_of(data))


def test_peers() -> None:
    now = datetime.fromisoformat("2026-11-30 02:43:10.843").timestamp() + 7200  # BIRD's clock shows another zone
    up, down = answers.peers(said(STATUS), said(PROTOCOLS), said(BFD), now)
    assert math.isclose(up.since, now - 4.427, abs_tol=0.001)
    assert math.isclose(down.since, now - 2.0, abs_tol=0.001)
    assert up._replace(since=0.0) == PeerState(
        address=packed("10.0.0.2"),
        asn=65001,
        node="",
        state="Established",
        since=0.0,
        reason="",
        capabilities=("Multiprotocol ipv4 ipv6", "Graceful restart ipv4", "4-octet AS numbers"),
        received={4: 5, 6: 1},
        accepted={4: 2, 6: 1},
        announced={4: 4, 6: 5},
        bfd="Up",
        hold_time=90,
    )
    assert down._replace(since=0.0) == PeerState(
        packed("fd00::2"), 65000, "worker-2", "Active", 0.0, "Socket: Connection refused", (), {}, {}, {}
    )


def test_routes_that_a_peer_gave_us() -> None:
    third_alone = said(ROUTES[ROUTES.index(b"1007-\n") :])
    first, second, third, filtered = answers.routes_in(said(ROUTES), third_alone, [])
    assert first == PeerRoute(
        cidr("203.0.113.0/24"),
        packed("10.0.0.3"),
        (65001, 65002, 4200000000),
        ("65000:5", "65535:65284", "65000:1:2"),
        accepted=True,
    )
    assert second == PeerRoute(cidr("203.0.113.0/24"), packed("10.0.0.2"), (65001,), (), accepted=False)
    assert third == PeerRoute(cidr("2001:db8:77::/48"), packed("fd00::2"), (65001,), (), accepted=True)
    assert filtered == third._replace(accepted=False)


def test_equal_routes_of_several_peers_are_used_together() -> None:
    merged = b"""1007-Table master4:
 203.0.113.0/24       unicast [peer_10_0_0_3 2026-11-30 02:43:09.416] * (100) [AS65001i]
 \tvia 10.0.0.2 on ea weight 1
 \tvia 10.0.0.3 on ea weight 1
0000 \n"""
    assert [route.accepted for route in answers.routes_in(said(ROUTES), [], said(merged))] == [True, True, True]
    assert [route.accepted for route in answers.routes_in(said(ROUTES), [], [])] == [True, False, True]


def test_routes_that_a_peer_got_from_us() -> None:
    """With what the session adds."""
    [session, _] = answers.sessions(said(PROTOCOLS))
    assert list(answers.routes_out(said(OUT), session)) == [
        PeerRoute(cidr("10.96.0.10/32"), packed("10.0.0.1"), (65000, 65000, 65000), (), accepted=True),
        PeerRoute(cidr("fd00:244::/64"), packed("fd00::1"), (65000,), (), accepted=True),
    ]


LINES = st.lists(
    st.builds(
        Line,
        st.sampled_from([1002, 1006, 1007, 1008, 1011, 1012, 1020, 0]),
        st.text()
        | st.sampled_from([line.text for text in (STATUS, PROTOCOLS, BFD, ROUTES, OUT) for line in said(text)]),
    )
)


@given(LINES, LINES, LINES)
def test_whatever_it_says_is_taken_or_left(first: list[Line], second: list[Line], third: list[Line]) -> None:
    for peer in answers.peers(first, second, third, 1e9):
        assert len(peer.address) in (4, 16)
    for session in answers.sessions(second):
        assert all(len(route.network.network) in (4, 16) for route in answers.routes_out(third, session))
    assert all(len(route.network.network) in (4, 16) for route in answers.routes_in(first, second, third))


def test_sessions_that_are_given_up() -> None:
    assert list(answers.given_up(lines_of(GIVEN_UP))) == [packed("10.0.0.2")]
