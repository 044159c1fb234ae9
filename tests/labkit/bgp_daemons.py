"""The BGP engine of an outside host as processes on its machine, where its own tool finds it as it would anywhere."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.labkit import bgp_config, namespaces
from tests.labkit.bgp_config import Speaker
from tests.labkit.machine import Machine, environment
from tests.labkit.ports import LabError

LOG: Final = "bgp.log"
_READY_WITHIN: Final = 30.0
_FRR_STATE: Final = ("/run/frr", "/etc/frr")


class Daemons:
    def __init__(self, machine: Machine, speaker: Speaker) -> None:
        self._machine = machine
        self._speaker = speaker
        self._running: list[subprocess.Popen[bytes]] = []
        self._engines: Mapping[str, tuple[Callable[[], None], str]] = {
            "bird": (self._bird, "birdc show status"),
            "frr": (self._frr, "vtysh -c 'show bgp summary'"),
            "gobgp": (self._gobgp, "gobgp global"),
        }

    def start(self) -> None:
        self._engines[self._speaker.spec.engine][0]()

    def end(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()

    def wait(self) -> None:
        """Until its own tool is answered; then it is told what its configuration cannot hold."""
        asked = self._engines[self._speaker.spec.engine][1]
        orders = bgp_config.gobgp_orders(self._speaker) if self._speaker.spec.engine == "gobgp" else []
        script = "\n".join([f"until {asked} >/dev/null 2>&1; do sleep 0.1; done", "set -e", *orders])
        try:
            status, said = self._machine.run(script, timeout=_READY_WITHIN)
        except TimeoutError:
            status, said = 1, (self._machine.state / LOG).read_text(errors="replace")[-2000:]
        if status != 0:
            raise LabError(f"{self._speaker.spec.engine} on {self._machine.name} does not answer its tool: {said}")

    def _bird(self) -> None:
        self._write("/run/bird/bird.conf", bgp_config.bird(self._speaker))
        self._spawn("bird", "-f", "-c", "/run/bird/bird.conf", "-s", "/run/bird/bird.ctl")

    def _frr(self) -> None:
        """They drop root for a user of their own, who owns what they read and write."""

        def prepare() -> None:
            namespaces.mount("tmpfs", "/etc/frr")
            for path in _FRR_STATE:
                Path(path).mkdir(exist_ok=True)
                shutil.chown(path, "frr", "frr")

        namespaces.within(self._machine.inside(), prepare)
        self._write("/etc/frr/bgpd.conf", bgp_config.frr(self._speaker))
        for path in ("/etc/frr/none.conf", "/etc/frr/vtysh.conf"):
            self._write(path, "")
        self._spawn("/usr/lib/frr/zebra", "-f", "/etc/frr/none.conf", "--log", "stdout")
        if self._speaker.spec.bfd:
            self._spawn("/usr/lib/frr/bfdd", "-f", "/etc/frr/none.conf", "--log", "stdout")
        ends = ["-p", str(self._speaker.spec.port), "-l", self._speaker.local]
        # It asks zebra for the links that its next hops lie on, and does not ask again.
        script = f"until test -S /run/frr/zserv.api; do sleep 0.1; done; exec {shlex.join(_BGPD + ends)}"
        self._spawn("/bin/sh", "-c", script)

    def _gobgp(self) -> None:
        self._write("/run/gobgpd.conf", bgp_config.gobgp(self._speaker))
        self._spawn("gobgpd", "-f", "/run/gobgpd.conf", "--log-plain")

    def _write(self, path: str, text: str) -> None:
        def write() -> None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text)

        namespaces.within(self._machine.inside(), write)

    def _spawn(self, *command: str) -> None:
        log = self._machine.state / LOG
        self._running.append(self._machine.spawn(command, environment(self._machine.hostname), log))


_BGPD: Final = ["/usr/lib/frr/bgpd", "-f", "/etc/frr/bgpd.conf", "--log", "stdout"]
