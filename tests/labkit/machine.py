"""A machine of the lab: a node or an outside host. Network, mount, process and host name namespaces of its own, with
its own /run, /tmp, /var/tmp, /etc/iproute2, /proc and /sys, and what container runtimes and their plugins share
(/etc/cni/net.d, /opt/cni, /var/lib/cni); what runs on it ends with it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.labkit import namespaces
from tests.labkit.namespaces import Namespaces
from tests.labkit.ports import LabError

REPOSITORY: Final = Path(__file__).parent.parent.parent
PROGRAMS: Final = "LAB_PROGRAMS"  # names the directory of the programs that files ask for
COVERED: Final = (Path("/tmp"), Path("/run"))  # an empty one on every machine
_EMPTY: Final = (Path("/var/tmp"), Path("/etc/cni/net.d"), Path("/opt/cni"), Path("/var/lib/cni"))  # made where missing
# The first process of a machine: collects what its children leave behind, as an init does.
_INIT: Final = ("/bin/sh", "-c", "while :; do sleep 1000000 & wait; done")


class Machine:
    """`state` is the directory that the machine sees as /run/lab; `name` is its network namespace's for `ip -n`."""

    def __init__(self, name: str, hostname: str, state: Path) -> None:
        self.name = name
        self.hostname = hostname
        self.state = state
        self._init: subprocess.Popen[bytes] | None = None
        self._namespaces: Namespaces | None = None

    @property
    def namespaces(self) -> Namespaces:
        if self._namespaces is None:
            raise LabError(f"{self.name} does not run")
        return self._namespaces

    def start(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        for path in _EMPTY:
            path.mkdir(parents=True, exist_ok=True)
        self._init, self._namespaces = namespaces.apart(self._begin)
        namespaces.give_name(self.name, f"/proc/{self._init.pid}/ns/net")

    def _begin(self) -> tuple[subprocess.Popen[bytes], Namespaces]:
        """In a thread of its own, which becomes the machine's as far as a thread can."""
        flags = namespaces.CLONE_NEWNET | namespaces.CLONE_NEWNS | namespaces.CLONE_NEWPID | namespaces.CLONE_NEWUTS
        namespaces.unshare(namespaces.CLONE_FS | flags)
        init = subprocess.Popen(_INIT, stdin=subprocess.DEVNULL, close_fds=False, start_new_session=True, cwd="/")
        task = Path("/proc/thread-self/ns")
        net, mount, pid, uts = (os.open(task / kind, os.O_RDONLY) for kind in ("net", "mnt", "pid_for_children", "uts"))
        Path("/proc/sys/kernel/hostname").write_text(self.hostname)
        self._mount()
        return init, Namespaces(net=net, mount=mount, pid=pid, uts=uts)

    def _mount(self) -> None:
        namespaces.make_private()
        namespaces.mount("sysfs", "/sys")
        namespaces.mount("cgroup2", "/sys/fs/cgroup")
        tables = {path: path.read_bytes() for path in Path("/etc/iproute2").rglob("*") if path.is_file()}
        namespaces.mount("tmpfs", "/etc/iproute2")
        for path, text in tables.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
        for path in _EMPTY:
            namespaces.mount("tmpfs", str(path))
        kept = {path: os.open(path, os.O_PATH) for path in _kept()}
        kept[Path("/run/lab")] = os.open(self.state, os.O_PATH)
        for path in COVERED:
            namespaces.mount("tmpfs", str(path))
        for path, descriptor in kept.items():
            path.mkdir(parents=True, exist_ok=True)
            namespaces.bind(f"/proc/thread-self/fd/{descriptor}", str(path))
            os.close(descriptor)
        # Last, and by a child: this thread is not in the machine's process namespace, only what it starts is.
        subprocess.run(["mount", "--no-mtab", "-t", "proc", "proc", "/proc"], check=True, close_fds=False)

    def end(self) -> None:
        """Kills whatever runs here and gives the namespaces back."""
        if self._init is not None:
            self._init.kill()
            self._init.wait()
            self._init = None
        if self._namespaces is not None:
            self._namespaces.close()
            self._namespaces = None
        namespaces.drop_name(self.name)
        shutil.rmtree(self.state, ignore_errors=True)

    def inside(self, network: Namespaces | None = None) -> Namespaces:
        """This machine's namespaces, with another network when given (a pod of it)."""
        own = self.namespaces
        return own if network is None else Namespaces(network.net, own.mount, own.pid, own.uts)

    def ip(self, lines: Iterable[str], network: Namespaces | None = None) -> None:
        """`ip -batch` in the machine's network (or a pod's). Runs outside its mounts: names of `ip netns` are known."""
        ip_batch(Namespaces((network or self.namespaces).net), lines)

    def spawn(
        self, arguments: Sequence[str], environment: Mapping[str, str], output: Path | None,
        network: Namespaces | None = None,
    ) -> subprocess.Popen[bytes]:  # fmt: skip
        """Starts a process here; its output is appended to `output`, a path of the lab's first namespace."""
        with (output or Path("/dev/null")).open("ab") as stream:
            return namespaces.within(
                self.inside(network),
                lambda: subprocess.Popen(
                    arguments, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=dict(environment), cwd="/",
                    close_fds=False, start_new_session=True,
                ),
            )  # fmt: skip

    def feed(
        self, arguments: Sequence[str], environment: Mapping[str, str], given: str, *, timeout: float
    ) -> tuple[int, str]:
        """Runs a program that reads `given`; its exit status and what it said on standard output."""

        def call() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                arguments, input=given, stdout=subprocess.PIPE, text=True, env=dict(environment), cwd="/",
                close_fds=False, timeout=timeout,
            )  # fmt: skip

        try:
            done = namespaces.within(self.inside(), call)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name}: {shlex.join(arguments)} did not end within {timeout:g} s") from None
        return done.returncode, done.stdout

    def run(self, command: str, *, timeout: float, network: Namespaces | None = None) -> tuple[int, str]:
        """A shell runs the command. What it leaves in the background goes on and does not hold us up."""
        with tempfile.NamedTemporaryFile(prefix="lab-run-") as output:
            shell = self.spawn(["/bin/sh", "-c", command], environment(self.hostname), Path(output.name), network)
            try:
                status = shell.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(shell.pid, signal.SIGKILL)
                shell.wait()
                said = output.read().decode(errors="replace")
                raise TimeoutError(f"did not end within {timeout:g} s: {command}\n{said}") from None
            return (status if status >= 0 else 128 - status), output.read().decode(errors="replace")


