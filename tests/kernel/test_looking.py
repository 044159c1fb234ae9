"""What `explain` asks the kernel, beside what the tools say."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from kuberouter_py.kernel.ipset import Members, Sets
from kuberouter_py.kernel.iptables import Chains
from kuberouter_py.kernel.ipvs import VirtualServers
from kuberouter_py.kernel.looking import Looking
from kuberouter_py.model.kernel import (
    PERSISTENT,
    Chain,
    Destination,
    DestinationKey,
    IpSet,
    MarkServerKey,
    Protocol,
    Rules,
    SetEntry,
    SetMember,
    VirtualServer,
    VirtualServerKey,
)
from kuberouter_py.model.names import SERVICES_CHAINS, SERVICES_SETS, balancing_mark, services_set
from kuberouter_py.ports import Hop, Plan
from tests.kernel.exam import sh

pytestmark = pytest.mark.usefixtures("netns")


def packed(text: str) -> bytes:
    return ip_address(text).packed


FRONTEND = SetEntry(packed("10.96.0.10"), Protocol.TCP, 80)
KEY = VirtualServerKey(Protocol.TCP, packed("10.96.0.10"), 80)
HERE = DestinationKey(packed("127.0.0.1"), 8080)


@pytest.fixture
def servers() -> Iterator[VirtualServers]:
    servers = VirtualServers(set, set)
    yield servers
    servers.close()


@pytest.fixture
def looking(servers: VirtualServers) -> Looking:
    sh("""ip link add up0 type dummy; ip link set up0 up
          ip address add 192.0.2.2/24 dev up0; ip address add fd00:9::2/64 dev up0 nodad
          ip route add default via 192.0.2.1""")
    return Looking(servers, Chains(SERVICES_CHAINS, "legacy"))


def test_routes(looking: Looking) -> None:
    assert looking.toward(packed("203.0.113.9")) == Hop("up0", packed("192.0.2.2"))
    assert looking.toward(packed("fd00:9::9")) == Hop("up0", packed("fd00:9::2"))
    assert looking.toward(packed("fd00:8::9")) is None
    assert looking.is_local(packed("192.0.2.2"))
    assert looking.is_local(packed("127.0.0.9"))
    assert not looking.is_local(packed("192.0.2.9"))


def test_marks_that_are_led_in(looking: Looking) -> None:
    sh("""for family in -4 -6; do
              ip $family rule add fwmark 0x40000000/0xc00fff00 lookup 158
              ip $family route add local default dev lo table 158
          done""")
    for address in ("198.51.100.7", "2001:db8::7"):
        assert looking.is_local(packed(address), balancing_mark(7))
        assert not looking.is_local(packed(address), 7)
        assert not looking.is_local(packed(address))


def test_sets_of_networks_and_of_marks(looking: Looking) -> None:
    ranged, marked = services_set("sources", 4), services_set("shortcircuit", 4)
    sets = Sets(SERVICES_SETS)
    assert not sets.apply(Plan({ranged: IpSet("hash:ip,port,net", 4), marked: IpSet("hash:ip,port skbinfo", 4)}))
    network = FRONTEND._replace(address2=packed("203.0.113.0"), prefix=28)
    mark = balancing_mark(7)
    members = Members(SERVICES_SETS)
    assert not members.apply(Plan({SetMember(ranged, network): None, SetMember(marked, FRONTEND): mark}))
    assert looking.holds(SetMember(ranged, FRONTEND._replace(address2=packed("203.0.113.9"))))
    assert not looking.holds(SetMember(ranged, FRONTEND._replace(address2=packed("203.0.113.99"))))
    assert not looking.holds(SetMember(services_set("gone", 4), FRONTEND))
    assert looking.mark(SetMember(marked, FRONTEND)) == mark
    assert looking.mark(SetMember(marked, FRONTEND._replace(port=81))) == 0
    assert looking.mark(SetMember(services_set("gone", 4), FRONTEND)) == 0


def test_servers_and_where_a_client_is_kept(looking: Looking, servers: VirtualServers) -> None:
    server = VirtualServer("rr", PERSISTENT, 60, {HERE: Destination()})
    on_mark = MarkServerKey(balancing_mark(7), 6)
    assert not servers.apply(Plan({KEY: server, on_mark: VirtualServer("rr", 0, 0, {})}))
    assert looking.server(KEY) == server
    assert looking.server(on_mark) == VirtualServer("rr", 0, 0, {})
    assert looking.server(KEY._replace(port=81)) is None
    client = packed("127.0.0.1")
    assert looking.affinity(KEY, client) is None
    sh("""ip address add 10.96.0.10/32 dev lo; ip address add 10.244.1.9/32 dev lo
          timeout 10 bash -c 'exec 3<>/dev/tcp/10.96.0.10/80' || true""")
    source = sh("ipvsadm -Lnc | awk '$4 ~ /:0$/ {print $4}'").strip().removesuffix(":0")
    kept = looking.affinity(KEY, packed(source))
    assert kept is not None
    assert kept.destination == HERE
    assert 0 < kept.expires <= 120


def test_chains_as_they_were_written(looking: Looking) -> None:
    rules = Rules(("-s 10.0.0.0/8 -j ACCEPT",))
    chain = Chain(4, "nat", f"{SERVICES_CHAINS}NAT")
    chains = Chains(SERVICES_CHAINS, "legacy")
    chains.read()
    assert not chains.apply(Plan({chain: rules}))
    assert looking.chains()[chain] == rules
    sh(f"iptables-legacy -t nat -A {chain.chain} -j RETURN")
    found = looking.chains()[chain]
    assert found != rules
    assert found.rules[-1] == "-j RETURN"
