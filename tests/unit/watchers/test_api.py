"""The client against a server on loopback: streams in odd pieces, refusals, changing credentials, cut connections."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kuberouter_py.ports import Unavailable
from kuberouter_py.watchers import api
from kuberouter_py.watchers import api_errors as errors
from kuberouter_py.watchers.api import ApiClient, MetadataOnly

Answer = Callable[["Handler"], None]


class Seen(NamedTuple):
    command: str
    path: str
    headers: Message
    body: bytes
    client_address: tuple[str, int]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _play(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.server.seen.append(Seen(self.command, self.path, self.headers, body, self.client_address))
        self.server.answer(self)

    do_GET = do_POST = do_PATCH = do_PUT = _play

    def log_message(self, format: str, *args: Any) -> None: ...

    def say(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def chunks(self, *parts: bytes, end: bool = True, **headers: str) -> None:
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in parts:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
        if end:
            self.wfile.write(b"0\r\n\r\n")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[Seen] = []
        self.answer: Answer = lambda handler: handler.say(200, b"{}")
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None: ...  # clients that go away are part of the test


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(10.0)


@pytest.fixture
def client(server: Server, tmp_path: Path) -> ApiClient:
    return ApiClient(master=server.url, account=tmp_path)


def test_get_sends_query_and_name(server: Server, client: ApiClient) -> None:
    server.answer = lambda handler: handler.say(200, b'{"a":1}')
    assert client.get("/api/v1/services", {"labelSelector": "!a,!b", "limit": "5"}) == b'{"a":1}'
    seen = server.seen[0]
    assert seen.path == "/api/v1/services?labelSelector=%21a%2C%21b&limit=5"
    assert seen.headers["User-Agent"].startswith("kuberouter-py/")
    assert seen.headers["Accept"] == "application/json"
    assert "gzip" not in (seen.headers["Accept-Encoding"] or "")  # M1.16
    assert "Authorization" not in seen.headers


def test_metadata_alone_is_asked_for_by_its_media_type(server: Server, client: ApiClient) -> None:
    server.answer = lambda handler: handler.say(200, b"{}\n")
    lean = MetadataOnly(client)
    lean.get("/api/v1/pods", {})
    list(lean.stream("/api/v1/pods", {"watch": "1"}, 10.0))
    assert [seen.headers["Accept"] for seen in server.seen] == [
        f"application/json;as={what};v=v1;g=meta.k8s.io,application/json"
        for what in ("PartialObjectMetadataList", "PartialObjectMetadata")
    ]


def test_lines_whatever_the_chunks(server: Server, client: ApiClient) -> None:
    """M1.15: several events in one chunk, one event in several, a letter cut in two, an event above 1 MiB."""
    long = b'"' + b"x" * 1_500_000 + b'"'
    letter = "ä".encode()
    parts = [b'{"a":1}\n{"b":', b"2}\n", b"\n", b'"' + letter[:1], letter[1:] + b'"\n', long, b"\n", b'{"half":']
    server.answer = lambda handler: handler.chunks(*parts)
    lines = list(client.stream("/watch", {}, 10.0))
    assert lines == [b'{"a":1}', b'{"b":2}', '"ä"'.encode(), long]


def test_a_stream_that_breaks_is_unreachable(server: Server, client: ApiClient) -> None:
    def cut(handler: Handler) -> None:
        handler.chunks(b'{"a":1}\n', end=False)
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)

    server.answer = cut
    heard = []
    with pytest.raises(errors.Unreachable):
        for line in client.stream("/watch", {}, 10.0):
            heard.append(line)
    assert heard == [b'{"a":1}']


def test_silence_past_the_deadline_is_a_dead_peer(server: Server, client: ApiClient) -> None:
    """M1.05."""
    release = threading.Event()

    def hold(handler: Handler) -> None:
        handler.chunks(b'{"a":1}\n', end=False)
        release.wait(30.0)

    server.answer = hold
    stream = iter(client.stream("/watch", {}, 0.2))
    assert next(stream) == b'{"a":1}'
    with pytest.raises(errors.Unreachable, match=r"[Tt]imed out"):
        next(stream)
    release.set()


@pytest.mark.parametrize("handed_over", [False, True])
def test_what_silence_is_the_end_may_change_while_the_stream_is_read(
    server: Server, client: ApiClient, handed_over: bool
) -> None:
    """Also where the server will close the connection: then the response alone has the socket."""
    release = threading.Event()

    def hold(handler: Handler) -> None:
        handler.chunks(b'{"a":1}\n', end=False, **({"Connection": "close"} if handed_over else {}))
        release.wait(30.0)

    server.answer = hold
    opened = client.stream("/watch", {}, 30.0)
    lines = iter(opened)
    assert next(lines) == b'{"a":1}'
    opened.expect(0.2)
    with pytest.raises(errors.Unreachable, match=r"GET /watch: timed out, nothing was heard for 0\.2 s"):
        next(lines)
    release.set()


def test_a_server_that_hangs_before_the_headers_of_a_watch(
    server: Server, client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are waited for as long as any answer, not until the watch would end; what comes after them is."""
    release = threading.Event()
    monkeypatch.setattr(api, "READ_TIMEOUT", 0.2)

    def hang(_handler: Handler) -> None:
        release.wait(30.0)

    server.answer = hang
    with pytest.raises(errors.Unreachable, match=r"read timeout=0\.2"):
        client.stream("/watch", {}, 5.0)
    release.set()
    server.answer = lambda handler: handler.chunks(b"{}\n")
    stream = client.stream("/watch", {}, 600.0)
    assert 600.0 in [connected.gettimeout() for connected in client._sockets]
    assert list(stream) == [b"{}"]


