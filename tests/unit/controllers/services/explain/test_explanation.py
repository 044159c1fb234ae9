"""What is told of a connection, reason by reason: a cluster and a question in, the verdict out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.config import Config
from kuberouter_py.controllers.services.explain.document import document
from kuberouter_py.controllers.services.explain.explanation import begin, compared, finish
from kuberouter_py.controllers.services.explain.question import Unanswerable, origin_of, target_of
from kuberouter_py.model.cluster import READY, SERVING, TERMINATING, Endpoint, EndpointSlice, PodMetadata, SlicePort
from kuberouter_py.model.kernel import (
    Destination,
    DestinationKey,
    Protocol,
    SetEntry,
    SetMember,
    VirtualServer,
    VirtualServerKey,
)
from kuberouter_py.model.names import services_set
from kuberouter_py.ports import Affinity, Refused
from tests.fakes.agent import LINKS, SERVED, FakeAgent
from tests.fakes.kernel import FakeKernel
from tests.fakes.lookups import FakeLookups
from tests.fakes.objects import DRAINING, cidr, endpoint, endpoint_slice, key_of, link, node, packed, port, service

N1 = node("192.168.0.1")
POD, OUTSIDE = "10.244.1.9", "203.0.113.9"
HERE, THERE = endpoint("10.244.1.2", "n1"), endpoint("10.244.2.3", "n2")
CONFIG = Config(service_external_ip_range=(cidr("198.51.100.0/24"),))


def pods(*endpoints: Endpoint, port_name: str = "http", family: int = 4, suffix: str = "a") -> EndpointSlice:
    ports = [SlicePort(port_name, Protocol.TCP, 8080)]
    return endpoint_slice("web", *endpoints, ports=ports, family=family, suffix=suffix)


def web(**options: Any) -> Any:
    return service("web", ports=[port(80, 30080, "http")], **{"kind": "NodePort", **options})


WEB, PODS = web(), pods(HERE, THERE)
LB = web(kind="LoadBalancer", ingress=["198.51.100.8"])
CHECKED = msgspec.structs.replace(LB, external_local=True, health_check_node_port=32000)
RANGED = msgspec.structs.replace(LB, source_ranges=("203.0.113.0/28",))
CLUSTER_IP = VirtualServerKey(Protocol.TCP, packed("10.96.0.10"), 80)


def started(*objects: SERVED, config: Config = CONFIG) -> FakeAgent:
    agent = FakeAgent(N1, *objects, config=config)
    agent.start()
    return agent


def explained(agent: FakeAgent, sender: str, target: str, *, actual: bool = False, **lookups: Any) -> dict[str, Any]:
    asked = FakeLookups(agent.kernel)
    vars(asked).update(lookups)
    origin, wanted = origin_of(sender), target_of(target)
    begun = agent.controller.inquire(lambda known: begin(origin, wanted, known, asked))
    paths = [finish(each, asked) for each in begun]
    if actual:
        paths = [compared(path, asked, asked.chains()) for path in paths]
    return document("n1", origin, paths, [])


@pytest.mark.parametrize(
    ("objects", "sender", "target", "verdict"),
    [
        ([WEB, PODS], POD, "10.96.0.10:80", "open: 2 destinations, rr, seen as 10.244.1.9 (not masqueraded)"),
        ([WEB, PODS], OUTSIDE, "10.96.0.10:80", "open: 2 destinations, rr, masqueraded as 10.244.1.1 or 192.168.0.1"),
        ([WEB, pods(THERE)], OUTSIDE, "192.168.0.1:30080", "open: 1 destination, rr, masqueraded as 192.168.0.1"),
        (
            [WEB, PODS],
            "10.244.1.2",
            "10.96.0.10:80",
            "open: 2 destinations, rr, masqueraded as 10.244.1.1 only where it is sent to itself, else not",
        ),
        (
            [web(affinity=60), pods(HERE)],
            POD,
            "10.96.0.10:80",
            "open: 1 destination, rr with affinity for 60 s, seen as 10.244.1.9 (not masqueraded)",
        ),
        ([WEB], POD, "10.96.0.10:80", "refused: the Service has no endpoints"),
        ([WEB, pods(endpoint("10.244.1.2", "n1", 0))], POD, "10.96.0.10:80", "refused: no endpoint is ready"),
        (
            [WEB, pods(HERE, port_name="other")],
            POD,
            "10.96.0.10:80",
            "refused: no endpoint at all (its EndpointSlice web-a has no port http tcp (but other tcp))",
        ),
        ([RANGED, PODS], OUTSIDE, "198.51.100.8:80", "open: 2 destinations"),
        (
            [RANGED, PODS],
            "203.0.113.99",
            "198.51.100.8:80",
            "silent: outside loadBalancerSourceRanges (203.0.113.0/28)",
        ),
        ([RANGED, PODS], "node", "198.51.100.8:80", "silent: outside loadBalancerSourceRanges (203.0.113.0/28)"),
        ([RANGED, PODS], "203.0.113.99", "192.168.0.1:30080", "open: 2 destinations"),
        (
            [WEB, PODS],
            POD,
            "10.96.0.10:81",
            "refused: rejected by the port filter: Service default/web has no port 81/tcp, but http 80/tcp",
        ),
        ([WEB, PODS], "node", "10.96.0.10:81", "refused: rejected by the port filter"),
        (
            [web(internal_local=True), pods(THERE)],
            POD,
            "10.96.0.10:80",
            "silent: internalTrafficPolicy Local, no local endpoint",
        ),
        (
            [web(external_local=True), pods(THERE)],
            OUTSIDE,
            "192.168.0.1:30080",
            "silent: externalTrafficPolicy Local, no local endpoint",
        ),
        (
            [web(external_local=True), pods(HERE, THERE)],
            OUTSIDE,
            "192.168.0.1:30080",
            "open: 1 destination, rr, seen as 203.0.113.9 (not masqueraded)",
        ),
        (
            [web(external_local=True), pods(THERE)],
            POD,
            "192.168.0.1:30080",
            "open: 1 destination, rr, seen as 10.244.1.9 (not masqueraded), past externalTrafficPolicy Local",
        ),
        (
            [web(external_local=True), pods(THERE)],
            "node",
            "192.168.0.1:30080",
            "open: 1 destination, rr, masqueraded as 192.168.0.1, past externalTrafficPolicy Local",
        ),
        (
            [web(external_local=True), pods(endpoint("10.244.2.3", "n2", 0))],
            OUTSIDE,
            "192.168.0.1:30080",
            "refused: no endpoint is ready",
        ),
        ([web(external_local=True)], OUTSIDE, "192.168.0.1:30080", "refused: the Service has no endpoints"),
        (
            [web(external_local=True, affinity=60), pods(THERE)],
            POD,
            "192.168.0.1:30080",
            "open: 1 destination, sh",
        ),
        (
            [CHECKED, pods(HERE)],
            OUTSIDE,
            "192.168.0.1:32000",
            "open: the agent answers, it is the health check port of default/web (1 local endpoint)",
        ),
        (
            [web(external=["203.0.113.80"]), PODS],
            OUTSIDE,
            "203.0.113.80:80",
            "not ours: externalIP 203.0.113.80 is not served: outside --service-external-ip-range (198.51.100.0/24)",
        ),
        (
            [WEB, PODS],
            OUTSIDE,
            "192.168.0.1:22",
            "not ours: 192.168.0.1 is this node's own (on eth0), and no Service has its port 22/tcp",
        ),
        (
            [WEB, PODS],
            "node",
            "127.0.0.1:30080",
            "not ours: 127.0.0.1 is this node's own (on lo), and NodePort 30080 of default/web answers on",
        ),
        (
            [WEB, PODS],
            OUTSIDE,
            "10.96.0.99:80",
            "not ours: no Service has the address 10.96.0.99: packets to it leave this node as they are",
        ),
    ],
)
def test_the_verdict(objects: list[SERVED], sender: str, target: str, verdict: str) -> None:
    agent = started(*objects)
    for actual in (False, True):
        told = explained(agent, sender, target, actual=actual)
        assert told["verdict"].startswith(verdict), told["verdict"]
        assert told["paths"][0]["differences"] == []


def reasons(told: dict[str, Any]) -> dict[str, str]:
    return {one["address"]: one["reason"] for one in told["paths"][0]["leftOut"]}


def test_why_each_other_endpoint_is_not_among_them() -> None:
    zones = [
        msgspec.structs.replace(endpoint(address, "n2"), hint_zones=(zone,))
        for address, zone in (("10.244.2.4", "a"), ("10.244.2.5", "b"))
    ]
    agent = FakeAgent(
        msgspec.structs.replace(N1, labels={"topology.kubernetes.io/zone": "a"}),
        WEB,
        pods(*zones, endpoint("10.244.2.6", "n2", 0), endpoint("10.244.2.7", "n2", SERVING | TERMINATING)),
        pods(endpoint("10.244.2.8"), port_name="other", suffix="b"),
        pods(endpoint("fd00::8"), family=6, suffix="c"),
    )
    agent.start()
    told = explained(agent, POD, "10.96.0.10:80")
    assert [one["address"] for one in told["paths"][0]["decided"]["destinations"]] == ["10.244.2.4"]
    assert reasons(told) == {
        "10.244.2.5": "hinted to zone b, and this node is in a",
        "10.244.2.6": "not ready",
        "10.244.2.7": "terminating, and others are ready",
        "10.244.2.8": "its EndpointSlice web-b has no port http tcp (but other tcp)",
        "fd00::8": "of IPv6",
    }


def test_a_service_is_told_address_by_address() -> None:
    told = explained(started(LB, PODS), OUTSIDE, "service/default/web:http")
    assert [(path["role"], path["to"]["address"], path["to"]["port"]) for path in told["paths"]] == [
        ("ClusterIP", "10.96.0.10", 80),
        ("load-balancer address", "198.51.100.8", 80),
        ("NodePort", "192.168.0.1", 30080),
    ]
    assert told["verdict"] == told["paths"][0]["decided"]["verdict"]


def test_who_came_first_has_the_address() -> None:
    younger = service("young", "10.96.0.11", created=2000.0, external=["198.51.100.9"])
    agent = started(web(external=["198.51.100.9"]), PODS, younger)
    assert explained(agent, POD, "198.51.100.9:80")["paths"][0]["service"] == {"namespace": "default", "name": "web"}
    told = explained(agent, POD, "service/default/young:80")
    assert told["paths"][1]["decided"]["verdict"] == (
        "taken: 198.51.100.9:80 is served for default/web, which came first"
    )


def test_what_the_kernel_refuses_is_told() -> None:
    agent = FakeAgent(N1, WEB, PODS)
    agent.kernel.table("virtual servers").refuse[CLUSTER_IP] = Refused("no memory")
    agent.start()
    told = explained(agent, POD, "10.96.0.10:80", actual=True)
    assert told["paths"][0]["refused"] == ["virtual servers: TCP 10.96.0.10:80: no memory"]
    assert told["paths"][0]["differences"][0] == "the kernel has no virtual server TCP 10.96.0.10:80"


def test_a_client_that_is_kept_at_a_destination() -> None:
    agent = started(web(affinity=60), PODS)
    kept = {(CLUSTER_IP, packed(POD)): Affinity(DestinationKey(packed("10.244.2.3"), 8080), 42)}
    told = explained(agent, POD, "10.96.0.10:80", templates=kept)
    assert told["paths"][0]["affinity"] == {"address": "10.244.2.3", "port": 8080, "expires": 42}
    assert explained(agent, "10.244.1.8", "10.96.0.10:80", templates=kept)["paths"][0]["affinity"] is None


def test_where_the_kernel_differs_it_is_said() -> None:
    agent = started(WEB, PODS)
    there = agent.kernel.servers[CLUSTER_IP]
    kept, lost = sorted(there.destinations)
    agent.kernel.servers[CLUSTER_IP] = there._replace(scheduler="wrr", destinations={kept: there.destinations[kept]})
    del agent.kernel.members[SetMember(services_set("clusterips", 4), SetEntry(packed("10.96.0.10"), Protocol.TCP, 80))]
    told = explained(agent, OUTSIDE, "10.96.0.10:80", actual=True)
    assert lost == DestinationKey(packed("10.244.2.3"), 8080)
    assert told["paths"][0]["differences"] == [
        "scheduling is -s wrr, decided is -s rr",
        "destination 10.244.2.3:8080 is missing",
        "ipset krpy-svc-clusterips-4 lacks 10.96.0.10,tcp:80",
    ]
    assert told["verdict"] == "open: 1 destination, wrr, seen as 203.0.113.9 (not masqueraded)"
    assert told["paths"][0]["decided"]["verdict"].startswith("open: 2 destinations, rr, masqueraded")


def test_a_server_that_is_gone_leaves_it_to_the_node() -> None:
    agent = started(WEB, PODS)
    agent.kernel.servers.clear()
    told = explained(agent, POD, "10.96.0.10:80", actual=True)
    assert told["outcome"] == "not ours"
    assert told["paths"][0]["differences"] == [
        "the kernel has no virtual server TCP 10.96.0.10:80",
        "so packets find it not ours, decided is open",
    ]


@pytest.mark.parametrize(
    ("sender", "target", "reason"),
    [
        (POD, "service/default/wbe:80", "there is no Service default/wbe here; in default there are web"),
        (POD, "service/other/web:80", "there is no Service other/web here; elsewhere there are default/web"),
        (POD, "service/default/web:81", "Service default/web has no port 81/tcp; it has http 80/tcp"),
        (POD, "service/default/web:80/udp", "has no port 80/udp"),
        (POD, "service/default/web:htp", "has no port htp; it has http 80/tcp"),
        (POD, "[fd00::10]:80", "IPv6 is off on this node"),
        ("fd00::9", "10.96.0.10:80", "address fd00::9 has no IPv4 address: it cannot send there"),
        ("fd00::9", "service/default/web:80", "Service default/web has no address of the sender's family"),
    ],
)
def test_what_cannot_be_answered_says_what_there_is(sender: str, target: str, reason: str) -> None:
    with pytest.raises(Unanswerable) as told:
        explained(started(WEB, PODS), sender, target)
    assert reason in str(told.value)


def test_headless_services_have_no_path() -> None:
    headless = msgspec.structs.replace(WEB, cluster_ips=())
    with pytest.raises(Unanswerable, match="no node does anything for it"):
        explained(started(headless), POD, "service/default/web:80")


def test_what_drains_has_its_time_and_its_reason() -> None:
    agent = started(WEB, PODS)
    for one in (HERE, THERE):
        agent.kernel.connections[CLUSTER_IP, DestinationKey(one.address, 8080)] = 1
    agent.tell(pods(HERE, endpoint("10.244.2.3", "n2", SERVING | TERMINATING)))
    told = explained(agent, POD, "10.96.0.10:80", actual=True)
    weights = {one["address"]: (one["weight"], one["drainsFor"]) for one in told["paths"][0]["actual"]["destinations"]}
    assert weights == {"10.244.1.2": (1, None), "10.244.2.3": (0, 30)}
    assert reasons(told) == {"10.244.2.3": "terminating, and others are ready"}
    assert told["verdict"].startswith("open: 1 destination, 1 more drained (weight 0), rr")
    agent.tell(pods())
    assert (
        explained(agent, POD, "10.96.0.10:80")["verdict"] == "refused: 2 destinations, drained (weight 0), and no other"
    )
    agent.tell_gone(WEB)
    verdict = explained(agent, POD, "10.96.0.10:80")["verdict"]
    assert verdict == "refused: Service default/web is gone, connections to 2 destinations go on"


def test_what_somebody_else_serves_on_this_node() -> None:
    held = FakeAgent(N1, WEB, PODS, links=(*LINKS, link("nodelocaldns", "10.96.0.10/32", kind="dummy")))
    held.start()
    assert explained(held, POD, "10.96.0.10:80")["verdict"] == (
        "not ours: ClusterIP 10.96.0.10 is not served on this node: its link nodelocaldns has it"
    )
    excluded = started(WEB, PODS, config=Config(excluded_cidrs=(cidr("10.96.0.0/16"),)))
    assert explained(excluded, POD, "10.96.0.10:80")["verdict"] == (
        "not ours: 10.96.0.10 is not served: inside --excluded-cidrs (10.96.0.0/16)"
    )


@given(
    st.lists(st.tuples(st.sampled_from(["n1", "n2"]), st.sampled_from([READY, DRAINING, 0])), max_size=4),
    st.booleans(),
    st.booleans(),
    st.sampled_from([POD, OUTSIDE, "node"]),
    st.sampled_from(["10.96.0.10:80", "192.168.0.1:30080"]),
)
def test_the_table_of_traffic_policies(
    several: list[tuple[str, int]], internal: bool, external: bool, sender: str, target: str
) -> None:
    """Table 1.4 of the rules, from the one line that people read; and the kernel agrees."""
    endpoints = [endpoint(f"10.244.9.{at}", where, state) for at, (where, state) in enumerate(several, 1)]
    agent = started(web(internal_local=internal, external_local=external), pods(*endpoints))
    anywhere = any(state for _, state in several)
    here = any(state for where, state in several if where == "n1")
    inside = target == "10.96.0.10:80"
    silent = (internal if inside else external and sender == OUTSIDE) and anywhere and not here
    told = explained(agent, sender, target, actual=True)
    assert told["outcome"] == ("silent" if silent else "open" if anywhere else "refused")
    assert told["paths"][0]["differences"] == []
    among = {one["address"] for one in told["paths"][0]["decided"]["destinations"]}
    assert among.isdisjoint(reasons(told))
    assert among | reasons(told).keys() == {f"10.244.9.{at}" for at in range(1, len(several) + 1)}


DIRECT = web(external=["198.51.100.7"], annotations={"kube-router.io/service.dsr": "tunnel"})


def direct_pods(*states: int) -> EndpointSlice:
    several = [
        msgspec.structs.replace(one, pod=f"uid-{at}", conditions=state)
        for at, (one, state) in enumerate(zip((HERE, THERE), states, strict=False))
    ]
    return endpoint_slice("web", *several, ports=[SlicePort("http", Protocol.TCP, 80)])


@pytest.mark.parametrize(
    ("slices", "sender", "target", "verdict"),
    [
        (
            direct_pods(READY, READY),
            OUTSIDE,
            "198.51.100.7:80",
            "open: 2 destinations, rr, seen as 203.0.113.9 (direct",
        ),
        (direct_pods(READY, READY), "node", "198.51.100.7:80", "open: 2 destinations, rr, seen as 192.168.0.1 (direct"),
        (PODS, OUTSIDE, "198.51.100.7:80", "open: 2 destinations, rr, masqueraded as"),
        (direct_pods(READY), "10.244.1.2", "198.51.100.7:80", "not ours: with direct server return that pod has 198."),
        (direct_pods(0), OUTSIDE, "198.51.100.7:80", "refused: no endpoint is ready (direct server return)"),
        (
            direct_pods(READY),
            OUTSIDE,
            "198.51.100.7:22",
            "refused: rejected by the port filter: Service default/web has no",
        ),
        (
            direct_pods(READY),
            "node",
            "198.51.100.7:22",
            "refused: rejected by the port filter: Service default/web has no",
        ),
    ],
)
def test_direct_server_return(slices: EndpointSlice, sender: str, target: str, verdict: str) -> None:
    agent = started(DIRECT, slices)
    for actual in (False, True):
        told = explained(agent, sender, target, actual=actual)
        assert told["verdict"].startswith(verdict), told["verdict"]
        assert told["paths"][0]["differences"] == []


def test_a_virtual_server_of_somebody_else() -> None:
    kernel = FakeKernel(LINKS)
    theirs = VirtualServerKey(Protocol.TCP, packed("192.168.0.1"), 8443)
    kernel.servers[theirs] = VirtualServer("rr", 0, 0, {DestinationKey(packed("10.9.9.9"), 443): Destination()})
    agent = FakeAgent(N1, WEB, PODS, kernel=kernel)
    agent.start()
    told = explained(agent, OUTSIDE, "192.168.0.1:8443", actual=True)
    assert told["verdict"] == "not ours: a virtual server of somebody else has 192.168.0.1:8443"
    assert told["paths"][0]["differences"] == []


def test_weights_that_pods_ask_for() -> None:
    agent = started(
        web(annotations={"kube-router.io/service.scheduler": "wrr"}),
        pods(*(msgspec.structs.replace(one, pod=f"uid-{one.node}") for one in (HERE, THERE))),
        *(PodMetadata(key_of(f"web-{name}"), f"uid-{name}", weight) for name, weight in (("n1", "5"), ("n2", "0"))),
    )
    told = explained(agent, POD, "10.96.0.10:80", actual=True)
    assert told["verdict"].startswith("open: 1 destination, 1 more drained (weight 0), wrr")
    weights = [(one["weight"], one["weightAsked"]) for one in told["paths"][0]["actual"]["destinations"]]
    assert weights == [(5, "5"), (0, "0")]
