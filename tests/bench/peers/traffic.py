"""Packets through a VIP, from the node itself to one backend in a namespace of its own."""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

from tests.bench import objects

BACKEND: Final = "10.244.1.2"
_WIRES: Final = f"""
ip netns add backend
ip link add pod type veth peer name eth0 netns backend
ip address add 10.244.1.1/24 dev pod
ip link set pod up
ip -n backend link set lo up
ip -n backend address add {BACKEND}/24 dev eth0
ip -n backend link set eth0 up
ip -n backend route add default via 10.244.1.1
sysctl -qw net.ipv4.ip_forward=1
"""
_ANSWER: Final = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
# Seconds until the next try, and the part of the time waited: a peer that is busy for long may keep the answer waiting.
ATTEMPT, SHARE = 0.005, 0.01


def start_backend() -> None:
    """It ends with the lab kernel."""
    subprocess.run(["sh", "-ec", _WIRES], check=True)
    serve = ["ip", "netns", "exec", "backend", sys.executable, "-m", "tests.bench.peers.traffic"]
    subprocess.Popen(serve, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 20.0
    while not _asked(BACKEND, objects.TARGET_PORT, 0.5):
        if time.monotonic() > deadline:
            raise TimeoutError("the backend does not answer")


def first_answer(vip: str, within: float) -> float | None:
    """time.time() of the first answer; None: there was none."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < within:
        if _asked(vip, objects.PORT, max(ATTEMPT, SHARE * waited)):
            return time.time()
    return None


def load(vip: str, seconds: float) -> dict[str, float]:
    """New connections with one request each, one after the other: how many a second, how long a connect takes, and what
    both take where nothing else on the machine comes between.
    """
    taken: list[tuple[float, float]] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        taken.append(request(vip))
    elapsed = time.perf_counter() - began
    connects = sorted(connect for connect, _ in taken)
    connect, whole = undisturbed(taken)
    return {
        "requests_per_second": len(taken) / elapsed,
        "first_packet_p50_ms": connects[len(connects) // 2] * 1000,
        "first_packet_p99_ms": connects[len(connects) * 99 // 100] * 1000,
        "first_packet_p10_ms": connect * 1000,
        "request_p10_ms": whole * 1000,
    }


def request(vip: str) -> tuple[float, float]:
    """One connection with one request: seconds until it stands, and until it has ended."""
    began = time.perf_counter()
    with socket.create_connection((vip, objects.PORT), timeout=10.0) as stream:
        connected = time.perf_counter()
        stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while stream.recv(4096):
            pass
    return connected - began, time.perf_counter() - began


def undisturbed(taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """What a tenth of the connects, and of the requests, did not exceed: other programs only ever make them longer."""
    connects, requests = zip(*taken, strict=True)
    tenth = len(taken) // 10
    return sorted(connects)[tenth], sorted(requests)[tenth]


def _asked(address: str, port: int, patience: float) -> bool:
    """One connection with one request of its own, so that nothing remembers an earlier attempt."""
    deadline = time.monotonic() + patience
    try:
        with socket.create_connection((address, port), timeout=patience) as stream:
            stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
            stream.settimeout(max(0.001, deadline - time.monotonic()) + patience)
            return stream.recv(4096).startswith(b"HTTP/1.0 200")
    except OSError:
        return False


def serve() -> None:
    """One thread for all: read something, answer, close."""
    waiting = selectors.DefaultSelector()
    server = socket.create_server(("", objects.TARGET_PORT), backlog=512)
    waiting.register(server, selectors.EVENT_READ)
    while True:
        for ready, _ in waiting.select():
            if ready.fileobj is server:
                stream, _ = server.accept()
                waiting.register(stream, selectors.EVENT_READ)
                continue
            stream = ready.fileobj  # type: ignore[assignment]
            waiting.unregister(stream)
            with stream:
                try:
                    if stream.recv(4096):
                        stream.sendall(_ANSWER)
                except OSError:
                    continue


if __name__ == "__main__":
    serve()