@pytest.mark.parametrize("whole", [False, True])
def test_another_thread_ends_a_stream_at_once(server: Server, client: ApiClient, whole: bool) -> None:
    """By the stream itself without an error, by the client with one."""
    held, release = threading.Event(), threading.Event()

    def hold(handler: Handler) -> None:
        handler.chunks(b'{"a":1}\n', end=False)
        release.wait(30.0)

    server.answer = hold
    stream = client.stream("/watch", {}, 60.0)
    ended: list[object] = []

    def read() -> None:
        try:
            for _ in stream:
                held.set()
            ended.append("end")
        except errors.ApiError as error:
            ended.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert held.wait(10.0)
    if whole:
        client.close()
    else:
        stream.close()
    reader.join(10.0)
    release.set()
    assert not reader.is_alive()
    assert isinstance(ended[0], errors.Unreachable) if whole else ended == ["end"]
    stream.close()  # a second time does nothing


def test_close_reaches_a_request_without_an_answer(server: Server, client: ApiClient) -> None:
    held, release = threading.Event(), threading.Event()

    def hold(handler: Handler) -> None:
        held.set()
        release.wait(30.0)

    server.answer = hold
    failed: list[Exception] = []

    def ask() -> None:
        try:
            client.get("/api")
        except errors.ApiError as error:
            failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    assert held.wait(10.0)
    client.close()
    asking.join(10.0)
    release.set()
    assert isinstance(failed[0], errors.Unreachable)


def test_refusals(server: Server, client: ApiClient) -> None:
    body = b'{"kind":"Status","message":"slow down","details":{"retryAfterSeconds":2}}'
    server.answer = lambda handler: handler.say(429, body, Retry_After="5")
    with pytest.raises(errors.Throttled, match="GET /api: 429 slow down") as caught:
        client.get("/api")
    assert caught.value.retry_after == 5.0
    with pytest.raises(errors.Throttled):
        client.stream("/api", {}, 5.0)
    assert len(server.seen) == 2  # the transport does not try again by itself


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = ApiClient(master=f"http://127.0.0.1:{unused.getsockname()[1]}", account=tmp_path)
        messages = set()
        for _ in range(2):
            with pytest.raises(errors.Unreachable) as caught:
                client.get("/api")
            messages.add(str(caught.value))
        assert len(messages) == 1  # the same trouble reads the same, so that it is logged once
        assert "refused" in messages.pop()


