"""Which families a node must have; what is written with them is in tests/kernel."""

from __future__ import annotations

import pytest

from kuberouter_py.kernel.iptables import Chains
from kuberouter_py.model.kernel import Chain, Rules
from kuberouter_py.ports import Plan, Unavailable

PREFIX = "KRPY-SVC-"
WANTED = {Chain(family, "nat", f"{PREFIX}NAT"): Rules(("-j ACCEPT",)) for family in (4, 6)}


class FakePrograms:
    """there: the programs of this node."""

    def __init__(self, *there: str) -> None:
        self.there = there
        self.restored: list[str] = []

    def __call__(self, argv: list[str], input: str | None = None) -> str:
        if argv[0] not in self.there:
            raise Unavailable(f"{argv[0]}: No such file or directory")
        if input:
            self.restored.append(f"{argv[0]}: {input}")
        return ""


def test_a_node_without_ip6tables_has_its_ipv4_rules() -> None:
    run = FakePrograms("iptables-legacy-save", "iptables-legacy-restore")
    chains = Chains(PREFIX, "auto", run=run)
    chains._programs._probe = lambda family: "no nf_tables"
    assert chains.read().ours == {}
    refused = chains.apply(Plan(add=WANTED))
    assert [(key.family, reason.missing) for key, reason in refused.items()] == [(6, True)]
    assert "ip6tables-legacy-save" in next(iter(refused.values())).reason
    assert len(run.restored) == 1
    assert run.restored[0].startswith("iptables-legacy-restore: *nat")


def test_a_node_without_any_iptables_says_so() -> None:
    chains = Chains(PREFIX, "auto", run=FakePrograms())
    chains._programs._probe = lambda family: "no nf_tables"
    with pytest.raises(Unavailable, match="no nf_tables"):
        chains.read()
    refused = chains.apply(Plan(add=WANTED))
    assert refused.keys() == WANTED.keys()
