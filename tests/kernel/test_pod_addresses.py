"""Service addresses inside pods' namespaces, found by a process list, against the real kernel; `ip` is the witness."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import pytest

from kuberouter_py.kernel.namespaces import ProcNamespaces
from kuberouter_py.kernel.pod_addresses import BUDGET, PodAddresses
from kuberouter_py.model.kernel import PodAddress
from kuberouter_py.ports import NetworkNamespace, Plan, Refused
from tests.kernel.exam import bring, difference, settle, sh

UIDS = ("0f1c2d3e-1111-2222-3333-444455556666", "7a7b7c7d-9999-8888-7777-666655554444")
OWN = {4: ("10.244.1.2", "10.244.1.3"), 6: ("fd00:10:244:1::2", "fd00:10:244:1::3")}
VIPS = {4: ("198.51.100.7", "198.51.100.8"), 6: ("2001:db8:99::7", "2001:db8:99::8")}
TUNNEL = {4: "krpy-dsr-4", 6: "krpy-dsr-6"}

pytestmark = pytest.mark.usefixtures("netns")
by_family = pytest.mark.parametrize("family", [4, 6])


def packed(text: str) -> bytes:
    return ip_address(text).packed


def key(pod: int, vip: int, family: int) -> PodAddress:
    return PodAddress(UIDS[pod], packed(OWN[family][pod]), packed(VIPS[family][vip]))


class Pod(NamedTuple):
    process: int

    def sh(self, command: str) -> str:
        return sh(f"nsenter --net=/proc/{self.process}/ns/net sh -ec {shlex.quote(command)}")

    def addresses(self, family: int) -> set[str]:
        links = json.loads(self.sh(f"ip -j -{family} address show dev {TUNNEL[family]} 2>/dev/null || echo []"))
        return {
            one["local"] for link in links for one in link.get("addr_info", []) if one["scope"] != "link" or family == 4
        }

    def has_tunnel(self, family: int) -> bool:
        return TUNNEL[family] in self.sh("ip -o link show")

    def arp_ignore(self, link: str = "eth0") -> str:
        return self.sh(f"cat /proc/sys/net/ipv4/conf/{link}/arp_ignore").strip()


class Machine:
    """A process list of our own making: what stands in it are links to real processes in real namespaces."""

    def __init__(self, root: Path) -> None:
        self.proc = root
        self._processes: list[subprocess.Popen[bytes]] = []

    def pod(self, number: int, cgroup: str = "/kubepods/burstable/pod{uid}/c0ffee") -> Pod:
        process = subprocess.Popen(["unshare", "--net", "sleep", "600"])
        self._processes.append(process)
        own = os.stat("/proc/self/ns/net").st_ino
        while os.stat(f"/proc/{process.pid}/ns/net").st_ino == own:
            pass
        pod = Pod(process.pid)
        pod.sh(f"""ip link set lo up; ip link add eth0 type dummy; ip link set eth0 up
                   ip address add {OWN[4][number]}/24 dev eth0; ip address add {OWN[6][number]}/64 dev eth0 nodad""")
        self.show(process.pid, cgroup, number)
        return pod

    def show(self, process: int, cgroup: str, number: int) -> None:
        folder = self.proc / str(process)
        (folder / "ns").mkdir(parents=True)
        (folder / "ns" / "net").symlink_to(f"/proc/{process}/ns/net")
        uid = UIDS[number]
        (folder / "cgroup").write_text("0::" + cgroup.format(uid=uid, systemd=uid.replace("-", "_")) + "\n")

    def end(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "proc")
    (tmp_path / "proc").mkdir()
    machine.show(os.getpid(), "/system.slice/agent.service", 0)
    yield machine
    machine.end()


@pytest.fixture
def table(machine: Machine) -> PodAddresses:
    return PodAddresses(ProcNamespaces(machine.proc))


def test_set_read_back_and_taken_away(machine: Machine, table: PodAddresses) -> None:
    first, second = machine.pod(0), machine.pod(1)
    settle(table, {key(0, 0, 4): None, key(0, 1, 4): None, key(0, 0, 6): None, key(1, 0, 4): None})
    assert first.addresses(4) == set(VIPS[4]) and first.addresses(6) == {VIPS[6][0]}
    assert second.addresses(4) == {VIPS[4][0]} and not second.has_tunnel(6)
    settle(table, {key(0, 1, 4): None})
    assert first.addresses(4) == {VIPS[4][1]} and not first.has_tunnel(6)
    assert not second.has_tunnel(4)
    settle(table, {})
    assert not first.has_tunnel(4)


@by_family
def test_a_link_of_ours_receives_and_is_told_in_ip_link(machine: Machine, table: PodAddresses, family: int) -> None:
    pod = machine.pod(0)
    settle(table, {key(0, 0, family): None})
    shown = pod.sh(f"ip -d link show dev {TUNNEL[family]}")
    assert f"local {OWN[family][0]}" in shown and "UP" in shown and f"alias krpy:{UIDS[0]}" in shown
    if family == 4:
        assert pod.sh(f"cat /proc/sys/net/ipv4/conf/{TUNNEL[4]}/rp_filter").strip() == "2"


def test_the_pod_does_not_answer_arp_for_the_address_and_gets_its_setting_back(
    machine: Machine, table: PodAddresses
) -> None:
    pod = machine.pod(0)
    pod.sh(
        "ip link add wire type bridge; ip link add net1 type bridge; echo 2 > /proc/sys/net/ipv4/conf/net1/arp_ignore"
    )
    before = pod.sh("grep -r . /proc/sys/net/ipv4/conf/*/arp_ignore | grep -v tun")
    settle(table, {key(0, 0, 4): None, key(0, 1, 4): None})
    assert (pod.arp_ignore("wire"), pod.arp_ignore("net1")) == ("1", "2")
    later = PodAddresses(ProcNamespaces(machine.proc))
    settle(later, {})
    assert pod.sh("grep -r . /proc/sys/net/ipv4/conf/*/arp_ignore | grep -v tun") == before


def test_found_by_its_address_where_no_cgroup_tells(machine: Machine, table: PodAddresses) -> None:
    machine.pod(1)
    pod = machine.pod(0, "/not/told/at/all")
    settle(table, {key(0, 0, 4): None})
    assert pod.addresses(4) == {VIPS[4][0]}


def test_a_pod_that_is_not_there_is_refused_and_no_other_waits_for_it(machine: Machine, table: PodAddresses) -> None:
    pod = machine.pod(0)
    refused = bring(table, {key(0, 0, 4): None, key(1, 0, 4): None})
    assert refused.keys() == {key(1, 0, 4)}
    assert UIDS[1] in refused[key(1, 0, 4)].reason
    assert pod.addresses(4) == {VIPS[4][0]}


def test_two_namespaces_with_one_address_are_not_guessed_between(machine: Machine, table: PodAddresses) -> None:
    machine.pod(0, "/a")
    machine.pod(0, "/b")
    assert "2 network namespaces" in bring(table, {key(0, 0, 4): None})[key(0, 0, 4)].reason


def test_of_several_namespaces_of_a_pod_the_one_with_its_address(machine: Machine, table: PodAddresses) -> None:
    pod, nested = machine.pod(0), machine.pod(0)
    nested.sh("ip address flush dev eth0")
    settle(table, {key(0, 0, 4): None})
    assert pod.has_tunnel(4) and not nested.has_tunnel(4)


def test_never_in_our_own_namespace(machine: Machine, table: PodAddresses) -> None:
    sh(f"ip link add eth0 type dummy; ip address add {OWN[4][1]}/24 dev eth0")
    (machine.proc / str(os.getpid()) / "cgroup").write_text(f"0::/kubepods/pod{UIDS[1]}/c0ffee\n")
    refused = bring(table, {key(1, 0, 4): None})
    assert "hostPID" in refused[key(1, 0, 4)].reason
    assert TUNNEL[4] not in sh("ip -o link show")


def test_gone_with_its_pod(machine: Machine, table: PodAddresses) -> None:
    machine.pod(0)
    settle(table, {key(0, 0, 4): None})
    machine.end()
    assert table.apply(Plan(remove={key(0, 0, 4): None})) == {}
    assert table.read().ours == {}


def test_a_later_process_finds_everything(machine: Machine, table: PodAddresses) -> None:
    pod = machine.pod(0)
    wanted = {key(0, 0, 4): None, key(0, 0, 6): None}
    settle(table, wanted)
    later = PodAddresses(ProcNamespaces(machine.proc))
    assert later.read().ours == wanted
    settle(later, {})
    assert not pod.has_tunnel(4) and not pod.has_tunnel(6)


@pytest.mark.parametrize("harm", ["ip link delete {link}", "ip link set {link} down", "ip address flush dev {link}"])
def test_damage_shows_and_is_repaired(machine: Machine, table: PodAddresses, harm: str) -> None:
    pod = machine.pod(0)
    wanted = {key(0, 0, 4): None, key(0, 0, 6): None}
    settle(table, wanted)
    for link in TUNNEL.values():
        pod.sh(harm.format(link=link))
    assert difference(table, wanted).add == wanted
    settle(table, wanted)
    assert (pod.addresses(4), pod.addresses(6)) == ({VIPS[4][0]}, {VIPS[6][0]})


def test_left_half_made(machine: Machine, table: PodAddresses) -> None:
    pod = machine.pod(0)
    settle(table, {key(0, 0, 4): None, key(0, 0, 6): None})
    for family in (4, 6):
        pod.sh(f"ip -{family} address delete {VIPS[family][0]} dev {TUNNEL[family]}")
    settle(table, {})
    assert not pod.has_tunnel(4) and not pod.has_tunnel(6)


def test_a_namespace_that_another_pod_had(machine: Machine, table: PodAddresses) -> None:
    pod = machine.pod(0)
    pod.sh(f"ip address add {OWN[4][1]}/24 dev eth0")
    settle(table, {key(0, 0, 4): None})
    (machine.proc / str(pod.process) / "cgroup").write_text(f"0::/kubepods/pod{UIDS[1]}/c0ffee\n")
    settle(table, {key(1, 1, 4): None})
    assert pod.addresses(4) == {VIPS[4][1]}


def test_another_address_of_a_pod_does_not_take_its_tunnel(machine: Machine, table: PodAddresses) -> None:
    pod = machine.pod(0)
    pod.sh("ip link add net1 type dummy; ip address add 10.9.9.9/24 dev net1")
    other = PodAddress(UIDS[0], packed("10.9.9.9"), packed(VIPS[4][1]))
    settle(table, {key(0, 0, 4): None})
    refused = table.apply(Plan(add={other: None}))
    assert OWN[4][0] in refused[other].reason and pod.addresses(4) == {VIPS[4][0]}


@by_family
def test_a_link_by_our_name_that_is_not_ours_stays(machine: Machine, table: PodAddresses, family: int) -> None:
    pod = machine.pod(0)
    pod.sh(f"ip link add {TUNNEL[family]} type dummy")
    assert "not ours" in bring(table, {key(0, 0, family): None})[key(0, 0, family)].reason
    settle(table, {})
    assert pod.has_tunnel(family)


def test_ipv6_switched_off_in_the_pod(machine: Machine, table: PodAddresses) -> None:
    pod = machine.pod(0)
    pod.sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
    refused = bring(table, {key(0, 0, 4): None, key(0, 0, 6): None})
    assert refused.keys() == {key(0, 0, 6)}


def test_many_pods_at_once_do_not_hold_up_the_rest(machine: Machine) -> None:
    """The clock runs out after the first pod."""
    machine.pod(0)
    machine.pod(1)
    ticks = iter([0.0, BUDGET / 2, BUDGET * 2])
    table = PodAddresses(ProcNamespaces(machine.proc), clock=lambda: next(ticks))
    refused = table.apply(Plan(add={key(0, 0, 4): None, key(1, 0, 4): None}))
    assert refused.keys() == {key(1, 0, 4)} and "in a moment" in refused[key(1, 0, 4)].reason


def test_a_namespace_that_was_replaced_is_not_entered(machine: Machine) -> None:
    pod = machine.pod(0)

    class Stale:
        def find(self, pods: object) -> dict[tuple[str, bytes], NetworkNamespace | Refused]:
            return {(UIDS[0], packed(OWN[4][0])): NetworkNamespace(1, f"/proc/{pod.process}/ns/net")}

        def everywhere(self) -> Iterator[NetworkNamespace]:
            return iter(())

    refused = PodAddresses(Stale()).apply(Plan(add={key(0, 0, 4): None}))
    assert "another process" not in pod.sh("ip -o link show") and refused.keys() == {key(0, 0, 4)}
    assert not pod.has_tunnel(4)


def test_without_the_permission_to_enter(machine: Machine, dropped: Callable[[str], str]) -> None:
    """CAP_SYS_ADMIN or CAP_SYS_PTRACE missing: nothing can be there, and what is wanted says what is missing."""
    machine.pod(0)
    assert "CAP_SYS_ADMIN" in dropped("sys_admin") and "CAP_SYS_PTRACE" in dropped("sys_ptrace")


@pytest.fixture
def dropped(machine: Machine) -> Callable[[str], str]:
    """What the table answers in a process without that capability."""

    def run(capability: str) -> str:
        script = f"""
from pathlib import Path
from kuberouter_py.kernel.namespaces import ProcNamespaces
from kuberouter_py.kernel.pod_addresses import PodAddresses
from kuberouter_py.model.kernel import PodAddress
from kuberouter_py.ports import Plan
table = PodAddresses(ProcNamespaces(Path({str(machine.proc)!r})))
assert table.read().ours == {{}}
key = PodAddress({UIDS[0]!r}, {packed(OWN[4][0])!r}, {packed(VIPS[4][0])!r})
print(table.apply(Plan(add={{key: None}}))[key])
"""
        user = ""
        return sh(f"setpriv --bounding-set -{capability} --inh-caps -{capability} {user} python -", input=script)

    return run
