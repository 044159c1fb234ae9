"""A distribution's own kernel under QEMU: everything is in it, nf_tables too, and it is slow without KVM.

The kernel is one that `scripts/lab-kernel` put into the cache (or LAB_QEMU_KERNEL names a folder like it), else the
newest installed one. The host's tree is its root, over 9p.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.labkit import initramfs, wires
from tests.labkit.boot import Job, supervise, wired, write_scripts
from tests.labkit.ports import LabError

_PROGRAM: Final = "qemu-system-x86_64"
_LINK: Final = "eth0"
_PROBE_WITHIN: Final = 10.0


@dataclass(frozen=True)
class Kernel:
    image: Path
    modules: Path


def find_kernel() -> Kernel | None:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kuberouter-lab/linux"
    roots = [Path(named)] if (named := os.environ.get("LAB_QEMU_KERNEL")) else [cache, Path("/")]
    for root in roots:
        for image in sorted((root / "boot").glob("vmlinuz-*"), reverse=True):
            modules = (root / "lib/modules" / image.name.removeprefix("vmlinuz-")).resolve()
            if (modules / "modules.dep").exists() and os.access(image, os.R_OK):
                return Kernel(image, modules)
    return None


class Qemu:
    name = "qemu"

    def why_not(self) -> str | None:
        if shutil.which(_PROGRAM) is None:
            return f"no {_PROGRAM} (Debian package qemu-system-x86)"
        if shutil.which("busybox") is None:
            return "no busybox (Debian package busybox-static)"
        return None if find_kernel() else "no kernel: scripts/lab-kernel fetches one"

    def run(self, job: Job) -> int:
        kernel, busybox = find_kernel(), shutil.which("busybox")
        if kernel is None or busybox is None:
            raise LabError(f"qemu: {self.why_not()}")
        write_scripts(job, kernel.modules, link=_LINK, console="/dev/ttyS0")
        workdir = job.workdir.resolve()
        shared = [(f"w{number}", str(path.resolve())) for number, path in enumerate([workdir, *job.writable])]
        first_root = workdir / "initramfs"
        first_root.write_bytes(initramfs.build(Path(busybox), kernel.modules, shared, str(workdir / "init")))
        machine = [_PROGRAM, *_BARE, "-m", job.memory, "-kernel", str(kernel.image), "-initrd", str(first_root)]
        machine += ["-append", "console=ttyS0 quiet panic=-1 net.ifnames=0", "-serial", "stdio"]
        for tag, path in [("root", "/"), *shared]:
            # One device stands for many mounts: QEMU tells files of different ones apart by new inode numbers.
            machine += ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap",
                        "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]  # fmt: skip
        if wired(job):
            machine += ["-netdev", f"tap,id=tap,ifname={wires.TAP},script=no,downscript=no",
                        "-device", "virtio-net-pci,netdev=tap"]  # fmt: skip
        return supervise(job, [*machine, *self._accelerator(kernel)])

    def _accelerator(self, kernel: Kernel) -> list[str]:
        """KVM where a kernel really starts under it: /dev/kvm alone does not promise that."""
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            return _EMULATED
        probe = [_PROGRAM, *_BARE, "-m", "256M", "-kernel", str(kernel.image), "-append", "console=ttyS0 panic=-1"]
        try:
            done = subprocess.run([*probe, *_KVM, "-serial", "stdio"], stdin=subprocess.DEVNULL, capture_output=True,
                                  timeout=_PROBE_WITHIN)  # fmt: skip
        except subprocess.TimeoutExpired:
            return _EMULATED
        # It has no root, so a kernel that starts ends in a panic and a reboot.
        return _KVM if b"Kernel panic" in done.stdout else _EMULATED


_BARE: Final = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-smp", "2"]
_KVM: Final = ["-accel", "kvm", "-cpu", "host"]
_EMULATED: Final = ["-accel", "tcg,thread=multi", "-cpu", "max"]
