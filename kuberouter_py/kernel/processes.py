"""What runs on this node, as far as another Service proxy is concerned: processes of this network namespace, and who
answers on kube-proxy's ports. Nothing here writes.

Without the machine's process namespace (hostPID) only a container's own processes are seen; then the ports have to
tell.
"""

from __future__ import annotations

import http.client
import os
from collections.abc import Collection, Iterator
from pathlib import Path

import yaml

from kuberouter_py.model.others import Listener, Process

# kube-proxy's metrics (on loopback only, by default) and its health for cloud load balancers.
PORTS = ((10249, "/proxyMode"), (10256, "/healthz"))
OUR_SERVER = "kuberouter-py"  # how the Server header of our own HTTP begins
_ANSWER_WITHIN = 1.0  # seconds
_FIRST_PID_NAMESPACE = 0xEFFF_FFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h
# Programs that read their flags from a file as well.
_CONFIGURED = {"k3s": "etc/rancher/k3s/config.yaml", "rke2": "etc/rancher/rke2/config.yaml"}


class Processes:
    """names: only processes whose program's name begins so are told of."""

    def __init__(self, names: Collection[str], proc: Path = Path("/proc")) -> None:
        self._names = tuple(names)
        self._proc = proc

    def read(self) -> list[Process]:
        """Some 30 µs a process of the node. By id alone none is known for good: a container's becomes its program."""
        pids = sorted(int(entry) for entry in os.listdir(self._proc) if entry.isdigit())
        return [process for pid in pids if (process := self._look(pid)) is not None]

    def sees_the_machine(self) -> bool:
        """Whether this is the first process namespace, where everything that runs on the machine is to be seen."""
        try:
            return os.stat(self._proc / "self/ns/pid").st_ino == _FIRST_PID_NAMESPACE
        except OSError:
            return False

    def _look(self, pid: int) -> Process | None:
        directory = self._proc / str(pid)
        try:
            name, _, rest = (directory / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
            words = (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return None  # gone meanwhile
        arguments = tuple(words[:-1])
        program = arguments[0].rsplit("/", 1)[-1] if arguments else ""
        if not (name.startswith(self._names) or program.startswith(self._names)):
            return None
        ended = rest.split()[0] in ("Z", "X")  # and only not collected by its parent yet
        if ended or self._elsewhere(directory):
            return None
        return Process(pid, name, (*arguments, *self._from_file(directory, name)))

    def _elsewhere(self, directory: Path) -> bool:
        """In another network namespace (a node of a cluster in containers, say). Where that may not be asked: no."""
        try:
            return os.readlink(directory / "ns/net") != os.readlink(self._proc / "thread-self/ns/net")
        except OSError:
            return False

    def _from_file(self, directory: Path, name: str) -> Iterator[str]:
        file = next((file for head, file in _CONFIGURED.items() if name.startswith(head)), "")
        try:
            said = yaml.safe_load((directory / "root" / file).read_text()) if file else None
        except (OSError, ValueError, yaml.YAMLError):
            return
        for key, value in said.items() if isinstance(said, dict) else ():
            yield f"--{key}={str(value).lower() if isinstance(value, bool) else value}"


def listeners(ports: Collection[tuple[int, str]] = PORTS, host: str = "127.0.0.1") -> list[Listener]:
    """Who answers there and is not one of ours."""
    return [found for port, path in ports if (found := _ask(host, port, path)) is not None]


def _ask(host: str, port: int, path: str) -> Listener | None:
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_WITHIN)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        if (response.getheader("Server") or "").startswith(OUR_SERVER):
            return None
        return Listener(port, path, response.read(40).decode(errors="replace").strip())
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
