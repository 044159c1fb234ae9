"""One small HTTP server for everything that may be asked of the agent: health, metrics, the local socket.

Owns limits and errors; what is answered are callables given by endpoints.py, where is in listening.py. One thread
accepts for all listeners; each request has a short-lived thread of its own, so that a slow client delays nobody. When
all places are taken the oldest connection is cut: nobody can keep a probe out by holding connections. Listeners that
are known at the start are given to serve(), those that come and go to open() and close().
"""

from __future__ import annotations

import errno
import json
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qsl

import structlog

from kuberouter_py.observe.listening import Tcp, Unix, Where, listen
from kuberouter_py.observe.socket import MOST_FORM

PLACES = 32  # connections answered at the same time; kubelet, a scraper and a load balancer need a handful
PATIENCE = 10.0  # seconds that a client may let pass between two bytes
ANY_PATH = "*"  # a route's path that answers for all that have no route of their own
BIND_AGAIN = 5.0  # seconds between attempts to bind what somebody else holds (kube-proxy on its way out)
# The connection stays in the queue, and would be news again at once.
_USED_UP = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
REST = 0.1  # seconds until it is taken all the same


class Response(NamedTuple):
    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = {}


Route = Callable[[], Response]
# With the query's parameters, and a form's fields where one was sent; of equal names the last one.
Question = Callable[[Mapping[str, str]], Response]


def text_response(status: int, text: str) -> Response:
    return Response(status, text.encode())


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, json.dumps(value).encode() + b"\n", "application/json", headers or {})


class HttpServer:
    """serve() for each listener, then start(); stop() ends the thread and closes everything. name: the thread's."""

    def __init__(self, name: str = "http") -> None:
        self._routes: dict[Where, dict[str, Question]] = {}
        self._unbound: dict[Where, str] = {}
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, None] = {}  # in the order of their coming
        self._listeners: dict[Where, socket.socket] = {}  # those of open()
        self._bell, self._ear = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._bound = threading.Event()
        self._ports: dict[Where, int] = {}

    def serve(
        self, where: Where, routes: Mapping[str, Route], questions: Mapping[str, Question] = MappingProxyType({})
    ) -> None:
        """Answer these paths there; the same place twice holds the paths of both."""
        self._routes.setdefault(where, {}).update({**_without_parameters(routes), **questions})

    def start(self) -> None:
        """Binds (what cannot be bound now is tried again later, see `unbound`) and begins to answer."""
        self._thread.start()
        self._bound.wait()

    def stop(self) -> None:
        self._bell.send(b".")
        self._thread.join()

    def open(self, where: Where, routes: Mapping[str, Route]) -> None:
        """Listen there from now on; OSError where that cannot be. One thread at a time opens and closes.

        epoll takes what is registered while another thread waits in it (epoll_wait(2)).
        """
        listener = listen(where)
        self._routes[where] = _without_parameters(routes)
        self._listeners[where] = listener
        self._selector.register(listener, selectors.EVENT_READ, where)

    def close(self, where: Where) -> None:
        """Answer there no more; what open() began."""
        listener = self._listeners.pop(where)
        self._selector.unregister(listener)
        listener.close()
        del self._routes[where]

    def unbound(self) -> dict[str, str]:
        """Listeners that are not there yet, with the reason."""
        with self._lock:
            return {str(where): reason for where, reason in self._unbound.items()}

    def port(self, where: Where) -> int:
        """The port that the kernel chose for port 0."""
        return self._ports[where]

    def _run(self) -> None:
        self._bind_all(list(self._routes))
        self._bound.set()
        again = time.monotonic() + BIND_AGAIN
        while True:
            ready = self._selector.select(BIND_AGAIN if self._unbound else None)
            for key, _ in ready:
                if key.fileobj is self._ear:
                    self._close_all()
                    return
                self._accept(cast(socket.socket, key.fileobj), key.data)
            if self._unbound and time.monotonic() >= again:  # also where the other listeners are never quiet
                self._bind_all(list(self._unbound))
                again = time.monotonic() + BIND_AGAIN

    def _bind_all(self, places: list[Where]) -> None:
        for where in places:
            try:
                listener = listen(where)
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                if self._unbound.get(where) != reason:
                    structlog.get_logger().warning("cannot listen", address=str(where), reason=reason)
                with self._lock:
                    self._unbound[where] = reason
                continue
            if isinstance(where, Tcp):
                self._ports[where] = listener.getsockname()[1]
            self._selector.register(listener, selectors.EVENT_READ, where)
            with self._lock:
                self._unbound.pop(where, None)

    def _accept(self, listener: socket.socket, where: Where) -> None:
        try:
            routes = self._routes[where]
            connection, _ = listener.accept()
        except KeyError:  # nobody listens there any more
            return
        except OSError as error:  # mostly: gone again before it was taken
            if error.errno in _USED_UP:
                time.sleep(REST)
            return
        with self._lock:
            if len(self._connections) >= PLACES:
                oldest = next(iter(self._connections))
                del self._connections[oldest]
                _shut(oldest)
            self._connections[connection] = None
        arguments = (connection, routes, isinstance(where, Unix))
        try:
            threading.Thread(target=self._answer, args=arguments, name="http request", daemon=True).start()
        except RuntimeError:  # no thread can be had (pids.max)
            self._drop(connection)

    def _answer(self, connection: socket.socket, routes: Mapping[str, Question], forms: bool) -> None:
        try:
            _Handler(connection, routes, forms)
        except OSError:  # the client went away
            pass
        finally:
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.pop(connection, None)
        connection.close()

    def _close_all(self) -> None:
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, Unix):
                Path(key.data.path).unlink(missing_ok=True)
            cast(socket.socket, key.fileobj).close()
        self._selector.close()
        self._bell.close()
        with self._lock:
            for connection in self._connections:
                _shut(connection)


def _without_parameters(routes: Mapping[str, Route]) -> dict[str, Question]:
    def question(route: Route) -> Question:
        return lambda _parameters: route()

    return {path: question(route) for path, route in routes.items()}


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class _Handler(BaseHTTPRequestHandler):
    """One request: GET or HEAD of a known path, and the connection is closed. forms: POST as well, of a form."""

    timeout = PATIENCE
    server_version = "kuberouter-py"
    sys_version = ""

    def __init__(self, connection: socket.socket, routes: Mapping[str, Question], forms: bool) -> None:
        self._routes = routes
        self._forms = forms
        self._fields: dict[str, str] = {}
        super().__init__(connection, ("", 0), cast(Any, None))

    def do_GET(self) -> None:
        response = self._response()
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """What is too long for a query comes as a form; it changes nothing either."""
        length = self.headers.get("Content-Length", "")
        if not self._forms:
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)
        elif not length.isdecimal():
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
        elif int(length) > MOST_FORM:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self._fields = dict(parse_qsl(self.rfile.read(int(length)).decode(errors="replace")))
            self.do_GET()

    def _response(self) -> Response:
        path, _, query = self.path.partition("?")
        route = self._routes.get(path, self._routes.get(ANY_PATH))
        if route is None:
            known = "\n".join(sorted(self._routes))
            return text_response(HTTPStatus.NOT_FOUND, f"not found; here are:\n{known}\n")
        try:
            return route({**dict(parse_qsl(query)), **self._fields})
        except Exception:
            structlog.get_logger().exception("no answer", path=self.path)
            return text_response(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error, see the log\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds: not a line each."""