def test_keepalive_finds_a_dead_peer_within_a_minute(server: Server, client: ApiClient) -> None:
    """M1.05."""
    client.get("/api")
    (connected,) = client._sockets
    option = connected.getsockopt
    assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    idle, interval, count = (
        option(socket.IPPROTO_TCP, name) for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    assert idle + interval * count <= 60
    assert option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 60_000


def test_connections_are_kept(server: Server, client: ApiClient) -> None:
    for _ in range(3):
        client.get("/api")
    assert len({handler.client_address for handler in server.seen}) == 1


def test_writes(server: Server, client: ApiClient) -> None:
    client.create_event("shop", {"metadata": {"name": "e1"}})
    client.patch_event("shop", "e1", {"count": 2})
    client.put("/apis/x", {"a": 1})
    post, patch, put = server.seen
    assert (post.command, post.path, json.loads(post.body)) == (
        "POST",
        "/api/v1/namespaces/shop/events",
        {"metadata": {"name": "e1"}},
    )
    assert (patch.command, patch.path) == ("PATCH", "/api/v1/namespaces/shop/events/e1")
    assert patch.headers["Content-Type"] == "application/merge-patch+json"
    assert (put.command, put.headers["Content-Type"]) == ("PUT", "application/json")
    server.answer = lambda handler: handler.say(409, b'{"message":"exists"}')
    with pytest.raises(errors.Conflict):
        client.create_event("shop", {})


def pod(folder: Path, token: str) -> Path:
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_text("not read for http")
    return folder


def test_credentials_of_a_pod_with_the_address_from_outside(server: Server, tmp_path: Path) -> None:
    """The fresh-node case: the pod's token, but not the pod network's address of the API server."""
    client = ApiClient(master=server.url, account=pod(tmp_path, "t1"), environ={})
    client.get("/api")
    client.get("/api")  # its refresh hook has written its own host by now
    assert [handler.headers["Authorization"] for handler in server.seen] == ["bearer t1"] * 2
    assert client.server == server.url


def test_refused_token_is_read_again_from_its_file(server: Server, tmp_path: Path) -> None:
    """M1.13, without the minute that the client would wait; not more often than every ten seconds."""
    now = [100.0]

    def answer(handler: Handler) -> None:
        good = handler.headers["Authorization"] == "bearer t2"
        handler.say(200 if good else 401, b"{}")

    server.answer = answer
    client = ApiClient(master=server.url, account=pod(tmp_path, "t1"), environ={}, clock=lambda: now[0])
    pod(tmp_path, "t2")
    with pytest.raises(errors.Unauthorized):
        client.get("/api")
    with pytest.raises(errors.Unauthorized):  # too soon
        client.get("/api")
    now[0] += 11.0
    with pytest.raises(errors.Unauthorized):
        client.get("/api")
    assert client.get("/api") == b"{}"


def test_environment_of_a_pod(tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    try:
        client = ApiClient(account=pod(tmp_path, "t1"), environ=environ)
    except Unavailable:  # a certificate that is none may be refused at once
        (tmp_path / "ca.crt").write_text(_certificate())
        client = ApiClient(account=tmp_path, environ=environ)
    assert client.server == "https://[fd00::1]:6443"


def _certificate() -> str:
    body = base64.encodebytes(b"x").decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"


def test_without_any_configuration(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="neither --kubeconfig nor --manifests is given"):
        ApiClient(account=tmp_path, environ={})
    with pytest.raises(Unavailable, match="no such file"):
        ApiClient(kubeconfig=str(tmp_path / "none"))
    (tmp_path / "broken").write_text("{")
    with pytest.raises(Unavailable):
        ApiClient(kubeconfig=str(tmp_path / "broken"))


def kubeconfig(path: Path, server: str, user: dict[str, Any]) -> str:
    path.write_text(
        json.dumps(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return str(path)


def test_kubeconfig_with_a_token_and_an_overriding_master(server: Server, tmp_path: Path) -> None:
    file = kubeconfig(tmp_path / "config", server.url, {"token": "abc"})
    ApiClient(kubeconfig=file).get("/api")
    elsewhere = kubeconfig(tmp_path / "elsewhere", "http://192.0.2.1:1", {"token": "abc"})
    client = ApiClient(kubeconfig=elsewhere, master=server.url)
    client.get("/api")
    client.get("/api")
    assert [handler.headers["Authorization"] for handler in server.seen] == ["Bearer abc"] * 3


def test_exec_plugin(server: Server, tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "from-plugin"},
    }
    plugin.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(answer)}\nEND\n")
    plugin.chmod(0o755)
    user = {
        "exec": {"apiVersion": answer["apiVersion"], "command": str(plugin), "args": [], "interactiveMode": "Never"}
    }
    ApiClient(kubeconfig=kubeconfig(tmp_path / "config", server.url, user)).get("/api")
    assert server.seen[0].headers["Authorization"] == "Bearer from-plugin"


def test_master_without_a_scheme(tmp_path: Path) -> None:
    assert ApiClient(master="192.0.2.1:6443", account=tmp_path).server == "https://192.0.2.1:6443"
