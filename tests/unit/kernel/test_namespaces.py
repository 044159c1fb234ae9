"""How a pod's processes are told by their cgroup, as kubelet writes it with each driver and as a container sees it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kuberouter_py.kernel.namespaces import ProcNamespaces
from kuberouter_py.ports import NetworkNamespace, Refused

UID = "0f1c2d3e-1111-2222-3333-444455556666"
SYSTEMD = UID.replace("-", "_")
ADDRESS = bytes((10, 244, 1, 2))


def show(proc: Path, process: int, cgroup: str) -> Path:
    """A process with a namespace of its own: any file has an inode."""
    namespace = proc / str(process) / "ns" / "net"
    namespace.parent.mkdir(parents=True)
    namespace.touch()
    (proc / str(process) / "cgroup").write_text(cgroup)
    return namespace


@pytest.mark.parametrize(
    "cgroup",
    [
        f"0::/kubepods/burstable/pod{UID}/c0ffee",
        f"0::/kubepods/pod{UID}",
        f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SYSTEMD}.slice/cri-containerd-c0ffee.scope",
        f"0::/kubepods.slice/kubepods-pod{SYSTEMD}.slice",
        f"0::/../../kubepods-burstable.slice/kubepods-burstable-pod{SYSTEMD}.slice/crio-c0ffee.scope",
        f"12:memory:/kubepods/besteffort/pod{UID}/c0ffee\n1:name=systemd:/kubepods/besteffort/pod{UID}/c0ffee",
        f"0::/system.slice/k3s.service/kubepods/burstable/pod{UID}/c0ffee",
    ],
)
def test_however_it_is_written(tmp_path: Path, cgroup: str) -> None:
    show(tmp_path, 7, f"0::/kubepods/burstable/pod{UID[:-1]}7/c0ffee\n")
    namespace = show(tmp_path, 8, cgroup + "\n")
    show(tmp_path, 9, "0::/system.slice/sshd.service\n")
    (tmp_path / "self").mkdir()
    found = ProcNamespaces(tmp_path).find([(UID, ADDRESS)])
    assert found == {(UID, ADDRESS): NetworkNamespace(os.stat(namespace).st_ino, str(namespace))}


def test_a_process_that_hides_its_namespace(tmp_path: Path) -> None:
    show(tmp_path, 8, f"0::/kubepods/pod{UID}/c0ffee\n").unlink()
    found = ProcNamespaces(tmp_path).find([(UID, ADDRESS)])[UID, ADDRESS]
    assert isinstance(found, Refused) and "CAP_SYS_PTRACE" in found.reason


def test_a_machine_where_nobody_else_is_seen(tmp_path: Path) -> None:
    found = ProcNamespaces(tmp_path).find([(UID, ADDRESS)])[UID, ADDRESS]
    assert isinstance(found, Refused) and "hostPID" in found.reason and found.missing
