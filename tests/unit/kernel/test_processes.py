"""Which processes are told of, from a /proc that was made up; who answers on a port, from a real socket."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kuberouter_py.kernel.processes import Processes, listeners
from kuberouter_py.model.others import Listener, Process

NAMES = ("kube-proxy", "kube-router", "k3s")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for self_ in ("self", "thread-self"):
        (tmp_path / self_ / "ns").mkdir(parents=True)
        os.symlink("net:[1]", tmp_path / self_ / "ns/net")
    return tmp_path


def run(proc: Path, pid: int, name: str, command: str, *, state: str = "S", network: str = "net:[1]") -> None:
    directory = proc / str(pid)
    (directory / "ns").mkdir(parents=True)
    (directory / "stat").write_text(f"{pid} ({name}) {state} 1 1 1\n")
    (directory / "cmdline").write_text(command.replace(" ", "\0") + "\0")
    os.symlink(network, directory / "ns/net")


def test_by_the_kernels_name_and_by_the_first_word(proc: Path) -> None:
    run(proc, 7, "kube-proxy", "/usr/local/bin/kube-proxy --v=2")
    run(proc, 8, "sleep", "kube-router 100")
    run(proc, 9, "bash", "bash -c kube-proxy")
    run(proc, 10, "a (b) c", "a")
    assert Processes(NAMES, proc).read() == [
        Process(7, "kube-proxy", ("/usr/local/bin/kube-proxy", "--v=2")),
        Process(8, "sleep", ("kube-router", "100")),
    ]


def test_the_dead_and_those_of_other_networks_do_not_count(proc: Path) -> None:
    run(proc, 7, "kube-proxy", "kube-proxy", state="Z")
    run(proc, 8, "kube-proxy", "kube-proxy", network="net:[2]")
    assert Processes(NAMES, proc).read() == []


def test_where_a_network_may_not_be_asked_the_process_counts(proc: Path) -> None:
    run(proc, 7, "kube-proxy", "kube-proxy")
    (proc / "7/ns/net").unlink()
    assert [process.pid for process in Processes(NAMES, proc).read()] == [7]


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("disable-network-policy: true\ntoken: x\n", ("--disable-network-policy=true", "--token=x")),
        ("- a\n", ()),
        ("a: [", ()),
    ],
)
def test_what_k3s_reads_from_its_file(proc: Path, text: str, more: tuple[str, ...]) -> None:
    run(proc, 7, "k3s-server", "/usr/local/bin/k3s server")
    file = proc / "7/root/etc/rancher/k3s/config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    (process,) = Processes(NAMES, proc).read()
    assert process.arguments == ("/usr/local/bin/k3s", "server", *more)


@contextmanager
def answering(reply: bytes) -> Iterator[int]:
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    thread.join(5)
    server.close()


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nipvs", "ipvs"),
        (b"HTTP/1.1 503 No\r\nServer: other\r\nContent-Length: 0\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nServer: kuberouter-py\r\nContent-Length: 4\r\n\r\nipvs", None),
        (b"SSH-2.0-x\r\n", None),
    ],
)
def test_who_answers(reply: bytes, answer: str | None) -> None:
    with answering(reply) as port:
        found = listeners([(port, "/proxyMode")])
    assert found == ([] if answer is None else [Listener(port, "/proxyMode", answer)])


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert listeners([(port, "/")]) == []
