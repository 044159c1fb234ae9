"""Two pods in network namespaces of their own, routed by the node, that ask and answer for policy_packets.py.

Each has several addresses, as if it were several pods. `python -m tests.bench.policy_wire client` (or `server`) is what
runs in them: the client takes a line of JSON for each piece of work and answers with one.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

PORTS: Final = (8080, 8081)
ASK, STREAM = PORTS
SIZE: Final = 32 << 20  # bytes of one stream
PATIENCE: Final = 20.0


class Client:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def requests(self, source: str, destination: str, number: int) -> list[tuple[float, float]]:
        """Seconds until each connection stands, and until it has ended."""
        return [(first, whole) for first, whole in self._asked("requests", source, destination, number)]

    def stream(self, source: str, destination: str) -> float:
        """MB of 2^20 bytes a second."""
        return SIZE / (1 << 20) / float(self._asked("stream", source, destination))

    def reaches(self, source: str, destination: str) -> bool:
        return bool(self._asked("reaches", source, destination))

    def _asked(self, *work: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(work) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def client_and_server(addresses: Sequence[tuple[str, str]]) -> Iterator[Client]:
    """addresses: of the client and of the server, as often as there are pairs."""
    for name, own in (("client", [pair[0] for pair in addresses]), ("server", [pair[1] for pair in addresses])):
        subprocess.run(["sh", "-ec", _wires(name, own)], check=True)
    server, client = _started("server"), _started("client")
    try:
        asking = Client(client)
        for pair in addresses:
            deadline = time.monotonic() + PATIENCE
            while not asking.reaches(*pair):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{pair[1]} does not answer {pair[0]}")
        yield asking
    finally:
        for process in (client, server):
            process.kill()
            process.wait()


def _wires(name: str, addresses: Sequence[str]) -> str:
    gateway = "169.254.1.1"
    lines = [
        f"ip netns add {name}",
        f"ip link add wire-{name} type veth peer name eth0 netns {name}",
        f"ip address add {gateway}/32 dev wire-{name}",
        f"ip link set wire-{name} up",
        f"ip -n {name} link set lo up",
        f"ip -n {name} link set eth0 up",
    ]
    for address in addresses:
        lines += [f"ip -n {name} address add {address}/32 dev eth0", f"ip route add {address}/32 dev wire-{name}"]
    lines += [
        f"ip -n {name} route add {gateway}/32 dev eth0",
        f"ip -n {name} route add default via {gateway}",
        "sysctl -qw net.ipv4.ip_forward=1",
    ]
    return "\n".join(lines)


def _started(name: str) -> subprocess.Popen[str]:
    command = ["ip", "netns", "exec", name, sys.executable, "-m", "tests.bench.policy_wire", name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


# -- in the pods -----------------------------------------------------------------------------------------------------


def _client() -> None:
    work: dict[str, Callable[..., Any]] = {"requests": _requests, "stream": _stream, "reaches": _reaches}
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(work[name](*arguments)), flush=True)


def _requests(source: str, destination: str, number: int) -> list[tuple[float, float]]:
    return [_request(source, destination) for _ in range(number)]


def _request(source: str, destination: str) -> tuple[float, float]:
    began = time.perf_counter()
    with socket.create_connection((destination, ASK), PATIENCE, (source, 0)) as stream:
        connected = time.perf_counter()
        stream.sendall(b"?")
        while stream.recv(4096):
            pass
    return connected - began, time.perf_counter() - began


def _stream(source: str, destination: str) -> float:
    piece = bytes(1 << 16)
    with socket.create_connection((destination, STREAM), PATIENCE, (source, 0)) as stream:
        began = time.perf_counter()
        for _ in range(SIZE // len(piece)):
            stream.sendall(piece)
        stream.shutdown(socket.SHUT_WR)
        stream.recv(1)
        return time.perf_counter() - began


def _reaches(source: str, destination: str) -> bool:
    try:
        with socket.create_connection((destination, ASK), 1.0, (source, 0)) as stream:
            stream.sendall(b"?")
            return bool(stream.recv(1))
    except OSError:
        return False


def _server() -> None:
    """Answers what it is asked, and streams once they have ended."""
    for port in PORTS:
        threading.Thread(target=_serve, args=(socket.create_server(("", port), backlog=512),)).start()


def _serve(server: socket.socket) -> None:
    streams = server.getsockname()[1] == STREAM
    while True:
        stream, _ = server.accept()
        with stream:
            while stream.recv(1 << 16) and streams:
                pass
            stream.sendall(b".")


if __name__ == "__main__":
    {"client": _client, "server": _server}[sys.argv[1]]()
