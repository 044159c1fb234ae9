"""Direct server return: what stands on a node for it, and why a port has to do without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from kuberouter_py.config import Config
from kuberouter_py.controllers.services.chains import chains
from kuberouter_py.controllers.services.dsr import ANNOTATION, REFUSED
from kuberouter_py.controllers.services.view import NodeView
from kuberouter_py.model import notation_servers, notation_sets
from kuberouter_py.model.cluster import Endpoint, Service, ServicePort, SlicePort
from kuberouter_py.model.kernel import (
    Address,
    Chain,
    Diversion,
    Forwarding,
    MarkServerKey,
    PodAddress,
    Protocol,
    VirtualServerKey,
)
from kuberouter_py.model.names import BALANCING_MARK, BALANCING_MASK, DIVERTED_MARK, VIP_LINK, balancing_mark
from kuberouter_py.ports import Refused
from tests.fakes.agent import LINKS, FakeAgent
from tests.fakes.objects import NODE_NAME, endpoint, endpoint_slice, link, node, packed, port, service

HERE, THERE = endpoint("10.244.1.2", NODE_NAME, pod="uid-1"), endpoint("10.244.2.3", "n2", pod="uid-2")
VIP, OTHER_VIP = "198.51.100.7", "198.51.100.8"
CONFIG = Config(strict_external_ip_validation=False)
TUNNEL = {ANNOTATION: "tunnel"}
HTTP = VirtualServerKey(Protocol.TCP, packed(VIP), 80)
MARK = balancing_mark(0)
SERVER = MarkServerKey(MARK, 4)


def web(
    name: str = "web",
    *,
    annotations: Mapping[str, str] = TUNNEL,
    external: Sequence[str] = (VIP,),
    ports: Sequence[ServicePort] = (),
    cluster_ip: str = "10.96.0.10",
    external_local: bool = False,
) -> Service:
    return service(
        name, cluster_ip, external=external, ports=ports, annotations=annotations, external_local=external_local
    )


def started(one: Service, *endpoints: Endpoint, target: int = 80, config: Config = CONFIG) -> FakeAgent:
    slices = endpoint_slice("web", *endpoints, ports=[SlicePort("", Protocol.TCP, target)])
    agent = FakeAgent(node("192.168.0.1"), one, slices, config=config)
    assert agent.start()
    return agent


def members(agent: FakeAgent, role: str) -> dict[str, int | None]:
    return {
        notation_sets.entry_text(member.entry): mark
        for member, mark in agent.kernel.members.items()
        if member.set == f"krpy-svc-{role}-4"
    }


def refusals(agent: FakeAgent) -> list[str]:
    notes = agent.controller.status({}, ()).notes
    return [note.message.removeprefix("not returned directly: ") for note in notes if note.reason == REFUSED]


def rules(agent: FakeAgent, table: str, chain: str) -> str:
    found = agent.kernel.chains.get(Chain(4, table, chain))
    return "\n".join(found.rules) if found else ""


def test_a_mark_stands_for_address_and_port() -> None:
    agent = started(web(), HERE, THERE)
    assert HTTP not in agent.kernel.servers
    found = agent.kernel.servers[SERVER].destinations
    assert {notation_servers.endpoint_text(*key) for key in found} == {"10.244.1.2:80", "10.244.2.3:80"}
    assert {one.forwarding for one in found.values()} == {Forwarding.TUNNEL}
    assert members(agent, "dsr") == {f"{VIP},tcp:80": MARK}
    assert agent.kernel.diversions == {4: Diversion(BALANCING_MARK, BALANCING_MASK)}


@pytest.mark.parametrize("binding", ["address", "route"])
def test_the_address_is_not_this_nodes(binding: str) -> None:
    agent = started(web(), HERE, config=Config(strict_external_ip_validation=False, vip_binding=binding))
    assert packed(VIP) not in agent.kernel.routes and Address(VIP_LINK, packed(VIP)) not in agent.kernel.addresses
    assert VIP not in members(agent, "vips") and VIP in members(agent, "dsrvips")
    assert packed("10.96.0.10") in agent.kernel.routes, "the ClusterIP is"


def test_nobody_is_masqueraded_and_the_port_filter_knows_it() -> None:
    agent = started(web(), HERE)
    frontend = f"{VIP},tcp:80"
    assert frontend in members(agent, "frontends")
    assert frontend not in members(agent, "external") and frontend not in members(agent, "owned")


def test_pods_of_this_node_have_the_address_as_soon_as_they_are_endpoints() -> None:
    starting = endpoint("10.244.1.4", NODE_NAME, 0, pod="uid-4")
    agent = started(web(external=[VIP, OTHER_VIP]), HERE, THERE, starting)
    assert set(agent.kernel.pod_addresses) == {
        PodAddress(uid, packed(own), packed(vip))
        for uid, own in (("uid-1", "10.244.1.2"), ("uid-4", "10.244.1.4"))
        for vip in (VIP, OTHER_VIP)
    }
    keys: set[object] = {SERVER, *agent.kernel.pod_addresses}
    written = [table for table, verb, key in agent.kernel.journal if verb == "write" and key in keys]
    assert written.index("pod addresses") < written.index("virtual servers")


def test_what_goes_with_the_annotation() -> None:
    plain = FakeAgent(node("192.168.0.1"), web(annotations={}), endpoint_slice("web", HERE), config=CONFIG)
    assert plain.start()
    agent = started(web(), HERE, target=8080)
    agent.tell(web(annotations={}))
    assert agent.kernel.state() == plain.kernel.state()
    agent.tell(web())
    agent.tell(web(annotations={}), endpoint_slice("web", HERE))
    assert agent.kernel.state() == plain.kernel.state()


@pytest.mark.parametrize(
    ("endpoints", "target", "reason"),
    [
        ([HERE], 8080, "its endpoints listen on 8080, and what is in a tunnel keeps its port"),
        ([HERE, endpoint("192.168.0.1", NODE_NAME, pod="u")], 80, "endpoint 192.168.0.1 is in its node's network"),
        ([HERE, endpoint("192.168.0.2", "n2", pod="u")], 80, "endpoint 192.168.0.2 is in its node's network"),
        ([HERE, endpoint("10.9.9.9", "")], 80, "endpoint 10.9.9.9 is no pod"),
    ],
)
def test_a_port_that_has_to_do_without(endpoints: list[Endpoint], target: int, reason: str) -> None:
    other = node("192.168.0.2")
    other = type(other)(key=other.key._replace(name="n2"), uid="n2", internal_ips=other.internal_ips)
    agent = FakeAgent(
        node("192.168.0.1"), other, web(),
        endpoint_slice("web", *endpoints, ports=[SlicePort("", Protocol.TCP, target)]), config=CONFIG,
    )  # fmt: skip
    assert agent.start()
    [told] = refusals(agent)
    assert told.startswith(f"TCP port 80: {reason}") and told.endswith("; masqueraded as usual")
    assert [note.event for note in agent.notes() if note.reason == REFUSED] == [True], "its owner hears of it"
    found = agent.kernel.servers[HTTP].destinations
    assert {one.forwarding for one in found.values()} == {Forwarding.MASQUERADE}
    assert members(agent, "dsr") == {f"{VIP},tcp:80": DIVERTED_MARK}, "led in, since the address is not bound"
    assert f"{VIP},tcp:80" in members(agent, "external") and not agent.kernel.pod_addresses
    assert not any(isinstance(key, MarkServerKey) for key in agent.kernel.servers)


def test_a_node_that_turns_out_to_have_an_endpoints_address() -> None:
    agent = started(web(), HERE, endpoint("192.168.0.2", "n2", pod="u"))
    assert SERVER in agent.kernel.servers
    other = node("192.168.0.2")
    agent.tell(type(other)(key=other.key._replace(name="n2"), uid="n2", internal_ips=other.internal_ips))
    assert SERVER not in agent.kernel.servers and refusals(agent)


def test_other_ports_of_the_address_go_on_whichever_services_they_are() -> None:
    ports = [port(80, name="http"), port(443, name="https")]
    slices = [SlicePort("http", Protocol.TCP, 80), SlicePort("https", Protocol.TCP, 8443)]
    other = service("plain", "10.96.0.11", external=[VIP], ports=[port(8080)])
    agent = FakeAgent(
        node("192.168.0.1"), other, web(ports=ports), endpoint_slice("web", HERE, ports=slices),
        endpoint_slice("plain", THERE), config=CONFIG,
    )  # fmt: skip
    assert agent.start()
    assert members(agent, "dsr") == {
        f"{VIP},tcp:80": MARK, f"{VIP},tcp:443": DIVERTED_MARK, f"{VIP},tcp:8080": DIVERTED_MARK,
    }  # fmt: skip
    assert packed(VIP) not in agent.kernel.routes
    agent.tell(web(annotations={}, ports=ports))
    assert packed(VIP) in agent.kernel.routes and members(agent, "dsr") == {}
    assert {
        key.port for key in agent.kernel.servers if isinstance(key, VirtualServerKey) and key.address == packed(VIP)
    } == {80, 443, 8080}


def test_with_nobody_to_send_it_to_it_is_not_led_in() -> None:
    """What is not led in is refused on its way out."""
    agent = started(web())
    assert members(agent, "dsr") == {} and VIP in members(agent, "dsrvips")
    assert "krpy-svc-dsrvips-4 dst -j REJECT" in rules(agent, "filter", "KRPY-SVC-OUTPUT")


def test_policy_local() -> None:
    """Outside clients get this node's pods, this node's clients everybody: by the mark of the short circuit."""
    agent = started(web(external_local=True), HERE, THERE)
    [short], [mark] = members(agent, "shortcircuit").values(), members(agent, "dsr").values()
    assert short is not None and mark is not None and short != mark
    direct, circuit = agent.kernel.servers[MarkServerKey(mark, 4)], agent.kernel.servers[MarkServerKey(short, 4)]
    assert {one.address for one in direct.destinations} == {packed("10.244.1.2")}
    assert len(circuit.destinations) == 2
    elsewhere = started(web(external_local=True), THERE)
    assert members(elsewhere, "dsr") == {f"{VIP},tcp:80": DIVERTED_MARK}, "this node's clients are led in"
    assert f"{VIP},tcp:80" in members(elsewhere, "silentoutside")


@pytest.mark.parametrize("value", ["", "direct", "Tunnel"])
def test_another_word(value: str) -> None:
    agent = started(web(annotations={ANNOTATION: value}), HERE)
    assert HTTP in agent.kernel.servers and packed(VIP) in agent.kernel.routes
    assert refusals(agent) == [f"{ANNOTATION} is {value!r}, and only 'tunnel' is known"]


def test_an_address_of_a_node_is_left_as_it_is() -> None:
    held = link("eth1", f"{VIP}/32")
    slices = endpoint_slice("web", HERE, ports=[SlicePort("", Protocol.TCP, 80)])
    agent = FakeAgent(node("192.168.0.1"), web(), slices, config=CONFIG, links=[*LINKS, held])
    assert agent.start()
    assert HTTP in agent.kernel.servers and refusals(agent) == [f"{VIP}: link eth1 of this node has it"]


def test_without_the_annotation_anywhere_nothing_of_it_stands_there() -> None:
    agent = started(web(annotations={}), HERE)
    assert not agent.kernel.diversions and "dsr" not in "".join(agent.kernel.sets)
    assert not any("DSR" in key.chain for key in agent.kernel.chains)
    assert "net/ipv4/vs/pmtu_disc" not in agent.kernel.sysctls


def test_segments_that_fit_the_tunnel_by_the_narrowest_link() -> None:
    agent = started(web(), HERE)
    assert "--set-mss 1440" in rules(agent, "mangle", "KRPY-SVC-DSR-MSS")
    agent.rewire(*LINKS, link("vxlan0")._replace(mtu=1450))
    assert "--set-mss 1390" in rules(agent, "mangle", "KRPY-SVC-DSR-MSS")


def test_maglev_takes_connections_over_in_their_middle() -> None:
    agent = started(web(annotations={**TUNNEL, "kube-router.io/service.scheduler": "mh"}), HERE)
    assert agent.kernel.sysctls["net/ipv4/vs/sloppy_tcp"] == "1"
    agent.tell(web())
    assert "net/ipv4/vs/sloppy_tcp" not in agent.kernel.sysctls


def test_a_restarted_agent_keeps_the_mark() -> None:
    agent = started(web(), HERE)
    first = web("first", external=[OTHER_VIP], cluster_ip="10.96.0.9")
    slices = [endpoint_slice(name, HERE, ports=[SlicePort("", Protocol.TCP, 80)]) for name in ("first", "web")]
    later = FakeAgent(node("192.168.0.1"), first, web(), *slices, config=CONFIG, kernel=agent.kernel)
    assert later.start()
    assert members(later, "dsr") == {f"{OTHER_VIP},tcp:80": balancing_mark(1), f"{VIP},tcp:80": MARK}


def test_a_pod_that_is_refused_is_told_at_its_service_and_nobody_else_waits() -> None:
    agent = started(web(), HERE)
    key = PodAddress("uid-5", packed("10.244.1.5"), packed(VIP))
    agent.kernel.table("pod addresses").refuse[key] = Refused("no process of it is there (yet)")
    slices = endpoint_slice(
        "web", HERE, endpoint("10.244.1.5", NODE_NAME, pod="uid-5"), ports=[SlicePort("", Protocol.TCP, 80)]
    )
    agent.tell(slices)
    assert len(agent.kernel.servers[SERVER].destinations) == 2
    [(what, why)] = agent.controller.status({}, ()).refused
    assert what == f"pod addresses: {VIP} in pod uid-5 (10.244.1.5) (default/web)" and "no process" in why
    agent.kernel.table("pod addresses").refuse.clear()
    assert agent.controller.retry() and key in agent.kernel.pod_addresses


def test_a_service_that_goes_keeps_what_its_connections_need() -> None:
    one = web()
    agent = started(one, HERE)
    agent.kernel.connections[SERVER, next(iter(agent.kernel.servers[SERVER].destinations))] = 1
    agent.tell_gone(one, endpoint_slice("web", HERE))
    assert [each.weight for each in agent.kernel.servers[SERVER].destinations.values()] == [0]
    assert members(agent, "dsr") == {f"{VIP},tcp:80": MARK} and agent.kernel.diversions and agent.kernel.pod_addresses
    agent.kernel.connections.clear()
    agent.now += 1000
    agent.drain()
    assert SERVER not in agent.kernel.servers
    assert not agent.kernel.diversions and not agent.kernel.pod_addresses and "krpy-svc-dsr-4" not in agent.kernel.sets


@pytest.mark.parametrize("family", [4, 6])
def test_the_fixed_rules(family: int) -> None:
    """What is led in, what is refused, what may pass, and what is cleared before nat routes anew (docs/kernel.md)."""
    found = dict(chains(Config(), NodeView("n1", direct_return=True, mtu=1400, uplinks=("eth0",)), family))

    def of(table: str, chain: str) -> list[str]:
        return list(found[Chain(family, table, chain)].rules)

    dsr, vips = f"--match-set krpy-svc-dsr-{family}", f"--match-set krpy-svc-dsrvips-{family}"
    assert of("mangle", "PREROUTING") == ["-j KRPY-SVC-SILENT", "-j KRPY-SVC-DSR"]
    assert of("mangle", "OUTPUT") == ["-j KRPY-SVC-SILENT", "-j KRPY-SVC-UNMARK", "-j KRPY-SVC-MARK"]
    assert of("mangle", "KRPY-SVC-MARK")[0] == "-j KRPY-SVC-DSR"
    first, *errors = of("mangle", "KRPY-SVC-DSR")
    assert first == f"-m set {dsr} dst,dst -j SET --map-set krpy-svc-dsr-{family} dst,dst --map-mark"
    assert all(f"{vips} dst -j MARK --set-xmark 0x7ff000ff/0xffffffff" in error for error in errors)
    assert any("packet-too-big" in error for error in errors) == (family == 6)
    assert of("mangle", "KRPY-SVC-DSR-MSS")[0].endswith(
        f"{dsr} src,src -j TCPMSS --set-mss {1340 if family == 4 else 1300}"
    )
    refused = f"-m set {vips} dst -j REJECT --reject-with {'icmp' if family == 4 else 'icmp6'}-port-unreachable"
    assert of("filter", "KRPY-SVC-OUTPUT") == [refused]
    assert of("filter", "KRPY-SVC-FORWARD")[-4:] == [
        refused,
        f"-i eth0 -m set {dsr} src,src -j RETURN",
        f"-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m set {dsr} src,src -j ACCEPT",
        f"! -p tcp -m set {dsr} src,src -j ACCEPT",
    ]


def test_a_link_too_narrow_for_the_arithmetic() -> None:
    found = dict(chains(Config(), NodeView("n1", direct_return=True, mtu=576), 4))
    assert found[Chain(4, "mangle", "KRPY-SVC-DSR-MSS")].rules[0].endswith("--set-mss 536")
