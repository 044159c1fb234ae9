"""The server over real sockets: loopback and files, nothing else of the network."""

from __future__ import annotations

import errno
import http.client
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from kuberouter_py.observe import http as server_module
from kuberouter_py.observe.http import HttpServer, Response, json_response, text_response
from kuberouter_py.observe.listening import Tcp, Unix
from kuberouter_py.observe.socket import MOST_FORM, NoAgent, NoAnswer, ask

LOOPBACK = Tcp("127.0.0.1", 0)
Serve = Callable[[HttpServer], HttpServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    started: list[HttpServer] = []

    def start(server: HttpServer) -> HttpServer:
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


def get(port: int, path: str, method: str = "GET") -> tuple[int, bytes, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path)
    response = connection.getresponse()
    answer = response.status, response.read(), response.headers["Content-Type"]
    connection.close()
    return answer


def broken() -> Response:
    raise RuntimeError("secret")


def test_answers(serve: Serve) -> None:
    server = HttpServer()
    server.serve(LOOPBACK, {"/healthz": lambda: text_response(500, "Unhealthy\n")})
    server.serve(LOOPBACK, {"/json": lambda: json_response({"a": 1}), "/broken": broken})
    port = serve(server).port(LOOPBACK)
    assert get(port, "/healthz?verbose") == (500, b"Unhealthy\n", "text/plain; charset=utf-8")
    assert get(port, "/json") == (200, b'{"a": 1}\n', "application/json")
    assert get(port, "/json", "HEAD")[:2] == (200, b"")
    assert get(port, "/nothing")[:2] == (404, b"not found; here are:\n/broken\n/healthz\n/json\n")
    status, body, _ = get(port, "/broken")
    assert status == 500
    assert b"secret" not in body
    assert get(port, "/json", "DELETE")[0] == 501


def test_both_families(serve: Serve) -> None:
    everywhere = Tcp("", 0)
    server = HttpServer()
    server.serve(everywhere, {"/": lambda: text_response(200, "ok")})
    port = serve(server).port(everywhere)
    assert get(port, "/")[0] == 200
    with socket.create_connection(("::1", port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.0 200")


def test_a_taken_port_is_reported_and_had_when_it_is_free(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "BIND_AGAIN", 0.05)
    other = socket.create_server(("127.0.0.1", 0))
    where = Tcp("127.0.0.1", other.getsockname()[1])
    server = HttpServer()
    server.serve(where, {"/": lambda: text_response(200, "ok")})
    server.serve(LOOPBACK, {"/": lambda: text_response(200, "ok")})
    serve(server)
    assert server.unbound() == {str(where): "Address already in use"}
    assert get(server.port(LOOPBACK), "/")[0] == 200
    other.close()
    freed = threading.Event()
    while server.unbound():  # and somebody asks the other listener all the time
        assert get(server.port(LOOPBACK), "/")[0] == 200
        assert not freed.wait(0.002)
    assert get(where.port, "/")[0] == 200


def test_held_connections_keep_nobody_out(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "PLACES", 2)
    server = HttpServer()
    server.serve(LOOPBACK, {"/": lambda: text_response(200, "ok")})
    port = serve(server).port(LOOPBACK)
    held = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(4)]
    for _ in range(3):
        assert get(port, "/")[0] == 200
    assert held[0].recv(1) == b""  # the oldest was cut
    for connection in held:
        connection.close()


def test_without_descriptors_it_rests_and_then_answers(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS]
    rests: list[float] = []
    accept = socket.socket.accept

    def accept_or_refuse(listener: socket.socket) -> tuple[socket.socket, object]:
        if refusals:
            raise OSError(refusals.pop(), "none left")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", accept_or_refuse)
    monkeypatch.setattr(server_module, "time", SimpleNamespace(monotonic=time.monotonic, sleep=rests.append))
    server = HttpServer()
    server.serve(LOOPBACK, {"/": lambda: text_response(200, "ok")})
    assert get(serve(server).port(LOOPBACK), "/")[0] == 200
    assert rests == [server_module.REST] * 3


def test_without_a_thread_one_connection_is_closed_and_the_next_answered(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = ["can't start new thread"]
    start = threading.Thread.start

    def start_or_refuse(thread: threading.Thread) -> None:
        if thread.name == "http request" and refusals:
            raise RuntimeError(refusals.pop())
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_refuse)
    server = HttpServer()
    server.serve(LOOPBACK, {"/": lambda: text_response(200, "ok")})
    port = serve(server).port(LOOPBACK)
    with pytest.raises(ConnectionError):
        get(port, "/")
    assert get(port, "/")[0] == 200


def test_local_socket(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "run" / "agent.sock"
    server = HttpServer()
    server.serve(
        Unix(str(path)), {"/config": lambda: json_response({"v": "0"}), "/text": lambda: text_response(200, "x")}
    )
    server.start()
    assert ask(str(path), "/config") == {"v": "0"}
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with pytest.raises(NoAgent, match="404"):
        ask(str(path), "/nothing")
    with pytest.raises(NoAgent, match="something else than JSON"):
        ask(str(path), "/text")
    second = HttpServer()
    second.serve(Unix(str(path)), {})
    serve(second)
    assert second.unbound() == {str(path): "another agent answers there"}
    server.stop()
    assert not path.exists()
    with pytest.raises(NoAgent, match="no agent answers"):
        ask(str(path), "/config")


def test_a_form_may_be_long_and_is_for_the_local_socket_alone(serve: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "agent.sock")
    server = HttpServer()
    server.serve(Unix(path), {}, {"/size": lambda asked: json_response({"size": len(asked["text"]), **asked})})
    server.serve(LOOPBACK, {"/healthz": lambda: text_response(200, "ok")})
    port = serve(server).port(LOOPBACK)
    long = "a: &b\n" * 50_000
    answer = ask(path, "/size", {"text": long, "b": "=&"}, form=True)
    assert (answer["size"], answer["b"]) == (len(long), "=&")
    assert ask(path, "/size?b=1", {"text": "x"}, form=True) == {"size": 1, "b": "1", "text": "x"}
    with pytest.raises(NoAnswer, match="are more than can be asked at once"):
        ask(path, "/size", {"text": "x" * MOST_FORM}, form=True)
    assert get(port, "/healthz", "POST")[0] == 405
    for header, status in (("", b"411"), (f"Content-Length: {MOST_FORM + 1}\r\n", b"413")):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            connection.sendall(f"POST /size HTTP/1.0\r\n{header}\r\n".encode())
            assert connection.recv(100).split()[1] == status


def test_a_dead_agents_socket_is_taken_over(serve: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "agent.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with pytest.raises(NoAgent, match="no agent answers"):
        ask(path, "/config")
    server = HttpServer()
    server.serve(Unix(path), {"/config": lambda: json_response({})})
    assert serve(server).unbound() == {}
    assert ask(path, "/config") == {}
