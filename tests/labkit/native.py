"""The running kernel as lab kernel, where it has ip_vs and dummy and we are root: namespaces instead of a boot.

The same scripts as in a booted kernel make the same surroundings: an overlay over the host's tree, in a mount, process,
network and cgroup namespace of the lab's own. A veth pair stands for the tap.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.labkit import namespaces, own_network, wires
from tests.labkit.boot import Job, supervise, write_scripts
from tests.labkit.namespaces import Namespaces

_TRIAL: Final = "modprobe -a -q ip_vs dummy; ip link add lab type dummy && ipvsadm -Ln && iptables -S"
_LIKE_FILES: Final = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "9p", "virtiofs", "hostfs", "tmpfs", "overlay", "bcachefs"}
)
_OUR_OWN: Final = ("/run", "/dev", "/sys", "/proc")


class Native:
    name = "native"

    def why_not(self) -> str | None:
        if os.geteuid() != 0:
            return "we are not root"
        if missing := [tool for tool in ("ip", "ipvsadm", "iptables", "modprobe") if shutil.which(tool) is None]:
            return f"no {', '.join(missing)}"
        done = subprocess.run(["unshare", "--net", "/bin/sh", "-c", _TRIAL], capture_output=True, text=True)
        return None if done.returncode == 0 else f"this kernel has not all it takes: {done.stderr.strip()[-200:]}"

    def run(self, job: Job) -> int:
        network = Namespaces(namespaces.apart(_new_network))
        try:
            if job.tap:
                own_network.replace_tap(f"/proc/{os.getpid()}/fd/{network.net}")
            modules = Path("/lib/modules") / platform.release()
            write_scripts(job, modules, link=wires.GUEST_LINK, console="/dev/tty", native=True, lower=lower_mounts())
            command = ["unshare", "--mount", "--uts", "--cgroup", "/bin/sh", str(job.workdir.resolve() / "init")]
            return namespaces.within(network, lambda: supervise(job, command))
        finally:
            network.close()


def _new_network() -> int:
    namespaces.unshare(namespaces.CLONE_NEWNET)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def lower_mounts(table: str | None = None) -> list[str]:
    """File systems below /, outermost first: an overlay of / alone would show their mount points empty."""
    text = Path("/proc/self/mountinfo").read_text() if table is None else table
    found = []
    for line in text.splitlines():
        fields = line.split()
        target, kind = fields[4].encode().decode("unicode_escape"), fields[fields.index("-") + 1]
        ours = any(target == each or target.startswith(each + "/") for each in _OUR_OWN)
        if target != "/" and kind in _LIKE_FILES and not ours:
            found.append(target)
    return sorted(dict.fromkeys(found))
