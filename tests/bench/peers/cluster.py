"""The objects in the API server: N Services with M endpoints each, changed one endpoint at a time. Host side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from tests.bench import objects
from tests.labkit.apiclient import ApiClient, ApiError, Credentials

WRITERS: Final = 6
NAMESPACES: Final = 100
# An EndpointSlice of this name is nobody's to tidy up: the endpoint slice controller looks after its own.
_MANAGER: Final = "bench.kuberouter-py"


class Cluster:
    """What peers are measured on; it goes on from where the peer before left it."""

    def __init__(self, server: tuple[str, int], credentials: Credentials, directory: Path) -> None:
        self._server, self._credentials, self._directory = server, credentials, directory
        self._client = self._new_client("one")
        self.services = self.endpoints = 0
        self._addresses: dict[int, list[str]] = {}

    def _new_client(self, name: str) -> ApiClient:
        directory = self._directory / name
        directory.mkdir(exist_ok=True)
        return ApiClient(*self._server, self._credentials, directory)

    def populate(self, services: int, endpoints: int) -> None:
        self.services, self.endpoints = services, endpoints
        self._create("/api/v1/nodes", node := objects.node())
        status = {"status": node["status"]}
        self._client.request("PATCH", f"/api/v1/nodes/{objects.NODE}/status", status, patch=True)
        for number in range(min(NAMESPACES, services)):
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"ns-{number}"}}
            self._create("/api/v1/namespaces", body)
        self._in_parallel(range(services), lambda client, number: self._add(client, number, self._fresh(number)))

    def add(self, number: int, addresses: list[str]) -> float:
        """One Service with its slice; time.time() when both were there."""
        self._add(self._client, number, addresses)
        return time.time()

    def remove(self, number: int) -> None:
        for path in (_slice_path(number), f"{_path('api/v1', 'services', number)}/svc-{number}"):
            self._client.request("DELETE", path)
        self._addresses.pop(number, None)

    def replace(self, number: int, position: int, address: str) -> tuple[float, float]:
        """Another endpoint in the place of one; time.time() when it was asked for and when the API server answered."""
        addresses = self._addresses[number]
        addresses[position] = address
        body = {"endpoints": objects.endpoint_slice(number, self.endpoints, addresses=addresses)["endpoints"]}
        self._client.get(_slice_path(number))  # an idle connection that the server has closed is made anew here
        asked = time.time()
        self._client.request("PATCH", _slice_path(number), body, patch=True)
        return asked, time.time()

    def _fresh(self, number: int) -> list[str]:
        return [objects.endpoint_ip(number * self.endpoints + each) for each in range(self.endpoints)]

    def _add(self, client: ApiClient, number: int, addresses: list[str]) -> None:
        self._addresses[number] = addresses
        service = objects.service(number)
        for name in ("uid", "creationTimestamp"):
            del service["metadata"][name]
        piece = objects.endpoint_slice(number, len(addresses), addresses=addresses)
        for name in ("uid", "resourceVersion"):
            del piece["metadata"][name]
        piece["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = _MANAGER
        client.request("POST", _path("api/v1", "services", number), service)
        client.request("POST", _path("apis/discovery.k8s.io/v1", "endpointslices", number), piece)

    def _create(self, path: str, body: dict[str, Any]) -> None:
        try:
            self._client.request("POST", path, body)
        except ApiError as error:
            if error.code != 409:
                raise

    def _in_parallel(self, numbers: Iterable[int], work: Callable[[ApiClient, int], None]) -> None:
        waiting = list(reversed(list(numbers)))
        errors: list[Exception] = []

        def writer(name: str) -> None:
            client = self._new_client(name)
            while waiting and not errors:
                try:
                    work(client, waiting.pop())
                except IndexError:
                    return
                except Exception as error:
                    errors.append(error)

        threads = [threading.Thread(target=writer, args=(f"writer-{each}",)) for each in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]


def _path(group: str, plural: str, number: int) -> str:
    return f"/{group}/namespaces/ns-{number % NAMESPACES}/{plural}"


def _slice_path(number: int) -> str:
    return f"{_path('apis/discovery.k8s.io/v1', 'endpointslices', number)}/svc-{number}-abcde"
