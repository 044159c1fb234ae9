"""One API server: requests and streams over the official client's configuration, authentication, TLS and transport.

Owns the use of the `kubernetes` package. Its models, watch and informers are not used: decoding costs 100 times ours,
and its watch loses versions and spins (docs/dependencies.md). What the server says no with comes out as api_errors.py
has it. What to list and watch, and when again, is following.py's.

The package is imported when the first ApiClient is made: 0.25 s of CPU and 18 MB beyond what we load anyhow. There is
no smaller part of it: its top-level module imports all the others.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from weakref import WeakSet

import structlog

import kuberouter_py
from kuberouter_py.ports import Unavailable
from kuberouter_py.watchers.api_errors import ApiError, Unauthorized, Untrusted, error_of
from kuberouter_py.watchers.transport import SOCKET_OPTIONS, LineStream, register_sockets, transport_error

log = structlog.get_logger(__name__)

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
JSON = "application/json"
METADATA = f"{JSON};as={{}};v=v1;g=meta.k8s.io,{JSON}"
MERGE_PATCH = "application/merge-patch+json"
CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 60.0  # seconds of silence; the API server's own --request-timeout default
RELOAD_INTERVAL = 10.0  # seconds between two readings of the configuration that a refusal causes
CONNECTIONS = 16  # kept open; seven kinds, Events and Leases at most


class ApiClient:
    """Thread-safe. Paths start with a slash ("/api/v1/services"), queries are unencoded, bodies are JSON.

    kubeconfig: a file, else the credentials of the pod that we run in. master: overrides the server's address wherever
    it came from. Raises Unavailable where neither says which server, or a file cannot be read. Every request raises
    ApiError.
    """

    def __init__(
        self,
        kubeconfig: str = "",
        master: str = "",
        *,
        account: Path = SERVICE_ACCOUNT,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kubeconfig = kubeconfig
        self._master = _url(master)
        self._account = account
        self._environ = environ
        self._clock = clock
        self._lock = threading.Lock()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._loaded_at = clock()
        self._configuration, self._rest, self.server = self._load()

    # Requests

    def get(
        self, path: str, query: Mapping[str, str] | None = None, timeout: float = READ_TIMEOUT, accept: str = JSON
    ) -> bytes:
        return self.request("GET", path, query, timeout=timeout, accept=accept)

    def post(self, path: str, body: Mapping[str, object]) -> bytes:
        return self.request("POST", path, body=body)

    def put(self, path: str, body: Mapping[str, object]) -> bytes:
        return self.request("PUT", path, body=body)

    def patch(self, path: str, body: Mapping[str, object], content_type: str = MERGE_PATCH) -> bytes:
        return self.request("PATCH", path, body=body, content_type=content_type)

    def create_event(self, namespace: str, body: Mapping[str, object]) -> bytes:
        """A core/v1 Event. Raises Conflict where one of that name exists: patch_event() counts it up."""
        return self.post(f"/api/v1/namespaces/{quote(namespace)}/events", body)

    def patch_event(self, namespace: str, name: str, body: Mapping[str, object]) -> bytes:
        """A JSON merge patch. Raises NotFound where the Event has expired."""
        return self.patch(f"/api/v1/namespaces/{quote(namespace)}/events/{quote(name)}", body)

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        content_type: str = JSON,
        timeout: float = READ_TIMEOUT,
        accept: str = JSON,
    ) -> bytes:
        """The answer's body, whole."""
        response, asked = self._open(method, path, query, body, content_type, timeout, accept)
        try:
            data: bytes = response.read()
        except Exception as error:
            response.close()
            raise transport_error(error, asked) from None
        response.release_conn()
        return data

    def stream(self, path: str, query: Mapping[str, str], read_timeout: float, accept: str = JSON) -> LineStream:
        """A watch. read_timeout: seconds of silence after which the peer counts as dead, see LineStream.expect. The
        headers, which come before there is anything to tell, are waited for as long as any answer.
        """
        response, asked = self._open("GET", path, query, None, "", min(read_timeout, READ_TIMEOUT), accept)
        lines = LineStream(response, asked)
        lines.expect(read_timeout)
        return lines

    def close(self) -> None:
        """Every request under way in any thread fails at once; a later one opens a new connection."""
        for connected in list(self._sockets):
            try:
                connected.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._rest.close()

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, object] | None,
        content_type: str,
        timeout: float,
        accept: str,
    ) -> tuple[Any, str]:
        from urllib3 import Timeout

        asked = f"{method} {path}"
        headers = self._headers(asked) | {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            response = self._rest.pool_manager.request(
                method,
                self.server + path + ("?" + urlencode(query) if query else ""),
                body=json.dumps(body).encode() if body is not None else None,
                headers=headers,
                timeout=Timeout(connect=CONNECT_TIMEOUT, read=timeout),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            if response.status < 300:
                return response, asked
            refusal = response.read()
            response.release_conn()
        except Exception as error:
            raise self._considered(transport_error(error, asked)) from None
        raise self._considered(error_of(response.status, refusal, asked, response.headers.get("Retry-After")))

    def _headers(self, asked: str) -> dict[str, str]:
        """With the credentials of this moment: the client reads a pod's token again every minute (M1.13)."""
        headers = {"User-Agent": f"kuberouter-py/{kuberouter_py.__version__}"}
        with self._lock:
            try:
                token = self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
            except Exception as error:  # its own ConfigException, OSError of a token file, whatever a plugin did
                raise Unauthorized(f"{asked}: credentials: {error}") from error
        if token:
            headers["Authorization"] = token.strip()
        return headers

    # Configuration

    def _considered(self, error: ApiError) -> ApiError:
        """Refused credentials or certificates may have been replaced on disk: read all again, not too often."""
        if isinstance(error, Unauthorized | Untrusted):
            with self._lock:
                if self._clock() - self._loaded_at >= RELOAD_INTERVAL:
                    self._loaded_at = self._clock()
                    try:
                        self._configuration, self._rest, self.server = self._load()
                    except Unavailable as unavailable:
                        log.warning("the API's configuration cannot be read again", error=str(unavailable))
        return error

    def _load(self) -> tuple[Any, Any, str]:
        from kubernetes.client import Configuration
        from kubernetes.client.rest import RESTClientObject

        configuration: Any = Configuration()
        configuration.socket_options = SOCKET_OPTIONS
        configuration.connection_pool_maxsize = CONNECTIONS
        if self._master:
            configuration.host = self._master
        try:
            self._authenticate(configuration)
            # Its refresh hook writes the configured host back on every use: ours is kept apart.
            server = (self._master or configuration.host).rstrip("/")
            configuration.host = server
            rest: Any = RESTClientObject(configuration)
        except Unavailable:
            raise
        except Exception as error:
            whose = f"--kubeconfig {self._kubeconfig}" if self._kubeconfig else "the pod's credentials"
            raise Unavailable(f"{whose}: not usable: {error}") from error
        register_sockets(rest.pool_manager, self._sockets)
        return configuration, rest, server

    def _authenticate(self, configuration: Any) -> None:
        from kubernetes.config import ConfigException, kube_config
        from kubernetes.config.incluster_config import InClusterConfigLoader

        if self._kubeconfig:
            if not os.path.isfile(self._kubeconfig):
                raise Unavailable(f"--kubeconfig {self._kubeconfig}: no such file")
            # not persisted: a node's kubeconfig is its administrator's, and often read-only
            kube_config.load_kube_config(self._kubeconfig, client_configuration=configuration, persist_config=False)  # type: ignore[no-untyped-call]
            return
        token = self._account / "token"
        if self._master and not token.exists():
            return  # an address alone: whatever that server grants without credentials
        environ = dict(self._environ)
        if self._master:  # the loader insists on both although the address is ours
            environ |= {"KUBERNETES_SERVICE_HOST": "master", "KUBERNETES_SERVICE_PORT": "443"}
        loader: Any = InClusterConfigLoader
        try:
            loader(
                token_filename=str(token), cert_filename=str(self._account / "ca.crt"), environ=environ
            ).load_and_set(configuration)
        except ConfigException as error:
            raise Unavailable(
                f"which cluster? neither --kubeconfig nor --manifests is given, and this is no pod of one ({error})"
            ) from error


class MetadataOnly:
    """asking.Api over the same client, for objects of which the metadata is all that is wanted.

    A server that cannot leave out the rest (none of today's) sends whole objects, which hold it as well.
    """

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    def get(self, path: str, query: Mapping[str, str]) -> bytes:
        return self._client.get(path, query, accept=METADATA.format("PartialObjectMetadataList"))

    def stream(self, path: str, query: Mapping[str, str], read_timeout: float) -> LineStream:
        return self._client.stream(path, query, read_timeout, accept=METADATA.format("PartialObjectMetadata"))


def _url(master: str) -> str:
    return master if not master or "://" in master else f"https://{master}"
