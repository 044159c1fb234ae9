"""etcd, kube-apiserver and kube-controller-manager for the worlds of one lab run. Host side, a process of its own.

`running()` starts it where the caller's network is (the lab's own namespace, or a test's loopback); it then does what
control.py's commands say, and everything ends with it. Nothing is started before the first `fresh`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.labkit.apiclient import ApiClient, Credentials
from tests.labkit.certificates import Authority
from tests.labkit.control import Control
from tests.labkit.door import Door
from tests.labkit.expiry import Expiry
from tests.labkit.ports import LabError
from tests.labkit.programs import Programs

REPOSITORY: Final = Path(__file__).parent.parent.parent
READY_WITHIN: Final = 90.0


@contextlib.contextmanager
def running(address: str = "127.0.0.1", *, door: int = 0, direct: int = 0, control: int = 0) -> Iterator[Control]:
    """A control plane process listening on `address`; port 0 is any free one. It ends when the block does."""
    command = [sys.executable, "-m", "tests.labkit.controlplane", "--address", address]
    command += ["--door", str(door), "--direct", str(direct), "--control", str(control)]
    jailed = ["setpriv", "--pdeathsig", "TERM", *command]
    process = subprocess.Popen(jailed, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise LabError(f"the control plane did not start (exit status {process.wait()})")
        yield Control(address, int(port))
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def programs_directory(*more: str) -> Path:
    """Where etcd and the others (and `more`) are; built first where that was never done, which takes minutes."""
    done = subprocess.run([REPOSITORY / "scripts" / "control-plane", *more], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise LabError("scripts/control-plane failed: there is no control plane to run")
    return Path(done.stdout.strip())


class ControlPlane:
    """What the commands do. One event loop, one thread: a child process dies with the thread that made it."""

    def __init__(self, address: str, door: int, direct: int, directory: Path) -> None:
        self.address = address
        self.directory = directory
        loopback = ipaddress.ip_address(address).is_loopback
        self.programs = Programs(directory, api_port=None if loopback else door or None)
        # One port on two addresses, where there are two: what the API server announces is the door.
        self.door = Door(address, door if loopback else self.programs.api_port, self.programs.api_port)
        self.direct = Door(address, direct, self.programs.api_port)
        self._authority: Authority | None = None
        self._cidrs: tuple[str, ...] = ()

    async def fresh(self, serviceCIDRs: Sequence[str]) -> dict[str, Any]:
        if self._authority is None:
            self.programs.binaries = await asyncio.to_thread(programs_directory)
            self._authority = await asyncio.to_thread(self._certify)
        await self.end()
        self.door.delay = 0.0
        self._cidrs = tuple(serviceCIDRs)
        await self.programs.start_etcd()
        await self._start_api()
        await self.direct.open()
        await self.door.open()
        credentials = self._credentials()
        return {
            "address": self.address,
            "door": self.door.port,
            "direct": self.direct.port,
            "ca": credentials.ca,
            "certificate": credentials.certificate,
            "key": credentials.key,
        }

    async def stop(self) -> None:
        await self.door.shut()
        await self.programs.stop_api()

    async def start(self) -> None:
        await self.inside()
        await self.door.open()

    async def inside(self) -> None:
        if not self.programs.api_runs():
            await self._start_api()

    async def cut(self) -> None:
        self.door.cut()

    async def slow(self, seconds: float) -> None:
        self.door.delay = float(seconds)

    async def expire(self) -> dict[str, Any]:
        """Every resourceVersion that a client may hold becomes too old; checked before the first client is let in."""
        await self.inside()
        await self.door.shut()
        expiry = Expiry(self._client(), self.programs.etcd_url)
        await asyncio.to_thread(expiry.write_and_compact)
        await self.programs.stop_api()
        await self._start_api()
        gone = await asyncio.to_thread(expiry.check)
        await self.door.open()
        return {"gone": gone}

    async def end(self) -> None:
        await self.door.shut()
        await self.direct.shut()
        await self.programs.stop()

    def _certify(self) -> Authority:
        authority = Authority(self.directory)
        authority.issue("admin", "/O=system:masters/CN=lab")
        return authority

    def _credentials(self) -> Credentials:
        assert self._authority is not None
        files = (self._authority.ca, self._authority.certificate("admin"), self._authority.key("admin"))
        return Credentials(*(file.read_text() for file in files))

    def _client(self) -> ApiClient:
        return ApiClient("127.0.0.1", self.programs.api_port, self._credentials(), self.directory)

    async def _start_api(self) -> None:
        assert self._authority is not None
        await asyncio.to_thread(self.programs.certify, self._authority, self.address, self._cidrs)
        await self.programs.start_api(self.address, self._cidrs)
        await self.programs.ready(self._client(), READY_WITHIN)
        await self.programs.start_manager()


async def serve(plane: ControlPlane, address: str, port: int) -> None:
    """Listens for commands, one at a time, until SIGTERM; prints its port once it does."""
    turn = asyncio.Lock()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with turn:
                reply = await _obey(plane, json.loads(await reader.readline()))
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError):
            pass  # whoever asked is gone, or was not one of ours
        finally:
            writer.close()

    server = await asyncio.start_server(answer, address, port)
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    print(server.sockets[0].getsockname()[1], flush=True)
    try:
        await over.wait()
    finally:
        server.close()
        await plane.end()


async def _obey(plane: ControlPlane, command: dict[str, Any]) -> dict[str, Any]:
    actions: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any] | None]]] = {
        "fresh": plane.fresh, "stop": plane.stop, "start": plane.start, "inside": plane.inside, "cut": plane.cut,
        "slow": plane.slow, "expire": plane.expire, "end": plane.end,
    }  # fmt: skip
    try:
        action = actions[command.pop("do")]
        reply: dict[str, Any] | None = await action(**command)
        return reply or {}
    except Exception as error:
        logs = plane.programs.last_words() if not isinstance(error, LabError) else ""
        return {"error": f"{type(error).__name__}: {error}{logs}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    for name in ("door", "direct", "control"):
        parser.add_argument(f"--{name}", type=int, default=0)
    options = parser.parse_args()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="kuberouter-lab-", dir=memory))
    try:
        plane = ControlPlane(options.address, options.door, options.direct, directory)
        asyncio.run(serve(plane, options.address, options.control))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
