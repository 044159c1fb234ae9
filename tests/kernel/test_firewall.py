"""The firewall controller over the real kernel's tables, beside state of others, in every flavour that this kernel has.

What packets do with it is for tests/lab; here it is about whose is what.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from kuberouter_py.agent.firewall_edges import FirewallEdges
from kuberouter_py.config import Config
from kuberouter_py.kernel.iptables_flavours import nf_tables_lacks
from tests.fakes.firewall import FakeFirewall, FilterKernel, FilterTable
from tests.fakes.objects import node
from tests.fakes.policies import namespace, pod, policy
from tests.kernel.exam import sh

HERE = ["legacy"] if nf_tables_lacks(4) else ["legacy", "nft"]

pytestmark = pytest.mark.usefixtures("netns")

N1 = node("192.168.0.1", pod_cidrs=("10.244.1.0/24", "fd00:10:244:1::/64"))
A = pod("x/a", "10.244.1.2", "fd00:10:244:1::2", ports=[("web", 6, 80)])
B = pod("x/b", "10.244.1.3", "fd00:10:244:1::3")
RULES = policy(
    "x/rules",
    """
    podSelector: {}
    policyTypes: [Ingress, Egress]
    ingress:
    - from: [{podSelector: {matchLabels: {pod: a}}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]
      ports: [{port: 80}, {port: 8000, endPort: 8010}, {port: web}, {port: 53, protocol: UDP}]
    egress:
    - to: [{namespaceSelector: {}}, {ipBlock: {cidr: "::/0", except: ["fd00::/8"]}}]
      ports: [{protocol: SCTP}]
    - to: [{ipBlock: {cidr: 0.0.0.0/0}}]
    """,
)
WITHOUT_COUNTS = "| sed -E 's/\\[[0-9]+:[0-9]+\\]//; /^#/d'"


class RealKernel(FilterKernel):
    """The tables of the real kernel in the place of those in memory."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.edges = FirewallEdges(config)

    def tables(self) -> list[FilterTable]:
        return list(self.edges.tables)  # type: ignore[arg-type]


@pytest.fixture(params=HERE)
def config(request: pytest.FixtureRequest) -> Config:
    return replace(Config(), iptables_backend=request.param)


def agent_over(config: Config) -> FakeFirewall:
    return FakeFirewall(N1, namespace("x"), A, B, RULES, config=config, kernel=RealKernel(config))


def rules(config: Config) -> str:
    flavour = config.iptables_backend
    return sh("".join(f"{stem}-{flavour}-save -t filter {WITHOUT_COUNTS};" for stem in ("iptables", "ip6tables")))


def sets() -> str:
    return sh("ipset list -n")


def test_what_was_written_is_found_again_by_a_process_without_memory(config: Config) -> None:
    assert agent_over(config).start()
    assert "KRPY-FW-I-" in rules(config)
    again = agent_over(config)
    assert again.controller.plan() == {}
    before = rules(config)
    assert again.restarted().start()
    assert rules(config) == before


def test_what_is_others_stays_as_it_is(config: Config) -> None:
    flavour = config.iptables_backend
    sh(f"iptables-{flavour} -N THEIRS; iptables-{flavour} -A FORWARD -m comment --comment 'a COMMIT of ours' -j THEIRS")
    sh("ipset create theirs hash:ip; ipset add theirs 192.0.2.1")
    before = rules(config), sets()
    agent = agent_over(config)
    assert agent.start()
    assert agent.tell_gone(RULES) and agent.tell(RULES)
    assert agent.restarted().controller.cleanup().left_over == 0
    assert (rules(config), sets()) == before
    assert "192.0.2.1" in sh("ipset list theirs")


def test_a_jump_that_others_push_down_or_take_away_is_put_back_and_theirs_stays(config: Config) -> None:
    flavour = config.iptables_backend
    agent = agent_over(config)
    assert agent.start()
    sh(f"iptables-{flavour} -N THEIRS; iptables-{flavour} -I FORWARD 1 -j THEIRS")
    sh(f"iptables-{flavour} -D OUTPUT 1")
    agent.controller.begin_compare(["iptables"])
    assert agent.settle()
    forward = [line for line in rules(config).splitlines() if line.startswith("-A FORWARD")]
    assert ["KRPY-FW-FORWARD" in line for line in forward[:2]] == [True, False]
    assert "-j THEIRS" in forward[1]
    assert "-A OUTPUT" in rules(config)


def test_what_others_insert_between_two_of_our_syncs_stays(config: Config) -> None:
    flavour = config.iptables_backend
    agent = agent_over(config)
    assert agent.start()
    sh(f"iptables-{flavour} -A INPUT -p tcp --dport 4242 -j DROP")
    assert agent.tell(pod("x/c", "10.244.1.4"), policy("x/more", "{podSelector: {}, ingress: [{}]}"))
    assert "--dport 4242 -j DROP" in rules(config)
