"""The control plane's programs as child processes: their flags and ports, when they are ready, how they end."""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.labkit.apiclient import ApiClient, ApiError, Unreachable
from tests.labkit.certificates import Authority
from tests.labkit.kubeconfig import kubeconfig
from tests.labkit.ports import LabError

# What the lab has no use for, or plays itself (kubelet, nodes' health); the rest would only cost start-up and CPU.
CONTROLLERS: Final = (
    "endpointslice-controller",
    "endpointslice-mirroring-controller",
    "endpoints-controller",
    "namespace-controller",
    "garbage-collector-controller",
    "service-cidr-controller",
    "serviceaccount-controller",
    "root-ca-certificate-publisher-controller",
)
# The first two would hold Pods and Nodes back for kubelets and controllers that are not there; the third makes a Pod
# that is applied twice differ from itself.
ADMISSION_OFF: Final = ("ServiceAccount", "TaintNodesByCondition", "DefaultTolerationSeconds")


class Programs:
    """Starts and ends them. Methods that make processes belong to the main thread (they die with the one that did)."""

    def __init__(self, directory: Path, api_port: int | None) -> None:
        self.directory = directory
        self.binaries = Path()
        # The API server announces this port in the endpoints of the `kubernetes` Service.
        self.api_port = api_port or free_port()
        self._etcd_port, self._peer_port, self._manager_port = free_port(), free_port(), free_port()
        self.etcd_url = f"http://127.0.0.1:{self._etcd_port}"
        self._running: dict[str, asyncio.subprocess.Process] = {}

    def api_runs(self) -> bool:
        process = self._running.get("kube-apiserver")
        return process is not None and process.returncode is None

    async def start_etcd(self) -> None:
        data = self.directory / "etcd"
        shutil.rmtree(data, ignore_errors=True)
        peer = f"http://127.0.0.1:{self._peer_port}"
        await self._start(
            "etcd", f"--data-dir={data}", "--unsafe-no-fsync", f"--listen-client-urls={self.etcd_url}",
            f"--advertise-client-urls={self.etcd_url}", f"--listen-peer-urls={peer}", "--name=lab",
            f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=lab={peer}", "--log-level=warn",
        )  # fmt: skip

    def certify(self, authority: Authority, address: str, cidrs: Sequence[str]) -> None:
        first = [str(ipaddress.ip_network(cidr)[1]) for cidr in cidrs]  # the `kubernetes` Service's
        names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        authority.issue("server", "/CN=kube-apiserver", addresses=sorted({"127.0.0.1", address, *first}), names=names)
        if not authority.certificate("manager").exists():
            # All controllers act by this one name.
            authority.issue("manager", "/O=system:masters/CN=system:kube-controller-manager")
            self._write_manager_configuration(authority)

    async def start_api(self, address: str, cidrs: Sequence[str]) -> None:
        """kube-apiserver on loopback."""
        here = self.directory
        # Endpoints may not be loopback addresses; on loopback nobody goes through the `kubernetes` Service.
        advertised = address if not ipaddress.ip_address(address).is_loopback else "192.0.2.250"
        await self._start(
            "kube-apiserver", f"--etcd-servers={self.etcd_url}", "--bind-address=127.0.0.1",
            f"--secure-port={self.api_port}", f"--advertise-address={advertised}", "--allow-privileged=true",
            f"--service-cluster-ip-range={','.join(cidrs)}", "--authorization-mode=RBAC",
            f"--disable-admission-plugins={','.join(ADMISSION_OFF)}", f"--client-ca-file={here}/ca.crt",
            f"--tls-cert-file={here}/server.crt", f"--tls-private-key-file={here}/server.key",
            "--service-account-issuer=https://kubernetes.default.svc", "--profiling=false",
            f"--service-account-key-file={here}/sa.pub", f"--service-account-signing-key-file={here}/sa.key",
        )  # fmt: skip

    async def start_manager(self) -> None:
        """Anew with every API server, once that is ready: an old one would wait out its back-off, an early one ends."""
        here = self.directory
        await self._start(
            "kube-controller-manager", f"--kubeconfig={here}/manager.conf", "--leader-elect=false",
            f"--controllers={','.join(CONTROLLERS)}", "--use-service-account-credentials=false",
            f"--root-ca-file={here}/ca.crt", f"--service-account-private-key-file={here}/sa.key",
            "--bind-address=127.0.0.1", f"--secure-port={self._manager_port}", "--kube-api-qps=1000",
            "--kube-api-burst=2000", "--profiling=false",
        )  # fmt: skip

    async def ready(self, client: ApiClient, within: float) -> None:
        """The API server says so, and the namespace `default` is there."""
        deadline = time.monotonic() + within
        while True:
            try:
                await asyncio.to_thread(client.request, "GET", "/readyz", timeout=5.0)
                if await asyncio.to_thread(client.get, "/api/v1/namespaces/default") is not None:
                    return
                why = "no namespace `default`"
            except (ApiError, Unreachable) as error:
                why = str(error)
            dead = [name for name, process in self._running.items() if process.returncode is not None]
            if dead or time.monotonic() > deadline:
                raise LabError(f"the API server is not ready ({why}); ended: {dead}{self.last_words()}")
            await asyncio.sleep(0.05)

    async def stop_api(self) -> None:
        await asyncio.gather(self._kill("kube-apiserver"), self._kill("kube-controller-manager"))

    async def stop(self) -> None:
        await asyncio.gather(*(self._kill(name) for name in list(self._running)))

    def last_words(self) -> str:
        words = []
        for log in sorted(self.directory.glob("*.log")):
            tail = log.read_text(errors="replace").splitlines()[-5:]
            words.append("\n".join([f"\n{log.stem}:", *tail]))
        return "".join(words)

    async def _start(self, name: str, *arguments: str) -> None:
        # No proxy of the machine's lies between the parts, and a child does not outlive us.
        with (self.directory / f"{name}.log").open("wb") as log:
            self._running[name] = await asyncio.create_subprocess_exec(
                "setpriv", "--pdeathsig", "KILL", str(self.binaries / name), *arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                env={"PATH": "/usr/bin:/bin"},
            )  # fmt: skip

    async def _kill(self, name: str) -> None:
        """At once, and waited for: the next one must find the ports free and etcd its own."""
        process = self._running.pop(name, None)
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def _write_manager_configuration(self, authority: Authority) -> None:
        text = kubeconfig(
            f"https://127.0.0.1:{self.api_port}",
            authority.ca.read_text(),
            certificate=authority.certificate("manager").read_text(),
            key=authority.key("manager").read_text(),
        )
        (self.directory / "manager.conf").write_text(text)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
