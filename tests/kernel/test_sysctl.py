"""Sysctls of a network namespace: held, given back, refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from kuberouter_py.kernel.sysctl import Sysctls
from kuberouter_py.ports import Plan
from tests.kernel.exam import bring, difference, settle, sh

pytestmark = pytest.mark.usefixtures("netns")

ARP = "net/ipv4/conf/all/arp_ignore"
FORWARD = "net/ipv4/ip_forward"


def value(key: str) -> str:
    return Path("/proc/sys", key).read_text().strip()


def test_held_and_given_back(tmp_path: Path) -> None:
    before = {key: value(key) for key in (ARP, FORWARD)}
    sysctls = Sysctls(run_dir=tmp_path)
    settle(sysctls, {ARP: "1", FORWARD: "1"})
    assert (value(ARP), value(FORWARD)) == ("1", "1")
    settle(sysctls, {ARP: "2", FORWARD: "1"})
    again = Sysctls(run_dir=tmp_path)
    assert again.read().ours == {ARP: "2", FORWARD: "1"}
    assert again.before_us(ARP) == before[ARP]
    settle(again, {})
    assert {key: value(key) for key in before} == before
    assert list(tmp_path.iterdir()) == []


def test_changed_by_another_hand(tmp_path: Path) -> None:
    sysctls = Sysctls(run_dir=tmp_path)
    settle(sysctls, {ARP: "1", FORWARD: "1"})
    sh(f"echo 2 > /proc/sys/{ARP}")
    assert difference(sysctls, {ARP: "1", FORWARD: "1"}).change == {ARP: ("2", "1")}
    settle(sysctls, {})
    assert value(ARP) == "2"


def test_a_link_with_a_dot_in_its_name_that_goes(tmp_path: Path) -> None:
    key = "net/ipv4/conf/eth0.100/rp_filter"
    sysctls = Sysctls(run_dir=tmp_path)
    assert bring(sysctls, {key: "2"})[key].missing
    sh("ip link add eth0.100 type bridge")
    settle(sysctls, {key: "2"})
    sh("ip link delete eth0.100")
    assert sysctls.read().ours == {key: ""}
    assert bring(sysctls, {key: "2"}).keys() == {key}
    settle(sysctls, {})


def test_refused_with_the_rest_done(tmp_path: Path) -> None:
    absent, wrong = "net/ipv4/no_such_sysctl", "net/ipv4/ip_default_ttl"
    refused = Sysctls(run_dir=tmp_path).apply(Plan(add={absent: "1", wrong: "100000", FORWARD: "1"}))
    assert refused.keys() == {absent, wrong}
    assert refused[absent].missing and not refused[wrong].missing
    assert value(FORWARD) == "1"


def test_nothing_is_written_that_could_not_be_given_back(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    before = value(FORWARD)
    refused = Sysctls(run_dir=tmp_path / "file").apply(Plan(add={FORWARD: "1" if before == "0" else "0"}))
    assert refused.keys() == {FORWARD}
    assert value(FORWARD) == before
