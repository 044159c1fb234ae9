"""The text that takes another proxy's chains away, and what it leaves alone."""

from __future__ import annotations

import pytest

from kuberouter_py.kernel.others_rules import Removal, removal
from kuberouter_py.model.others import (
    PROXY,
    ROUTER_POLICIES,
    ROUTER_SERVICES,
    SHARED_CHAINS,
    Owner,
    owner_of_chain,
    owner_of_rule,
)
from tests.unit.controllers.takeover.remains import dump

KUBELETS = dict.fromkeys(SHARED_CHAINS, "kubelet v1.27 keeps it too")


def take(saved: str, *owners: Owner, keep: dict[str, str] | None = None, sets: tuple[str, ...] = ()) -> Removal:
    return removal(
        saved,
        lambda table, chain: owner_of_chain(table, chain) in owners,
        lambda table, chain, rule: owner_of_rule(table, chain, rule, {0xCE2}) in owners,
        sets,
        keep or {},
    )


def lines(script: str, verb: str) -> list[str]:
    return [line.split(" ", 1)[1] for line in script.splitlines() if line.startswith(f"{verb} ")]


@pytest.mark.parametrize("mode", ["ipvs", "iptables"])
@pytest.mark.parametrize("family", [4, 6])
def test_every_chain_of_kube_proxy_goes_and_kubelets_stay(mode: str, family: int) -> None:
    saved = dump(f"kube-proxy-{mode}-{family}")
    script = take(saved, PROXY).script
    chains = {line[1:].split()[0] for line in saved.splitlines() if line.startswith(":KUBE")}
    assert set(lines(script, "-X")) == chains - {"KUBE-FIREWALL"}
    assert "KUBE-FIREWALL" not in script
    assert all(" -j KUBE-" in rule for rule in lines(script, "-D"))
    assert script.count("COMMIT") == len({line for line in script.splitlines() if line.startswith("*")})


def test_jumps_go_by_their_exact_text() -> None:
    script = take(dump("kube-proxy-ipvs-4"), PROXY).script
    assert 'PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES' in lines(script, "-D")


def test_what_a_kubelet_keeps_stays_without_the_sets() -> None:
    saved = dump("kube-proxy-ipvs-4").replace(
        "-A KUBE-POSTROUTING -m mark",
        "-A KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE\n-A KUBE-POSTROUTING -m mark",
        1,
    )
    found = take(saved, PROXY, keep=KUBELETS, sets=("KUBE-LOOP-BACK",))
    assert not {"KUBE-MARK-MASQ", "KUBE-POSTROUTING"} & set(lines(found.script, "-X"))
    assert "KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE" in lines(found.script, "-D")
    assert not any("-j KUBE-POSTROUTING" in rule for rule in lines(found.script, "-D"))
    assert "nat KUBE-MARK-MASQ: kubelet v1.27 keeps it too" in found.kept


def test_a_chain_that_somebody_elses_rule_leads_to_stays_with_all_it_needs() -> None:
    saved = dump("kube-proxy-iptables-4").replace(
        "-A KUBE-MARK-MASQ", "-A CNI-HOSTPORT-SETMARK -j KUBE-MARK-MASQ\n-A KUBE-MARK-MASQ", 1
    )
    found = take(saved, PROXY)
    assert {"KUBE-MARK-MASQ", "KUBE-POSTROUTING"}.isdisjoint(lines(found.script, "-X"))
    assert "KUBE-SERVICES" in lines(found.script, "-X")
    assert found.kept == (
        "nat KUBE-MARK-MASQ: CNI-HOSTPORT-SETMARK leads to it",
        "nat KUBE-POSTROUTING: masquerades by the mark",
    )
    assert not any("KUBE-MARK-MASQ" in line for line in lines(found.script, "-D"))


def test_kube_router_services_only() -> None:
    script = take(dump("kube-router-4"), ROUTER_SERVICES).script
    assert set(lines(script, "-X")) == {"KUBE-ROUTER-SERVICES", "KUBE-ROUTER-HAIRPIN"}
    gone = lines(script, "-D")
    assert any("-j SNAT --to-source 192.0.2.11" in rule for rule in gone)
    assert any("-j TCPMSS --set-mss 1440" in rule for rule in gone)
    assert sum("0xce2/0xffffffff" in rule for rule in gone) == 2
    assert not any(word in rule for rule in gone for word in ("pod-subnets", "0x1000000", "kube-bridge -m comment"))


def test_kube_routers_policies_too() -> None:
    script = take(dump("kube-router-4"), ROUTER_SERVICES, ROUTER_POLICIES).script
    assert "KUBE-POD-FW-C23KD7UE4TAT3Y5M" in lines(script, "-X")
    jump = 'INPUT -m comment --comment "kube-router netpol - 4IA2OSFRMVNDXBVV" -j KUBE-ROUTER-INPUT'
    assert jump in lines(script, "-D")


def test_nothing_to_do() -> None:
    assert take("*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n", PROXY) == ("", 0, ())
