"""Which kernel the lab runs on, and how a command comes to run in it. Host side.

`LAB_KERNEL=native|uml|qemu` chooses; without it the first that works here. Every kernel keeps one promise
(`LabKernel`): the job's command runs as root on the host's own tree, what it prints is ours as it prints it, its exit
status comes back, nothing it writes stays except below the job's directory and its `writable` ones, and it ends in
bounded time.
"""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from tests.labkit import own_network, wide_registers, wires
from tests.labkit.modules import MODULES
from tests.labkit.ports import LabError

HERE: Final = Path(__file__).parent
REPOSITORY: Final = HERE.parent.parent
ENVIRONMENT: Final = (  # and LAB_*
    "HOME", "LANG", "LC_ALL", "TERM", "PYTHONPATH", "VIRTUAL_ENV", "PYTEST_ADDOPTS", "KUBE_ROUTER",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One command for a lab kernel. `workdir` is an existing directory that host and guest share: output and status
    are kept there, and whatever the two want to tell each other.
    """

    command: Sequence[str]
    workdir: Path
    cwd: Path = field(default_factory=Path.cwd)
    env: Mapping[str, str] = field(default_factory=dict)
    writable: Sequence[Path] = ()  # existing directories whose writes reach the host
    tap: bool = False  # a link to the host, where own_network.enter() could make one
    memory: str = "2G"
    timeout: float = 1800.0
    interactive: bool = False  # our terminal becomes the command's; else its output is streamed to ours


class LabKernel(Protocol):
    name: str

    def why_not(self) -> str | None:
        """None when this kernel can be had here, else the reason."""

    def run(self, job: Job) -> int:
        """Boots, runs, ends; returns the command's exit status. LabError when the kernel or the time gave out."""


def choose(wanted: str | None = None) -> LabKernel:
    """The kernel that LAB_KERNEL (or `wanted`) names, else the first that works here."""
    from tests.labkit.native import Native
    from tests.labkit.qemu import Qemu

    kernels: dict[str, LabKernel] = {kernel.name: kernel for kernel in (Native(), UserModeLinux(), Qemu())}
    wanted = wanted or os.environ.get("LAB_KERNEL") or None
    if wanted is not None and wanted not in kernels:
        raise LabError(f"LAB_KERNEL={wanted}: it must be one of {', '.join(kernels)}")
    reasons = []
    for kernel in [kernels[wanted]] if wanted else list(kernels.values()):
        reason = kernel.why_not()
        if reason is None:
            return kernel
        reasons.append(f"{kernel.name}: {reason}")
    raise LabError("no kernel for the lab: " + "; ".join(reasons))


class UserModeLinux:
    """Debian's package user-mode-linux: a kernel as a process, pinned to one CPU: its helpers bounce else."""

    name = "uml"
    binary = "linux.uml"
    modules = Path("/usr/lib/uml/modules")

    def why_not(self) -> str | None:
        if shutil.which(self.binary) is None:
            return f"no {self.binary} (Debian package user-mode-linux)"
        if not self._modules():
            return f"no modules in {self.modules}"
        return None

    def _modules(self) -> Path | None:
        found = sorted(self.modules.glob("*")) if self.modules.is_dir() else []
        return found[-1] if found else None

    def run(self, job: Job) -> int:
        modules = self._modules()
        if modules is None:
            raise LabError(f"no modules in {self.modules}")
        write_scripts(job, modules, link=wires.GUEST_LINK)
        return supervise(job, [*pinned(), self.binary, *self._arguments(job)], wide_registers.environment())

    def _arguments(self, job: Job) -> list[str]:
        console = "con1=fd:0,fd:1" if job.interactive else "con1=null"
        network = [f"{wires.GUEST_LINK}:transport=tap,ifname={wires.TAP},depth=128,gro=1"] if wired(job) else []
        return [
            f"mem={job.memory}", "rootfstype=hostfs", "rw", f"init={job.workdir / 'init'}",
            "con=null", "con0=null,fd:2", console, "quiet", "umid=lab", f"uml_dir={job.workdir}/", *network,
        ]  # fmt: skip


def wired(job: Job) -> bool:
    """Whether the job's kernel has a link to us."""
    return job.tap and own_network.has_tap()


def write_scripts(
    job: Job, modules: Path, *, link: str, console: str = "/dev/tty1", native: bool = False, lower: Sequence[str] = ()
) -> None:
    """init, inside and command in the job's directory: the settings as shell variables, then the fixed text.

    `native`: the kernel is the host's own, and nothing may be done to it as a whole.
    """
    workdir = job.workdir.resolve()
    writable = [workdir, *(path.resolve() for path in job.writable)]
    settings = {
        "LAB_MODULES": str(modules),
        "LAB_LOAD": " ".join(MODULES),
        "LAB_WRITABLE": "\n".join(map(str, writable)),
        "LAB_ADDRESS": f"{wires.GUEST_ADDRESS}/{wires.WIRE_PREFIX}",
        "LAB_LINK": link if wired(job) else "",
        "LAB_JOB": str(workdir),
        "LAB_CWD": str(job.cwd),
        "LAB_NATIVE": "1" if native else "",
        "LAB_LOWER": "\n".join(lower),
        "LAB_CONSOLE": console if job.interactive else "",
    }
    header = "#!/bin/sh\n" + "".join(f"{key}={shlex.quote(value)}\n" for key, value in settings.items())
    for name, source in (("init", "init.sh"), ("inside", "inside.sh")):
        path = workdir / name
        path.write_text(header + (HERE / source).read_text())
        path.chmod(0o755)
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in guest_environment(job).items())
    (workdir / "command").write_text(f"{exports}exec {shlex.join(job.command)}\n")
    for name in ("stdout", "stderr"):
        (workdir / name).write_bytes(b"")
    (workdir / "status").unlink(missing_ok=True)


