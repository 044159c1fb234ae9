"""Objects in a real API server: create or replace, patch, delete, each with its status as if it were one call."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any, Final

from tests.labkit.apiclient import ApiClient, ApiError
from tests.labkit.kinds import KINDS, Reference, kind_called, of_document, parse
from tests.labkit.ports import LabError

GONE_WITHIN: Final = 60.0  # beyond its own grace period, for an object that stands in the way of one of the same name


class ApiObjects:
    def __init__(self, client: ApiClient) -> None:
        self.client = client

    def apply(self, document: dict[str, Any]) -> dict[str, Any]:
        """Creates or replaces. A missing namespace is made; a namesake that is being deleted is waited for."""
        reference = of_document(document)
        try:
            existing = self._present(reference)
            if reference.namespace:
                self._ensure_namespace(reference.namespace)
            body = {key: value for key, value in document.items() if key != "status"}
            made = self._replace(reference, existing, body) if existing else self._create(reference, body)
            if document.get("status") is not None and KINDS[reference.kind].status:
                made = self._patch_status(reference, document["status"])
        except ApiError as error:
            raise LabError(f"{reference}: {error}") from error
        return made

    def patch(self, reference: str, merge: Any) -> None:
        found = parse(reference)
        if not isinstance(merge, dict):
            raise LabError(f"{reference}: a merge patch is a mapping")
        status = merge.get("status") if KINDS[found.kind].status else None
        rest = {key: value for key, value in merge.items() if key != "status" or status is None}
        try:
            if rest:
                self.client.request("PATCH", found.path, rest, patch=True)
            if status is not None:
                self._patch_status(found, status)
        except ApiError as error:
            raise LabError(f"{reference}: {error}") from error

    def delete(self, reference: str) -> None:
        """Asks for it; what has a grace period goes when that is over."""
        found = parse(reference)
        try:
            self.client.request("DELETE", found.path, {"propagationPolicy": "Background"})
        except ApiError as error:
            raise LabError(f"{reference}: {error}") from error

    def get(self, reference: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.client.get(parse(reference).path)
        return found

    def list(self, kind: str, namespace: str | None = None) -> Sequence[dict[str, Any]]:
        known = kind_called(kind)
        answer = self.client.request("GET", known.path(namespace))
        # Items of a list leave out what the list says once.
        return [{"apiVersion": known.api_version, "kind": known.name, **item} for item in answer["items"]]

    def _create(self, reference: Reference, body: dict[str, Any]) -> dict[str, Any]:
        path = KINDS[reference.kind].path(reference.namespace or None)
        made: dict[str, Any] = self.client.request("POST", path, body)
        return made

    def _replace(self, reference: Reference, existing: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        body = copy.deepcopy(body)
        body["metadata"]["resourceVersion"] = existing["metadata"]["resourceVersion"]
        try:
            made: dict[str, Any] = self.client.request("PUT", reference.path, body)
        except ApiError as error:
            if error.code == 409:  # a controller wrote in between
                return self._replace(reference, self.client.get(reference.path), body)
            if error.code != 422 or reference.kind != "Pod":
                raise
            # What a Pod may not change while it lives makes it another Pod.
            self.client.request("DELETE", reference.path, {"gracePeriodSeconds": 0})
            del body["metadata"]["resourceVersion"]
            made = self._create(reference, body)
        return made

    def _patch_status(self, reference: Reference, status: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.client.request("PATCH", f"{reference.path}/status", {"status": status}, patch=True)
        return made

    def _present(self, reference: Reference) -> dict[str, Any] | None:
        """The object of that name, once none is there that is being deleted."""
        deadline: float | None = None
        while True:
            existing = self.client.get(reference.path)
            if existing is None or "deletionTimestamp" not in existing["metadata"]:
                return dict(existing) if existing else None
            grace = existing["metadata"].get("deletionGracePeriodSeconds") or 0
            deadline = deadline or time.monotonic() + grace + GONE_WITHIN
            if time.monotonic() > deadline:
                raise LabError(f"{reference}: the one being deleted does not go")
            time.sleep(0.05)

    def _ensure_namespace(self, name: str) -> None:
        reference = Reference("Namespace", "", name)
        if self._present(reference) is None:
            self._create(reference, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