def environment(hostname: str) -> dict[str, str]:
    """Of whatever runs on a machine: ours, and the name that an agent finds its Node by."""
    return {**os.environ, "NODE_NAME": hostname, "PYTHONPATH": str(REPOSITORY)}


def ip_batch(network: Namespaces | None, lines: Iterable[str], *options: str) -> None:
    """One `ip` process for many changes, in a namespace or ours: starting processes is what costs in a lab kernel."""
    text = "\n".join(lines) + "\n"

    def work() -> subprocess.CompletedProcess[str]:
        command = ["ip", *options, "-batch", "-"]
        return subprocess.run(command, input=text, text=True, capture_output=True, close_fds=False)

    done = work() if network is None else namespaces.within(network, work)
    if done.returncode != 0:
        raise LabError(f"ip -batch: {done.stderr.strip()}\nin:\n{text}")


def install_command() -> None:
    """`kuberouter-py` on every machine's PATH is this tree's, whether the package is installed or not."""
    target = Path("/usr/local/bin/kuberouter-py")
    tree, python = shlex.quote(str(REPOSITORY)), shlex.quote(sys.executable)
    target.write_text(f'#!/bin/sh\nPYTHONPATH={tree} exec {python} -m kuberouter_py "$@"\n')
    target.chmod(0o755)


def install_programs(names: Iterable[str]) -> None:
    """These of the control plane's programs are on every machine's PATH."""
    for name in names:
        target = Path("/usr/local/bin") / name
        target.unlink(missing_ok=True)
        target.symlink_to(Path(os.environ[PROGRAMS]) / name)


def _kept() -> list[Path]:
    """What a machine needs of the directories that are covered: the interpreter, its packages, this tree."""
    wanted = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).parent.parent, REPOSITORY}
    wanted |= {Path(os.environ[name]) for name in ("LAB_GUEST", PROGRAMS) if name in os.environ}
    wanted |= {path.resolve() for path in wanted}  # a virtual environment may be a link to one elsewhere
    return sorted(path for path in wanted if any(path.is_relative_to(covered) for covered in COVERED))