def guest_environment(job: Job) -> dict[str, str]:
    """What the command finds in its environment: a few of ours, all LAB_ ones, then the job's own."""
    ours = {key: value for key, value in os.environ.items() if key in ENVIRONMENT or key.startswith("LAB_")}
    path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {**ours, "PATH": path, "PYTHONUNBUFFERED": "1", "LAB_GUEST": str(job.workdir.resolve()), **job.env}


def pinned() -> list[str]:
    """taskset to one of our CPUs: LAB_CPU, else any, so that several labs on a machine spread."""
    cpu = os.environ.get("LAB_CPU") or str(random.choice(sorted(os.sched_getaffinity(0))))
    return ["taskset", "-c", cpu]


def supervise(job: Job, command: Sequence[str], env: Mapping[str, str] | None = None) -> int:
    """Runs the kernel's process, streams what the job prints, and returns the status the guest left in its file.

    env: what it finds in its environment beside ours.

    The kernel lives in a process namespace of its own that dies with us, however we end: no helper is left behind.
    """
    jailed = ["setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL", *command]
    deadline = time.monotonic() + job.timeout
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((job.workdir / "kernel.log").open("wb"))
        kernel = subprocess.Popen(
            jailed,
            stdin=None if job.interactive else subprocess.DEVNULL,
            stdout=None if job.interactive else log,
            stderr=log,
            cwd=job.workdir,
            env={**os.environ, **(env or {})},
            process_group=None if job.interactive else 0,  # a terminal talks to the foreground group only
        )
        stack.callback(_end, kernel)
        pumps = [stack.enter_context(_pump(job.workdir / "stdout", sys.stdout.buffer)),
                 stack.enter_context(_pump(job.workdir / "stderr", sys.stderr.buffer))]  # fmt: skip
        while (running := kernel.poll() is None) or any(pump() for pump in pumps):
            for pump in pumps:
                pump()
            if running:
                if time.monotonic() > deadline:
                    raise LabError(f"the lab kernel did not end within {job.timeout:g} s")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    kernel.wait(0.02)
    status = job.workdir / "status"
    if not status.exists():
        tail = (job.workdir / "kernel.log").read_text(errors="replace")[-2000:]
        raise LabError(f"the lab kernel ended without an exit status; its last words:\n{tail}")
    return int(status.read_text())


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)  # unshare's child, the first of its process namespace, goes with it
        process.wait()


@contextlib.contextmanager
def _pump(source: Path, target: BinaryIO) -> Iterator[_Pump]:
    with source.open("rb") as stream:
        yield _Pump(stream, target)


class _Pump:
    """Copies what a growing file gained since the last call."""

    def __init__(self, stream: BinaryIO, target: BinaryIO) -> None:
        self._stream = stream
        self._target = target

    def __call__(self) -> bool:
        data = self._stream.read()
        if data:
            self._target.write(data)
            self._target.flush()
        return bool(data)
